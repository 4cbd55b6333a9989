//! The one place that names std's or loom's primitives.
//!
//! Under `--cfg loom` the same code runs on loom's mutex, condition variable and threads, so that the models in
//! `loom-tests` check what is shipped. Two differences are deliberate: a wait with a deadline never expires there (a
//! lost wake-up then shows as a deadlock), and `Arc` stays std's (rustls hands out std's).

pub(crate) use std::sync::Arc;

#[cfg(loom)]
pub(crate) use loom::{
    sync::{Condvar, Mutex, MutexGuard, RwLock},
    thread,
};
#[cfg(not(loom))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread,
};

use std::time::Duration;

/// Locks, also after a panic of another holder: every critical section here leaves its data whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Waits for a notification, at most `limit`; `None` waits without a limit.
pub(crate) fn wait<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    limit: Option<Duration>,
) -> MutexGuard<'a, T> {
    #[cfg(not(loom))]
    if let Some(limit) = limit {
        return match condvar.wait_timeout(guard, limit) {
            Ok((guard, _)) => guard,
            Err(poisoned) => poisoned.into_inner().0,
        };
    }
    #[cfg(loom)]
    let _ = limit;
    condvar.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The end of a wait. Under loom it never comes.
pub(crate) struct Deadline {
    #[cfg(not(loom))]
    start: std::time::Instant,
    limit: Duration,
}

impl Deadline {
    /// So long from now; a limit that no clock can count to is one as well.
    pub(crate) fn after(limit: Duration) -> Self {
        Self {
            #[cfg(not(loom))]
            start: std::time::Instant::now(),
            limit,
        }
    }

    /// What is left of it; `None` once it has come.
    pub(crate) fn left(&self) -> Option<Duration> {
        #[cfg(not(loom))]
        let passed = self.start.elapsed();
        #[cfg(loom)]
        let passed = Duration::ZERO;
        self.limit.checked_sub(passed).filter(|left| !left.is_zero())
    }
}
