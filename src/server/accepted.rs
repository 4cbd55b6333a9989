//! A TLS connection that was accepted, and what is known of it.
#![cfg(all(feature = "tokio", not(loom)))]

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::build::ServerTls;
use crate::drive::{cell::Published, reloader::TrustReduced};

/// A TLS connection and the publication that it was accepted with. It reads and writes as its
/// `stream` does.
#[derive(Debug)]
#[non_exhaustive]
pub struct Accepted<IO, Addr = ()> {
    /// The TLS stream, with its handshake complete.
    pub stream: TlsStream<IO>,
    /// The client's address, as the listener returned it. It is `()` from
    /// [`Acceptor::accept`](crate::Acceptor::accept), which takes a stream without an address.
    pub peer_addr: Addr,
    /// The publication that the connection was accepted with. A reload does not change it.
    pub served: Arc<Published<ServerTls>>,
    /// Resolves once a publication after [`served`](Self::served) reduces trust: a client that was
    /// accepted before it may be rejected after it.
    ///
    /// A reduction during the handshake counts too. The client of this connection may be one of
    /// those that lost access; a server can close the connection, so that the client has to
    /// authenticate again.
    pub trust_reduced: TrustReduced<ServerTls>,
}

impl<IO, Addr> Accepted<IO, Addr> {
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

    /// Returns the verified chain of the client, its leaf first; `None` if the client presented
    /// none.
    ///
    /// A client that resumes presents no chain: the chain is then that of the handshake that made
    /// its session.
    #[must_use]
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.stream.get_ref().1.peer_certificates()
    }

    /// Returns the protocol that client and server agreed on by ALPN, if they did.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.get_ref().1.alpn_protocol()
    }

    /// Returns the server name that the client sent (SNI), if it sent one.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.stream.get_ref().1.server_name()
    }

    pub(super) fn with_peer<Peer>(self, peer_addr: Peer) -> Accepted<IO, Peer> {
        let Self { stream, served, trust_reduced, .. } = self;
        Accepted { stream, peer_addr, served, trust_reduced }
    }
}

// No field is pinned through a pinned connection.
impl<IO: Unpin, Addr> Unpin for Accepted<IO, Addr> {}

impl<IO, Addr> Accepted<IO, Addr>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    fn stream(self: Pin<&mut Self>) -> Pin<&mut TlsStream<IO>> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl<IO, Addr> AsyncRead for Accepted<IO, Addr>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buffer)
    }
}

impl<IO, Addr> AsyncWrite for Accepted<IO, Addr>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
