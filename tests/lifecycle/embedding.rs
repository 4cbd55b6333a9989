//! Embedding that cannot silently stop reloading: owners, a missing start, and the acceptor.
//!
//! Checks: INV-07, INV-11, INV-13

use std::{
    io,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crate::common::{self, Generation, Volume, by_events_only, expect, generations, in_time, quick, started};
use rustls_reload::{
    Acceptor, Build, Builder, Built, ClientAuth, Context, Error, Event, Events, Files, HANDSHAKE_LIMIT,
    HandshakeFailure, Layer, Reload, STOP_LIMIT, ServerReloader, ServerTls, watch::Hints,
};

/// Returns the acceptor alone, as a function of an application does.
fn acceptor_of(volume: &Volume) -> Acceptor {
    volume.server().timing(by_events_only()).start().unwrap().acceptor()
}

fn is_stopped(event: &Event) -> Option<()> {
    matches!(event, Event::Stopped).then_some(())
}

#[test]
fn inv13_acceptor_alone_keeps_reloading_until_it_is_dropped() {
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let acceptor = acceptor_of(&volume);
    let reloader = acceptor.reloader();
    let mut events = reloader.events();
    volume.publish(&generations[1].files());
    let served = reloader.wait_published(1, common::DEADLINE).unwrap();
    assert_eq!(common::presented_by(&served.value.config)[0], generations[1].server.leaf);
    drop(acceptor.clone());
    assert!(reloader.status().running, "a clone that is dropped stops nothing");
    drop(acceptor);
    expect(&mut events, "stop", is_stopped);
}

#[test]
fn inv13_resolver_alone_keeps_reloading_until_it_is_dropped() {
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().timing(by_events_only()).start().unwrap();
    let mut events = reloader.events();
    // A future keeps nothing going.
    let (published, never) = (reloader.published(1), reloader.published(2));
    let resolver = reloader.resolver();
    drop(reloader);
    volume.publish(&generations[1].files());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limited = async { tokio::time::timeout(common::DEADLINE, published).await };
    assert_eq!(runtime.block_on(limited).unwrap().generation, 2);
    drop(resolver);
    expect(&mut events, "stop", is_stopped);
    drop(never);
}

#[test]
fn inv13_clone_goes_on_when_the_first_reloader_is_dropped() {
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().timing(by_events_only()).start().unwrap();
    assert_eq!(common::presented(&reloader)[0], generations[0].server.leaf);
    let clone = reloader.clone();
    drop(reloader);
    volume.publish(&generations[1].files());
    common::wait_for_leaf(&clone, &generations[1].server);
    assert_eq!(common::presented(&clone)[0], generations[1].server.leaf);
}

/// Accepts a connection that ends at once.
fn accept(reloader: &ServerReloader) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let gone = tokio::io::duplex(64).0;
    runtime.block_on(reloader.acceptor().accept(gone)).unwrap_err();
}

/// Returns the first warning about a start that is missing.
fn missing_start(event: &Event) -> Option<()> {
    match event {
        Event::Warning { warning } if warning.why().contains("never started") => {
            assert_eq!(warning.layer(), Layer::Settings);
            Some(())
        }
        _ => None,
    }
}

/// Returns the number of warnings about a missing start from now on. A report is made on a thread of
/// its own, so this returns once nothing has been reported for two polls.
fn missing_starts(events: &mut Events<ServerTls>) -> usize {
    let reported = std::iter::from_fn(|| events.next_within(2 * quick().poll));
    reported.filter(|reported| missing_start(&reported.event).is_some()).count()
}

#[test]
fn inv11_handshake_without_a_start_is_reported_once() {
    let generation = Generation::new(0);
    let volume = Volume::of(&generation);
    let by_resolver = |reloader: &ServerReloader| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(reloader.resolver());
        common::handshake(&Arc::new(config), &common::client_of(&generation, None)).unwrap();
    };
    for handshake in [&accept as &dyn Fn(&ServerReloader), &by_resolver] {
        let reloader = volume.server().load().unwrap();
        let mut events = reloader.events();
        handshake(&reloader);
        expect(&mut events, "warning", missing_start);
        handshake(&reloader);
        assert_eq!(missing_starts(&mut events), 0, "it is reported once");
        reloader.start().unwrap();
        handshake(&reloader);
        reloader.stop().unwrap();
        assert_eq!(missing_starts(&mut events), 0, "it was started");
    }
}

#[test]
fn inv11_handshake_after_a_start_or_a_manual_reload_is_not_reported() {
    let volume = Volume::of(&Generation::new(0));
    for by_hand in [false, true] {
        let reloader = volume.server().load().unwrap();
        let mut events = reloader.events();
        if by_hand {
            assert_eq!(reloader.reload_now(), Reload::Unchanged);
        } else {
            reloader.start().unwrap();
        }
        accept(&reloader);
        reloader.stop().unwrap();
        assert_eq!(missing_starts(&mut events), 0);
    }
}

#[test]
fn inv07_handshake_waits_for_no_report_of_a_missing_start() {
    let volume = Volume::of(&Generation::new(0));
    let (begun, begins) = mpsc::channel();
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let wait = move |event: &Event| {
        if missing_start(event).is_some() {
            begun.send(()).unwrap();
            gate.lock().unwrap().recv().unwrap();
        }
    };
    let reloader = volume.server().on_event(wait).load().unwrap();
    let accepting = reloader.clone();
    in_time(move || accept(&accepting));
    begins.recv_timeout(common::DEADLINE).unwrap();
    open.send(()).unwrap();
}

#[tokio::test]
async fn inv07_last_owner_on_an_executor_does_not_wait_for_the_driver() {
    let volume = Volume::of(&Generation::new(0));
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let (ended, ends) = mpsc::channel();
    let wait = move |event: &Event| {
        if matches!(event, Event::Stopped) {
            gate.lock().unwrap().recv().unwrap();
            ended.send(()).unwrap();
        }
    };
    let acceptor = volume.server().on_event(wait).start_async().await.unwrap().acceptor();
    let begin = Instant::now();
    drop(acceptor);
    assert!(begin.elapsed() < STOP_LIMIT, "it waits for a callback");
    assert_eq!(ends.try_recv(), Err(mpsc::TryRecvError::Empty));
    open.send(()).unwrap();
    ends.recv_timeout(common::DEADLINE).unwrap();
}

/// Nothing but the drop wakes the driver: no file changes, and the poll is an hour away.
#[tokio::test]
async fn inv13_last_owner_on_an_executor_wakes_the_driver() {
    let volume = Volume::of(&Generation::new(0));
    // The driver falls asleep just after its start is reported, most likely before the drop.
    for _ in 0..5 {
        let reloader = volume.server().timing(by_events_only()).load().unwrap();
        let mut events = reloader.events();
        reloader.start().unwrap();
        started(&mut events);
        drop(reloader);
        expect(&mut events, "stop", is_stopped);
    }
}

#[tokio::test]
async fn inv13_reload_that_is_given_up_keeps_nothing_going() {
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let (open, gate) = mpsc::channel::<()>();
    let (begun, begins) = mpsc::channel();
    // The second build waits, and says which configuration it makes.
    let made = Arc::new(Mutex::new(Weak::new()));
    let place = Arc::clone(&made);
    let mut builds = 0;
    let wait = move |config: &mut rustls::ServerConfig| {
        builds += 1;
        if builds == 2 {
            let mark = Arc::new(rustls::NoKeyLog {});
            *place.lock().unwrap() = Arc::downgrade(&mark);
            config.key_log = mark;
            begun.send(()).unwrap();
            gate.recv().unwrap();
        }
    };
    let reloader = volume.server().configure(wait).load().unwrap();
    // A subscription keeps what is served alive, and nothing going.
    let events = reloader.events();
    volume.publish(&generations[1].files());
    let handle = reloader.clone();
    let asked = tokio::time::timeout(Duration::ZERO, async move { handle.reload().await }).await;
    assert!(asked.is_err(), "it waits for the build");
    begins.recv_timeout(common::DEADLINE).unwrap();
    drop(reloader);
    open.send(()).unwrap();
    let begin = Instant::now();
    while made.lock().unwrap().upgrade().is_some() {
        assert!(begin.elapsed() < common::DEADLINE, "it is published after the last owner has gone");
        tokio::task::yield_now().await;
    }
    drop(events);
}

#[tokio::test]
async fn inv07_async_start_leaves_the_executor_free() {
    let generation = Generation::new(0);
    let volume = Volume::of(&generation);
    let ticks = Arc::new(AtomicUsize::new(0));
    let ticking = {
        let ticks = Arc::clone(&ticks);
        tokio::spawn(async move {
            loop {
                ticks.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        })
    };
    // The build step ends only once the executor's one thread has run the other task.
    let wait = move |_: &mut rustls::ServerConfig| {
        let (before, begin) = (ticks.load(Ordering::Relaxed), Instant::now());
        while ticks.load(Ordering::Relaxed) == before {
            assert!(begin.elapsed() < common::DEADLINE, "the executor runs nothing else");
            thread::yield_now();
        }
    };
    let reloader = volume.server().configure(wait).start_async().await.unwrap();
    ticking.abort();
    assert_eq!(common::presented_by(&reloader.config())[0], generation.server.leaf);
}

#[tokio::test]
async fn inv03_async_start_returns_the_error_of_the_load() {
    let dir = tempfile::tempdir().unwrap();
    let error = common::server_in(dir.path()).start_async().await.unwrap_err();
    let error = io::Error::from(error);
    assert!(error.to_string().contains("tls.crt"), "{error}");
}

#[test]
fn inv11_error_keeps_the_systems_error_and_the_line() {
    use std::error::Error as _;

    let volume = Volume::of(&Generation::new(0));
    let (chain, key) = (volume.path("tls.crt"), volume.path("tls.key"));
    let missing = ServerReloader::builder(volume.path("missing"), &key).load().unwrap_err();
    assert_eq!((missing.layer(), missing.line()), (Layer::Read, None));
    assert_eq!(missing.io_kind(), Some(io::ErrorKind::NotFound));
    let source = missing.source().and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(source.map(io::Error::kind), missing.io_kind());
    assert_eq!(io::Error::from(missing).kind(), io::ErrorKind::NotFound);

    let exchanged = ServerReloader::builder(&chain, &chain).load().unwrap_err();
    assert_eq!((exchanged.layer(), exchanged.line()), (Layer::Key, Some(1)));
    assert!(exchanged.io_kind().is_none() && exchanged.source().is_none());
    assert!(exchanged.why().starts_with("line 1: "), "{exchanged}");
    assert_eq!(io::Error::from(exchanged).kind(), io::ErrorKind::Other);
}

#[test]
fn inv11_builders_waits_and_watchers_have_a_debug_form() {
    let server = format!(
        "{:?}",
        ServerReloader::builder("/tls/a.crt", "/tls/a.key").client_ca("/tls/a.ca", ClientAuth::Required)
    );
    assert!(["a.crt", "a.key", "a.ca", "Required"].iter().all(|part| server.contains(part)), "{server}");
    let generic = format!("{:?}", Builder::new(["/tls/file"], Nobody));
    assert!(generic.contains("/tls/file") && generic.contains("settle"), "{generic}");

    let volume = Volume::of(&Generation::new(0));
    let reloader = volume.server().watcher(None).load().unwrap();
    assert!(format!("{reloader:?}").contains("generation: 1"), "{reloader:?}");
    assert_eq!(format!("{:?}", reloader.published(7)), "PublishedAfter { generation: 7, .. }");
    assert_eq!(format!("{:?}", reloader.trust_reduced(7)), "TrustReduced { generation: 7, .. }");
    assert!(format!("{:?}", reloader.events()).starts_with("Events { next: "));
    assert_eq!(format!("{:?}", Hints::new(|| {})), "Hints { .. }");
}

/// Builds nothing.
struct Nobody;

impl Build for Nobody {
    type Value = ();

    fn build(&mut self, _: &Files, _: &Context<'_, ()>) -> Result<Built<()>, Error> {
        Ok(Built::new(()))
    }
}

#[tokio::test(start_paused = true)]
async fn inv12_silent_client_is_given_up_after_the_limit() {
    let volume = Volume::of(&Generation::new(0));
    let acceptor = acceptor_of(&volume);
    for (acceptor, limit) in [
        (acceptor.clone(), HANDSHAKE_LIMIT),
        (acceptor.handshake_timeout(Duration::from_secs(3)), Duration::from_secs(3)),
    ] {
        let (silent, server) = tokio::io::duplex(64);
        let begin = tokio::time::Instant::now();
        let error = acceptor.accept(server).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(HandshakeFailure::of_io(&error), HandshakeFailure::TimedOut);
        assert!(begin.elapsed() >= limit && begin.elapsed() < limit + Duration::from_millis(10));
        drop(silent);
    }
}

#[test]
fn types_are_what_an_application_state_needs() {
    fn is_state<T: Clone + std::fmt::Debug + Send + Sync + 'static>() -> usize {
        size_of::<T>()
    }
    assert!(is_state::<ServerReloader>() > 0 && is_state::<Acceptor>() > 0);
    static STATE: OnceLock<ServerReloader> = OnceLock::new();
    assert!(STATE.get().is_none());
}
