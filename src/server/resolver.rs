//! A certificate resolver for servers that take one `ServerConfig` for life.

use std::{fmt, sync::Arc};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::reloader::ServerReloader;

/// Answers each handshake with the chain and key served at that moment: see
/// [`ServerReloader::resolver`].
pub(super) struct Resolver(pub(super) ServerReloader);

impl ServerReloader {
    /// Returns a certificate resolver for a `ServerConfig` of your own that is kept for life, where
    /// [`rotating_config`](Self::rotating_config) does not suit. It answers each handshake with the
    /// chain and key served at that moment.
    ///
    /// A reload changes certificates only. Client CAs, ALPN and session state belong to the
    /// `ServerConfig` that the resolver is put into and do not change with a reload.
    ///
    /// Not promised: sessions of that configuration go on resuming over every reload, a change of
    /// trust included. Where that matters, disable resumption: `NoServerSessionStorage` as its
    /// `session_storage`, and no ticketer.
    #[must_use]
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(Resolver(self.clone()))
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.note_handshake();
        self.0.with_current(|current| current.value.resolver.resolve(hello))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}
