//! Threads, descriptors and inotify watches of this process.

use std::{
    fs,
    time::{Duration, Instant},
};

/// What is held at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub threads: usize,
    pub descriptors: usize,
    pub watches: usize,
}

/// Counts them.
pub fn held() -> Held {
    let count = |dir| fs::read_dir(dir).unwrap().count();
    let infos = fs::read_dir("/proc/self/fdinfo").unwrap();
    // The directory that is being listed is gone by the time it is read.
    let infos = infos.filter_map(|info| fs::read_to_string(info.unwrap().path()).ok());
    let watches = infos.map(|info| info.lines().filter(|line| line.starts_with("inotify wd")).count());
    Held { threads: count("/proc/self/task"), descriptors: count("/proc/self/fd"), watches: watches.sum() }
}

/// What is held once that is `wanted`, or what it is instead after a second: a watcher's thread may take that long to end.
///
/// Not counting the time for which that thread waits for a processor, or the kernel keeps it in closing its inotify
/// descriptor: until the marks that anybody has removed are freed, however busy others keep the machine. That is waited for
/// a minute at most.
pub fn settled(wanted: Held) -> Held {
    let (mut left, hung) = (Duration::from_secs(1), Instant::now() + Duration::from_secs(60));
    loop {
        let (start, now) = (Instant::now(), held());
        if now == wanted || left.is_zero() || start > hung {
            return now;
        }
        std::thread::yield_now();
        if !is_ending() {
            // Where this thread did not run for a while, it may have been ending until just now.
            left = left.saturating_sub(start.elapsed().min(Duration::from_millis(10)));
        }
    }
}

/// Whether the thread of notify's inotify watcher runs or would, or sleeps where nothing can interrupt it (states R and D,
/// proc_pid_stat(5)).
fn is_ending() -> bool {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    // One may have ended by the time it is read.
    let mut stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    stats.any(|stat| ["R", "D"].iter().any(|state| stat.contains(&format!(" (notify-rs inoti) {state} "))))
}

/// What is held once that has not changed for a tenth of a second.
pub fn settled_now() -> Held {
    let mut since = (Instant::now(), held());
    while since.0.elapsed() < Duration::from_millis(100) {
        let now = held();
        if now != since.1 {
            since = (Instant::now(), now);
        }
        std::thread::yield_now();
    }
    since.1
}
