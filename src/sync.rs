//! Names std's or loom's primitives, for the whole crate.
//!
//! Under `--cfg loom` the same code runs on loom's mutex, condition variable and threads, so that
//! the models in `loom-tests` check the shipped code. Two differences are deliberate. A wait with a
//! deadline never expires there, so that a lost wake-up shows as a deadlock. `Arc` stays std's,
//! because rustls hands out std's.

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

/// Locks the mutex, also after a panic of another holder: every critical section here leaves its
/// data consistent.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Waits for a notification, at most `limit`; without a limit if that is `None`.
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
    /// Sets the deadline `limit` from now. A limit that no clock can count to is allowed.
    pub(crate) fn after(limit: Duration) -> Self {
        Self {
            #[cfg(not(loom))]
            start: std::time::Instant::now(),
            limit,
        }
    }

    /// Returns the remaining time; `None` once the deadline has come.
    pub(crate) fn left(&self) -> Option<Duration> {
        #[cfg(not(loom))]
        let passed = self.start.elapsed();
        #[cfg(loom)]
        let passed = Duration::ZERO;
        self.limit.checked_sub(passed).filter(|left| !left.is_zero())
    }
}
