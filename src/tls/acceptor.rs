//! For tokio: accept with what is served at that moment.
#![cfg(all(feature = "tokio", not(loom)))]

use std::{io, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::server::ServerTls;
use crate::{
    cell::Published,
    reloader::{Handle, TrustShrunk},
};

/// Shakes hands with the configuration that is served when the connection is accepted.
#[derive(Clone)]
pub struct Acceptor(pub(super) Handle<ServerTls>);

/// A connection and the generation it was shaken with.
#[derive(Debug)]
#[non_exhaustive]
pub struct Accepted<IO> {
    /// The connection.
    pub stream: TlsStream<IO>,
    /// What served it; a reload does not change it.
    pub served: Arc<Published<ServerTls>>,
    /// Resolves once somebody is trusted no longer who was when this connection was let in, also if that was before the
    /// end of its handshake: whoever is at the other end may be one of them, and can be asked to come again.
    pub shrunk: TrustShrunk<ServerTls>,
}

impl<IO> Accepted<IO> {
    /// The generation that served it.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.served.generation
    }

    /// The trust that it was let in under: [`ServerTls::trust_epoch`].
    #[must_use]
    pub fn trust_epoch(&self) -> u64 {
        self.served.value.trust_epoch()
    }
}

impl Acceptor {
    /// Shakes hands. There is no time limit here: a server should set one.
    ///
    /// # Errors
    /// The error of the handshake; [`HandshakeFailure::of_io`](crate::HandshakeFailure::of_io)
    /// returns the reason.
    pub async fn accept<IO>(&self, stream: IO) -> io::Result<Accepted<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let served = self.0.current();
        let acceptor = TlsAcceptor::from(Arc::clone(&served.value.config));
        let stream = acceptor.accept(stream).await?;
        let shrunk = self.0.trust_shrunk(served.generation);
        Ok(Accepted { stream, served, shrunk })
    }
}
