//! Time as a value: read in one place, passed everywhere else.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The longest wait, a hundred years. Adding it to any moment cannot overflow.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic time, since some fixed moment of this process. It never goes back (ASM-03).
    pub mono: Duration,
    /// The wall clock, since the Unix epoch. It may step either way.
    pub wall: Duration,
}

impl Now {
    /// A moment that is over.
    pub(crate) const PAST: Self = Self { mono: Duration::ZERO, wall: Duration::ZERO };
}

/// The source of time of the driver.
pub trait Clock: Send + Sync {
    /// Reads both clocks.
    fn now(&self) -> Now;
    /// Returns after `pause`. Only the first load calls it, which is synchronous.
    fn sleep(&self, pause: Duration);
}

/// The system's own clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Starts counting monotonic time now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now {
            mono: self.start.elapsed(),
            // A clock set before 1970 reads as 1970. Every certificate is then "not yet valid", so
            // a candidate is deferred and not lost.
            wall: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    fn sleep(&self, pause: Duration) {
        std::thread::sleep(pause);
    }
}
