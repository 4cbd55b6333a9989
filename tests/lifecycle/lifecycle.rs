//! Starts, stops and drops: from outside, from callbacks and in the middle of a build.

mod races;
mod stop_between_sets;

use std::{
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use crate::common::{
    self, Generation, Volume, by_events_only, drain, expect, generations, published, quick, started,
};
use rustls_reload::{
    Build, Builder, Built, Context, Error, Event, Events, Files, Layer, Published, Reload, ServerReloader,
    ServerTls, StartError,
};

fn stopped(events: &mut Events<ServerTls>) {
    expect(events, "stop", |event| matches!(event, Event::Stopped).then_some(()));
}

/// A slot for a handle, for callbacks that are made before the handle exists.
type Place = Arc<OnceLock<ServerReloader>>;

/// A slot for the reloader, for callbacks that stop it.
type Whole = Arc<OnceLock<Weak<ServerReloader>>>;

#[test]
fn inv13_second_start_is_rejected_until_a_stop() {
    let generations = generations(3);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().timing(by_events_only()).load().unwrap();
    let mut events = reloader.events();
    for (round, next) in generations[1..].iter().enumerate() {
        reloader.start().unwrap();
        started(&mut events);
        assert!(reloader.status().running);
        assert!(matches!(reloader.start(), Err(StartError::AlreadyRunning)));
        let warned = expect(&mut events, "warning", |event| match event {
            Event::Warning { warning } => Some(warning.clone()),
            _ => None,
        });
        assert_eq!(warned.layer(), Layer::Settings);
        volume.publish(&next.files());
        assert_eq!(published(&mut events), round as u64 + 2, "the first goes on");
        reloader.stop().unwrap();
        stopped(&mut events);
        let status = reloader.status();
        assert!(!status.running && status.watched.is_empty(), "{status:?}");
        assert_eq!(reloader.stop(), Ok(()), "a second stop changes nothing");
    }
}

#[test]
fn inv13_stop_ends_publication_and_keeps_the_last_readable() {
    let (old, new) = (Generation::new(0), Generation::new(1));
    let mut volume = Volume::of(&old);
    let reloader = volume.server().load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    started(&mut events);
    let served = reloader.current();
    reloader.stop().unwrap();
    stopped(&mut events);
    volume.publish(&new.files());
    assert_eq!(reloader.reload_now(), Reload::Stopped);
    // Waits for as long as two polls.
    assert!(reloader.wait_published(1, 2 * quick().poll).is_none());
    assert!(Arc::ptr_eq(&served, &reloader.current()));
    assert_eq!(drain(&mut events), []);
    // The update is published after the next start.
    reloader.start().unwrap();
    common::wait_for_leaf(&reloader, &new.server);
    let handle = reloader.clone();
    reloader.stop().unwrap();
    drop(reloader);
    assert_eq!(handle.reload_now(), Reload::Stopped);
    assert_eq!(common::presented_by(&handle.current().value.config)[0], new.server.leaf);
    assert!(!handle.status().running);
}

#[test]
fn inv13_stop_amid_a_build_prevents_and_reports_its_publication() {
    let (old, new) = (Generation::new(0), Generation::new(1));
    let mut volume = Volume::of(&old);
    let place: Whole = Arc::default();
    let reloader = {
        let place = Arc::clone(&place);
        let stop_it = move |_: &mut rustls::ServerConfig| {
            if let Some(reloader) = place.get().and_then(Weak::upgrade) {
                reloader.stop().unwrap();
            }
        };
        Arc::new(volume.server().timing(by_events_only()).configure(stop_it).load().unwrap())
    };
    // The build is that of a manual reload without a worker, and then of a worker.
    for worker in [false, true] {
        let served = reloader.current();
        if worker {
            reloader.start().unwrap();
        }
        let mut events = reloader.events();
        place.get_or_init(|| Arc::downgrade(&reloader));
        volume.publish(&new.files());
        assert_eq!(reloader.reload_now(), Reload::Stopped, "it said that it published");
        reloader.stop().unwrap();
        assert!(Arc::ptr_eq(&served, &reloader.current()));
        let reported = drain(&mut events);
        let is_publication = |event: &Arc<Event>| matches!(**event, Event::Published { .. });
        assert!(!reported.iter().any(is_publication), "{reported:?}");
    }
}

#[test]
fn inv13_dropping_it_joins_the_driver_and_frees_everything() {
    for start in [true, false] {
        let generation = Generation::new(0);
        let volume = Volume::of(&generation);
        let token = Arc::new(());
        let kept = Arc::clone(&token);
        let observer = move |_: &Event| assert_eq!(Arc::strong_count(&kept), 2);
        let reloader = volume.server().on_event(observer).load().unwrap();
        let mut events = reloader.events();
        if start {
            reloader.start().unwrap();
            started(&mut events);
        }
        let config = Arc::downgrade(&reloader.current());
        drop(events);
        drop(reloader);
        assert_eq!(Arc::strong_count(&token), 1, "the driver's thread still holds its callbacks");
        assert!(config.upgrade().is_none(), "the last configuration is still held");
    }
}

#[test]
fn inv13_a_stop_from_a_callback_does_not_deadlock() {
    let (old, new) = (Generation::new(0), Generation::new(1));
    let mut volume = Volume::of(&old);
    let place: Whole = Arc::default();
    let (sender, receiver) = mpsc::channel();
    let reloader = {
        let place = Arc::clone(&place);
        let stop_it = move |_: &_| {
            if let Some(reloader) = place.get().and_then(Weak::upgrade) {
                sender.send(reloader.stop()).unwrap();
            }
        };
        Arc::new(volume.server().on_publish(stop_it).load().unwrap())
    };
    place.get_or_init(|| Arc::downgrade(&reloader));
    let mut events = reloader.events();
    reloader.start().unwrap();
    started(&mut events);
    volume.publish(&new.files());
    assert_eq!(receiver.recv_timeout(common::DEADLINE), Ok(Ok(())));
    stopped(&mut events);
    reloader.stop().unwrap();
    assert!(!reloader.status().running);
    reloader.start().unwrap();
}

#[test]
fn inv13_drop_of_the_last_reference_in_a_callback_returns() {
    let (old, new) = (Generation::new(0), Generation::new(1));
    let mut volume = Volume::of(&old);
    let place: Arc<Mutex<Option<ServerReloader>>> = Arc::default();
    let (sender, receiver) = mpsc::channel();
    let reloader = {
        let place = Arc::clone(&place);
        let drop_it = move |published: &Arc<Published<ServerTls>>| {
            drop(place.lock().unwrap().take());
            sender.send(published.generation).unwrap();
        };
        volume.server().on_publish(drop_it).load().unwrap()
    };
    let mut events = reloader.events();
    reloader.start().unwrap();
    started(&mut events);
    *place.lock().unwrap() = Some(reloader);
    volume.publish(&new.files());
    assert_eq!(receiver.recv_timeout(common::DEADLINE), Ok(2));
    stopped(&mut events);
}

#[test]
fn inv13_reload_called_in_a_callback_is_queued_and_happens() {
    // Once without a worker, and once with one.
    for worker in [false, true] {
        let generations = generations(3);
        let volume = Arc::new(Mutex::new(Volume::of(&generations[0])));
        let server = volume.lock().unwrap().server().timing(by_events_only());
        let place: Place = Arc::default();
        let (sender, receiver) = mpsc::channel();
        let reloader = {
            let (place, volume) = (Arc::clone(&place), Arc::clone(&volume));
            let last = Generation { ..Generation::new(9) };
            let pair = last.server.clone();
            let reload = move |published: &Arc<rustls_reload::Published<ServerTls>>| {
                if published.generation == 2 {
                    // Without the manual reload, a write in place would have to settle.
                    volume.lock().unwrap().publish(&last.files());
                    sender.send(place.get().unwrap().reload_now()).unwrap();
                }
            };
            let reloader = server.on_publish(reload).load().unwrap();
            (reloader, pair)
        };
        let (reloader, last) = reloader;
        place.get_or_init(|| reloader.clone());
        if worker {
            reloader.start().unwrap();
        }
        volume.lock().unwrap().publish(&generations[1].files());
        reloader.reload_now();
        assert_eq!(receiver.recv_timeout(common::DEADLINE), Ok(Reload::Queued));
        assert_eq!(common::wait_for_leaf(&reloader, &last), 3);
    }
}

/// A manual reload says that the writing is over. That does not apply to files that a later start
/// finds.
#[test]
fn inv01_inv13_reload_called_before_a_stop_is_dropped_by_a_start() {
    let generations = generations(3);
    let dir = tempfile::tempdir().unwrap();
    let write = |generation: &Generation| {
        generation
            .files()
            .iter()
            .for_each(|(name, bytes)| std::fs::write(dir.path().join(name), bytes).unwrap());
    };
    write(&generations[0]);
    let place: Whole = Arc::default();
    let in_callback = Arc::clone(&place);
    let (sender, receiver) = mpsc::channel();
    let settle = Duration::from_secs(1);
    let reloader = common::server_in(dir.path())
        .timing(rustls_reload::Timing { settle, ..quick() })
        .on_publish(move |_| {
            let reloader = in_callback.get().and_then(Weak::upgrade).unwrap();
            let queued = reloader.reload_now();
            sender.send((queued, reloader.stop())).unwrap();
        });
    let reloader = Arc::new(reloader.load().unwrap());
    place.set(Arc::downgrade(&reloader)).unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    started(&mut events);
    write(&generations[1]);
    // The stop came after the publication, and often before the answer to the reload.
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    assert_eq!(receiver.recv_timeout(common::DEADLINE).unwrap(), (Reload::Queued, Ok(())));
    stopped(&mut events);
    let (writing, generation) = (Instant::now(), reloader.current().generation);
    write(&generations[2]);
    reloader.start().unwrap();
    assert!(reloader.wait_published(generation, common::DEADLINE).is_some());
    assert!(writing.elapsed() >= settle, "served after {:?}, as if by hand", writing.elapsed());
}

#[test]
fn inv13_panic_in_a_callback_ends_neither_driver_nor_callbacks() {
    let generations = generations(3);
    let mut volume = Volume::of(&generations[0]);
    let (sender, receiver) = mpsc::channel();
    let reloader = volume
        .server()
        .on_event(|_| panic!("by design"))
        .on_publish(|_| panic!("by design"))
        .on_event(move |event| sender.send(event.clone()).unwrap())
        .load()
        .unwrap();
    reloader.start().unwrap();
    assert!(matches!(receiver.recv_timeout(common::DEADLINE), Ok(Event::Started { .. })));
    for (i, next) in generations[1..].iter().enumerate() {
        volume.publish(&next.files());
        let event = receiver.recv_timeout(common::DEADLINE).unwrap();
        assert!(matches!(event, Event::Published { generation, .. } if generation == i as u64 + 2));
    }
}

/// A build step whose value is a length, and which panics on request.
struct Panics {
    in_build: Arc<AtomicBool>,
    in_shrinks: Arc<AtomicBool>,
}

impl Build for Panics {
    type Value = usize;

    fn build(&mut self, files: &Files, _: &Context<'_, usize>) -> Result<Built<usize>, Error> {
        assert!(!self.in_build.load(Ordering::SeqCst), "by design");
        Ok(Built::new(files.get(0).unwrap().1.len()))
    }

    fn shrinks(&self, _: usize, _: &Files, _: &Files) -> bool {
        assert!(!self.in_shrinks.load(Ordering::SeqCst), "by design");
        false
    }
}

#[test]
fn inv03_panic_in_a_build_is_a_rejection_and_the_driver_goes_on() {
    // Windows replaces no file that is open.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let (in_build, in_shrinks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let build = Panics { in_build: Arc::clone(&in_build), in_shrinks: Arc::clone(&in_shrinks) };
    let reloader = Builder::new([&file], build).timing(by_events_only()).load().unwrap();
    let mut events = reloader.events();
    let mut length = 0;
    for worker in [false, true] {
        if worker {
            reloader.start().unwrap();
        }
        for flag in [&in_build, &in_shrinks] {
            let served = reloader.current();
            flag.store(true, Ordering::SeqCst);
            length += 1;
            // The worker could evaluate a file that is empty before it is written.
            common::replace(&file, &vec![b'x'; length]);
            let Reload::Refused(error) = reloader.reload_now() else { panic!("not refused") };
            assert_eq!(error.layer(), Layer::Panic);
            assert!(Arc::ptr_eq(&served, &reloader.current()));
            flag.store(false, Ordering::SeqCst);
            reloader.reload_now();
            assert_eq!(reloader.current().value, length);
        }
    }
    let reported = drain(&mut events);
    let refusals = reported.iter().filter(|event| matches!(***event, Event::Refused { .. })).count();
    assert_eq!(refusals, 4, "{reported:?}");
}

#[test]
fn inv11_lagging_subscriber_loses_the_oldest_and_gets_the_count() {
    let volume = Volume::of(&Generation::new(0));
    let reloader = volume.server().load().unwrap();
    let (mut lags, mut follows) = (reloader.events(), reloader.events());
    reloader.start().unwrap();
    started(&mut follows);
    // Each refused start reports one warning.
    let reported = rustls_reload::EVENT_LIMIT + 10;
    for _ in 0..reported {
        assert!(matches!(reloader.start(), Err(StartError::AlreadyRunning)));
    }
    reloader.stop().unwrap();
    let all: Vec<_> = std::iter::from_fn(|| lags.try_next()).collect();
    assert_eq!(all.len(), rustls_reload::EVENT_LIMIT);
    let lost: u64 = all.iter().map(|reported| reported.lost).sum();
    // The other two events are the start and the stop.
    assert_eq!(all.len() as u64 + lost, reported as u64 + 2);
    assert_eq!(*all.last().unwrap().event, Event::Stopped);
}
