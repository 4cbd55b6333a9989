//! Threads, descriptors and inotify watches of this process.

use std::{
    fs,
    time::{Duration, Instant},
};

/// Resources of this process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub threads: usize,
    pub descriptors: usize,
    pub watches: usize,
}

/// Counts the resources of this process.
pub fn held() -> Held {
    let count = |dir| fs::read_dir(dir).unwrap().count();
    let infos = fs::read_dir("/proc/self/fdinfo").unwrap();
    // The listing includes its own descriptor, which is closed by the time it is read.
    let infos = infos.filter_map(|info| fs::read_to_string(info.unwrap().path()).ok());
    let watches = infos.map(|info| info.lines().filter(|line| line.starts_with("inotify wd")).count());
    Held { threads: count("/proc/self/task"), descriptors: count("/proc/self/fd"), watches: watches.sum() }
}

/// Waits until the resources are `wanted`, and returns the last count after a second: a watcher's
/// thread may take that long to end.
///
/// The second does not include time in which that thread waits for a processor, or in which the
/// kernel delays it while it closes its inotify descriptor: other processes' removed marks are
/// freed first. That time is limited to a minute.
pub fn settled(wanted: Held) -> Held {
    let (mut left, hung) = (Duration::from_secs(1), Instant::now() + Duration::from_secs(60));
    loop {
        let (start, now) = (Instant::now(), held());
        if now == wanted || left.is_zero() || start > hung {
            return now;
        }
        std::thread::yield_now();
        if !is_ending() {
            // If this thread was suspended for a while, the other one may have been ending in that
            // time.
            left = left.saturating_sub(start.elapsed().min(Duration::from_millis(10)));
        }
    }
}

/// Returns whether the thread of notify's inotify watcher is running or ready to run, or is in an
/// uninterruptible sleep (states R and D, proc_pid_stat(5)).
fn is_ending() -> bool {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    // A thread may have ended by the time its file is read.
    let mut stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    stats.any(|stat| ["R", "D"].iter().any(|state| stat.contains(&format!(" (notify-rs inoti) {state} "))))
}

/// Waits until the resources have not changed for a tenth of a second, and returns them.
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
