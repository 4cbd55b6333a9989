//! Accepts connections from a listener, each handshake beside all others.
//!
//! Each handshake is a task of its own, in a `JoinSet` that ends its tasks when it is dropped:
//! [`design`](crate::manual::design) has the reason.
#![cfg(all(feature = "tokio", not(loom)))]

use std::{
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Sleep, sleep},
};

use super::{accepted::Accepted, acceptor::Acceptor, failure::HandshakeFailure, reloader::ServerReloader};

/// Handshakes that [`Incoming`] has under way at a time, unless
/// [another limit](Incoming::max_handshakes) is set. Each holds a descriptor, and a process has
/// 1024 of them where nobody raised the limit.
pub const MAX_HANDSHAKES: usize = 512;

/// The first and the longest pause after a failure to accept. Each pause is twice as long as the
/// one before: a descriptor that becomes free wakes nobody.
const ACCEPT_PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// Connections in a row that can have been aborted before a pause: more than wait in a system's
/// queue, unless a listener of the embedder's fails so for ever.
const MAX_ABORTED: u32 = 4096;

/// A source of connections: TCP and Unix listeners of tokio, or one of your own.
pub trait Listener {
    /// A connection without TLS.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The address of its client.
    type Addr: Send + 'static;

    /// Returns the next connection and the address of its client, or wakes the task once there is
    /// one.
    ///
    /// # Errors
    /// An error ends nothing. [`Incoming`] asks again: at once if the error is about one client
    /// (the connection was reset, refused or aborted), else, and after 4096 such errors in a row,
    /// after a pause.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, Self::Addr)>>;

    /// Returns the address that the listener is bound to.
    ///
    /// # Errors
    /// The system's error.
    fn local_addr(&self) -> io::Result<Self::Addr>;
}

/// Its connections have `TCP_NODELAY` set: the first answer would otherwise wait until the client
/// has acknowledged its session tickets.
impl Listener for TcpListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let (stream, peer) = ready!(TcpListener::poll_accept(self, cx))?;
        // A connection that refuses it is slower, or has ended, which the handshake shows.
        let _ = stream.set_nodelay(true);
        Poll::Ready(Ok((stream, peer)))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}

#[cfg(unix)]
impl Listener for tokio::net::UnixListener {
    type Io = tokio::net::UnixStream;
    type Addr = tokio::net::unix::SocketAddr;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, Self::Addr)>> {
        Self::poll_accept(self, cx)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Self::local_addr(self)
    }
}

/// A handshake that failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct FailedHandshake<'a, Addr> {
    /// The client's address.
    pub peer_addr: &'a Addr,
    /// The reason, for counters and logs.
    pub reason: HandshakeFailure,
    /// The error with its details, some of which may be text that the client chose.
    pub error: &'a io::Error,
}

/// The client's address and the outcome of a handshake that has ended.
type Ended<L> = (<L as Listener>::Addr, io::Result<Accepted<<L as Listener>::Io>>);
type OnFailedHandshake<Addr> = Box<dyn Fn(&FailedHandshake<'_, Addr>) + Send + Sync>;
type OnAcceptError = Box<dyn Fn(&io::Error) + Send + Sync>;

/// The TLS connections of a listener, each accepted with the configuration that is served when its
/// handshake begins.
///
/// Take them by [`accept`](Self::accept), as a `Stream` (tonic's `serve_with_incoming`), or with
/// the feature `axum` by `axum::serve`.
///
/// - **Handshakes** run in tasks of their own, also while nobody takes a connection. A client that
///   sends nothing holds up no other, and is given up after [`HANDSHAKE_LIMIT`] or
///   [another time](Self::handshake_timeout).
/// - **Limit.** At most [`MAX_HANDSHAKES`] handshakes, or [another number](Self::max_handshakes),
///   are under way, or finished and not taken. At the limit it stops accepting: further clients
///   wait in the system's queue.
/// - **Failures** are not in the stream, since some servers end at an item that is an error. A
///   failed handshake is reported to [`on_failed_handshake`](Self::on_failed_handshake), a failure
///   to accept to [`on_accept_error`](Self::on_accept_error). Accepting is then tried again after
///   10 ms, doubling up to 1 s.
/// - **Stop.** [`close`](Self::close) closes the listener and finishes the handshakes under way;
///   dropping closes the listener and gives them up, with those that have ended and were not taken. Connections that were taken stay open.
///
/// It accepts only while it is polled, and has to be polled within a tokio runtime with its timer.
/// It keeps the reloader going, see [`Reloader`](crate::Reloader); its connections do not.
///
/// [`HANDSHAKE_LIMIT`]: crate::HANDSHAKE_LIMIT
#[must_use = "it accepts only while it is polled"]
pub struct Incoming<L: Listener> {
    /// `None` once it is closed.
    listener: Option<L>,
    acceptor: Acceptor,
    limit: usize,
    handshakes: JoinSet<Ended<L>>,
    /// The pause after a failure to accept.
    pause: Option<Pin<Box<Sleep>>>,
    /// The length of the next pause.
    next_pause: Duration,
    /// Errors about one client since the last connection or the last empty queue.
    aborted: u32,
    on_failed_handshake: OnFailedHandshake<L::Addr>,
    on_accept_error: OnAcceptError,
}

impl ServerReloader {
    /// Accepts TLS connections from a `tokio::net::TcpListener` or another [`Listener`]: each
    /// handshake beside all others, with limits.
    pub fn incoming<L: Listener>(&self, listener: L) -> Incoming<L> {
        Incoming::new(listener, self.acceptor())
    }
}

impl<L: Listener> Incoming<L> {
    fn new(listener: L, acceptor: Acceptor) -> Self {
        Self {
            listener: Some(listener),
            acceptor,
            limit: MAX_HANDSHAKES,
            handshakes: JoinSet::new(),
            pause: None,
            next_pause: ACCEPT_PAUSES[0],
            aborted: 0,
            on_failed_handshake: Box::new(|_| {}),
            on_accept_error: Box::new(|_| {}),
        }
    }

    /// Sets the time after which a handshake is given up;
    /// [`HANDSHAKE_LIMIT`](crate::HANDSHAKE_LIMIT) without it.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.acceptor = self.acceptor.handshake_timeout(limit);
        self
    }

    /// Sets how many handshakes are under way at a time, at least 1; [`MAX_HANDSHAKES`] without
    /// it.
    ///
    /// As many silent clients keep all others waiting until the time limit of one has passed.
    pub fn max_handshakes(mut self, limit: usize) -> Self {
        self.limit = limit.max(1);
        self
    }

    /// Calls `observer` with each handshake that failed, in the task that polls. It replaces the
    /// observer set before. A panic in it (`eprintln!` without a reader of stderr) is reported as a
    /// warning to subscribers, and accepting goes on.
    ///
    /// It must not block: nothing is accepted while it runs. Clients decide how often it is called,
    /// and can fill a pipe that nobody reads. `eprintln!` blocks then. Count, or send to a bounded
    /// queue (`try_send`), where stderr may be such a pipe.
    pub fn on_failed_handshake(
        mut self,
        observer: impl Fn(&FailedHandshake<'_, L::Addr>) + Send + Sync + 'static,
    ) -> Self {
        self.on_failed_handshake = Box::new(observer);
        self
    }

    /// Calls `observer` with each failure to accept, in the task that polls: no descriptor is free,
    /// for example. It replaces the observer set before. A panic in it does no more than one in
    /// [`on_failed_handshake`](Self::on_failed_handshake), and it must not block either.
    pub fn on_accept_error(mut self, observer: impl Fn(&io::Error) + Send + Sync + 'static) -> Self {
        self.on_accept_error = Box::new(observer);
        self
    }

    /// Returns the address that the listener is bound to.
    ///
    /// # Errors
    /// The system's error; [`io::ErrorKind::NotConnected`] once it is closed.
    pub fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.as_ref().ok_or(io::ErrorKind::NotConnected)?.local_addr()
    }

    /// Returns the next connection; `None` once it is closed and no handshake is under way. A call
    /// that is dropped loses no connection.
    ///
    /// # Panics
    /// Outside of a tokio runtime. Where it has no timer, every handshake fails.
    pub async fn accept(&mut self) -> Option<Accepted<L::Io, L::Addr>> {
        poll_fn(|cx| self.poll_accepted(cx)).await
    }

    /// Closes the listener. The handshakes under way go on within their time limit, and their
    /// connections are returned as before.
    pub fn close(&mut self) {
        self.listener = None;
    }

    pub(super) fn poll_accepted(&mut self, cx: &mut Context<'_>) -> Poll<Option<Accepted<L::Io, L::Addr>>> {
        loop {
            // 1. A handshake that has ended makes room for the next one.
            match self.handshakes.poll_join_next(cx) {
                Poll::Ready(Some(Ok((peer, Ok(accepted))))) => {
                    return Poll::Ready(Some(accepted.with_peer(peer)));
                }
                Poll::Ready(Some(Ok((peer, Err(error))))) => {
                    let reason = HandshakeFailure::of_io(&error);
                    let failed = FailedHandshake { peer_addr: &peer, reason, error: &error };
                    let observer = || (self.on_failed_handshake)(&failed);
                    self.acceptor.guard("the observer of failed handshakes", &observer);
                    continue;
                }
                // The runtime ends, and has dropped the handshake.
                Poll::Ready(Some(Err(_))) => continue,
                Poll::Ready(None) if self.listener.is_none() => return Poll::Ready(None),
                Poll::Ready(None) | Poll::Pending => {}
            }
            // 2. The end of a handshake wakes the task.
            if self.handshakes.len() >= self.limit {
                return Poll::Pending;
            }
            // 3. The next handshake begins.
            ready!(self.poll_begin(cx));
        }
    }

    /// Accepts a connection and begins its handshake, or begins a pause.
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let Some(listener) = &mut self.listener else { return Poll::Pending };
        let Poll::Ready(accepted) = listener.poll_accept(cx) else {
            self.aborted = 0;
            return Poll::Pending;
        };
        match accepted {
            Ok((stream, peer)) => {
                (self.next_pause, self.aborted) = (ACCEPT_PAUSES[0], 0);
                let acceptor = self.acceptor.clone();
                self.handshakes.spawn(async move {
                    let accepted = acceptor.accept(stream).await;
                    (peer, accepted)
                });
            }
            Err(error) => {
                let at_once = is_about_one_client(&error) && self.aborted < MAX_ABORTED;
                if at_once {
                    self.aborted += 1;
                } else {
                    self.pause = Some(Box::pin(sleep(self.next_pause)));
                    self.next_pause = (2 * self.next_pause).min(ACCEPT_PAUSES[1]);
                }
                // After the pause is set, and guarded: whatever an observer does, accepting goes on.
                let observer = || (self.on_accept_error)(&error);
                self.acceptor.guard("the observer of accept errors", &observer);
                if at_once {
                    // Other tasks run first, however many such connections wait.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    }
}

/// Returns whether the connection that was to be accepted has ended, and nothing else is wrong.
fn is_about_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// An item is never an error.
impl<L: Listener> Stream for Incoming<L> {
    type Item = Result<Accepted<L::Io, L::Addr>, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_accepted(cx).map(|accepted| accepted.map(Ok))
    }
}

// The listener is only used by `&mut`.
impl<L: Listener> Unpin for Incoming<L> {}

impl<L: Listener> fmt::Debug for Incoming<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("open", &self.listener.is_some())
            .field("handshakes", &self.handshakes.len())
            .field("max_handshakes", &self.limit)
            .finish_non_exhaustive()
    }
}
