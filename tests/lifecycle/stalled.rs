//! A driver that hangs shows in the status, which is computed for the caller of `status`, until the
//! driver goes on. Checks: INV-15.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use crate::common::{DEADLINE, Wall, at_once, quick, replace};
use rustls_reload::{
    Build, Builder, Built, Clock, Context, Error, Event, Files, Now, Reloader, Status, SystemClock, Timing,
    fs::NativeFs, internal::native_watcher, watch::MakeWatcher,
};
use rustls_reload_testkit::{InterceptFs, Verb};

/// Blocks each caller from when it is closed until it is opened.
#[derive(Clone)]
struct Gate {
    closed: Arc<AtomicBool>,
    opened: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Gate {
    fn new() -> (Self, mpsc::Sender<()>) {
        let (opens, opened) = mpsc::channel();
        (Self { closed: Arc::default(), opened: Arc::new(Mutex::new(opened)) }, opens)
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    fn pass(&self) {
        if self.closed.load(Ordering::SeqCst) {
            let _ = self.opened.lock().unwrap().recv_timeout(DEADLINE);
            self.closed.store(false, Ordering::SeqCst);
        }
    }
}

/// The place where the driver hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Event,
    Publication,
    Build,
    FileSystem,
    Watcher,
}

/// A build step whose value is the file, and which passes a gate.
struct Bytes(Gate);

impl Build for Bytes {
    type Value = Vec<u8>;

    fn build(&mut self, files: &Files, _: &Context<'_, Vec<u8>>) -> Result<Built<Vec<u8>>, Error> {
        self.0.pass();
        Ok(Built::new(files.get(0).unwrap().1.to_vec()))
    }
}

/// Makes a reloader of this file, whose driver hangs at `at` once the gate is closed.
///
/// Returns the time of the last file system call, too.
fn reloader(path: &Path, at: At, gate: &Gate) -> (Reloader<Vec<u8>>, Arc<Mutex<Duration>>) {
    // Every other place gets a gate that stays open.
    let gate_at = |here| if at == here { gate.clone() } else { Gate::new().0 };
    let builder = Builder::new([path], Bytes(gate_at(At::Build))).timing(quick());
    let [event, publication, file_system, watcher] =
        [At::Event, At::Publication, At::FileSystem, At::Watcher].map(gate_at);
    let make: MakeWatcher = Box::new(move |hints| {
        watcher.pass();
        native_watcher(hints)
    });
    let builder = builder.watcher(Some(make)).on_publish(move |_| publication.pass());
    let builder = builder.on_event(move |reported| {
        if matches!(reported, Event::Published { .. }) {
            event.pass();
        }
    });
    let called = Arc::<Mutex<Duration>>::default();
    let hook = {
        let called = Arc::clone(&called);
        move |_| {
            *called.lock().unwrap() = SystemClock::new().now().wall;
            file_system.pass();
            Ok(usize::MAX)
        }
    };
    let reloader = builder.load_from(InterceptFs::new(NativeFs::default(), Arc::new(hook))).unwrap();
    (reloader, called)
}

/// Waits until the status is as wanted, and returns it.
fn until(reloader: &Reloader<Vec<u8>>, what: &str, mut wanted: impl FnMut(&Status) -> bool) -> Status {
    let start = Instant::now();
    loop {
        let status = reloader.status();
        if wanted(&status) {
            return status;
        }
        assert!(start.elapsed() < DEADLINE, "not {what}: {status:#?}");
        std::thread::yield_now();
    }
}

#[test]
fn inv15_driver_that_hangs_shows_in_the_status_and_recovers() {
    let places = [At::Event, At::Publication, At::Build, At::FileSystem, At::Watcher];
    at_once(&places, |at| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"one");
        let (gate, opens) = Gate::new();
        let (reloader, called) = reloader(&path, *at, &gate);
        assert_eq!(reloader.status().stalled_since, None, "{at:?}: nothing runs yet");
        if *at == At::Watcher {
            gate.close();
        }
        let begun = reloader.status().last_snapshot;
        reloader.start().unwrap();
        if *at != At::Watcher {
            until(&reloader, "watched", |status| !status.watched.is_empty());
            gate.close();
            replace(&path, b"two");
        }
        let status = until(&reloader, "stalled", |status| status.stalled_since.is_some());
        assert!(status.running, "{at:?}");
        let since = status.stalled_since.unwrap();
        let now = SystemClock::new().now().wall;
        // The time is after the start, and at least three polls of a degraded driver ago.
        let age = now.saturating_sub(since);
        assert!(since >= begun && age >= 3 * quick().degraded_poll, "{at:?}: {age:?}");
        // A build or a callback hangs after a snapshot. The stall began no earlier than the end of
        // that snapshot.
        if matches!(at, At::Build | At::Publication | At::Event) {
            assert!(since >= *called.lock().unwrap(), "{at:?}: an earlier snapshot");
        }
        // The time stays while the driver hangs, for every caller.
        assert_eq!(reloader.status().stalled_since, Some(since), "{at:?}");
        if *at == At::Watcher {
            replace(&path, b"two");
        }
        opens.send(()).unwrap();
        until(&reloader, "over", |status| status.stalled_since.is_none());
        let next = reloader.wait_published(1, DEADLINE).unwrap();
        assert_eq!(next.value, b"two", "{at:?}");
        reloader.stop().unwrap();
        // Nothing is due while the reloader is stopped, even for longer than any limit.
        let stopped = Instant::now();
        while stopped.elapsed() < 4 * quick().poll {
            assert_eq!(reloader.status().stalled_since, None, "{at:?}: nothing runs any more");
            std::thread::yield_now();
        }
    });
}

/// Checks: INV-05, INV-15. A driver is not stalled while it idles, nor while its clock is set.
#[test]
fn inv15_idle_driver_is_not_stalled_whatever_the_wall_clock() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    replace(&path, b"one");
    let wall = Wall::new();
    // The polls are so long that no pause of this machine lasts for three of them.
    let timing = Timing { poll: Duration::from_secs(7), ..quick() };
    let builder = Builder::new([&path], Bytes(Gate::new().0)).timing(timing);
    let reloader = builder.clock(Arc::clone(&wall) as Arc<dyn Clock>).load().unwrap();
    reloader.start().unwrap();
    until(&reloader, "watched", |status| !status.watched.is_empty());
    for (seconds, then) in [(0, 86_400), (86_400, -86_400), (-86_400, i32::MAX.into()), (i32::MAX.into(), 0)]
    {
        wall.set(seconds);
        assert_eq!(reloader.status().stalled_since, None, "at {seconds} s");
        // This snapshot ends by the changed clock.
        reloader.reload_now();
        wall.set(then);
        assert_eq!(reloader.status().stalled_since, None, "at {then} s");
    }
}

/// The time by which a [`Jumping`] clock advances at each file system call that opens something.
/// Pauses of this machine are short beside it.
const JUMP: Duration = Duration::from_secs(15);

/// A clock that runs, and jumps at each file system call that opens something.
struct Jumping(SystemClock, AtomicU32);

impl Clock for Jumping {
    fn now(&self) -> Now {
        let (now, jumped) = (self.0.now(), JUMP * self.1.load(Ordering::SeqCst));
        Now { mono: now.mono + jumped, wall: now.wall + jumped }
    }

    fn sleep(&self, pause: Duration) {
        self.0.sleep(pause);
    }
}

/// A slow file system is no stall: by this clock each snapshot takes a quarter of a minute, and
/// three polls are far less.
#[test]
fn inv15_snapshots_slower_than_three_polls_are_no_stall() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    replace(&path, b"one");
    let clock = Arc::new(Jumping(SystemClock::new(), AtomicU32::new(0)));
    let (slow, place) = (Arc::clone(&clock), Arc::new(OnceLock::<Reloader<Vec<u8>>>::new()));
    let (asked, seen) = mpsc::channel();
    let asks = Arc::clone(&place);
    let hook = move |verb| {
        if verb == Verb::Open {
            slow.1.fetch_add(1, Ordering::SeqCst);
            // This call is in the middle of a snapshot, long after its begin.
            if let Some(handle) = asks.get() {
                let _ = asked.send(handle.status().stalled_since);
            }
        }
        Ok(usize::MAX)
    };
    let short = Duration::from_millis(20);
    let timing = Timing { poll: short, degraded_poll: short, ..quick() };
    let builder = Builder::new([&path], Bytes(Gate::new().0)).timing(timing).watcher(None);
    let fs = InterceptFs::new(NativeFs::default(), Arc::new(hook));
    let reloader = builder.clock(Arc::clone(&clock) as Arc<dyn Clock>).load_from(fs).unwrap();
    place.get_or_init(|| reloader.clone());
    reloader.start().unwrap();
    // The driver's first snapshot counts as a stall, because its duration was not known before. The
    // second snapshot is part of it: the directory cannot be watched, so a snapshot is taken before
    // and after.
    let next = || seen.recv_timeout(DEADLINE).unwrap();
    assert!([next(), next()].iter().all(Option::is_some));
    assert_eq!([(); 10].map(|()| next()), [None; 10]);
    reloader.stop().unwrap();
}
