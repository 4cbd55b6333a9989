//! A new client beside 200 half-open handshakes and a silent client, over TCP.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, client::Resumption, version::TLS13};
use rustls_reload::{Listener, ServerReloader};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{
    server,
    world::{echo, handshake, is_answered},
};
use crate::common;

const HALF_OPEN: usize = 200;
/// Least clients of each server. The fastest of them is compared: load on the machine makes
/// clients slower, and none faster.
const ROUNDS: usize = 20;
/// How much slower the fastest client may be beside the others.
const ALLOWED: Duration = Duration::from_millis(10);

/// Counts the connections that are accepted.
pub(super) struct Counting(pub(super) TcpListener, pub(super) watch::Sender<usize>);

impl Listener for Counting {
    type Io = TcpStream;
    type Addr = SocketAddr;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let accepted = ready!(Listener::poll_accept(&mut self.0, cx))?;
        self.1.send_modify(|count| *count += 1);
        Poll::Ready(Ok(accepted))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Serves echoes; returns the address and the number of accepted connections.
async fn serve(reloader: &ServerReloader) -> (SocketAddr, watch::Receiver<usize>) {
    let (sender, accepted) = watch::channel(0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // No time limit ends what is half-open.
    let incoming = reloader.incoming(Counting(listener, sender)).handshake_timeout(Duration::from_secs(3600));
    let address = incoming.local_addr().unwrap();
    let mut incoming = incoming;
    tokio::spawn(async move {
        while let Some(connection) = incoming.accept().await {
            tokio::spawn(echo(connection));
        }
    });
    (address, accepted)
}

/// Connects and sends half of a hello.
async fn half_open(address: SocketAddr, config: &Arc<ClientConfig>) -> TcpStream {
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&hello[..hello.len() / 2]).await.unwrap();
    stream
}

/// The time from the connection to the first answer.
async fn served(address: SocketAddr, config: &Arc<ClientConfig>) -> Duration {
    let begin = Instant::now();
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut stream = handshake(config, stream).await.unwrap();
    is_answered(&mut stream).await.unwrap();
    begin.elapsed()
}

#[tokio::test]
async fn inv07_half_open_handshakes_hold_up_no_new_client() {
    let (generation, reloader) = server();
    let mut config = common::client(std::slice::from_ref(&generation), &[&TLS13]).as_ref().clone();
    config.resumption = Resumption::disabled();
    let config = Arc::new(config);
    let (idle, _) = serve(&reloader).await;
    let (busy, mut accepted) = serve(&reloader).await;
    let mut open = vec![TcpStream::connect(busy).await.unwrap()];
    for _ in 0..HALF_OPEN {
        open.push(half_open(busy, &config).await);
    }
    accepted.wait_for(|count| *count == HALF_OPEN + 1).await.unwrap();
    // In turns, so that both meet the same load. More clients follow where load hit all of one server.
    let (mut fastest, mut rounds) = ([Duration::MAX; 2], 0);
    let deadline = Instant::now() + common::DEADLINE;
    while rounds < ROUNDS || fastest[1] > fastest[0] + ALLOWED && Instant::now() < deadline {
        rounds += 1;
        for (fastest, address) in fastest.iter_mut().zip([idle, busy]) {
            *fastest = served(address, &config).await.min(*fastest);
        }
    }
    let [alone, beside] = fastest;
    println!("served in {alone:?} alone, in {beside:?} beside {} others", open.len());
    assert!(beside <= alone + ALLOWED, "{beside:?} beside the others, {alone:?} alone");
}
