//! The inputs of the machine and its effects: all that it and the driver exchange.

use std::time::Duration;

use crate::read::walk::ChangeKind;

/// Identifies what the driver read: equal numbers mean equal bytes of a file set that has not
/// moved.
pub type ContentId = u64;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<E> {
    /// An event says that the files changed. It may be wrong (INV-06).
    Hint,
    /// Time passed.
    Tick,
    /// A caller asks for a reload and asserts that the writing is over.
    Reload,
    /// Whether the files are watched; without that, polling is faster.
    Watching(bool),
    /// A snapshot ended.
    SnapshotTaken(ReadOutcome<E>),
    /// A build ended.
    Built(Verdict<E>),
    /// The driver stops: nothing may be published any more.
    Stop,
}

/// The outcome of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome<E> {
    /// The files hold the served bytes.
    Served,
    /// The files hold other bytes.
    Changed {
        /// The number of what was read.
        content: ContentId,
        /// How far the change can be trusted to be complete.
        kind: ChangeKind,
        /// The candidate only lacks an end of the served bytes.
        shrinks: bool,
    },
    /// The files moved while they were read.
    Torn {
        /// The file that moved, and how.
        cause: E,
        /// The previous snapshot was torn in the same way, and nothing moved from then until now.
        still: bool,
    },
    /// A file could not be read.
    Failed(E),
}

/// The outcome of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<E> {
    /// Every check passed.
    Valid,
    /// Every check passed except the date: valid from this time on, since the Unix epoch by the
    /// wall clock.
    NotYet(Duration),
    /// A check rejected it.
    Refused(E),
}

/// An action for the driver. Effects are carried out in the order of the returned list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<E> {
    /// Take a snapshot and answer with [`Input::SnapshotTaken`].
    TakeSnapshot,
    /// Run every check over the content read last and answer with [`Input::Built`].
    Build(ContentId),
    /// Publish the value that was built last.
    Publish {
        /// The number of its content.
        content: ContentId,
        /// A problem was reported, and this publication ends it.
        recovered: bool,
    },
    /// Report a notice.
    Report(Notice<E>),
    /// Answer every caller that asked for a reload before the last snapshot began.
    Answer(Answer<E>),
}

/// A fact to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice<E> {
    /// A rejection that was not reported yet.
    Refused(E),
    /// The rejected files, or the endless change, have gone, and the served bytes are on disk
    /// again.
    Recovered,
    /// A valid file set is deferred until this time, since the Unix epoch.
    Deferred(Duration),
    /// The files have been changing for longer than [`Timing::still_changing_after`](super::Timing::still_changing_after).
    StillChanging,
}

/// The answer to a manual reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<E> {
    /// A new generation is published.
    Reloaded,
    /// The files hold the served bytes.
    Unchanged,
    /// The files hold a valid file set, deferred until this time, since the Unix epoch.
    Deferred(Duration),
    /// The files were rejected; the served value stays served.
    Refused(E),
}
