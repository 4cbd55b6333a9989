//! The state of a reloader, available at any time.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    clock::Now,
    report::{error::Error, event::Leaf, expiry::Expiring},
};

/// A consistent copy of a reloader's state: the served value, rejections, and how the files are
/// watched.
///
/// The status is never ahead of the configuration that a new handshake gets, and is up to date as
/// soon as a publication is visible. Times are since the Unix epoch, by the wall clock.
///
/// Where there are several file sets, the leaf is that of the first set, and the time of
/// publication is the latest. The rejection is the first in the order of the sets, the date the
/// nearest, and the time since when the files differ the earliest. So all is well only where these
/// three are `None`. [`sets`](Self::sets) has each set by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The served generation.
    pub generation: u64,
    /// The served leaf.
    pub leaf: Option<Leaf>,
    /// When the served generation was published.
    pub served_since: Duration,
    /// The latest generation that reduced the trust; `None` if there was none.
    pub trust_reduced: Option<u64>,
    /// The present rejection, from its report until the report of its end.
    pub refused: Option<Refused>,
    /// The date that a valid candidate is deferred until.
    pub deferred_until: Option<Duration>,
    /// Since when the files differ from the served ones, or cannot be read.
    pub differs_since: Option<Duration>,
    /// The served leaf whose end is near or over, as of the last snapshot; of several the one that
    /// ends first.
    pub expiring: Option<Expiring>,
    /// Each file set by itself, in the order in which the sets were given.
    pub sets: Vec<SetStatus>,
    /// Set from the start of a driver until its end, also while it waits or hangs.
    pub running: bool,
    /// When the last snapshot ended, once that is longer ago than three polls (30 s; 3 s while
    /// degraded). The driver hangs in a read, a build, a watcher or a callback, or its thread has
    /// died; nothing is reloaded meanwhile. Each poll counts with the time that the last snapshot
    /// took, up to a minute. So one long hang does not hide the next.
    ///
    /// Computed by the caller that asks for the status, since a driver that hangs computes nothing.
    /// The monotonic clock decides, so that no step of the wall clock shows here. `None` while no
    /// driver runs.
    pub stalled_since: Option<Duration>,
    /// Why file events are missing and since when, while they are.
    pub degraded: Option<(Error, Duration)>,
    /// The watched directories.
    pub watched: Vec<PathBuf>,
    /// Directories on the way to the files that may be searched but not read. They cannot be
    /// watched, so a change of the way through them waits for the poll.
    pub unwatched: Vec<PathBuf>,
    /// When the last snapshot ended.
    pub last_snapshot: Duration,
    /// The number of snapshots so far, of all file sets. Snapshots that are taken again because the
    /// directories on the way changed are not counted.
    pub snapshots: u64,
    /// The number of builds so far.
    pub builds: u64,
    /// The number of directories that the last snapshot walked through, watched or not; of several
    /// file sets the largest number. A snapshot holds each of them open until it ends.
    pub directories: usize,
}

/// The state of one file set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetStatus {
    /// The set's first path.
    pub path: Arc<Path>,
    /// The set's served leaf.
    pub leaf: Option<Leaf>,
    /// The generation that changed this set last.
    pub generation: u64,
    /// When that generation was published.
    pub served_since: Duration,
    /// The set's rejection, as in [`Status::refused`].
    pub refused: Option<Refused>,
    /// The set's date, as in [`Status::deferred_until`].
    pub deferred_until: Option<Duration>,
    /// The set's time, as in [`Status::differs_since`].
    pub differs_since: Option<Duration>,
    /// The set's leaf, as in [`Status::expiring`].
    pub expiring: Option<Expiring>,
}

/// A rejection that was reported and stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// The layer, the file and the reason.
    pub error: Error,
    /// When it was reported.
    pub since: Duration,
    /// How often it was met, the first time included.
    pub count: u64,
}

impl Status {
    /// Returns the latest generation that reduced the trust, if it came after this one.
    pub(crate) fn reduced_after(&self, generation: u64) -> Option<u64> {
        self.trust_reduced.filter(|reduced| *reduced > generation)
    }

    /// Makes the status right after the first load of these file sets.
    pub(crate) fn first(sets: impl Iterator<Item = (Arc<Path>, Option<Leaf>)>, wall: Duration) -> Self {
        let set = |(path, leaf)| SetStatus {
            path,
            leaf,
            generation: 1,
            served_since: wall,
            refused: None,
            deferred_until: None,
            differs_since: None,
            expiring: None,
        };
        let sets: Vec<_> = sets.map(set).collect();
        let count = sets.len() as u64;
        Self {
            generation: 1,
            leaf: None,
            served_since: wall,
            trust_reduced: None,
            refused: None,
            deferred_until: None,
            differs_since: None,
            expiring: None,
            sets,
            running: false,
            stalled_since: None,
            degraded: None,
            watched: Vec::new(),
            unwatched: Vec::new(),
            last_snapshot: wall,
            snapshots: count,
            builds: count,
            directories: 0,
        }
    }

    /// Returns the name of a file set for events, where there are several.
    pub(crate) fn name_of(&self, set: usize) -> Option<Arc<Path>> {
        (self.sets.len() > 1).then(|| Arc::clone(&self.sets[set].path))
    }

    /// Fills in the fields that summarize all file sets.
    pub(crate) fn summed(&self) -> Self {
        let mut sum = self.clone();
        sum.leaf = sum.sets.first().and_then(|set| set.leaf.clone());
        sum.refused = sum.sets.iter().find_map(|set| set.refused.clone());
        sum.deferred_until = sum.sets.iter().filter_map(|set| set.deferred_until).min();
        let expiring = sum.sets.iter().filter_map(|set| set.expiring.as_ref());
        sum.expiring = expiring.min_by_key(|expiring| expiring.certificate.not_after).cloned();
        sum.differs_since = sum.sets.iter().filter_map(|set| set.differs_since).min();
        sum
    }
}

/// The last sign of life of the driver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// When the last snapshot ended, or when the driver began.
    at: Now,
    /// How long after that the next snapshot may end.
    within: Duration,
}

/// Polls without the end of a snapshot after which the driver counts as stalled.
const POLLS: u32 = 3;
/// The longest time of a snapshot that is allowed for the next one as well.
const SLOW: Duration = Duration::from_secs(60);

impl Progress {
    /// Records that a snapshot ended at `at` and took `took`, and that the next one begins within
    /// `poll`.
    ///
    /// A driver whose snapshots are slow (a network mount) is not stalled, so each poll counts with
    /// the time that a snapshot takes. That time counts up to [`SLOW`], so that a snapshot that
    /// hung for an hour does not excuse another hour.
    pub(crate) fn new(at: Now, poll: Duration, took: Duration) -> Self {
        Self { at, within: poll.saturating_add(took.min(SLOW)).saturating_mul(POLLS) }
    }

    /// When a snapshot ended last, or when the driver was started or began.
    pub(crate) fn at(self) -> Now {
        self.at
    }

    /// Records that a driver begins at `at`, unless a snapshot of a manual reload has ended since.
    pub(crate) fn begun(self, at: Now) -> Self {
        if at.mono > self.at.mono { Self { at, ..self } } else { self }
    }

    /// Returns since when, by the wall clock, no snapshot has ended, if that is too long for `now`.
    pub(crate) fn stalled_since(&self, now: Now) -> Option<Duration> {
        (now.mono.saturating_sub(self.at.mono) > self.within).then_some(self.at.wall)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn at(mono: u64) -> Now {
        Now { mono: Duration::from_secs(mono), wall: Duration::from_secs(1_000_000 + mono) }
    }

    /// Engine: generated, exhaustive: every set of seconds at which a snapshot ends, asked at every
    /// second.
    #[test]
    fn inv15_stalled_is_longer_than_three_polls_without_a_snapshot() {
        const SECONDS: u64 = 14;
        let (mut asked, mut stalled) = (0, 0);
        for (poll, took) in [(1, 0), (2, 0), (1, 1), (3, 1)] {
            let [poll, took] = [poll, took].map(Duration::from_secs);
            for ends in 0..1_u64 << SECONDS {
                let mut progress = Progress::new(at(0), poll, Duration::ZERO);
                let mut last = (0, 3 * poll.as_secs());
                for second in 0..SECONDS {
                    if ends & 1 << second != 0 {
                        progress = Progress::new(at(second), poll, took);
                        last = (second, 3 * (poll + took).as_secs());
                    }
                    let wanted = (second - last.0 > last.1).then(|| at(last.0).wall);
                    assert_eq!(progress.stalled_since(at(second)), wanted, "{ends:b} at {second} s");
                    asked += 1;
                    stalled += u64::from(wanted.is_some());
                }
            }
        }
        assert!(asked > 900_000 && stalled > 10_000, "{stalled} of {asked}");
    }

    #[test]
    fn inv15_the_wall_clock_neither_hides_nor_shows_a_stall() {
        let progress = Progress::new(at(100), Duration::from_secs(10), Duration::ZERO);
        for wall in [0, 1_000_100, u32::MAX.into()].map(Duration::from_secs) {
            let asked = |mono| progress.stalled_since(Now { mono: Duration::from_secs(mono), wall });
            assert_eq!(asked(130), None, "{wall:?}");
            assert_eq!(asked(131), Some(at(100).wall), "{wall:?}");
            // The caller's clock reading is older than the end of the snapshot.
            assert_eq!(asked(99), None, "{wall:?}");
        }
        // A poll without an end is no stall, and neither is a driver that begins anew.
        let never = Progress::new(at(100), crate::clock::LONGEST, Duration::MAX);
        assert_eq!(never.stalled_since(Now { mono: crate::clock::LONGEST, ..at(0) }), None);
        // A hang of an hour counts as a minute.
        let slow = Progress::new(at(100), Duration::from_secs(10), Duration::from_secs(3600));
        assert_eq!(slow.stalled_since(at(100 + 3 * 70)), None);
        assert_eq!(slow.stalled_since(at(101 + 3 * 70)), Some(at(100).wall));
        assert_eq!(progress.begun(at(500)).stalled_since(at(530)), None);
        assert_eq!(progress.begun(at(500)).stalled_since(at(531)), Some(at(500).wall));
        assert_eq!(progress.begun(at(90)).stalled_since(at(131)), Some(at(100).wall));
    }
}
