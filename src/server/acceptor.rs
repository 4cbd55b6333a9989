//! Accepts tokio connections with the configuration that is served at that moment.
#![cfg(all(feature = "tokio", not(loom)))]

use std::{
    future::{Future, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::{accepted::Accepted, reloader::ServerReloader};
use crate::report::error::drop_payload;

/// Time after which [`Acceptor::accept`] gives up a handshake, unless
/// [another](Acceptor::handshake_timeout) is set.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Accepts TLS connections, each with the configuration that is served when its handshake begins.
///
/// Clones share one reloader. A later publication changes no connection that was accepted before
/// it.
///
/// It keeps the reloader going, see [`Reloader`](crate::Reloader).
#[derive(Clone, Debug)]
pub struct Acceptor {
    reloader: ServerReloader,
    limit: Duration,
}

impl ServerReloader {
    /// Returns an acceptor of tokio connections.
    #[must_use]
    pub fn acceptor(&self) -> Acceptor {
        Acceptor { reloader: self.clone(), limit: HANDSHAKE_LIMIT }
    }
}

impl Acceptor {
    /// Sets the time after which a handshake is given up; [`HANDSHAKE_LIMIT`] without it.
    #[must_use]
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Returns the reloader.
    pub fn reloader(&self) -> &ServerReloader {
        &self.reloader
    }

    /// Calls code of the embedder: a panic in it is reported, and goes no further.
    pub(super) fn guard(&self, name: &str, call: &dyn Fn()) {
        self.reloader.shared().guard(name, call);
    }

    /// Performs the handshake of a connection, each call beside all others.
    ///
    /// # Errors
    /// The error of the handshake; [`HandshakeFailure::of_io`](crate::HandshakeFailure::of_io)
    /// returns the reason. [`io::ErrorKind::TimedOut`] if it has not ended within the
    /// [limit](Self::handshake_timeout). A panic that unwinds is an error too: of a key log, for
    /// example, or of tokio where there is no runtime with a timer.
    pub async fn accept<IO>(&self, stream: IO) -> io::Result<Accepted<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = contain_panic(self.handshake(stream)).await;
        #[cfg(feature = "metrics")]
        {
            let failure = accepted.as_ref().err().map(|error| super::HandshakeFailure::of_io(error).name());
            self.reloader.shared().count_handshake(failure);
        }
        accepted
    }

    async fn handshake<IO>(&self, stream: IO) -> io::Result<Accepted<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        self.reloader.note_handshake();
        let served = self.reloader.current();
        let acceptor = TlsAcceptor::from(Arc::clone(&served.value.config));
        let stream = tokio::time::timeout(self.limit, acceptor.accept(stream)).await.map_err(|_| {
            let why = format!("the handshake did not end within {:?}", self.limit);
            io::Error::new(io::ErrorKind::TimedOut, why)
        })??;
        let trust_reduced = self.reloader.trust_reduced(served.generation);
        Ok(Accepted { stream, peer_addr: (), served, trust_reduced })
    }
}

/// Turns a panic (of an embedder's key log, for example) into a failure of this handshake, which is
/// counted as others are.
async fn contain_panic<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let mut handshake = pin!(handshake);
    poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| handshake.as_mut().poll(cx))).unwrap_or_else(|payload| {
            drop_payload(payload);
            Poll::Ready(Err(io::Error::other("the handshake panicked")))
        })
    })
    .await
}
