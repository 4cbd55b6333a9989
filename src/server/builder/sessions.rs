//! The settings by which sessions resume.

use std::sync::Arc;

use rustls::server::ProducesTickets;

use super::ServerBuilder;

/// # Sessions
impl ServerBuilder {
    /// Limits the number of stored sessions; [`SESSION_LIMIT`](crate::SESSION_LIMIT) by default.
    /// With 0 and without tickets, no session resumes.
    ///
    /// A TLS 1.2 client takes one place, and a TLS 1.3 client takes two (`send_tls13_tickets`). A
    /// new session evicts the oldest one.
    #[must_use]
    pub fn session_cache(mut self, sessions: usize) -> Self {
        self.resumption.limit = sessions;
        self
    }

    /// Resumes sessions by stateless tickets (RFC 5077 and RFC 8446), which clients keep. `make`
    /// returns the ticketer that encrypts them, as `rustls::crypto::ring::Ticketer::new` and
    /// `rustls::crypto::aws_lc_rs::Ticketer::new` do. By default there are no tickets, and the
    /// server stores the sessions.
    ///
    /// The reloader calls `make` again for each build that begins with fresh session state, as a
    /// change of trust does, so that older tickets become invalid. `make` has to return a ticketer
    /// with new keys each time: one that can decrypt the tickets of another fails the build with
    /// [`Layer::Config`](crate::Layer::Config). So servers cannot share keys. To check this, the
    /// first load calls `make` twice.
    #[must_use]
    pub fn tickets(
        mut self,
        make: impl FnMut() -> Result<Arc<dyn ProducesTickets>, rustls::Error> + Send + 'static,
    ) -> Self {
        self.resumption.make = Some(Box::new(make));
        self
    }

    /// Sets whether sessions resume over a reload that does not change the trust; `true` by
    /// default.
    ///
    /// Sessions never resume over a reload that changes client CAs, the certificates that their
    /// CRLs list, client authentication or the names of a pair (INV-09).
    #[must_use]
    pub fn resume_over_reloads(mut self, resume: bool) -> Self {
        self.resumption.over_reloads = resume;
        self
    }
}
