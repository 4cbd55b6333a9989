//! Accepts tokio connections with the configuration that is served at that moment.
#![cfg(all(feature = "tokio", not(loom)))]

use std::{io, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::server::ServerTls;
use crate::{
    cell::Published,
    reloader::{Handle, TrustShrunk},
};

/// Accepts TLS connections, each with the configuration that is served when its handshake begins.
///
/// Clones share one reloader. A later publication changes no connection that was accepted before
/// it.
#[derive(Clone)]
pub struct Acceptor(pub(super) Handle<ServerTls>);

/// A TLS connection and the publication that it was accepted with.
#[derive(Debug)]
#[non_exhaustive]
pub struct Accepted<IO> {
    /// The TLS stream, with its handshake complete.
    pub stream: TlsStream<IO>,
    /// The publication that the connection was accepted with. A reload does not change it.
    pub served: Arc<Published<ServerTls>>,
    /// Resolves once a publication after [`served`](Self::served) reduces trust: a client that was
    /// accepted before it may be rejected after it.
    ///
    /// A reduction during the handshake counts too. The client of this connection may be one of
    /// those that lost access; a server can close the connection, so that the client has to
    /// authenticate again.
    pub shrunk: TrustShrunk<ServerTls>,
}

impl<IO> Accepted<IO> {
    /// Returns the generation that the connection was accepted with.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.served.generation
    }

    /// Returns the trust epoch that the client was accepted under: [`ServerTls::trust_epoch`].
    #[must_use]
    pub fn trust_epoch(&self) -> u64 {
        self.served.value.trust_epoch()
    }
}

impl Acceptor {
    /// Runs the TLS handshake on a connection.
    ///
    /// No time limit applies here: a server should set one.
    ///
    /// # Errors
    /// Returns the error of the handshake;
    /// [`HandshakeFailure::of_io`](crate::HandshakeFailure::of_io) returns its reason.
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
