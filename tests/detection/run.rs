//! One scenario in one world: what was done, what was expected of it, how long it took.

use std::{collections::BTreeMap, time::Duration};

use rustls_reload::Layer;
use rustls_reload_testkit::Op;

use super::world::{Files, Set, Told, World};

/// How soon a set has to be served once it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// Committed by one rename: at once.
    Commit,
    /// Committed, and more is done on the way (a start), or too few of them to speak of milliseconds: no settle time and no
    /// poll.
    Soon,
    /// Written name by name: once it has held still.
    Settle,
    /// Committed, and no event tells: at the next poll.
    Poll,
    /// Written name by name, and no event tells.
    PollSettle,
    /// Committed, and the watching is known to fail: at the next poll, which is sooner then.
    Degraded,
    /// Written name by name, and the watching is known to fail.
    DegradedSettle,
}

impl Pace {
    /// The pace of a server whose port has no directory handles: nothing is committed, so all has to settle.
    fn settled(self) -> Self {
        match self {
            Self::Commit | Self::Soon | Self::Settle => Self::Settle,
            Self::Poll | Self::PollSettle => Self::PollSettle,
            Self::Degraded | Self::DegradedSettle => Self::DegradedSettle,
        }
    }
}

/// A scenario under way.
pub struct Run<'a> {
    pub world: &'a mut dyn World,
    pub rounds: u32,
    /// What is on disk.
    pub set: Set,
    /// The number used last.
    pub number: u32,
    pub settle: Duration,
    /// The server holds directories open; else every change has to settle.
    pub handles: bool,
    pub expected: Vec<Told>,
    pub took: BTreeMap<Pace, Vec<Duration>>,
    /// Of the commits those that the clock of the file system cannot tell from the last write before them.
    pub tied: Vec<Duration>,
    /// The machine held somebody up, so that nothing can be said: the publisher paused as ASM-05 says that it does not.
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

    /// The first load and the start, of which nothing is told but the start.
    pub fn start(&mut self) {
        self.world.load();
        self.world.start();
        self.expected.push(Told::Started);
    }

    /// The set that follows, new all through.
    pub fn next(&mut self) -> Set {
        self.number += 1;
        Set::whole(self.number)
    }

    pub fn files(&mut self, set: Set) -> Files {
        self.world.files(set)
    }

    /// An update that is written name by name.
    pub fn write(&mut self, pace: Pace, set: Set, ops: &[Op]) {
        let since = self.steps(ops);
        self.served(pace, set, since);
    }

    /// The steps of an update that is written name by name; returns the time just before the last.
    pub fn steps(&mut self, ops: &[Op]) -> Duration {
        let (last, rest) = ops.split_last().expect("a step");
        let begin = self.world.now();
        self.world.apply(rest);
        let since = self.world.now();
        self.world.apply(std::slice::from_ref(last));
        // What lasts for less cannot have held still, nor have been missing, for as long as is told.
        self.stalled |= self.world.now() - begin > self.settle * 4 / 5;
        since
    }

    /// An update that its last rename commits.
    pub fn commit(&mut self, pace: Pace, set: Set, ops: &[Op]) {
        let since = self.moved(ops);
        let tied = self.handles && self.tied(ops);
        let took = self.served(pace, set, since);
        if tied {
            self.tied.push(took);
            self.took.get_mut(&pace).expect("just taken").pop();
        }
    }

    /// The steps of an update that its last rename commits; returns the time just before that.
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
        // The link that is renamed changes with the rename.
        let beneath = before.iter().filter(|op| !matches!(op, Op::Symlink(..)));
        let newest = beneath.filter_map(|op| self.world.changed(op)).max();
        newest >= self.world.changed(&after[0])
    }

    /// Waits until the set is served, which was complete at `since`; returns how long that took.
    pub fn served(&mut self, pace: Pace, set: Set, since: Duration) -> Duration {
        self.world.wait_served(set);
        let pace = if self.handles { pace } else { pace.settled() };
        let took = self.world.now() - since;
        // Where the publisher was held up, it may have been complete long before its last step.
        if pace == Pace::Settle && !self.stalled {
            assert!(took >= self.settle, "served after {took:?}: it did not settle");
        }
        self.took.entry(pace).or_default().push(took);
        self.set = set;
        self.expected.push(Told::Published { recovered: std::mem::take(&mut self.troubled) });
        took
    }

    /// Waits until that is told of what is on disk; what was served goes on being served.
    pub fn refused(&mut self, layer: Layer) {
        self.told(Told::Refused(layer));
        self.troubled = true;
        let published = self.expected.iter().filter(|told| matches!(told, Told::Published { .. })).count();
        assert_eq!(self.world.published(), published as u64, "published while nothing was to be");
        assert!(self.world.serves(self.set), "{:?} is not served any more", self.set);
    }

    pub fn told(&mut self, told: Told) {
        self.world.wait_told(&told);
        self.expected.push(told);
    }
}

fn commit_of(ops: &[Op]) -> usize {
    ops.iter().rposition(|op| matches!(op, Op::Rename(..))).expect("a rename that commits")
}
