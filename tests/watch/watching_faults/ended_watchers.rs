//! Watchers that end by themselves: reported, and made anew at a bounded pace.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::is_of_trust;
use crate::common::{self, Volume, by_events_only, drain, expect, generations};
use rustls_reload::{
    Error, Event, Layer, Timing,
    internal::native_watcher,
    watch::{Hints, MakeWatcher, Watched, Watcher},
};

/// The way in which a watcher with all directories watched ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Says,
    Panics,
}

/// The platform's watcher, until it ends.
struct Mortal {
    watcher: Option<Box<dyn Watcher>>,
    panics: Arc<AtomicBool>,
}

impl Watcher for Mortal {
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
        if self.panics.swap(false, Ordering::SeqCst) {
            self.watcher = None;
            std::panic::resume_unwind(Box::new("planted"));
        }
        self.watcher.as_mut().expect("never asked after its end").watch(dir)
    }

    fn unwatch(&mut self, dir: &Path) {
        self.watcher.as_mut().expect("never asked after its end").unwatch(dir);
    }
}

/// Checks: INV-05, INV-11, INV-13. The end is reported once, the files are polled meanwhile, a new
/// watcher is made, and that is reported.
#[test]
fn inv05_watcher_that_ends_is_reported_and_made_anew() {
    for end in [End::Says, End::Panics] {
        let generations = generations(6);
        let mut volume = Volume::of(&generations[0]);
        let (place, panics) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
        let none_left = Arc::new(AtomicBool::new(false));
        let (keep, dies, none) = (Arc::clone(&place), Arc::clone(&panics), Arc::clone(&none_left));
        let make: MakeWatcher = Box::new(move |hints: Hints| {
            if none.load(Ordering::SeqCst) {
                return Err(Error::new(Layer::Watch, "no instances left"));
            }
            *keep.lock().unwrap() = Some(hints.clone());
            let watcher = Some(native_watcher(hints)?);
            Ok(Box::new(Mortal { watcher, panics: Arc::clone(&dies) }) as Box<dyn Watcher>)
        });
        let reloader = volume.server().timing(by_events_only()).watcher(Some(make)).load().unwrap();
        let mut events = reloader.events();
        reloader.start().unwrap();
        common::started(&mut events);
        none_left.store(true, Ordering::SeqCst);
        let hints: Hints = place.lock().unwrap().clone().unwrap();
        match end {
            End::Says => hints.ended("it ended"),
            End::Panics => {
                panics.store(true, Ordering::SeqCst);
                // Every directory has to be watched anew.
                hints.lost();
            }
        }
        let error = expect(&mut events, "degraded", |event| match event {
            Event::Degraded { error } => Some(error.clone()),
            _ => None,
        });
        assert_eq!(error.layer(), Layer::Watch, "{end:?}: {error}");
        assert!(reloader.status().watched.is_empty(), "{end:?}");
        for next in &generations[1..3] {
            volume.publish(&next.files());
            common::wait_for_leaf(&reloader, &next.server);
        }
        let (wakes, snapshots) = (Instant::now(), reloader.status().snapshots);
        hints.ended("again, of a watcher that is gone");
        hints.lost();
        let reported = common::drain(&mut events);
        let published = |event: &Arc<Event>| matches!(**event, Event::Published { .. });
        let reported: Vec<_> = reported.iter().filter(|event| !is_of_trust(event)).collect();
        assert!(
            reported.len() == 2 && reported.iter().all(|event| published(event)),
            "{end:?}: {reported:?}"
        );
        assert!(
            u128::from(reloader.status().snapshots - snapshots) <= 1 + wakes.elapsed().as_millis() / 50,
            "{end:?}"
        );
        none_left.store(false, Ordering::SeqCst);
        expect(&mut events, "restored", |event| (*event == Event::Restored).then_some(()));
        assert!(reloader.status().watched.contains(&volume.dir()), "{end:?}");
        for next in &generations[3..] {
            volume.publish(&next.files());
            common::wait_for_leaf(&reloader, &next.server);
        }
        let reported = common::drain(&mut events);
        assert_eq!(reported.iter().filter(|event| published(event)).count(), 3, "{end:?}: {reported:?}");
        reloader.stop().unwrap();
    }
}

/// A watcher that ends at its first call.
struct Stillborn(Hints);

impl Watcher for Stillborn {
    fn watch(&mut self, _: &Path) -> Result<Watched, Error> {
        self.0.ended("stillborn");
        Ok(Watched::Armed)
    }

    fn unwatch(&mut self, _: &Path) {}
}

/// Checks: INV-11, INV-12. Watchers that end one after the other are made at growing intervals, and
/// that is reported once.
#[test]
fn inv12_watchers_that_end_at_once_are_made_less_and_less_often() {
    let volume = Volume::of(&generations(1)[0]);
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let make: MakeWatcher = Box::new(move |hints| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Stillborn(hints)) as Box<dyn Watcher>)
    });
    let timing = Timing { degraded_poll: Duration::from_millis(5), ..by_events_only() };
    let reloader = volume.server().timing(timing).watcher(Some(make)).load().unwrap();
    let mut events = reloader.events();
    let start = Instant::now();
    reloader.start().unwrap();
    let snapshots = reloader.status().snapshots + 100;
    while reloader.status().snapshots < snapshots {
        assert!(start.elapsed() < common::DEADLINE, "no snapshot is taken: {:?}", reloader.status());
        std::thread::yield_now();
    }
    let (made, took) = (made.load(Ordering::SeqCst), start.elapsed());
    // The pauses begin at 20 ms and double; the first watcher comes in addition.
    let most = (took.as_millis() / 20 + 1).ilog2() as usize + 2;
    assert!((2..=most).contains(&made), "{made} watchers in {took:?}, at most {most}");
    let reported = drain(&mut events);
    let degraded = reported.iter().filter(|event| matches!(***event, Event::Degraded { .. })).count();
    assert_eq!((degraded, reported.len()), (1, 2), "{reported:?}");
}

/// Checks: INV-12. The platform's watcher reports its end where none can be made, because its
/// handler is dropped.
#[test]
fn inv12_watcher_that_ends_unmade_asks_for_no_snapshot() {
    let volume = Volume::of(&generations(1)[0]);
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let make: MakeWatcher = Box::new(move |hints| {
        count.fetch_add(1, Ordering::SeqCst);
        hints.ended("stillborn");
        Err(Error::new(Layer::Watch, "no instances left"))
    });
    let reloader = volume.server().timing(by_events_only()).watcher(Some(make)).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    common::started(&mut events);
    let (start, snapshots) = (Instant::now(), reloader.status().snapshots);
    // No event is awaited: the snapshots of a period are counted, and there should be none.
    std::thread::sleep(Duration::from_millis(500));
    let (snapshots, took) = (reloader.status().snapshots - snapshots, start.elapsed());
    assert!(
        u128::from(snapshots) <= 2 + took.as_millis() / 100,
        "{snapshots} snapshots in {took:?}, {} watchers",
        made.load(Ordering::SeqCst)
    );
}
