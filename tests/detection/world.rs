//! The operations that a scenario uses of a world, real or simulated.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rustls_reload::{Event, Layer, Reload, Status, Timing};
use rustls_reload_testkit::Op;

use super::watcher::Fate;

/// Chain, key and client CAs, identified by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Set {
    /// The number of the leaf. All leaves of a key have one length.
    pub leaf: u32,
    /// The number of the key, the leaf's own.
    pub key: u32,
    /// The number of the intermediate's certificate; its name and key are the same in all of them.
    pub issuer: u32,
    /// The number of the client CAs.
    pub ca: u32,
}

impl Set {
    /// Returns the set in which every part has this number.
    pub fn whole(number: u32) -> Self {
        Self { leaf: number, key: number, issuer: number, ca: number }
    }
}

/// The bytes of chain, key and client CAs.
pub type Files = [Vec<u8>; 3];

/// An event without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reported {
    Started,
    Published {
        recovered: bool,
    },
    Refused(Layer),
    Degraded,
    Restored,
    /// Client CAs were removed by a publication. The scenarios ignore this event.
    TrustReduced,
    /// An event that no scenario expects.
    Else(String),
}

impl From<&Event> for Reported {
    fn from(event: &Event) -> Self {
        match event {
            Event::Started { .. } => Self::Started,
            Event::Published { recovered, .. } => Self::Published { recovered: *recovered },
            Event::Refused { error, .. } => Self::Refused(error.layer()),
            Event::Degraded { .. } => Self::Degraded,
            Event::Restored => Self::Restored,
            Event::TrustReduced { .. } => Self::TrustReduced,
            event => Self::Else(event.to_string()),
        }
    }
}

/// A file system, a clock, and a server with its files on that file system.
pub trait World {
    /// The delays of the server.
    fn timing(&self) -> Timing;

    /// Returns the place in the file system of a publisher's path.
    fn at(&self, path: &str) -> PathBuf;

    /// Returns the files of a set.
    fn files(&mut self, set: Set) -> Files;

    /// Returns the time since the world began.
    fn now(&self) -> Duration;

    /// Takes these steps without pauses.
    fn apply(&mut self, ops: &[Op]);

    /// Returns a function that takes these steps when it is called.
    fn later(&self, ops: Vec<Op>) -> Box<dyn FnOnce() + Send>;

    /// Waits until the clock of the file system has ticked.
    fn tick(&mut self);

    /// Returns the time of the last change to an entry, by the clock of the file system.
    fn changed(&self, op: &Op) -> Option<i128>;

    /// Makes a neighbour repeat these steps at this interval from here on, without a pause if it is
    /// zero. Without steps, stops the neighbour.
    fn neighbour(&mut self, every: Duration, ops: Vec<Op>);

    /// Returns how often the neighbour has taken its steps.
    fn disturbed(&self) -> u64;

    /// Returns the control of the watcher.
    fn fate(&self) -> &Fate;

    /// Performs the first load. An earlier server of these files is ended.
    fn load(&mut self);

    /// Starts the worker.
    fn start(&mut self);

    /// Reloads manually.
    fn reload(&mut self) -> Reload;

    /// Returns whether a new client gets this set.
    fn serves(&mut self, set: Set) -> bool;

    /// Waits until a new client gets this set.
    fn wait_served(&mut self, set: Set);

    /// Waits until this event is reported, and passes over other events.
    fn wait_reported(&mut self, reported: &Reported);

    /// Lets this much time pass, or less if a set is published. Returns whether none was.
    fn idle(&mut self, time: Duration) -> bool;

    /// Lets this much time pass and asserts that nothing is published.
    fn pass(&mut self, time: Duration) {
        assert!(self.idle(time), "published while nothing was to be");
    }

    /// Returns the server's status.
    fn status(&self) -> Status;

    /// Returns the events so far, of all servers of this world.
    fn reported(&mut self) -> Vec<Reported>;

    /// Returns the number of publications after the first loads.
    fn published(&self) -> u64;
}

/// Returns the entry that a step creates or replaces.
pub fn made(op: &Op) -> Option<&Path> {
    match op {
        Op::Mkdir(path) | Op::Create(path) | Op::Symlink(_, path) | Op::Rename(_, path) => Some(path),
        _ => None,
    }
}
