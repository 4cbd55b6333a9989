//! The state of a reloader, to be asked at any time.

use std::{path::PathBuf, time::Duration};

use crate::{error::Error, event::Leaf};

/// What is served, what is refused and how the files are watched.
///
/// It is never ahead of what a new handshake gets, and is up to date as soon as a publication is visible. Times are
/// since the Unix epoch, by the wall clock.
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

    /// The status right after the first load.
    pub(crate) fn first(leaf: Option<Leaf>, wall: Duration) -> Self {
        Self {
            generation: 1,
            leaf,
            served_since: wall,
            shrunk: None,
            refused: None,
            held_until: None,
            differs_since: None,
            running: false,
            degraded: None,
            watched: Vec::new(),
            unwatched: Vec::new(),
            last_look: wall,
            looks: 1,
            builds: 1,
        }
    }
}
