//! The system's clocks as they are: the monotonic one in a namespace of its own, the wall clock set back for one process.
//!
//! Nobody sets the machine's clock here. `libfaketime` sets it for a process of its own, and `unshare --time` gives a
//! process another monotonic clock; where one of them is missing, that test says so (`scripts/need faketime` installs
//! it).
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)] // reason: a test may panic and print

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use common::DEADLINE;
use rustls_reload::{
    Build, Built, Clock, Context, Error, Reload, Reloader, SystemClock, Timing, snapshot::Files,
};

/// Set in a process of its own: the file that `libfaketime` reads the shift of the wall clock from, or nothing.
const CHILD: &str = "RUSTLS_RELOAD_CLOCKS";

fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// Publishes the file as it is.
struct Bytes;

impl Build for Bytes {
    type Value = Vec<u8>;

    fn build(&mut self, files: &Files, _: &Context<'_, Vec<u8>>) -> Result<Built<Vec<u8>>, Error> {
        Ok(Built::new(files.get(0).unwrap().1.to_vec()))
    }
}

/// Checks: ASM-03. Each reading lies between two readings of the clock itself.
#[test]
fn inv05_the_clock_reads_both_clocks_of_the_system() {
    let before_start = Instant::now();
    let clock = SystemClock::new();
    let after_start = Instant::now();
    let (mut last, mut odd) = (Duration::ZERO, 0);
    for _ in 0..20 {
        let (earliest, first) = (after_start.elapsed(), wall());
        let now = clock.now();
        let (second, latest) = (wall(), before_start.elapsed());
        assert!(earliest <= now.mono && now.mono <= latest, "{earliest:?} {now:?} {latest:?}");
        assert!(now.mono > last, "it went back or stood still: {last:?}, {now:?}");
        last = now.mono;
        // The wall clock may be set at any time, by others.
        odd += u32::from(!(first <= now.wall && now.wall <= second));
        let start = Instant::now();
        let pause = Duration::from_micros(700);
        clock.sleep(pause);
        assert!(start.elapsed() >= pause, "it slept for {:?}", start.elapsed());
    }
    assert!(odd <= 1, "{odd} of 20 readings of the wall clock are not the system's");
}

/// Runs the test of this name in a process of its own, by a command that the process is put behind.
fn child(name: &str, shift: &Path, command: &mut Command) -> Output {
    let this = std::env::current_exe().unwrap();
    command.arg(this).args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command.env(CHILD, shift).output().unwrap()
}

fn passes(output: &Output) {
    let all = [&output.stdout, &output.stderr].map(|out| String::from_utf8_lossy(out).into_owned());
    assert!(output.status.success() && all[0].contains("1 passed"), "{all:#?}");
    assert!(all[0].contains("SERVED"), "nothing was judged: {all:#?}");
}

/// Writes the file in place, a while after the last write, with the wall clock set by so many seconds in between; the
/// reloader serves it as it does with a clock that nobody sets.
fn serves_over(steps: &[i64], set: impl Fn(i64)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "0").unwrap();
    // No poll finds a change in the time of a test.
    let ms = Duration::from_millis;
    let timing = Timing {
        settle: ms(50),
        shrink_settle: ms(50),
        poll: Duration::from_secs(3600),
        ..Timing::default()
    };
    let reloader = Reloader::builder([&path], Bytes).timing(timing).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    common::started(&mut events);
    let mut generation = 1;
    for (number, shift) in steps.iter().enumerate() {
        for (text, before) in [("before", true), ("after", false)] {
            if !before {
                set(*shift);
            }
            let content = format!("{number} {text}");
            fs::write(&path, &content).unwrap();
            if before {
                // The clock is set while it waits for the file to hold still.
                set(*shift);
            }
            let published = reloader.wait_published(generation, DEADLINE);
            let published = published.unwrap_or_else(|| panic!("{content} is not served after {DEADLINE:?}"));
            generation = published.generation;
            assert_eq!(published.value, content.as_bytes());
        }
        assert_eq!(reloader.handle().reload_now(), Reload::Unchanged);
    }
    println!("SERVED {generation}");
}

/// Whether `libfaketime` sets the wall clock of this process, and how it is set.
fn faketime() -> Option<PathBuf> {
    let directories = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path().join("faketime"));
    let found =
        directories.chain([PathBuf::from("/usr/lib/faketime"), PathBuf::from("/usr/local/lib/faketime")]);
    found.map(|dir| dir.join("libfaketimeMT.so.1")).find(|library| library.exists())
}

/// Checks: ASM-03, ASM-04. The wall clock is set back and forth by an hour while a file is written in place.
#[test]
fn inv05_a_wall_clock_set_back_delays_no_reload() {
    if let Some(shift) = std::env::var_os(CHILD) {
        let shift = PathBuf::from(shift);
        let (monotonic, clock) = (Instant::now(), SystemClock::new());
        serves_over(&[-3600, 0, 3600, -86_400], |seconds| {
            let (before, earlier) = (wall(), clock.now());
            fs::write(&shift, format!("{seconds:+}")).unwrap();
            let (after, later) = (wall(), clock.now());
            let moved = i64::try_from(after.as_secs()).unwrap() - i64::try_from(before.as_secs()).unwrap();
            // The first of two calls sets it.
            let sets = moved.abs() > 1000;
            assert!(sets || (after.as_secs_f64() - real(&shift)).abs() < 1000.0, "the clock is not set");
            assert!(
                later.mono >= earlier.mono && later.mono <= monotonic.elapsed(),
                "{earlier:?}, {later:?}"
            );
            assert!(!sets || later.wall.abs_diff(earlier.wall) > Duration::from_secs(1000), "{later:?}");
        });
        return;
    }
    let Some(library) = faketime() else {
        println!("skipped: libfaketime is missing (scripts/need faketime)");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let shift = dir.path().join("shift");
    fs::write(&shift, "+0").unwrap();
    let mut command = Command::new("env");
    command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &shift);
    command.envs([("FAKETIME_NO_CACHE", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("NO_FAKE_STAT", "1")]);
    passes(&child("inv05_a_wall_clock_set_back_delays_no_reload", &shift, &mut command));
}

/// The time that `libfaketime` is to show, by what it was told last and the machine's clock.
fn real(shift: &Path) -> f64 {
    let seconds: f64 = fs::read_to_string(shift).unwrap().parse().unwrap();
    // A file's time is the kernel's.
    let scratch = tempfile::NamedTempFile::new().unwrap();
    let kernel = scratch.as_file().metadata().unwrap().modified().unwrap();
    kernel.duration_since(UNIX_EPOCH).unwrap().as_secs_f64() + seconds
}

/// Checks: ASM-03. The monotonic clock of a machine that has run for years, beside the same wall clock.
#[test]
fn inv05_a_monotonic_clock_far_ahead_changes_nothing() {
    if std::env::var_os(CHILD).is_some() {
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        assert!(uptime.split('.').next().unwrap().parse::<u64>().unwrap() > 1_000_000_000, "{uptime}");
        let (first, clock) = (wall(), SystemClock::new());
        let now = clock.now();
        assert!(now.mono < Duration::from_secs(60) && first.abs_diff(now.wall) < Duration::from_secs(60));
        serves_over(&[0], |_| {});
        return;
    }
    let offset = "1500000000";
    let mut command = Command::new("unshare");
    command.args(["--time", "--monotonic", offset, "--boottime", offset, "--fork"]);
    let probe = Command::new("unshare").args(["--time", "--monotonic", offset, "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("skipped: `unshare --time` is missing or not allowed here");
        return;
    }
    passes(&child("inv05_a_monotonic_clock_far_ahead_changes_nothing", Path::new("none"), &mut command));
}
