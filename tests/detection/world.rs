//! What a scenario needs of a world, be it the real one or a simulated one.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rustls_reload::{Event, Layer, Reload, Status, Timing};
use rustls_reload_testkit::Op;

use super::watcher::Fate;

/// Chain, key and client CAs, by what they are made of.
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
    /// Of one number all through.
    pub fn whole(number: u32) -> Self {
        Self { leaf: number, key: number, issuer: number, ca: number }
    }
}

/// The bytes of chain, key and client CAs.
pub type Files = [Vec<u8>; 3];

/// What was told, without the words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Started,
    Published {
        recovered: bool,
    },
    Refused(Layer),
    Degraded,
    Restored,
    /// Client CAs went with what was published: no matter of detection, and passed over.
    TrustReduced,
    /// Nothing of this kind is expected of any scenario.
    Else(String),
}

impl From<&Event> for Told {
    fn from(event: &Event) -> Self {
        match event {
            Event::Started => Self::Started,
            Event::Published { recovered, .. } => Self::Published { recovered: *recovered },
            Event::Refused { error, .. } => Self::Refused(error.layer()),
            Event::Degraded { .. } => Self::Degraded,
            Event::Restored => Self::Restored,
            Event::TrustReduced { .. } => Self::TrustReduced,
            event => Self::Else(event.to_string()),
        }
    }
}

/// A file system, a time, and a server whose files lie there.
pub trait World {
    /// The delays of the server.
    fn timing(&self) -> Timing;

    /// Where in the file system this path of a publisher is.
    fn at(&self, path: &str) -> PathBuf;

    /// The files of a set.
    fn files(&mut self, set: Set) -> Files;

    /// Time since the world began.
    fn now(&self) -> Duration;

    /// Takes these steps, one after the other and without a pause.
    fn apply(&mut self, ops: &[Op]);

    /// The same at some later moment, by whom that is handed to.
    fn later(&self, ops: Vec<Op>) -> Box<dyn FnOnce() + Send>;

    /// Returns when the clock of the file system has ticked.
    fn tick(&mut self);

    /// When an entry last changed, by the clock of the file system.
    fn changed(&self, op: &Op) -> Option<i128>;

    /// Somebody else takes these steps every so often from here on (without a pause if that is zero); nobody does once
    /// there are none.
    fn neighbour(&mut self, every: Duration, ops: Vec<Op>);

    /// How often the neighbour took its steps.
    fn disturbed(&self) -> u64;

    /// What becomes of the watching.
    fn fate(&self) -> &Fate;

    /// The first load, also after another server of these files has ended.
    fn load(&mut self);

    /// Starts the worker.
    fn start(&mut self);

    /// A reload by hand.
    fn reload(&mut self) -> Reload;

    /// Whether that is what a new client gets.
    fn serves(&mut self, set: Set) -> bool;

    /// Returns once that is what a new client gets.
    fn wait_served(&mut self, set: Set);

    /// Returns once this is told, whatever else was not heard before it.
    fn wait_told(&mut self, told: &Told);

    /// Lets so much time pass, or less if something is published; whether nothing was.
    fn idle(&mut self, time: Duration) -> bool;

    /// Lets so much time pass, in which nothing is published.
    fn pass(&mut self, time: Duration) {
        assert!(self.idle(time), "published while nothing was to be");
    }

    /// What the server says of itself.
    fn status(&self) -> Status;

    /// What was told so far, by all servers of this world.
    fn told(&mut self) -> Vec<Told>;

    /// Publications after the first loads.
    fn published(&self) -> u64;
}

/// The entry that a step puts in its place.
pub fn made(op: &Op) -> Option<&Path> {
    match op {
        Op::Mkdir(path) | Op::Create(path) | Op::Symlink(_, path) | Op::Rename(_, path) => Some(path),
        _ => None,
    }
}
