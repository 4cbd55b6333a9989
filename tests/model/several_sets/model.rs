//! The reference model of several sets: a few rules over all of them, which share no code with the
//! engine.
//!
//! A set is a place on disk, a served content and some memory of the reports. The rules know no
//! file event, no thread and no delay. They determine what each set serves and reports after a
//! snapshot, and the state of the whole.

use std::{collections::BTreeSet, sync::Arc};

use rustls_reload::Layer;

/// The digest of a leaf.
pub type Digest = [u8; 32];

/// Seconds before the end of a leaf at which the end is reported, the longest first.
pub const THRESHOLDS: [u64; 2] = [2 * DAY, DAY];
/// Seconds of a day.
pub const DAY: u64 = 86_400;

/// A leaf: the digest, and the first and the last second of its validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dates {
    pub digest: Digest,
    pub from: u64,
    pub to: u64,
}

/// The content of a set's files.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Equal only for equal bytes.
    pub number: u64,
    /// The layer that refuses the content, whatever else is served.
    pub flaw: Option<Layer>,
    pub leaf: Option<Dates>,
    /// The server names of a pair.
    pub names: BTreeSet<&'static str>,
    /// The authorities of accepted clients.
    pub trusted: BTreeSet<&'static str>,
    /// The clients that are refused although their authority is trusted.
    pub revoked: BTreeSet<&'static str>,
    pub files: Vec<(&'static str, Vec<u8>)>,
}

/// A report about one set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Published {
        old: Option<Digest>,
        new: Option<Digest>,
        recovered: bool,
    },
    Warned(Layer),
    Refused(Layer),
    Recovered,
    Deferred(u64),
    Expiring(u64),
    Expired,
    /// May be reported or not: a retry may come before or after a step that reports the end of the
    /// replaced leaf.
    Perhaps(Box<Fact>),
}

/// The answer to a manual reload, for one set or for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Refused by this set.
    Refused(usize),
    Reloaded,
    Deferred(u64),
    Unchanged,
}

/// The decision about a content, given everything that is served.
enum Fate {
    Served { warned: bool },
    Deferred(u64),
    Refused(Layer),
}

/// One set.
#[derive(Clone, Debug)]
pub struct Set {
    /// `None` while a file is missing.
    pub disk: Option<Arc<Content>>,
    pub served: Arc<Content>,
    /// The reported refusal that stands: its layer, and the number of its content or directory.
    pub refused: Option<(Layer, u64)>,
    /// The number of directories so far, because the report of a missing file names its directory.
    directories: u64,
    pub deferred: Option<u64>,
    /// The content and the date of the last reported deferral.
    deferral: Option<(u64, u64)>,
    /// Whether trouble was reported and its end was not.
    owes: bool,
    pub differs: bool,
    /// Whether the difference, and the refusal, began since the last comparison.
    pub fresh: [bool; 2],
    /// The last reported threshold before the end; `None` inside once the leaf has expired.
    pub nearing: Option<Option<u64>>,
    /// The number of thresholds that were reported of the served leaf.
    level: usize,
    /// Whether the watcher refuses to watch further directories of the set.
    pub cut: bool,
    armed: bool,
    pub fault: bool,
    /// The reports since the last comparison.
    pub facts: Vec<Fact>,
    /// The reports about the end of the served leaf, which each step may make. The time of a retry
    /// is beyond the model.
    pub ends: Vec<Fact>,
}

/// All sets, and their state together.
#[derive(Clone, Debug)]
pub struct Model {
    pub sets: Vec<Set>,
    pub running: bool,
    /// The wall clock, in seconds.
    pub wall: u64,
    /// The number of the epoch in which sessions are made.
    pub epoch: u64,
    pub degraded: bool,
    /// Whether the verification of clients has changed since the last comparison, and whether that
    /// excludes a client.
    pub verifies_anew: [bool; 2],
}

impl Model {
    /// Returns the model after the first load of these contents.
    pub fn new(contents: &[Arc<Content>], wall: u64) -> Self {
        let set = |content: &Arc<Content>| Set {
            disk: Some(Arc::clone(content)),
            served: Arc::clone(content),
            refused: None,
            directories: 0,
            deferred: None,
            deferral: None,
            owes: false,
            differs: false,
            fresh: [false; 2],
            nearing: None,
            level: 0,
            cut: false,
            armed: false,
            fault: false,
            facts: Vec::new(),
            ends: Vec::new(),
        };
        let sets = contents.iter().map(set).collect();
        let mut model =
            Self { sets, running: false, wall, epoch: 1, degraded: false, verifies_anew: [false; 2] };
        (0..contents.len()).for_each(|set| model.note_end(set));
        model
    }

    /// Replaces the directory of a set.
    pub fn put(&mut self, set: usize, content: Option<Arc<Content>>) {
        let own = &mut self.sets[set];
        (own.disk, own.armed) = (content, false);
        own.directories += 1;
    }

    /// Takes snapshots of every set until nothing changes, because the decision about one may
    /// depend on what another serves.
    pub fn settle(&mut self) {
        for _ in 0..=self.sets.len() {
            for set in 0..self.sets.len() {
                self.snapshot(set);
            }
        }
    }

    /// Takes one snapshot of each set in order, and returns the answer for all.
    pub fn reload(&mut self) -> Answer {
        let answers: Vec<_> = (0..self.sets.len()).map(|set| self.snapshot(set)).collect();
        let refused = answers.iter().find(|answer| matches!(answer, Answer::Refused(_)));
        let nearest = answers.iter().filter_map(|answer| match answer {
            Answer::Deferred(date) => Some(*date),
            _ => None,
        });
        match (refused, answers.contains(&Answer::Reloaded), nearest.min()) {
            (Some(refused), ..) => *refused,
            (None, true, _) => Answer::Reloaded,
            (None, false, Some(date)) => Answer::Deferred(date),
            (None, false, None) => Answer::Unchanged,
        }
    }

    /// Stops: no directory is watched, and nothing is published until a start.
    pub fn stop(&mut self) {
        (self.running, self.degraded) = (false, false);
        self.sets.iter_mut().for_each(|set| (set.armed, set.fault) = (false, false));
    }

    fn snapshot(&mut self, set: usize) -> Answer {
        self.arm(set);
        let disk = self.sets[set].disk.clone();
        let answer = match disk {
            None => self.refuse(set, (Layer::Read, self.sets[set].directories)),
            Some(content) if content.number == self.sets[set].served.number => self.rest(set),
            Some(content) => match self.fate(set, &content) {
                Fate::Refused(layer) => self.refuse(set, (layer, content.number)),
                Fate::Deferred(date) => self.defer(set, content.number, date),
                Fate::Served { warned } => self.publish(set, content, warned),
            },
        };
        self.note_end(set);
        answer
    }

    fn arm(&mut self, set: usize) {
        if !self.running {
            return;
        }
        let own = &mut self.sets[set];
        own.armed |= !own.cut;
        own.fault = !own.armed;
        self.degraded = self.sets.iter().any(|set| set.fault);
    }

    /// Handles that the served bytes are on disk.
    fn rest(&mut self, set: usize) -> Answer {
        let own = &mut self.sets[set];
        if own.owes {
            own.facts.push(Fact::Recovered);
        }
        (own.refused, own.deferred, own.deferral) = (None, None, None);
        (own.owes, own.differs) = (false, false);
        Answer::Unchanged
    }

    fn refuse(&mut self, set: usize, cause: (Layer, u64)) -> Answer {
        let own = &mut self.sets[set];
        if own.refused != Some(cause) {
            own.facts.push(Fact::Refused(cause.0));
            (own.deferral, own.fresh[1]) = (None, true);
        }
        (own.refused, own.deferred) = (Some(cause), None);
        own.fresh[0] |= !own.differs;
        (own.owes, own.differs) = (true, true);
        Answer::Refused(set)
    }

    fn defer(&mut self, set: usize, number: u64, date: u64) -> Answer {
        let own = &mut self.sets[set];
        if own.deferral != Some((number, date)) {
            own.facts.push(Fact::Deferred(date));
        }
        (own.refused, own.deferred, own.deferral) = (None, Some(date), Some((number, date)));
        own.fresh[0] |= !own.differs;
        own.differs = true;
        Answer::Deferred(date)
    }

    fn publish(&mut self, set: usize, content: Arc<Content>, warned: bool) -> Answer {
        let known = self.sets[set].ends.len();
        self.note_end(set);
        let own = &mut self.sets[set];
        if let Some(end) = own.ends.pop_if(|_| known == 0) {
            own.ends.push(Fact::Perhaps(Box::new(end)));
        }
        let digest = |content: &Content| content.leaf.map(|leaf| leaf.digest);
        let recovered = std::mem::take(&mut own.owes);
        let (old, new) = (digest(&own.served), digest(&content));
        own.facts.push(Fact::Published { old, new, recovered });
        own.facts.extend(warned.then_some(Fact::Warned(Layer::Validity)));
        let (was, is) = (&own.served, &content);
        let verifies_anew = (&was.trusted, &was.revoked) != (&is.trusted, &is.revoked);
        let shuts_out = !was.trusted.is_subset(&is.trusted) || !is.revoked.is_subset(&was.revoked);
        self.verifies_anew[0] |= verifies_anew;
        self.verifies_anew[1] |= shuts_out;
        self.epoch += u64::from(was.names != is.names || verifies_anew);
        own.served = content;
        (own.refused, own.deferred, own.deferral) = (None, None, None);
        (own.differs, own.level) = (false, 0);
        Answer::Reloaded
    }

    fn fate(&self, set: usize, content: &Content) -> Fate {
        if let Some(layer) = content.flaw {
            return Fate::Refused(layer);
        }
        let Some(new) = content.leaf else { return Fate::Served { warned: false } };
        let (is_early, is_over) = (self.wall < new.from, self.wall > new.to);
        // Only the set's own leaf decides.
        let served = self.sets[set].served.leaf;
        let is_worse = served.is_some_and(|served| self.wall <= served.to && new.to < served.to);
        if is_over && is_worse {
            return Fate::Refused(Layer::Validity);
        }
        let others = self.sets.iter().enumerate().skip(1).filter(|(other, _)| *other != set);
        let is_held = |(_, other): (usize, &Set)| !other.served.names.is_disjoint(&content.names);
        if set > 0 && others.into_iter().any(is_held) {
            return Fate::Refused(Layer::Names);
        }
        if is_early { Fate::Deferred(new.from) } else { Fate::Served { warned: is_over } }
    }

    /// Reports each threshold before the end of the served leaf once.
    fn note_end(&mut self, set: usize) {
        let wall = self.wall;
        let own = &mut self.sets[set];
        let Some(leaf) = own.served.leaf else { return };
        let passed = THRESHOLDS.iter().filter(|before| wall + **before >= leaf.to).count();
        let level = if wall > leaf.to { THRESHOLDS.len() + 1 } else { passed };
        let within = |level: usize| THRESHOLDS.get(level - 1).copied();
        own.nearing = (level > 0).then(|| within(level));
        if level > own.level {
            own.level = level;
            own.ends.push(within(level).map_or(Fact::Expired, Fact::Expiring));
        }
    }

    /// Returns the set whose leaf a client with this server name, or without one, gets; `None` for
    /// a client that is refused.
    pub fn answering(&self, name: Option<&str>, strict: bool) -> Option<usize> {
        let exactly = |name: &str, set: &Set| set.served.names.contains(name);
        let behind_wildcard = |name: &str, set: &Set| {
            name.split_once('.').is_some_and(|(_, parent)| exactly(&format!("*.{parent}"), set))
        };
        let find = |name: &str| {
            let mut further = self.sets.iter().enumerate().skip(1);
            let exact = further.clone().find(|(_, set)| exactly(name, set));
            exact.or_else(|| further.find(|(_, set)| behind_wildcard(name, set))).map(|(place, _)| place)
        };
        let default = || {
            let own = |name| exactly(name, &self.sets[0]) || behind_wildcard(name, &self.sets[0]);
            (!strict || name.is_some_and(own)).then_some(0)
        };
        name.and_then(find).or_else(default)
    }
}
