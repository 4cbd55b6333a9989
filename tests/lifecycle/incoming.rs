//! A stream of accepted connections: its limits and its failures.
//!
//! Checks: INV-07, INV-12, INV-13

mod busy;
mod ends;
mod sequences;
mod with_axum;
mod world;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustls::{KeyLog, version::TLS13};
use rustls_reload::{
    ClientAuth, Event, HANDSHAKE_LIMIT, HandshakeFailure, Incoming, Layer, Listener, Reload, ServerReloader,
};
use rustls_reload_testkit::Pair;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::Instant,
};

use crate::common::{self, Generation, NamedFile, Volume, client, generations};
use world::{handshake, is_answered, queue, reporting, rest};

/// EMFILE of Linux: the process has no descriptor left.
const NO_DESCRIPTOR: i32 = 24;

fn files<'a>(pair: &'a Pair, cas: &'a str) -> [NamedFile<'a>; 3] {
    [("tls.crt", pair.chain.as_bytes()), ("tls.key", pair.key.as_bytes()), ("ca.crt", cas.as_bytes())]
}

fn server() -> (Generation, ServerReloader) {
    let generation = Generation::new(0);
    let reloader = Volume::of(&generation).server().load().unwrap();
    (generation, reloader)
}

#[tokio::test(start_paused = true)]
async fn inv12_silent_client_is_reported_after_the_limit() {
    let (_, reloader) = server();
    for (set, limit) in [(None, HANDSHAKE_LIMIT), (Some(3), Duration::from_secs(3))] {
        let (sender, listener) = queue();
        let (mut incoming, mut failures) = reporting(reloader.incoming(listener));
        if let Some(seconds) = set {
            incoming = incoming.handshake_timeout(Duration::from_secs(seconds));
        }
        let mut silent = sender.connect();
        let begin = Instant::now();
        let accepting = tokio::spawn(async move { incoming.accept().await.is_some() });
        assert_eq!(failures.recv().await, Some((1, HandshakeFailure::TimedOut)));
        let took = begin.elapsed();
        assert!(took >= limit && took < limit + Duration::from_millis(10), "{took:?}");
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "the connection is closed");
        accepting.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn inv12_nothing_is_accepted_at_the_limit() {
    let (generation, reloader) = server();
    let config = client(std::slice::from_ref(&generation), &[&TLS13]);
    for limit in [0, 1, 2, 5] {
        let (sender, listener) = queue();
        let (mut incoming, mut failures) = reporting(reloader.incoming(listener).max_handshakes(limit));
        let limit = limit.max(1);
        let mut silent: Vec<_> = (0..limit).map(|_| sender.connect()).collect();
        let client = sender.connect();
        rest(&mut incoming, HANDSHAKE_LIMIT / 2).await;
        assert_eq!(sender.counters.accepted(), limit);
        let state = format!("open: true, handshakes: {limit}, max_handshakes: {limit}");
        assert_eq!(format!("{incoming:?}"), format!("Incoming {{ {state}, .. }}"));
        // One of them ends, and the client takes its place.
        drop(silent.pop());
        let (accepted, connection) = tokio::join!(incoming.accept(), handshake(&config, client));
        assert_eq!((accepted.unwrap().peer_addr, sender.counters.accepted()), (limit + 1, limit + 1));
        connection.unwrap();
        assert_eq!(failures.try_recv(), Ok((limit, HandshakeFailure::ConnectionLost)));
    }
}

#[tokio::test(start_paused = true)]
async fn inv15_missing_descriptors_are_reported_and_waited_for() {
    let (generation, reloader) = server();
    let config = client(std::slice::from_ref(&generation), &[&TLS13]);
    let (sender, listener) = queue();
    let (reported, mut errors) = tokio::sync::mpsc::unbounded_channel();
    let mut incoming = reloader.incoming(listener).on_accept_error(move |error| {
        reported.send((error.raw_os_error(), Instant::now())).unwrap();
    });
    for round in 0..2 {
        for _ in 0..10 {
            sender.fail(io::Error::from_raw_os_error(NO_DESCRIPTOR));
        }
        let client = sender.connect();
        let begin = Instant::now();
        let (accepted, connection) = tokio::join!(incoming.accept(), handshake(&config, client));
        assert_eq!(accepted.unwrap().peer_addr, round + 1);
        connection.unwrap();
        // The pauses begin anew once a connection was accepted.
        let wanted = [0, 10, 30, 70, 150, 310, 630, 1270, 2270, 3270].map(Duration::from_millis);
        let slack = Duration::from_millis(10);
        for wanted in wanted {
            let (error, at) = errors.try_recv().unwrap();
            assert_eq!(error, Some(NO_DESCRIPTOR));
            assert!(at - begin >= wanted && at - begin <= wanted + slack, "{:?}", at - begin);
        }
        assert!(errors.try_recv().is_err() && begin.elapsed() >= Duration::from_millis(4270));
    }
}

#[tokio::test(start_paused = true)]
async fn inv15_connections_aborted_in_the_queue_cost_no_pause() {
    let (generation, reloader) = server();
    let config = client(std::slice::from_ref(&generation), &[&TLS13]);
    let (sender, listener) = queue();
    let mut incoming = reloader.incoming(listener);
    let kinds =
        [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset, io::ErrorKind::ConnectionRefused];
    for kind in kinds.into_iter().cycle().take(300) {
        sender.fail(kind.into());
    }
    let client = sender.connect();
    let begin = Instant::now();
    let (accepted, connection) = tokio::join!(incoming.accept(), handshake(&config, client));
    assert!(accepted.is_some() && connection.is_ok());
    assert_eq!((sender.counters.errors(), begin.elapsed()), (300, Duration::ZERO));
}

/// A listener of the embedder's that fails in this way for ever would otherwise keep a core busy.
#[tokio::test(start_paused = true)]
async fn inv12_errors_about_clients_without_an_end_are_slowed_down() {
    let (generation, reloader) = server();
    let config = client(std::slice::from_ref(&generation), &[&TLS13]);
    let (sender, listener) = queue();
    let mut incoming = reloader.incoming(listener);
    for _ in 0..5_000 {
        sender.fail(io::ErrorKind::ConnectionReset.into());
    }
    rest(&mut incoming, Duration::from_millis(9)).await;
    assert_eq!(sender.counters.errors(), 4097, "the last of them begins a pause");
    // An empty queue shows that they have ended.
    rest(&mut incoming, Duration::from_secs(3600)).await;
    assert_eq!(sender.counters.errors(), 5_000);
    for _ in 0..4_000 {
        sender.fail(io::ErrorKind::ConnectionReset.into());
    }
    let (client, begin) = (sender.connect(), Instant::now());
    let (accepted, connection) = tokio::join!(incoming.accept(), handshake(&config, client));
    assert!(accepted.is_some() && connection.is_ok());
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

/// `eprintln!` panics where nobody reads stderr any more, and any client can make a handshake fail.
#[tokio::test(start_paused = true)]
async fn inv15_observer_that_panics_ends_no_accepting() {
    let (generation, reloader) = server();
    let mut events = reloader.events();
    let config = client(std::slice::from_ref(&generation), &[&TLS13]);
    let (sender, listener) = queue();
    let mut incoming = reloader
        .incoming(listener)
        .on_failed_handshake(|_| std::panic::resume_unwind(Box::new("stderr is gone")))
        .on_accept_error(|_| std::panic::resume_unwind(Box::new("stderr is gone")));
    drop(sender.connect());
    sender.fail(io::Error::from_raw_os_error(NO_DESCRIPTOR));
    let (client, begin) = (sender.connect(), Instant::now());
    let (accepted, connection) = tokio::join!(incoming.accept(), handshake(&config, client));
    assert!(accepted.is_some() && connection.is_ok());
    assert!(begin.elapsed() >= Duration::from_millis(10), "the pause is kept");
    let mut warned = Vec::new();
    while let Some(delivered) = events.try_next() {
        // The missing start of this reloader is reported as well.
        if let Event::Warning { warning } = &*delivered.event
            && warning.layer() == Layer::Panic
        {
            warned.push(warning.why().to_owned());
        }
    }
    warned.sort();
    assert_eq!(
        warned,
        ["the observer of accept errors panicked", "the observer of failed handshakes panicked"]
    );
}

#[tokio::test(start_paused = true)]
async fn inv16_failed_handshakes_are_reported_with_their_reasons() {
    let all = generations(2);
    let reloader = Volume::of(&all[0]).server().load().unwrap();
    let (good, stranger) = (client(&all[..1], &[&TLS13]), client(&all[1..], &[&TLS13]));
    let (sender, listener) = queue();
    let (mut incoming, mut failures) = reporting(reloader.incoming(listener));
    let mut plain = sender.connect();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    drop(sender.connect());
    let distrusting = handshake(&stranger, sender.connect());
    let good = handshake(&good, sender.connect());
    let (accepted, distrusting, good) = tokio::join!(incoming.accept(), distrusting, good);
    assert_eq!(accepted.unwrap().peer_addr, 4);
    assert!(distrusting.is_err() && good.is_ok());
    rest(&mut incoming, Duration::from_millis(1)).await;
    let mut reported: Vec<_> = std::iter::from_fn(|| failures.try_recv().ok()).collect();
    reported.sort_unstable_by_key(|(peer, _)| *peer);
    let alert = HandshakeFailure::Alert(rustls::AlertDescription::UnknownCA);
    let wanted = [(1, HandshakeFailure::NotTls), (2, HandshakeFailure::ConnectionLost), (3, alert)];
    assert_eq!(reported, wanted);
}

/// Panics while a flag is set.
#[derive(Debug)]
struct Panics(Arc<AtomicBool>);

impl KeyLog for Panics {
    fn log(&self, _: &str, _: &[u8], _: &[u8]) {
        if self.0.swap(false, Ordering::Relaxed) {
            std::panic::resume_unwind(Box::new("a key log's own"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn inv15_handshake_that_panics_fails_alone() {
    let generation = Generation::new(0);
    let armed = Arc::new(AtomicBool::new(false));
    let log = Arc::clone(&armed);
    let with_log = move |config: &mut rustls::ServerConfig| config.key_log = Arc::new(Panics(log.clone()));
    let reloader = Volume::of(&generation).server().configure(with_log).load().unwrap();
    let config = client(std::slice::from_ref(&generation), &[&TLS13]);
    let (sender, listener) = queue();
    let (mut incoming, mut failures) = reporting(reloader.incoming(listener));
    armed.store(true, Ordering::Relaxed);
    let client = sender.connect();
    let ((), connection) =
        tokio::join!(rest(&mut incoming, Duration::from_secs(1)), handshake(&config, client));
    assert!(connection.is_err() && !armed.load(Ordering::Relaxed));
    assert_eq!(failures.try_recv(), Ok((1, HandshakeFailure::Other)));
    let client = sender.connect();
    let (accepted, connection) = tokio::join!(incoming.accept(), handshake(&config, client));
    assert!(accepted.is_some() && connection.is_ok());
}

#[tokio::test(start_paused = true)]
async fn inv07_handshakes_go_on_while_nobody_takes_connections() {
    let (generation, reloader) = server();
    let config = client(std::slice::from_ref(&generation), &[&TLS13]);
    let (sender, listener) = queue();
    let mut incoming = reloader.incoming(listener);
    let clients: Vec<_> = (0..3).map(|_| sender.connect()).collect();
    rest(&mut incoming, Duration::from_millis(1)).await;
    assert_eq!(sender.counters.accepted(), 3);
    let mut connection = Vec::new();
    for client in clients {
        connection.push(handshake(&config, client).await.unwrap());
    }
    // A finished handshake has no time limit.
    tokio::time::sleep(2 * HANDSHAKE_LIMIT).await;
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(incoming.accept().await.unwrap().peer_addr);
    }
    peers.sort_unstable();
    assert_eq!(peers, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn inv09_each_connection_has_the_generation_it_was_shown() {
    let all = generations(2);
    let mut volume = Volume::in_memory(&all[0].files());
    let reloader = volume.server().load().unwrap();
    let config = client(&all, &[&TLS13]);
    let (sender, listener) = queue();
    let mut incoming = reloader.incoming(listener);
    for generation in 1..6 {
        // This one begins before the publication, and has sent nothing yet.
        let begun = sender.connect();
        rest(&mut incoming, Duration::from_millis(1)).await;
        volume.publish_in_one_tick(&all[generation % 2].files());
        assert_eq!(reloader.reload_now(), Reload::Reloaded);
        for (client, served) in [(begun, generation), (sender.connect(), generation + 1)] {
            let (accepted, connection) = tokio::join!(incoming.accept(), handshake(&config, client));
            assert_eq!(accepted.unwrap().generation(), served as u64);
            let connection = connection.unwrap();
            let shown = &connection.get_ref().1.peer_certificates().unwrap()[0];
            assert_eq!(*shown, all[(served - 1) % 2].server.leaf, "generation {served}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn inv11_connection_reports_its_client_and_reduced_trust() {
    let all = generations(2);
    let both = all[0].ca.pem.clone() + &all[1].ca.pem;
    let mut volume = Volume::new(&files(&all[0].server, &both));
    let server = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Optional);
    let reloader = server.alpn(["h2", "http/1.1"]).load().unwrap();
    let (sender, listener) = queue();
    let mut incoming = reloader.incoming(listener);
    let mut config = common::client_of(&all[0], Some(&all[1])).as_ref().clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (known, unknown) = (Arc::new(config), common::client_of(&all[0], None));

    let client = sender.connect();
    let (accepted, connection) = tokio::join!(incoming.accept(), handshake(&known, client));
    let (mut accepted, mut connection) = (accepted.unwrap(), connection.unwrap());
    assert_eq!((accepted.peer_addr, accepted.generation()), (1, 1));
    assert_eq!(accepted.peer_certificates().unwrap()[0], all[1].client.leaf);
    assert_eq!(accepted.alpn(), Some(&b"http/1.1"[..]));
    assert_eq!(accepted.server_name(), Some("localhost"));
    // It is a stream by itself.
    let echoed = async {
        let mut asked = [0; 5];
        accepted.read_exact(&mut asked).await.unwrap();
        assert!(accepted.is_write_vectored());
        assert_eq!(accepted.write_vectored(&[io::IoSlice::new(&asked)]).await.unwrap(), 5);
        accepted.flush().await.unwrap();
    };
    tokio::join!(echoed, async { is_answered(&mut connection).await.unwrap() });
    accepted.shutdown().await.unwrap();
    assert_eq!(connection.read(&mut [0]).await.unwrap(), 0, "closed as TLS closes");

    let client = sender.connect();
    let (anonymous, connection) = tokio::join!(incoming.accept(), handshake(&unknown, client));
    let anonymous = anonymous.unwrap();
    assert!(anonymous.peer_certificates().is_none() && anonymous.alpn().is_none() && connection.is_ok());

    volume.publish_in_one_tick(&files(&all[0].server, &all[0].ca.pem));
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    assert_eq!(accepted.trust_reduced.await, 2);
    assert_eq!(anonymous.trust_reduced.await, 2);
}

#[cfg(unix)]
#[tokio::test]
async fn inv07_unix_listener_serves_its_clients() {
    let (generation, reloader) = server();
    let config = client(std::slice::from_ref(&generation), &[&TLS13]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let mut incoming = reloader.incoming(tokio::net::UnixListener::bind(&path).unwrap());
    assert_eq!(incoming.local_addr().unwrap().as_pathname(), Some(path.as_path()));
    let client = tokio::net::UnixStream::connect(&path).await.unwrap();
    let (accepted, connection) = tokio::join!(incoming.accept(), handshake(&config, client));
    let open = tokio::spawn(world::echo(accepted.unwrap()));
    is_answered(&mut connection.unwrap()).await.unwrap();
    open.abort();
}

#[test]
fn incoming_can_be_moved_and_printed() {
    fn is_movable<T: std::fmt::Debug + Send + Unpin + 'static>() -> usize {
        size_of::<T>()
    }
    assert!(is_movable::<Incoming<tokio::net::TcpListener>>() > 0);
    // A task of a multi-thread runtime may hold it.
    fn is_send<F: Send>(future: F) -> F {
        future
    }
    fn accepts<L: Listener + Send>(mut incoming: Incoming<L>) -> impl Future + Send {
        is_send(async move { incoming.accept().await.is_some() })
    }
    let _ = accepts::<tokio::net::TcpListener>;
}
