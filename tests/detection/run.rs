//! One scenario in one world: the steps taken, the events expected, and the times measured.

use std::{collections::BTreeMap, time::Duration};

use rustls_reload::Layer;
use rustls_reload_testkit::Op;

use super::world::{Files, Reported, Set, World};

/// The time within which a complete set has to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// Committed by one rename: served at once.
    Commit,
    /// Committed, without a settle time and without a poll, but with further work on the way (a
    /// start) or too few samples for a bound in milliseconds.
    Soon,
    /// Written name by name: served once it was stable for the settle time.
    Settle,
    /// Committed without an event: served at the next poll.
    Poll,
    /// Written name by name without an event: served after a poll and the settle time.
    PollSettle,
    /// Committed while watching is known to fail: served at the next degraded poll.
    Degraded,
    /// Written name by name while watching is known to fail.
    DegradedSettle,
}

impl Pace {
    /// Returns the pace of a server whose port has no directory handles, for which no rename
    /// commits and every change has to settle.
    fn settled(self) -> Self {
        match self {
            Self::Commit | Self::Soon | Self::Settle => Self::Settle,
            Self::Poll | Self::PollSettle => Self::PollSettle,
            Self::Degraded | Self::DegradedSettle => Self::DegradedSettle,
        }
    }
}

/// A scenario in progress.
pub struct Run<'a> {
    pub world: &'a mut dyn World,
    pub rounds: u32,
    /// The set on disk.
    pub set: Set,
    /// The last number that was used.
    pub number: u32,
    pub settle: Duration,
    /// Whether the server holds directories open. Otherwise every change has to settle.
    pub handles: bool,
    pub expected: Vec<Reported>,
    pub took: BTreeMap<Pace, Vec<Duration>>,
    /// The times of the commits that the clock of the file system cannot distinguish from the last
    /// write before them.
    pub tied: Vec<Duration>,
    /// Whether the machine delayed the publisher beyond ASM-05, so that the run shows nothing.
    pub stalled: bool,
    troubled: bool,
}

impl<'a> Run<'a> {
    pub fn new(world: &'a mut dyn World, rounds: u32) -> Self {
        let settle = world.timing().settle;
        Self {
            world,
            rounds,
            set: Set::whole(1),
            number: 1,
            settle,
            handles: true,
            expected: Vec::new(),
            took: BTreeMap::new(),
            tied: Vec::new(),
            stalled: false,
            troubled: false,
        }
    }

    /// Performs the first load and the start. Only the start is reported.
    pub fn start(&mut self) {
        self.world.load();
        self.world.start();
        self.expected.push(Reported::Started);
    }

    /// Returns the next set, in which every part is new.
    pub fn next(&mut self) -> Set {
        self.number += 1;
        Set::whole(self.number)
    }

    pub fn files(&mut self, set: Set) -> Files {
        self.world.files(set)
    }

    /// Performs an update that is written name by name.
    pub fn write(&mut self, pace: Pace, set: Set, ops: &[Op]) {
        let since = self.steps(ops);
        self.served(pace, set, since);
    }

    /// Takes the steps of an update that is written name by name. Returns the time just before the
    /// last step.
    pub fn steps(&mut self, ops: &[Op]) -> Duration {
        let (last, rest) = ops.split_last().expect("a step");
        let begin = self.world.now();
        self.world.apply(rest);
        let since = self.world.now();
        self.world.apply(std::slice::from_ref(last));
        // A longer pause could pass for stable files, or for missing ones.
        self.stalled |= self.world.now() - begin > self.settle * 4 / 5;
        since
    }

    /// Performs an update that its last rename commits.
    pub fn commit(&mut self, pace: Pace, set: Set, ops: &[Op]) {
        let since = self.moved(ops);
        let tied = self.handles && self.tied(ops);
        let took = self.served(pace, set, since);
        if tied {
            self.tied.push(took);
            self.took.get_mut(&pace).expect("just taken").pop();
        }
    }

    /// Takes the steps of an update that its last rename commits. Returns the time just before that
    /// rename.
    pub fn moved(&mut self, ops: &[Op]) -> Duration {
        let (before, after) = ops.split_at(commit_of(ops));
        self.world.apply(before);
        self.world.tick();
        let since = self.world.now();
        self.world.apply(after);
        since
    }

    fn tied(&self, ops: &[Op]) -> bool {
        let (before, after) = ops.split_at(commit_of(ops));
        // The rename changes the link itself too, so the link is left out.
        let beneath = before.iter().filter(|op| !matches!(op, Op::Symlink(..)));
        let newest = beneath.filter_map(|op| self.world.changed(op)).max();
        newest >= self.world.changed(&after[0])
    }

    /// Waits until the set is served, which was complete at `since`. Returns how long that took.
    pub fn served(&mut self, pace: Pace, set: Set, since: Duration) -> Duration {
        self.world.wait_served(set);
        let pace = if self.handles { pace } else { pace.settled() };
        let took = self.world.now() - since;
        // A publisher that was held up may have completed the set long before its last step.
        if pace == Pace::Settle && !self.stalled {
            assert!(took >= self.settle, "served after {took:?}: it did not settle");
        }
        self.took.entry(pace).or_default().push(took);
        self.set = set;
        self.expected.push(Reported::Published { recovered: std::mem::take(&mut self.troubled) });
        took
    }

    /// Waits until the refusal of the files on disk is reported. The served set stays.
    pub fn refused(&mut self, layer: Layer) {
        self.reported(Reported::Refused(layer));
        self.troubled = true;
        let published =
            self.expected.iter().filter(|reported| matches!(reported, Reported::Published { .. })).count();
        assert_eq!(self.world.published(), published as u64, "published while nothing was to be");
        assert!(self.world.serves(self.set), "{:?} is not served any more", self.set);
    }

    pub fn reported(&mut self, reported: Reported) {
        self.world.wait_reported(&reported);
        self.expected.push(reported);
    }
}

fn commit_of(ops: &[Op]) -> usize {
    ops.iter().rposition(|op| matches!(op, Op::Rename(..))).expect("a rename that commits")
}
