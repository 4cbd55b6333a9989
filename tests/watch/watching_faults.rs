//! Changes between a walk and the arming of its watches, produced by a watcher that is slow at the
//! right moment.

mod ended_watchers;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use crate::common::{self, Volume, by_events_only, drain, expect, generations};
use rustls_reload::{
    Error, Event, Layer, Reload,
    internal::native_watcher,
    watch::{Hints, MakeWatcher, Watched, Watcher},
};

/// Called with each directory before it is watched. Returns whether it can be watched.
type Before = Arc<Mutex<dyn FnMut(&Path) -> bool + Send>>;

/// A watcher that watches nothing.
struct Slow(Before);

impl Watcher for Slow {
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
        let can = (self.0.lock().unwrap())(dir);
        if can { Ok(Watched::Armed) } else { Err(Error::new(Layer::Watch, "it is gone").at(dir)) }
    }

    fn unwatch(&mut self, _: &Path) {}
}

/// Returns a watcher, and a slot for its hints.
fn slow(before: impl FnMut(&Path) -> bool + Send + 'static) -> (MakeWatcher, Arc<Mutex<Option<Hints>>>) {
    let before: Before = Arc::new(Mutex::new(before));
    let place = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&place);
    let make = move |hints| {
        *kept.lock().unwrap() = Some(hints);
        Ok(Box::new(Slow(Arc::clone(&before))) as Box<dyn Watcher>)
    };
    (Box::new(make), place)
}

#[test]
fn inv11_directory_gone_before_it_is_watched_is_not_degraded() {
    let generations = generations(3);
    let volume = Volume::of(&generations[0]);
    let (dir, path) = (volume.dir(), volume.path("tls.crt"));
    let builder = volume.server().timing(by_events_only());
    let updates: Vec<_> = generations[1..].iter().map(|g| g.server.clone()).collect();
    let mut rest = updates.clone().into_iter();
    let mut volume = volume;
    // The payload directory is replaced twice, just before it is watched.
    let (watcher, _) = slow(move |watched| {
        if watched.parent() == Some(&dir)
            && path.exists()
            && let Some(pair) = rest.next()
        {
            volume.publish(&[("tls.crt", pair.chain.as_bytes()), ("tls.key", pair.key.as_bytes())]);
        }
        watched.is_dir()
    });
    let reloader = builder.watcher(Some(watcher)).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    let mut reported = Vec::new();
    expect(&mut events, "start", |event| {
        reported.push(event.clone());
        matches!(event, Event::Started { .. }).then_some(())
    });
    reported.extend(drain(&mut events).iter().map(|event| Event::clone(event)));
    let degraded = |event: &Event| matches!(event, Event::Degraded { .. } | Event::Restored);
    assert!(!reported.iter().any(degraded), "{reported:?}");
    assert_eq!(common::presented(&reloader)[0], updates[1].leaf, "what came last is served");
    assert_eq!(reloader.status().degraded, None);
}

#[test]
fn inv05_last_of_updates_at_the_pace_of_arming_is_served() {
    // More updates than one snapshot follows.
    let generations = generations(16);
    let volume = Volume::of(&generations[0]);
    let builder = volume.server().timing(by_events_only());
    let last = generations[15].server.clone();
    let mut rest = generations.into_iter().skip(1);
    let (dir, mut volume) = (volume.dir(), volume);
    let (watcher, _) = slow(move |watched| {
        if watched.parent() == Some(&dir)
            && let Some(next) = rest.next()
        {
            volume.publish(&next.files());
        }
        true
    });
    let reloader = builder.watcher(Some(watcher)).load().unwrap();
    reloader.start().unwrap();
    common::wait_for_leaf(&reloader, &last);
}

/// A watcher that reports one directory as gone while the switch is on.
struct Blind(PathBuf, Arc<AtomicBool>);

impl Watcher for Blind {
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
        let gone = dir == self.0 && self.1.load(Ordering::SeqCst);
        Ok(if gone { Watched::Gone } else { Watched::Armed })
    }

    fn unwatch(&mut self, _: &Path) {}
}

/// Checks: INV-05, INV-11. A directory that every snapshot finds and no watch does is polled at the
/// degraded interval, which is reported.
#[test]
fn inv11_existing_directory_that_cannot_be_watched_is_degraded() {
    let volume = Volume::of(&generations(1)[0]);
    let dir = volume.dir();
    let gone = Arc::new(AtomicBool::new(true));
    let (blind, reported_so) = (dir.clone(), Arc::clone(&gone));
    let make: MakeWatcher = Box::new(move |_| Ok(Box::new(Blind(blind.clone(), Arc::clone(&reported_so)))));
    let reloader = volume.server().timing(by_events_only()).watcher(Some(make)).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    let error = expect(&mut events, "degraded", |event| match event {
        Event::Degraded { error } => Some(error.clone()),
        _ => None,
    });
    assert_eq!((error.layer(), error.path()), (Layer::Watch, Some(dir.as_path())), "{error}");
    assert!(!reloader.status().watched.contains(&dir));
    gone.store(false, Ordering::SeqCst);
    expect(&mut events, "restored", |event| (*event == Event::Restored).then_some(()));
    assert!(reloader.status().watched.contains(&dir));
}

fn is_of_trust(event: &Event) -> bool {
    matches!(event, Event::TrustReduced { .. })
}

/// A watcher that loses events whenever one directory is to be watched, and reports the directory
/// as gone at the last attempt of a step. After that it works.
struct Hectic {
    dir: PathBuf,
    asked: Arc<AtomicUsize>,
    hints: Hints,
}

/// The number of snapshots in one step while the plan changes (`limits.md`).
const SNAPSHOTS: usize = 9;

impl Watcher for Hectic {
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
        if dir != self.dir {
            return Ok(Watched::Armed);
        }
        let asked = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        if asked < SNAPSHOTS {
            self.hints.lost();
        }
        Ok(if asked == SNAPSHOTS { Watched::Gone } else { Watched::Armed })
    }

    fn unwatch(&mut self, _: &Path) {}
}

/// Checks: INV-11. A directory that only one of many attempts found gone is checked again, and is
/// not reported as unwatchable.
#[test]
fn inv11_directory_gone_once_amid_lost_events_is_not_degraded() {
    let volume = Volume::of(&generations(1)[0]);
    let asked = Arc::new(AtomicUsize::new(0));
    let (dir, count) = (volume.dir(), Arc::clone(&asked));
    let make: MakeWatcher = Box::new(move |hints| {
        Ok(Box::new(Hectic { dir: dir.clone(), asked: Arc::clone(&count), hints }) as Box<dyn Watcher>)
    });
    let reloader = volume.server().timing(by_events_only()).watcher(Some(make)).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    common::started(&mut events);
    let deadline = Instant::now() + common::DEADLINE;
    while !reloader.status().watched.contains(&volume.dir()) {
        assert!(Instant::now() < deadline, "never watched: {:?}", reloader.status());
        std::thread::yield_now();
    }
    assert!(asked.load(Ordering::SeqCst) > SNAPSHOTS, "it was not gone when it was to be watched");
    assert_eq!(reloader.status().degraded, None);
    assert_eq!(common::drain(&mut events), []);
}

#[test]
fn inv06_lost_events_have_every_directory_watched_anew() {
    let volume = Volume::of(&generations(1)[0]);
    let watched = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&watched);
    let (watcher, hints) = slow(move |dir| {
        keep.lock().unwrap().push(dir.to_owned());
        true
    });
    let reloader = volume.server().timing(by_events_only()).watcher(Some(watcher)).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    common::started(&mut events);
    let mut first = std::mem::take(&mut *watched.lock().unwrap());
    first.sort();
    assert!(first.contains(&volume.dir()) && first.contains(&PathBuf::from("/")), "{first:?}");
    hints.lock().unwrap().as_ref().unwrap().lost();
    let deadline = Instant::now() + common::DEADLINE;
    while watched.lock().unwrap().len() < first.len() {
        assert!(Instant::now() < deadline, "watched anew: {:?}", watched.lock().unwrap());
        std::thread::yield_now();
    }
    let mut again = watched.lock().unwrap().clone();
    again.sort();
    assert_eq!(first, again);
    assert_eq!(drain(&mut events), [], "nothing changed");
}

#[test]
fn inv06_directory_found_replaced_is_rewatched_without_an_event() {
    let volume = Volume::of(&generations(1)[0]);
    let dir = volume.path("..generation_0");
    let watched = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&watched);
    let (watcher, _) = slow(move |dir| {
        keep.lock().unwrap().push(dir.to_owned());
        true
    });
    let reloader = volume.server().timing(by_events_only()).watcher(Some(watcher)).load().unwrap();
    reloader.start().unwrap();
    assert_eq!(reloader.reload_now(), Reload::Unchanged);
    assert!(watched.lock().unwrap().contains(&dir));
    watched.lock().unwrap().clear();
    // Another directory has the same names and bytes. The old watch is on the old directory.
    let next = volume.path("next");
    std::fs::create_dir(&next).unwrap();
    for name in ["tls.crt", "tls.key"] {
        std::fs::copy(dir.join(name), next.join(name)).unwrap();
    }
    std::fs::rename(&dir, volume.path("old")).unwrap();
    std::fs::rename(&next, &dir).unwrap();
    assert_eq!(reloader.reload_now(), Reload::Unchanged);
    assert_eq!(*watched.lock().unwrap(), [dir]);
}

/// The platform's watcher, with a function that runs before a directory is watched.
struct Late(Before, Box<dyn Watcher>);

impl Watcher for Late {
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
        (self.0.lock().unwrap())(dir);
        self.1.watch(dir)
    }

    fn unwatch(&mut self, dir: &Path) {
        self.1.unwatch(dir);
    }
}

/// Checks: INV-05. A link that replaces a directory between snapshot and watch may lead to a
/// watched directory.
#[cfg(unix)]
#[test]
fn inv05_link_in_place_of_a_directory_leaves_other_watches() {
    let generations = generations(4);
    let root = tempfile::tempdir().unwrap();
    let physical = root.path().canonicalize().unwrap();
    let (one, two) = (physical.join("one"), physical.join("two"));
    let files = |generation: &common::Generation| {
        let pair = &generation.server;
        common::replace(&one.join("tls.crt"), pair.chain.as_bytes());
        common::replace(&one.join("tls.key"), pair.key.as_bytes());
    };
    std::fs::create_dir(&one).unwrap();
    std::fs::create_dir(&two).unwrap();
    files(&generations[0]);
    std::fs::copy(one.join("tls.key"), two.join("tls.key")).unwrap();
    let (from, to) = (two.clone(), one.clone());
    let mut swaps = Some(());
    let before: Before = Arc::new(Mutex::new(move |dir: &Path| {
        if dir == from && swaps.take().is_some() {
            std::fs::rename(&from, from.with_extension("old")).unwrap();
            std::os::unix::fs::symlink(&to, &from).unwrap();
        }
        true
    }));
    let make: MakeWatcher = Box::new(move |hints| {
        Ok(Box::new(Late(Arc::clone(&before), native_watcher(hints)?)) as Box<dyn Watcher>)
    });
    let builder = rustls_reload::ServerReloader::builder(one.join("tls.crt"), two.join("tls.key"));
    let reloader = builder.timing(by_events_only()).watcher(Some(make)).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    common::started(&mut events);
    for next in &generations[1..] {
        files(next);
        common::wait_for_leaf(&reloader, &next.server);
    }
}
