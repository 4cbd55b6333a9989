//! The delays that the machine decides by.

use std::time::Duration;

use crate::clock::LONGEST;

/// The delays and rates of a reloader. A delay of more than a hundred years counts as a hundred
/// years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// How long a file set that no single rename committed has to be stable (ASM-05). A failure to
    /// read is rejected after the same time. Default: 500 ms.
    pub settle: Duration,
    /// How long a candidate that only lacks an end of the served bytes has to be stable. Most
    /// likely it is still being written. Default: 5 s.
    pub shrink_settle: Duration,
    /// The pause before the next snapshot where timestamps are too coarse to order a rename and the
    /// writes beneath it. A timestamp may also be this much earlier than its change. Default:
    /// 30 ms.
    pub tie_recheck: Duration,
    /// The first pause after a failure; it doubles up to [`poll`](Self::poll). Default: 50 ms.
    pub retry: Duration,
    /// The longest time between two snapshots while file events work. Default: 10 s.
    pub poll: Duration,
    /// The longest time between two snapshots while file events are missing. Default: 1 s.
    pub degraded_poll: Duration,
    /// The shortest time between two snapshots of a file set: at most 200 a second, however many
    /// events arrive. Snapshots that are taken again because the directories on the way changed do
    /// not count. Default: 5 ms.
    pub min_interval: Duration,
    /// After this long without being stable, the file set is reported as still changing. A manual
    /// reload and the first load wait for a consistent snapshot about as long. Default: 5 s.
    pub still_changing_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(500),
            shrink_settle: Duration::from_secs(5),
            tie_recheck: Duration::from_millis(30),
            retry: Duration::from_millis(50),
            poll: Duration::from_secs(10),
            degraded_poll: Duration::from_secs(1),
            min_interval: Duration::from_millis(5),
            still_changing_after: Duration::from_secs(5),
        }
    }
}

impl Timing {
    /// Returns the pause after a further torn snapshot. It doubles from the shortest interval up to
    /// the first pause after a failure, which is 20 snapshots a second by default.
    pub(crate) fn torn_pause(&self, last: Duration) -> Duration {
        last.saturating_mul(2).min(self.retry).max(self.min_interval)
    }

    /// Limits every delay to one that can be added to any moment.
    pub(crate) fn bounded(self) -> Self {
        let Self {
            settle,
            shrink_settle,
            tie_recheck,
            retry,
            poll,
            degraded_poll,
            min_interval,
            still_changing_after,
        } = self;
        Self {
            settle: settle.min(LONGEST),
            shrink_settle: shrink_settle.min(LONGEST),
            tie_recheck: tie_recheck.min(LONGEST),
            retry: retry.min(LONGEST),
            poll: poll.min(LONGEST),
            degraded_poll: degraded_poll.min(LONGEST),
            min_interval: min_interval.min(LONGEST),
            still_changing_after: still_changing_after.min(LONGEST),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{
        clock::Now,
        decide::machine::{Input, Machine, ReadOutcome},
    };

    /// Checks: INV-12. Whatever is set, the moment that it leads to can be represented.
    #[test]
    fn inv12_no_delay_is_longer_than_can_be_added_to_a_moment() {
        let (short, endless) = (Duration::from_millis(3), Duration::MAX);
        let all = |time| Timing {
            settle: time,
            shrink_settle: time,
            tie_recheck: time,
            retry: time,
            poll: time,
            degraded_poll: time,
            min_interval: time,
            still_changing_after: time,
        };
        assert_eq!(all(endless).bounded(), all(LONGEST));
        assert_eq!(all(short).bounded(), all(short));
        // Also at a very late time.
        let now = Now { mono: LONGEST, wall: LONGEST };
        let mut machine = Machine::new(all(endless).bounded());
        machine.step(now, Input::Tick);
        machine.step(now, Input::SnapshotTaken(ReadOutcome::Failed("gone")));
        assert!(machine.wake(now).is_some_and(|wake| wake > now.mono));
    }
}
