//! Tests with real clocks of the system: the wall clock is set back for one process, and the
//! monotonic clock is far ahead in a namespace.
//!
//! The machine's own clock is not set. For the wall clock, a child process loads a library before
//! the C library's `clock_gettime`, made by the compiler that links Rust programs. For the
//! monotonic clock, `unshare --time` gives a child process a clock of its own. Where the system has
//! neither, the test says so.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::common::{self, DEADLINE, this_test};
use rustls_reload::{Build, Builder, Built, Clock, Context, Error, Files, Reload, SystemClock, Timing};

/// Set in a child process: the file with the seconds by which its wall clock is shifted.
const CHILD: &str = "RUSTLS_RELOAD_CLOCKS";

/// Adds those seconds to the wall clock and changes no other clock.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, id, time);
    if (result == 0 && id == CLOCK_REALTIME) {
        char text[32] = {0};
        int file = open(getenv("RUSTLS_RELOAD_CLOCKS"), O_RDONLY | O_CLOEXEC);
        if (file >= 0 && read(file, text, sizeof text - 1) > 0) time->tv_sec += strtol(text, 0, 10);
        if (file >= 0) close(file);
    }
    return result;
}
"#;

fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// A build step whose value is the file.
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
        // Another program may set the wall clock at any time.
        odd += u32::from(!(first <= now.wall && now.wall <= second));
        let start = Instant::now();
        let pause = Duration::from_micros(700);
        clock.sleep(pause);
        assert!(start.elapsed() >= pause, "it slept for {:?}", start.elapsed());
    }
    assert!(odd <= 1, "{odd} of 20 readings of the wall clock are not the system's");
}

/// Runs the test of this name in a child process, behind this command.
fn child(name: &str, shift: &Path, command: &mut Command) -> Output {
    let this = std::env::current_exe().unwrap();
    command.arg(this).args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command.env(CHILD, shift).output().unwrap()
}

fn passes(output: &Output) {
    let all = [&output.stdout, &output.stderr].map(|out| String::from_utf8_lossy(out).into_owned());
    assert!(output.status.success() && all[0].contains("1 passed"), "{all:#?}");
    assert!(all[0].contains("SERVED"), "nothing was evaluated: {all:#?}");
}

/// Writes the file in place several times, with pauses, and shifts the wall clock by so many
/// seconds in between. Asserts that the reloader serves each content as with a clock that is not
/// set.
fn serves_over(steps: &[i64], set: impl Fn(i64)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    // Written without a state in between, which would be stable where the writer is held up.
    let rewrite = |content: &str| {
        let padded = format!("{content:16}");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path).unwrap();
        file.write_all(padded.as_bytes()).unwrap();
        padded
    };
    rewrite("0");
    // The poll is too slow to find a change during the test.
    let ms = Duration::from_millis;
    let timing = Timing {
        settle: ms(50),
        shrink_settle: ms(50),
        poll: Duration::from_secs(3600),
        ..Timing::default()
    };
    let reloader = Builder::new([&path], Bytes).timing(timing).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    common::started(&mut events);
    let mut generation = 1;
    for (number, shift) in steps.iter().enumerate() {
        for (text, before) in [("before", true), ("after", false)] {
            if !before {
                set(*shift);
            }
            let content = rewrite(&format!("{number} {text}"));
            if before {
                // The clock is set while the reloader waits for the file to be stable.
                set(*shift);
            }
            let published = reloader.wait_published(generation, DEADLINE);
            let published = published.unwrap_or_else(|| panic!("{content} is not served after {DEADLINE:?}"));
            generation = published.generation;
            assert_eq!(published.value, content.as_bytes());
        }
        assert_eq!(reloader.reload_now(), Reload::Unchanged);
    }
    // The clock is set forward by a day while a thread waits with a limit. A reload in between
    // wakes it.
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| reloader.wait_published(generation, DEADLINE));
        std::thread::sleep(ms(100));
        set(*steps.last().unwrap_or(&0) + 86_400);
        assert_eq!(reloader.reload_now(), Reload::Unchanged);
        std::thread::sleep(ms(20));
        rewrite("last");
        assert!(waiter.join().unwrap().is_some(), "the wait is over a day early");
    });
    println!("SERVED {generation}");
}

/// Checks: ASM-03, ASM-04. The wall clock is set back and forth by an hour while a file is written
/// in place.
/// in place.
#[test]
fn inv05_a_wall_clock_set_back_delays_no_reload() {
    if let Some(shift) = std::env::var_os(CHILD) {
        let clock = SystemClock::new();
        serves_over(&[-3600, 0, 3600, -86_400], |seconds| {
            let old: i64 = fs::read_to_string(&shift).unwrap().parse().unwrap();
            let (before, earlier) = (wall(), clock.now());
            fs::write(&shift, seconds.to_string()).unwrap();
            let (after, later) = (wall(), clock.now());
            let moved = after.as_secs_f64() - before.as_secs_f64();
            assert!((moved - (seconds - old) as f64).abs() < 60.0, "the clock is not set: {moved} s");
            assert!(later.mono >= earlier.mono && later.mono - earlier.mono < DEADLINE, "{later:?}");
            assert!(later.wall.abs_diff(after) < DEADLINE, "{later:?}");
        });
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("wall.c"), LIBRARY).unwrap();
    fs::write(at("shift"), "0").unwrap();
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([at("wall.so"), at("wall.c")]).output();
    if !cfg!(all(target_os = "linux", target_env = "gnu"))
        || !compiled.is_ok_and(|done| done.status.success())
    {
        println!("skipped: no library can be put before the C library's here");
        return;
    }
    let mut command = Command::new("env");
    command.env("LD_PRELOAD", at("wall.so"));
    passes(&child(&this_test!(), &at("shift"), &mut command));
}

/// Checks: ASM-03. The monotonic clock has the value of a machine that has run for years; the wall
/// clock is unchanged.
/// clock.
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
    passes(&child(&this_test!(), Path::new("none"), &mut command));
}
