//! Panics in an embedder's code with a payload that panics again when it is dropped.
//! Checks: INV-15.

use std::{
    panic::{panic_any, resume_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::common::{expect, published, quick, refused, replace, started};
use rustls_reload::{
    Build, Builder, Built, Clock, Context, Error, Event, Events, Files, Layer, Now, Reload, Reloader,
    SystemClock, Timing, watch::MakeWatcher,
};

/// A payload whose drop panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("the drop of a payload");
        }
    }
}

/// A build step whose value is the file. It panics for "bad".
struct Bytes;

impl Build for Bytes {
    type Value = Vec<u8>;

    fn build(&mut self, files: &Files, _: &Context<'_, Vec<u8>>) -> Result<Built<Vec<u8>>, Error> {
        let bytes = files.get(0).unwrap().1.to_vec();
        if bytes == b"bad" {
            panic_any(Bomb);
        }
        Ok(Built::new(bytes))
    }
}

/// Each kind of embedder code panics once, and after each panic an update is served.
#[test]
fn inv15_panic_payload_that_panics_when_dropped_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    replace(&path, b"1");
    let make: MakeWatcher = Box::new(|_| panic_any(Bomb));
    let panicked = AtomicBool::new(false);
    let builder = Builder::new([&path], Bytes).timing(quick()).watcher(Some(make));
    let callback = move |event: &Event| {
        if matches!(event, Event::Published { .. }) && !panicked.swap(true, Ordering::SeqCst) {
            panic_any(Bomb);
        }
    };
    let reloader = builder.on_event(callback).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    let why = expect(&mut events, "the end of the watcher", |event| match event {
        Event::Degraded { error } => Some(error.to_string()),
        _ => None,
    });
    assert!(why.contains("the watcher panicked"), "{why}");
    started(&mut events);
    for (bytes, generation) in [(&b"22"[..], 2), (b"333", 3)] {
        replace(&path, bytes);
        assert_eq!(published(&mut events), generation);
    }
    replace(&path, b"bad");
    assert_eq!(refused(&mut events).layer(), Layer::Panic);
    replace(&path, b"4444");
    assert_eq!(published(&mut events), 4);
    assert_eq!(reloader.current().value, b"4444");
    reloader.stop().unwrap();
}

/// Panics without printing a message.
fn panics() -> ! {
    resume_unwind(Box::new("by design"))
}

/// A value whose drop panics if it was built from "bad" bytes.
struct Fragile(Vec<u8>);

impl Drop for Fragile {
    fn drop(&mut self) {
        if self.0.starts_with(b"bad") {
            panics();
        }
    }
}

/// A build step for one file. The value of "bad later" is deferred to a date; the build of "bad"
/// stops the reloader.
#[derive(Default)]
struct Fragiles {
    stopped: Arc<Mutex<Weak<Reloader<Fragile>>>>,
}

impl Build for Fragiles {
    type Value = Fragile;

    fn build(&mut self, files: &Files, context: &Context<'_, Fragile>) -> Result<Built<Fragile>, Error> {
        let bytes = files.get(0).unwrap().1.to_vec();
        let later = (bytes == b"bad later").then(|| context.wall + Duration::from_secs(86_400));
        if bytes == b"bad"
            && let Some(reloader) = self.stopped.lock().unwrap().upgrade()
        {
            reloader.stop().unwrap();
        }
        let mut built = Built::new(Fragile(bytes));
        built.not_before = later;
        Ok(built)
    }
}

/// Makes a file with these bytes in a directory of its own.
fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    replace(&path, bytes);
    (dir, path)
}

/// Expects the warning about a panic.
fn warned<T: Send + Sync + 'static>(events: &mut Events<T>, of: &str) {
    let why = expect(events, "the warning of a panic", |event| match event {
        Event::Warning { warning } if warning.layer() == Layer::Panic => Some(warning.why().to_owned()),
        _ => None,
    });
    assert_eq!(why, format!("{of} panicked"));
}

/// A stop comes during the build, so that the value is dropped and not published.
#[test]
fn inv15_drop_of_a_value_that_a_stop_discards_ends_nothing() {
    let (_dir, path) = file(b"1");
    let build = Fragiles::default();
    let stopped = Arc::clone(&build.stopped);
    let reloader = Arc::new(Builder::new([&path], build).timing(quick()).load().unwrap());
    let mut events = reloader.events();
    reloader.start().unwrap();
    started(&mut events);
    *stopped.lock().unwrap() = Arc::downgrade(&reloader);
    replace(&path, b"bad");
    warned(&mut events, "the drop of a value");
    assert_eq!(reloader.stop(), Ok(()), "the driver did not end by itself");
    assert_eq!(reloader.current().generation, 1);
    replace(&path, b"22");
    reloader.start().unwrap();
    assert_eq!(published(&mut events), 2);
}

#[test]
fn inv15_drop_of_a_value_that_waits_for_its_date_ends_nothing() {
    let (_dir, path) = file(b"1");
    let reloader = Builder::new([&path], Fragiles::default()).timing(quick()).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    started(&mut events);
    replace(&path, b"bad later");
    warned(&mut events, "the drop of a value");
    expect(&mut events, "the date", |event| matches!(event, Event::Deferred { .. }).then_some(()));
    replace(&path, b"22");
    assert_eq!(published(&mut events), 2);
    assert_eq!(reloader.stop(), Ok(()));
}

/// A clock that panics at one reading.
struct Failing {
    clock: SystemClock,
    readings: AtomicUsize,
    /// The number of the reading that panics.
    fails: AtomicUsize,
}

impl Failing {
    fn new() -> Arc<Self> {
        let [readings, fails] = [0, usize::MAX].map(AtomicUsize::new);
        Arc::new(Self { clock: SystemClock::new(), readings, fails })
    }

    /// Makes one reading panic, after so many others.
    fn fail_after(&self, readings: usize) {
        self.fails.store(self.readings.load(Ordering::SeqCst) + readings, Ordering::SeqCst);
    }
}

impl Clock for Failing {
    fn now(&self) -> Now {
        if self.readings.fetch_add(1, Ordering::SeqCst) == self.fails.load(Ordering::SeqCst) {
            panics();
        }
        self.clock.now()
    }

    fn sleep(&self, pause: Duration) {
        self.clock.sleep(pause);
    }
}

/// Every reading of the clock during a start, an update by events, a manual reload and a stop
/// panics once.
#[test]
fn inv15_clock_that_panics_ends_nothing() {
    let never = Timing { poll: Duration::from_secs(3600), settle: Duration::ZERO, ..quick() };
    let mut failed = 0;
    for reading in 0.. {
        let (_dir, path) = file(b"1");
        let clock = Failing::new();
        let builder = Builder::new([&path], Bytes).timing(never).clock(Arc::clone(&clock) as _);
        let reloader = builder.load().unwrap();
        let mut events = reloader.events();
        clock.fail_after(reading);
        replace(&path, b"22");
        assert_eq!(reloader.reload_now(), Reload::Reloaded, "reading {reading}");
        reloader.start().unwrap();
        started(&mut events);
        replace(&path, b"333");
        assert_eq!(published(&mut events), 3, "reading {reading}");
        assert_eq!(reloader.stop(), Ok(()), "reading {reading}");
        if clock.readings.load(Ordering::SeqCst) <= clock.fails.load(Ordering::SeqCst) {
            break;
        }
        failed += 1;
    }
    assert!(failed > 15, "{failed} readings");
}
