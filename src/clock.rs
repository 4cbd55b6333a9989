//! Time as a value: read in one place, passed everywhere else.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// No wait is longer, so that adding it to any moment cannot overflow: a hundred years.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since some fixed moment of this process; never goes back (ASM-03).
    pub mono: Duration,
    /// Since the Unix epoch; may step either way.
    pub wall: Duration,
}

/// What the driver reads time from.
pub trait Clock: Send + Sync {
    /// Reads both clocks.
    fn now(&self) -> Now;
    /// Returns after `pause`: used only during the first load, which is synchronous.
    fn sleep(&self, pause: Duration);
}

/// The machine's own clocks.
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
            // A clock set before 1970 reads as 1970: every certificate is then "not yet valid", which is held, not lost.
            wall: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    fn sleep(&self, pause: Duration) {
        std::thread::sleep(pause);
    }
}
