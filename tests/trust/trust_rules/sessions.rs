//! Sessions that clients made with one server and offer to the next.

use std::sync::Arc;

use rustls::{ClientConfig, SupportedProtocolVersion};
use rustls_reload::ServerTls;

use super::{
    clients::{Sessions, handshake, remembering},
    full::VERSIONS,
};

/// A way to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Tls12Id,
    Tls12Ticket,
    Tls13Stored,
    Tls13Ticket,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Tls12Id, Self::Tls12Ticket, Self::Tls13Stored, Self::Tls13Ticket];

    pub fn tickets(self) -> bool {
        matches!(self, Self::Tls12Ticket | Self::Tls13Ticket)
    }

    /// Returns the index of its version.
    pub fn place(self) -> usize {
        usize::from(matches!(self, Self::Tls13Stored | Self::Tls13Ticket))
    }

    pub fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        VERSIONS[self.place()]
    }
}

/// A client with sessions of one server.
pub struct Offering {
    client: Arc<ClientConfig>,
    sessions: Arc<Sessions>,
}

impl Offering {
    /// Makes sessions with this server under this name.
    ///
    /// # Panics
    /// If the client is refused.
    pub fn new(client: &ClientConfig, server: &ServerTls, name: &str) -> Self {
        let (client, sessions) = remembering(client);
        handshake(&server.config, &client, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        sessions.seal();
        Self { client, sessions }
    }

    /// Returns whether there is a session left to offer.
    pub fn is_left(&self) -> bool {
        self.sessions.is_left()
    }

    /// Offers a session. Returns whether it was resumed.
    pub fn offer(&self, server: &ServerTls, name: &str) -> Result<bool, rustls::Error> {
        handshake(&server.config, &self.client, name)
    }
}
