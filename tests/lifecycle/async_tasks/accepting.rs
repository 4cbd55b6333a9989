//! Handshakes that arrive a few bytes at a time, with a publication between any two steps of one.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::{Pin, pin},
    sync::{Arc, LazyLock, Mutex},
    task::{Context, Poll, Waker},
};

use rustls::{
    ClientConfig, ClientConnection, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};
use rustls_reload::{Accepted, Acceptor, ClientAuth, Event, Reload, ServerBuilder, ServerReloader};
use rustls_reload_harness::settings;
use rustls_reload_testkit::{Pair, PrivateKey, Subject};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::world::{Gate, HANG, Stage};
use crate::common::{self, Generation, Volume, client, generations};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// The server's end of a connection, which reads the bytes that the test has delivered.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<[VecDeque<u8>; 2]>>);

impl Wire {
    fn deliver(&self, bytes: &[u8]) {
        self.0.lock().unwrap()[0].extend(bytes);
    }

    fn sent(&self) -> Vec<u8> {
        self.0.lock().unwrap()[1].drain(..).collect()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let incoming = &mut self.0.lock().unwrap()[0];
        if incoming.is_empty() {
            return Poll::Pending;
        }
        let count = incoming.len().min(buffer.remaining());
        buffer.put_slice(&incoming.drain(..count).collect::<Vec<_>>());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap()[1].extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

static TIMER: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap());

/// The end of a handshake.
enum End {
    Accepted(Box<Accepted<Wire>>),
    Failed,
    /// Dropped before its end.
    Dropped,
}

/// The end of the handshake, the leaf that the client got, and the number of steps.
struct Course {
    end: End,
    presented: Option<CertificateDer<'static>>,
    steps: usize,
}

/// Makes a handshake with this many bytes per step. `before` is called before each step, and ends
/// the handshake by returning `false`.
fn accept(
    acceptor: &Acceptor,
    config: &Arc<ClientConfig>,
    bytes: usize,
    mut before: impl FnMut(usize) -> bool,
) -> Course {
    // The acceptor's time limit needs a timer, whose time never passes here.
    let _timer = TIMER.enter();
    let wire = Wire::default();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut accepting = Box::pin(acceptor.accept(wire.clone()));
    let mut cx = Context::from_waker(Waker::noop());
    let mut outgoing = VecDeque::new();
    let mut steps = 0;
    loop {
        if !before(steps) {
            return Course { end: End::Dropped, presented: None, steps };
        }
        while client.wants_write() {
            client.write_tls(&mut outgoing).unwrap();
        }
        let count = outgoing.len().min(bytes);
        wire.deliver(&outgoing.drain(..count).collect::<Vec<_>>());
        steps += 1;
        let polled = accepting.as_mut().poll(&mut cx);
        let sent = wire.sent();
        let mut rest = sent.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            // The server's end shows the reason of a failure.
            let _ = client.process_new_packets();
        }
        let end = match polled {
            Poll::Ready(Ok(accepted)) => End::Accepted(Box::new(accepted)),
            Poll::Ready(Err(_)) => End::Failed,
            Poll::Pending => {
                assert!(steps < 10_000, "the handshake does not end");
                continue;
            }
        };
        let presented = client.peer_certificates().map(|chain| chain[0].clone().into_owned());
        return Course { end, presented, steps };
    }
}

/// The update that is published during a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Update {
    /// Another leaf, and the same client CAs.
    Renewal,
    /// Another leaf, and the client's CA is removed.
    Removal,
    /// The change of `Removal`, after which the CA is added again.
    RemovalAndReturn,
}

struct World {
    volume: Volume,
    reloader: ServerReloader,
    all: Vec<Generation>,
    /// The leaf of each generation, from the first on, and whether it trusts less than its
    /// predecessor.
    published: Vec<(CertificateDer<'static>, bool)>,
    /// A few pairs of the first CA, which take turns.
    pairs: Vec<Pair>,
}

impl World {
    fn new(with: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let all = generations(2);
        let pairs: Vec<_> =
            (0..3).map(|_| all[0].ca.issue(&Subject::server("localhost"), &PrivateKey::p256())).collect();
        let both = all[0].ca.pem.clone() + &all[1].ca.pem;
        let volume = Volume::in_memory(&files(&pairs[0], &both));
        let server = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required);
        let reloader = with(server).load().unwrap();
        let published = vec![(pairs[0].leaf.clone(), false)];
        Self { volume, reloader, all, published, pairs }
    }

    fn publish(&mut self, trusts_client: bool, trusted_client: bool) {
        let pair = &self.pairs[self.published.len() % self.pairs.len()];
        let cas =
            if trusts_client { self.all[0].ca.pem.clone() } else { String::new() } + &self.all[1].ca.pem;
        self.volume.publish_in_one_tick(&files(pair, &cas));
        assert_eq!(self.reloader.reload_now(), Reload::Reloaded);
        self.published.push((pair.leaf.clone(), trusted_client && !trusts_client));
    }

    fn update(&mut self, update: Update) {
        match update {
            Update::Renewal => self.publish(true, true),
            Update::Removal => self.publish(false, true),
            Update::RemovalAndReturn => {
                self.publish(false, true);
                self.publish(true, false);
            }
        }
    }

    /// Returns the last generation after `generation` that trusts less than its predecessor.
    fn shrunk_after(&self, generation: u64) -> Option<u64> {
        let numbered = (1..).zip(&self.published);
        numbered
            .filter(|(number, (_, shrinks))| *number > generation && *shrinks)
            .map(|(number, _)| number)
            .last()
    }
}

fn files<'a>(pair: &'a Pair, cas: &'a str) -> [common::NamedFile<'a>; 3] {
    [("tls.crt", pair.chain.as_bytes()), ("tls.key", pair.key.as_bytes()), ("ca.crt", cas.as_bytes())]
}

/// Makes one handshake with an update before the step `at`. Returns the number of steps.
fn evaluate(
    world: &mut World,
    config: &Arc<ClientConfig>,
    bytes: usize,
    update: Update,
    at: usize,
) -> Result<usize, String> {
    let acceptor = world.reloader.acceptor();
    let begun = world.reloader.current().generation;
    let course = accept(&acceptor, config, bytes, |step| {
        if step == at {
            world.update(update);
        }
        true
    });
    // The handshake takes its configuration when it is first polled.
    let removed = at == 0 && update == Update::Removal;
    let wanted = if at == 0 { world.reloader.current().generation } else { begun };
    match course.end {
        End::Dropped => unreachable!("nobody drops it"),
        End::Failed if removed => {}
        End::Failed => return Err("refused".to_owned()),
        End::Accepted(_) if removed => {
            return Err("let in by a configuration that trusts it no longer".to_owned());
        }
        End::Accepted(accepted) => {
            let generation = accepted.generation();
            if generation != wanted {
                return Err(format!("it reports generation {generation}, and {wanted} was served"));
            }
            let (leaf, _) = &world.published[usize::try_from(generation).unwrap() - 1];
            if course.presented.as_ref() != Some(leaf) {
                return Err(format!("it reports generation {generation}, whose leaf the client did not get"));
            }
            let mut shrunk = pin!(accepted.trust_reduced);
            let mut cx = Context::from_waker(Waker::noop());
            let wanted = world.shrunk_after(generation).map_or(Poll::Pending, Poll::Ready);
            let polled = shrunk.as_mut().poll(&mut cx);
            if polled != wanted {
                return Err(format!("drained: {polled:?}, wanted {wanted:?}"));
            }
            if wanted.is_pending() {
                // The client was accepted, so its connection is drained once its CA is removed.
                world.publish(false, true);
                let last = world.reloader.current().generation;
                let polled = shrunk.as_mut().poll(&mut cx);
                if polled != Poll::Ready(last) {
                    return Err(format!("drained: {polled:?}, and its CA has gone with {last}"));
                }
            }
        }
    }
    // The client is trusted again in the next round.
    if world.published.last().is_some_and(|(_, shrinks)| *shrinks) {
        world.publish(true, false);
    }
    Ok(course.steps)
}

/// Returns whether `ASYNC=whole` is set: a publication before each byte.
fn is_whole() -> bool {
    settings::is("ASYNC", "whole")
}

/// Checks: INV-04, INV-09, INV-11. Engine: generated
#[test]
fn inv09_inv11_an_accepted_connection_reports_its_own_generation() {
    let counts = common::at_once(&VERSIONS, |version| {
        let mut world = World::new(|server| server);
        let config = client_of(&world, version);
        let mut count = 0;
        for update in [Update::Removal, Update::Renewal, Update::RemovalAndReturn] {
            for bytes in if is_whole() { vec![1, 64] } else { vec![1, 128] } {
                let steps = evaluate(&mut world, &config, bytes, update, usize::MAX).unwrap();
                assert!(steps > 2, "{steps}");
                let stride = if bytes == 1 && !is_whole() { 293 } else { 1 };
                for at in (0..steps).step_by(stride).chain([steps - 1]) {
                    if let Err(why) = evaluate(&mut world, &config, bytes, update, at) {
                        panic!("{:?}, {update:?} before step {at} of {steps}: {why}", version.version);
                    }
                    count += 1;
                }
            }
        }
        count
    });
    println!("{} handshakes with a publication in them", counts.iter().sum::<usize>());
}

fn client_of(world: &World, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&client(&world.all[..1], &[version]));
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// Checks: INV-12. A client that leaves in the middle of its handshake leaves no configuration
/// behind.
#[test]
fn inv12_a_dropped_handshake_keeps_no_configuration() {
    let mut world = World::new(|server| server);
    let config = client_of(&world, &TLS13);
    for at in [0, 1, 3, 5] {
        let old = Arc::downgrade(&world.reloader.current());
        let course = accept(&world.reloader.acceptor(), &config, 128, |step| step < at);
        assert!(matches!(course.end, End::Dropped) && course.steps == at);
        world.publish(true, true);
        assert!(old.upgrade().is_none(), "step {at}: the configuration of a dropped handshake is kept");
    }
}

#[test]
fn inv07_a_handshake_ends_while_a_reload_is_held() {
    for stage in [Stage::Build, Stage::Event] {
        let gate = Arc::new(Gate::patient(HANG));
        let (building, reporting) = (Arc::clone(&gate), Arc::clone(&gate));
        let mut world = World::new(|server| {
            let server = server.configure(move |_| building.pass(Stage::Build, || {}));
            server.on_event(move |event| {
                if matches!(event, Event::Published { .. }) {
                    reporting.pass(Stage::Event, || {});
                }
            })
        });
        gate.arm(stage, false);
        world.volume.publish_in_one_tick(&files(&world.pairs[1], &world.all[0].ca.pem));
        let handle = world.reloader.clone();
        let reloading = std::thread::spawn(move || handle.reload_now());
        let start = std::time::Instant::now();
        while !gate.holds() {
            assert!(start.elapsed() < HANG, "the reload is not held");
            std::thread::yield_now();
        }
        let config = client_of(&world, &TLS13);
        let course = accept(&world.reloader.acceptor(), &config, 128, |_| true);
        let End::Accepted(accepted) = course.end else { panic!("{stage:?}: not let in") };
        assert_eq!(accepted.generation(), if stage == Stage::Event { 2 } else { 1 });
        assert!(gate.holds() && !gate.was_forced(), "{stage:?}: the handshake waited for the reload");
        gate.open();
        assert_eq!(reloading.join().unwrap(), Reload::Reloaded);
    }
}
