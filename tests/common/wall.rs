//! A wall clock that tests set, beside a monotonic clock that runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rustls_reload::{Clock, Now, SystemClock};

/// A clock whose wall time changes only when a test sets it.
pub struct Wall {
    system: SystemClock,
    start: Duration,
    moved: AtomicI64,
}

impl Wall {
    pub fn new() -> Arc<Self> {
        let system = SystemClock::new();
        Arc::new(Self { start: system.now().wall, system, moved: AtomicI64::new(0) })
    }

    /// Returns the wall time so many seconds after the start, or before it.
    pub fn at(&self, seconds: i64) -> Duration {
        let by = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { self.start - by } else { self.start + by }
    }

    pub fn set(&self, seconds: i64) {
        self.moved.store(seconds, Ordering::SeqCst);
    }
}

impl Clock for Wall {
    fn now(&self) -> Now {
        Now { wall: self.at(self.moved.load(Ordering::SeqCst)), ..self.system.now() }
    }

    fn sleep(&self, pause: Duration) {
        self.system.sleep(pause);
    }
}
