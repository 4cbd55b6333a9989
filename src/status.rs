//! The state of a reloader, to be asked at any time.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{error::Error, event::Leaf, expiry::Expiring};

/// What is served, what is refused and how the files are watched.
///
/// It is never ahead of what a new handshake gets, and is up to date as soon as a publication is visible. Times are
/// since the Unix epoch, by the wall clock.
///
/// Where there are several sets, `leaf` is the first set's and `served_since` is when the last of them changed; `refused`
/// is the first set's that is refused, `held_until` the nearest date and `differs_since` the earliest time: all is well only
/// where all of them are `None`. [`sets`](Self::sets) has each by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The generation served.
    pub generation: u64,
    /// The leaf served.
    pub leaf: Option<Leaf>,
    /// When it was published.
    pub served_since: Duration,
    /// The latest generation that trusts somebody no longer who was trusted before; `None` if there was none.
    pub shrunk: Option<u64>,
    /// What is refused at present, from when that is told until its end is.
    pub refused: Option<Refused>,
    /// The date that a valid candidate waits for.
    pub held_until: Option<Duration>,
    /// Since when the files differ from what is served, or cannot be read.
    pub differs_since: Option<Duration>,
    /// The leaf served whose end is near or over, at the last look; of several the one that ends first.
    pub expiring: Option<Expiring>,
    /// Each set by itself, in the order in which they were given.
    pub sets: Vec<SetStatus>,
    /// Whether a driver runs.
    pub running: bool,
    /// Why file events are missing and since when, while they are.
    pub degraded: Option<(Error, Duration)>,
    /// The directories watched.
    pub watched: Vec<PathBuf>,
    /// Directories that lead to the files and may be searched but not read: nobody can watch them, so that a change of the
    /// way through them waits for the poll.
    pub unwatched: Vec<PathBuf>,
    /// When the files were last looked at.
    pub last_look: Duration,
    /// Looks so far.
    pub looks: u64,
    /// Builds so far.
    pub builds: u64,
}

/// One set of files.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetStatus {
    /// Its first path.
    pub path: Arc<Path>,
    /// The leaf served of it.
    pub leaf: Option<Leaf>,
    /// The generation that it was changed in last.
    pub generation: u64,
    /// When that was published.
    pub served_since: Duration,
    /// As [`Status::refused`].
    pub refused: Option<Refused>,
    /// As [`Status::held_until`].
    pub held_until: Option<Duration>,
    /// As [`Status::differs_since`].
    pub differs_since: Option<Duration>,
    /// As [`Status::expiring`].
    pub expiring: Option<Expiring>,
}

/// A refusal that was told and stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// By which layer, about which file, why.
    pub error: Error,
    /// When it was told.
    pub since: Duration,
    /// How often it was met, the first time included.
    pub count: u64,
}

impl Status {
    /// The latest generation that shrank the trust, if it came after this one.
    pub(crate) fn shrunk_after(&self, generation: u64) -> Option<u64> {
        self.shrunk.filter(|shrunk| *shrunk > generation)
    }

    /// The status right after the first load of these sets.
    pub(crate) fn first(sets: impl Iterator<Item = (Arc<Path>, Option<Leaf>)>, wall: Duration) -> Self {
        let set = |(path, leaf)| SetStatus {
            path,
            leaf,
            generation: 1,
            served_since: wall,
            refused: None,
            held_until: None,
            differs_since: None,
            expiring: None,
        };
        let sets: Vec<_> = sets.map(set).collect();
        let count = sets.len() as u64;
        Self {
            generation: 1,
            leaf: None,
            served_since: wall,
            shrunk: None,
            refused: None,
            held_until: None,
            differs_since: None,
            expiring: None,
            sets,
            running: false,
            degraded: None,
            watched: Vec::new(),
            unwatched: Vec::new(),
            last_look: wall,
            looks: count,
            builds: count,
        }
    }

    /// What an event calls a set, where there are several.
    pub(crate) fn name_of(&self, set: usize) -> Option<Arc<Path>> {
        (self.sets.len() > 1).then(|| Arc::clone(&self.sets[set].path))
    }

    /// The same with what it says of all sets together.
    pub(crate) fn summed(&self) -> Self {
        let mut sum = self.clone();
        sum.leaf = sum.sets.first().and_then(|set| set.leaf.clone());
        sum.refused = sum.sets.iter().find_map(|set| set.refused.clone());
        sum.held_until = sum.sets.iter().filter_map(|set| set.held_until).min();
        let expiring = sum.sets.iter().filter_map(|set| set.expiring.as_ref());
        sum.expiring = expiring.min_by_key(|near| near.certificate.not_after).cloned();
        sum.differs_since = sum.sets.iter().filter_map(|set| set.differs_since).min();
        sum
    }
}
