//! A listener whose connections a test makes, and clients for it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use rustls::ClientConfig;
use rustls_reload::{HandshakeFailure, Incoming, Listener};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The number of a client, in the place of an address.
pub type Peer = usize;

/// A failed handshake, as it was reported.
pub type Failed = (Peer, HandshakeFailure);

/// Delivers what its [`Sender`] has queued.
pub struct Queue {
    arrivals: UnboundedReceiver<io::Result<(DuplexStream, Peer)>>,
    counters: Arc<Counters>,
}

/// Counts of what an `Incoming` has taken from a queue.
#[derive(Default)]
pub struct Counters {
    /// Connections that it accepted.
    accepted: AtomicUsize,
    /// Failures to accept that it met.
    errors: AtomicUsize,
}

impl Counters {
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    pub fn errors(&self) -> usize {
        self.errors.load(Ordering::Relaxed)
    }
}

impl Listener for Queue {
    type Io = DuplexStream;
    type Addr = Peer;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(DuplexStream, Peer)>> {
        // A queue whose sender has gone is a listener to which nobody connects.
        let Some(arrival) = ready!(self.arrivals.poll_recv(cx)) else { return Poll::Pending };
        let counter = if arrival.is_ok() { &self.counters.accepted } else { &self.counters.errors };
        counter.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(arrival)
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(0)
    }
}

/// The clients' side of a [`Queue`].
pub struct Sender {
    arrivals: UnboundedSender<io::Result<(DuplexStream, Peer)>>,
    pub counters: Arc<Counters>,
    peers: AtomicUsize,
}

impl Sender {
    /// Returns the clients' end of a new connection; clients are numbered from 1.
    pub fn connect(&self) -> DuplexStream {
        let (client, server) = duplex(16 * 1024);
        let peer = self.peers.fetch_add(1, Ordering::Relaxed) + 1;
        // Nobody takes it once the listener was closed.
        let _ = self.arrivals.send(Ok((server, peer)));
        client
    }

    /// Makes an attempt to accept fail.
    pub fn fail(&self, error: io::Error) {
        self.arrivals.send(Err(error)).unwrap();
    }
}

pub fn queue() -> (Sender, Queue) {
    let (sender, receiver) = unbounded_channel();
    let counters = Arc::new(Counters::default());
    let queue = Queue { arrivals: receiver, counters: Arc::clone(&counters) };
    (Sender { arrivals: sender, counters, peers: AtomicUsize::new(0) }, queue)
}

/// Has failed handshakes reported to the receiver.
pub fn reporting(incoming: Incoming<Queue>) -> (Incoming<Queue>, UnboundedReceiver<Failed>) {
    let (sender, receiver) = unbounded_channel();
    let report = move |failed: &rustls_reload::FailedHandshake<'_, Peer>| {
        assert_eq!(failed.reason, HandshakeFailure::of_io(failed.error));
        // A test that no longer listens has ended.
        let _ = sender.send((*failed.peer_addr, failed.reason));
    };
    (incoming.on_failed_handshake(report), receiver)
}

/// Makes a handshake as a client does.
pub async fn handshake<IO>(config: &Arc<ClientConfig>, stream: IO) -> io::Result<TlsStream<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let name = "localhost".try_into().unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

/// Echoes bytes until the client ends.
pub async fn echo(stream: impl AsyncRead + AsyncWrite) {
    let (mut from, mut to) = tokio::io::split(stream);
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

/// Asks for an echo.
pub async fn is_answered(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.write_all(b"still").await?;
    stream.flush().await?;
    let mut received = [0; 5];
    stream.read_exact(&mut received).await?;
    assert_eq!(&received, b"still");
    Ok(())
}

/// Polls `incoming` until nothing more happens by itself within `time`, which has to be paused;
/// panics if it returns a connection.
pub async fn rest(incoming: &mut Incoming<Queue>, time: Duration) {
    let accepted = tokio::time::timeout(time, incoming.accept()).await;
    assert!(accepted.is_err(), "accepted: {accepted:?}");
}
