//! The records of what happened in a world.

use std::time::Duration;

use rustls_reload::Event;

use super::{Contents, OwnerAct};

/// One occurrence in a world; records are in order.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // reason: events are few among the records of a test
#[non_exhaustive]
pub enum Record {
    /// The publisher took the step with this index.
    Step(usize),
    /// The paths have these contents from here on.
    Disk(Contents),
    /// A build ended.
    Evaluated {
        /// The files that were built.
        files: Contents,
        /// Whether they passed.
        passed: bool,
    },
    /// The first load ended.
    Loaded(Result<(), String>),
    /// A value was published.
    Published {
        /// The generation's number.
        generation: u64,
        /// The files that it was built from.
        files: Contents,
    },
    /// An event was reported.
    Reported(Event),
    /// The value that a handshake gets now.
    Served {
        /// The generation's number.
        generation: u64,
        /// The identity of the object.
        object: usize,
        /// The files that it was built from.
        files: Contents,
    },
    /// The reader waits without a reason, or takes step after step at one instant.
    StopTimeout(&'static str),
    /// The owner of the reloader acted.
    Owner(OwnerAct),
    /// The owner's request has its answer, which may be a rejection or a stop.
    Answered {
        /// Whether the answer says that the contents of the disk are served.
        is_served: bool,
    },
    /// A reader without directory handles begins a snapshot.
    Snapshot,
    /// The answer to a question of such a reader, reduced to what it goes by; both are hashes.
    Observed {
        /// The call and its path.
        asked: u64,
        /// The kind, length, modification time and bytes of a file; of other entries their kind,
        /// target or names.
        seen: u64,
    },
    /// A mark with a number, whose meaning is up to the driver of the world.
    Mark(&'static str, usize),
}

/// A record with its monotonic time.
#[derive(Clone, Debug)]
pub struct At {
    /// The time.
    pub mono: Duration,
    /// The record.
    pub record: Record,
}
