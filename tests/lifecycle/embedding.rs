//! Embedding that cannot silently stop reloading: owners, late observers, and the acceptor.
//!
//! Checks: INV-07, INV-11, INV-13

use std::{
    io,
    sync::{
        Arc, Barrier, Mutex, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crate::common::{self, Generation, Volume, by_events_only, drain, expect, generations, started};
use rustls_reload::{
    Acceptor, Build, Builder, Built, ClientAuth, Context, Error, Event, Files, HANDSHAKE_LIMIT,
    HandshakeFailure, Layer, Reload, STOP_LIMIT, ServerReloader, watch::Hints,
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
    let published = reloader.published(1);
    let resolver = reloader.resolver();
    drop(reloader);
    volume.publish(&generations[1].files());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limited = async { tokio::time::timeout(common::DEADLINE, published).await };
    assert_eq!(runtime.block_on(limited).unwrap().generation, 2);
    drop(resolver);
    expect(&mut events, "stop", is_stopped);
}

#[test]
fn inv13_clone_goes_on_when_the_first_reloader_is_dropped() {
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().timing(by_events_only()).start().unwrap();
    let clone = reloader.clone();
    drop(reloader);
    volume.publish(&generations[1].files());
    common::wait_for_leaf(&clone, &generations[1].server);
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

#[test]
fn inv11_handshake_without_a_start_is_reported_once() {
    let volume = Volume::of(&Generation::new(0));
    let reloader = volume.server().load().unwrap();
    let mut events = reloader.events();
    accept(&reloader);
    expect(&mut events, "warning", missing_start);
    accept(&reloader);
    reloader.start().unwrap();
    accept(&reloader);
    started(&mut events);
    reloader.stop().unwrap();
    let warnings = drain(&mut events).iter().filter_map(|event| missing_start(event)).count();
    assert_eq!(warnings, 0, "it is reported once");
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
        assert_eq!(drain(&mut events).iter().filter_map(|event| missing_start(event)).count(), 0);
    }
}

#[test]
fn inv04_late_observer_gets_the_served_value_and_then_each_once_in_order() {
    const UPDATES: usize = 40;
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().timing(by_events_only()).load().unwrap();
    let seen: Vec<Arc<Mutex<Vec<u64>>>> = (0..UPDATES).map(|_| Arc::default()).collect();
    // Each observer is added while an update is published.
    for (round, seen) in seen.iter().enumerate() {
        volume.publish_in_one_tick(&generations[(round + 1) % 2].files());
        let both = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                both.wait();
                assert_eq!(reloader.reload_now(), Reload::Reloaded);
            });
            both.wait();
            let noted = Arc::clone(seen);
            reloader.on_publish(move |published| noted.lock().unwrap().push(published.generation));
            assert!(!seen.lock().unwrap().is_empty(), "it is called before the call returns");
        });
    }
    let last = reloader.status().generation;
    assert_eq!(last, UPDATES as u64 + 1);
    for (round, seen) in seen.iter().enumerate() {
        let seen = seen.lock().unwrap();
        let first = seen[0];
        assert!(first == round as u64 + 1 || first == round as u64 + 2, "round {round}: {first}");
        assert!(seen.iter().copied().eq(first..=last), "round {round}: {seen:?}");
    }
}

#[test]
fn inv13_late_observer_may_reload_and_add_others() {
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().load().unwrap();
    volume.publish(&generations[1].files());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let inner = Arc::new(AtomicUsize::new(0));
    let (noted, counted, handle) = (Arc::clone(&seen), Arc::clone(&inner), reloader.clone());
    reloader.on_publish(move |published| {
        noted.lock().unwrap().push(published.generation);
        if published.generation == 1 {
            assert_eq!(handle.reload_now(), Reload::Reloaded);
            let counted = Arc::clone(&counted);
            handle.on_publish(move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(*seen.lock().unwrap(), [1, 2]);
    assert_eq!(inner.load(Ordering::Relaxed), 1);
}

#[test]
fn inv12_late_observer_that_is_slow_gets_the_latest_alone() {
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().load().unwrap();
    let (begun, begins) = mpsc::channel();
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let replaced = thread::scope(|scope| {
        let observing = reloader.clone();
        scope.spawn(move || {
            observing.on_publish(move |published| {
                begun.send(published.generation).unwrap();
                gate.lock().unwrap().recv().unwrap();
            });
        });
        assert_eq!(begins.recv_timeout(common::DEADLINE), Ok(1));
        let replaced: Vec<_> = (1..=5)
            .map(|round| {
                volume.publish_in_one_tick(&generations[round % 2].files());
                assert_eq!(reloader.reload_now(), Reload::Reloaded);
                Arc::downgrade(&reloader.config())
            })
            .collect();
        let held = replaced.iter().filter(|config| config.upgrade().is_some()).count();
        assert_eq!(held, 1, "only the served configuration waits for the observer");
        for generation in [6, 7] {
            open.send(()).unwrap();
            if generation == 6 {
                assert_eq!(begins.recv_timeout(common::DEADLINE), Ok(6));
            }
        }
        replaced
    });
    assert_eq!(begins.try_recv(), Err(mpsc::TryRecvError::Empty), "none is delivered twice");
    drop(replaced);
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

#[test]
fn inv15_late_observer_that_panics_is_reported_and_called_again() {
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().load().unwrap();
    let mut events = reloader.events();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    reloader.on_publish(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::panic::resume_unwind(Box::new("an observer's own"));
    });
    volume.publish(&generations[1].files());
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    let panics = drain(&mut events)
        .iter()
        .filter(|event| matches!(***event, Event::Warning { ref warning } if warning.layer() == Layer::Panic))
        .count();
    assert_eq!(panics, 2);
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
