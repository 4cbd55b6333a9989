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
