//! Sequences on a real file system that once broke an invariant.

mod stops;

use std::{
    fs,
    future::Future,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as TaskContext, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use crate::common::{DEADLINE, drain, expect, published, quick, refused, started, this_test, wait_for_tick};
use rustls_reload::{
    Build, Builder, Built, Clock, Context, Error, Event, Events, Files, Layer, Now, Reload, Reloader,
    StartError, Status, SystemClock, Timing,
};

/// A build step whose value is the files. It refuses files that begin with "bad", and defers those
/// that begin with "later".
struct Bytes;

type Value = Vec<String>;

impl Build for Bytes {
    type Value = Value;

    fn build(&mut self, files: &Files, _: &Context<'_, Value>) -> Result<Built<Value>, Error> {
        let value: Value =
            files.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect();
        if value.iter().any(|file| file.starts_with("bad")) {
            return Err(Error::new(Layer::Chain, "bad"));
        }
        let later = value.iter().any(|file| file.starts_with("later"));
        let mut built = Built::new(value);
        built.not_before = later.then_some(Duration::from_secs(10_000_000_000));
        Ok(built)
    }
}

fn timing() -> Timing {
    Timing { poll: Duration::from_millis(20), degraded_poll: Duration::from_millis(20), ..quick() }
}

fn load(paths: &[&Path], timing: Timing) -> Reloader<Value> {
    Builder::new(paths, Bytes).timing(timing).load().unwrap()
}

fn wait_until(reloader: &Reloader<Value>, what: &str, done: impl Fn(&Status) -> bool) -> Status {
    let start = Instant::now();
    loop {
        let status = reloader.status();
        if done(&status) {
            return status;
        }
        assert!(start.elapsed() < DEADLINE, "no {what}: {status:#?}");
        thread::yield_now();
    }
}

/// Waits for two more snapshots: at least one of them began after the call.
fn wait_for_snapshot(reloader: &Reloader<Value>) {
    let snapshots = reloader.status().snapshots;
    wait_until(reloader, "snapshot", |status| status.snapshots >= snapshots + 2);
}

fn built_again(reloader: &Reloader<Value>, times: u64) {
    let builds = reloader.status().builds;
    wait_until(reloader, "build", |status| status.builds >= builds + times);
}

fn count(events: &mut Events<Value>, what: impl Fn(&Event) -> bool) -> usize {
    drain(events).iter().filter(|event| what(event)).count()
}

fn is_refusal(event: &Event) -> bool {
    matches!(event, Event::Refused { .. })
}

/// Checks: INV-11. A refusal that a manual reload reported stands when the driver starts.
#[test]
fn inv11_start_does_not_repeat_a_standing_rejection() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "good").unwrap();
    let reloader = load(&[&path], timing());
    let mut events = reloader.events();
    fs::write(&path, "bad").unwrap();
    assert!(matches!(reloader.reload_now(), Reload::Refused(_)));
    reloader.start().unwrap();
    built_again(&reloader, 3);
    assert_eq!(count(&mut events, is_refusal), 1);
}

/// Checks: INV-11. A recovery is reported even if a start came in between.
#[test]
fn inv11_recovery_across_a_start_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "good").unwrap();
    let reloader = load(&[&path], timing());
    let mut events = reloader.events();
    fs::write(&path, "bad").unwrap();
    assert!(matches!(reloader.reload_now(), Reload::Refused(_)));
    fs::write(&path, "good").unwrap();
    reloader.start().unwrap();
    wait_for_snapshot(&reloader);
    assert_eq!(count(&mut events, |event| matches!(event, Event::Recovered { .. })), 1);
}

/// Checks: INV-11. A deferred content is no longer refused once it can be read again.
#[test]
fn inv11_past_rejection_does_not_stand_beside_a_deferred_set() {
    let dir = tempfile::tempdir().unwrap();
    let (live, away) = (dir.path().join("live"), dir.path().join("away"));
    fs::create_dir(&live).unwrap();
    let path = live.join("file");
    fs::write(&path, "good").unwrap();
    let reloader = load(&[&path], timing());
    let mut events = reloader.events();
    reloader.start().unwrap();
    started(&mut events);
    fs::write(&path, "later").unwrap();
    expect(&mut events, "hold", |event| matches!(event, Event::Deferred { .. }).then_some(()));
    fs::rename(&live, &away).unwrap();
    refused(&mut events);
    fs::rename(&away, &live).unwrap();
    // The new deferral is reported once.
    expect(&mut events, "hold", |event| matches!(event, Event::Deferred { .. }).then_some(()));
    let status = wait_until(&reloader, "date", |status| status.deferred_until.is_some());
    assert_eq!(status.refused, None);
    wait_for_snapshot(&reloader);
    assert_eq!(count(&mut events, |event| matches!(event, Event::Deferred { .. })), 0);
}

/// Checks: INV-08, INV-11. Deferred bytes stay deferred when their file is touched.
#[test]
fn inv08_touched_deferred_set_is_not_reported_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "good").unwrap();
    let reloader = load(&[&path], timing());
    let mut events = reloader.events();
    reloader.start().unwrap();
    started(&mut events);
    fs::write(&path, "later").unwrap();
    expect(&mut events, "hold", |event| matches!(event, Event::Deferred { .. }).then_some(()));
    let builds = reloader.status().builds;
    fs::File::options().append(true).open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    wait_until(&reloader, "build", |status| status.builds > builds);
    wait_for_snapshot(&reloader);
    assert_eq!(drain(&mut events), []);
}

/// Checks: INV-11. The refused bytes are written again, and a snapshot in between sees half of
/// them.
#[test]
fn inv11_rejected_bytes_written_again_are_not_reported_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "good").unwrap();
    let timing = Timing { settle: Duration::from_secs(1), ..timing() };
    let reloader = load(&[&path], timing);
    let mut events = reloader.events();
    fs::write(&path, "bad").unwrap();
    reloader.start().unwrap();
    refused(&mut events);
    fs::write(&path, "x").unwrap();
    wait_for_snapshot(&reloader);
    fs::write(&path, "bad").unwrap();
    built_again(&reloader, 2);
    assert_eq!(reloader.current().generation, 1, "what came between never settled");
    assert_eq!(count(&mut events, is_refusal), 0);
}

/// Checks: INV-01 (b), ASM-05. A link moves the pair, and the client CAs beside it follow, which is
/// no single rename.
#[test]
fn inv01_a_link_that_moves_a_part_of_the_set_commits_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let release = |name: &str, content: &str| {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("crt"), content).unwrap();
        fs::write(at(name).join("key"), content).unwrap();
    };
    release("1", "old");
    symlink("1", at("current")).unwrap();
    fs::write(at("ca"), "old").unwrap();
    let timing = Timing { settle: Duration::from_secs(1), ..timing() };
    let reloader = load(&[&at("current/crt"), &at("current/key"), &at("ca")], timing);
    let mut events = reloader.events();
    reloader.start().unwrap();
    started(&mut events);
    release("2", "new");
    wait_for_tick(&at("2"));
    symlink("2", at("next")).unwrap();
    fs::rename(at("next"), at("current")).unwrap();
    wait_for_snapshot(&reloader);
    fs::write(at("ca"), "new").unwrap();
    published(&mut events);
    assert_eq!(reloader.current().value, ["new", "new", "new"]);
    assert_eq!(reloader.current().generation, 2);
}

/// Moves the second directory when the load first waits.
struct Publisher<F> {
    clock: SystemClock,
    done: AtomicBool,
    then: F,
}

impl<F: Fn() + Send + Sync> Clock for Publisher<F> {
    fn now(&self) -> Now {
        self.clock.now()
    }

    fn sleep(&self, pause: Duration) {
        if !self.done.swap(true, Ordering::SeqCst) {
            (self.then)();
        }
        self.clock.sleep(pause);
    }
}

/// Checks: INV-01 (b), ASM-05. Old files in a directory that was just moved into place count as
/// just changed.
#[test]
fn inv01_first_load_between_two_renames_waits_for_the_second() {
    let begun = Instant::now();
    while !between_two_renames() {
        assert!(begun.elapsed() < DEADLINE, "each load began too late, or did not wait");
    }
}

/// Returns whether the load began within the settle time of the first rename.
fn between_two_renames() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let make = |name: &str, content: &str| {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("file"), content).unwrap();
    };
    make("pair", "old");
    make("ca", "old");
    make("pair.new", "new");
    make("ca.new", "new");
    let settle = Duration::from_millis(300);
    let made = fs::metadata(at("ca.new/file")).unwrap().modified().unwrap();
    while made.elapsed().unwrap_or_default() < 2 * settle {
        thread::yield_now();
    }
    let root = dir.path().to_owned();
    let renew = move |name: &str| {
        fs::rename(root.join(name), root.join(format!("{name}.old"))).unwrap();
        fs::rename(root.join(format!("{name}.new")), root.join(name)).unwrap();
    };
    let begun = Instant::now();
    renew("pair");
    let clock =
        Publisher { clock: SystemClock::new(), done: AtomicBool::new(false), then: move || renew("ca") };
    let clock = Arc::new(clock);
    let timing = Timing { settle, ..timing() };
    let reloader = Builder::new([at("pair/file"), at("ca/file")], Bytes)
        .timing(timing)
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .load()
        .unwrap();
    if !clock.done.load(Ordering::SeqCst) && begun.elapsed() > settle {
        return false;
    }
    assert_eq!(reloader.current().value, ["new", "new"]);
    true
}

struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics, on purpose");
    }
}

/// Checks: INV-05, INV-13. A task's waker is code of the caller, as a callback is.
#[test]
fn inv13_a_waker_that_panics_does_not_end_the_driver() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "one").unwrap();
    let reloader = load(&[&path], timing());
    let mut events = reloader.events();
    reloader.start().unwrap();
    started(&mut events);
    let waker = Waker::from(Arc::new(Bomb));
    let mut future = Box::pin(reloader.published(1));
    assert!(future.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    fs::write(&path, "two").unwrap();
    published(&mut events);
    fs::write(&path, "three").unwrap();
    published(&mut events);
    assert_eq!(reloader.stop(), Ok(()));
    reloader.start().unwrap();
}

/// Checks: INV-13. A start after a stop that gets no thread changes nothing: the reloader stays
/// stopped.
#[test]
fn inv13_a_reloader_stays_stopped_when_a_start_gets_no_thread() {
    if std::env::var_os("NO_THREADS").is_none() {
        // A child process has no room for another stack, and no stack of this size is kept for
        // reuse.
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([&this_test!(), "--exact", "--nocapture"])
            .env("NO_THREADS", "1")
            .env("RUST_MIN_STACK", (1 << 30).to_string())
            .env("RUST_BACKTRACE", "0")
            .spawn()
            .unwrap();
        let start = Instant::now();
        let ended = loop {
            match child.try_wait().unwrap() {
                None if start.elapsed() < DEADLINE => thread::yield_now(),
                ended => break ended,
            }
        };
        let _ = child.kill();
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "one").unwrap();
    // The watcher's thread is not joined, so its stack could be kept for the next one. This
    // reloader has no watcher.
    let reloader = Builder::new([&path], Bytes).watcher(None).load().unwrap();
    reloader.start().unwrap();
    reloader.stop().unwrap();
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let bytes = pages.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096 + (1 << 29);
    let limited = Command::new("prlimit")
        .arg(format!("--pid={}", std::process::id()))
        .arg(format!("--as={bytes}"))
        .status();
    if !limited.is_ok_and(|status| status.success()) {
        return;
    }
    let Err(StartError::NoThread(error)) = reloader.start() else { panic!("a thread all the same") };
    assert_eq!(error.layer(), Layer::Process, "{error}");
    fs::write(&path, "two").unwrap();
    assert_eq!(reloader.reload_now(), Reload::Stopped);
    assert_eq!(reloader.current().generation, 1);
}

/// Checks: INV-01 (b), ASM-05. A new directory whose mode was set last was not renamed.
#[test]
fn inv01_a_directory_that_changes_its_mode_commits_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    let write = |name: &str, content: &str| fs::write(live.join(name), content).unwrap();
    fs::create_dir(&live).unwrap();
    write("crt", "old");
    write("ca", "old");
    let timing = Timing { settle: Duration::from_secs(1), ..timing() };
    let reloader = load(&[&live.join("crt"), &live.join("ca")], timing);
    let mut events = reloader.events();
    reloader.start().unwrap();
    started(&mut events);
    fs::remove_dir_all(&live).unwrap();
    // Makes the new directory get another inode.
    fs::create_dir(dir.path().join("other")).unwrap();
    fs::create_dir(&live).unwrap();
    write("crt", "new");
    write("ca", "old");
    wait_for_tick(&live);
    fs::set_permissions(&live, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    wait_for_snapshot(&reloader);
    write("ca", "new");
    published(&mut events);
    assert_eq!(reloader.current().value, ["new", "new"]);
    assert_eq!(reloader.current().generation, 2);
}
