//! Builds a value of a file set: the trait that an embedder implements, and its inputs and results.

use std::{path::Path, time::Duration};

use crate::{
    read::snapshot::Files,
    report::{
        error::{Error, Layer, Warning},
        event::{Leaf, RemovedTrust},
    },
};

/// Builds the published value of file sets: parses, validates, rehearses.
///
/// A build runs on the driver's thread, never while a lock is held, and may take its time:
/// handshakes go on with the served value. It gets bytes, not paths, so that the checked bytes are
/// the published bytes (INV-01 (c)).
pub trait Build: Send + 'static {
    /// The value that is published.
    type Value: Send + Sync + 'static;

    /// Builds a value of one file set and runs every check on it. A panic counts as a rejection.
    ///
    /// Where there are several file sets, `files` are those of the set that has changed: see
    /// [`Context::set`].
    ///
    /// # Errors
    /// The cause of the rejection, naming layer and path. The served value stays served.
    fn build(
        &mut self,
        files: &Files,
        context: &Context<'_, Self::Value>,
    ) -> Result<Built<Self::Value>, Error>;

    /// Builds the first value, of all file sets in their order. The rejection of one set rejects
    /// the whole.
    ///
    /// The default implementation calls [`build`](Self::build) once for each set, each time on top
    /// of the value that the sets before it made. A build whose values are costly to copy should
    /// override it and make the value at once.
    ///
    /// # Errors
    /// The cause of the rejection, naming layer and path; [`Layer::Settings`] where there is no
    /// file set.
    fn first(&mut self, sets: &[Files], wall: Duration) -> Result<InitialBuild<Self::Value>, Error> {
        let mut whole: Option<InitialBuild<Self::Value>> = None;
        for (set, files) in sets.iter().enumerate() {
            let served = whole.as_ref().map(|whole| &whole.value);
            let Built { value, leaf, warnings, .. } = self.build(files, &Context { wall, served, set })?;
            let mut next = InitialBuild::new(value);
            if let Some(before) = whole {
                (next.leaves, next.warnings) = (before.leaves, before.warnings);
            }
            next.leaves.push(leaf);
            next.warnings.extend(warnings);
            whole = Some(next);
        }
        whole.ok_or_else(|| Error::new(Layer::Settings, "no file sets: there is nothing to load"))
    }

    /// Returns whether the candidate only lacks an end of the served bytes, as a write in progress
    /// does. Such a file set has to be stable for longer
    /// ([`Timing::shrink_settle`](crate::Timing)). `set` is as in [`Context::set`].
    fn shrinks(&self, set: usize, served: &Files, candidate: &Files) -> bool {
        let _ = set;
        lost_a_file(served, candidate)
            || same_paths(served, candidate).any(|(_, old, new)| lost_its_end(old, new))
    }
}

/// Carries everything but the bytes that a build may depend on.
#[derive(Debug)]
#[non_exhaustive]
pub struct Context<'a, T> {
    /// The time by the wall clock, since the Unix epoch.
    pub wall: Duration,
    /// The served value; `None` at the first load. A build copies everything of the other sets from
    /// it.
    pub served: Option<&'a T>,
    /// The index of the file set, in the order in which the sets were given, the first being 0.
    pub set: usize,
}

impl<'a, T> Context<'a, T> {
    /// Makes a context of the first file set, for tests of a build step.
    #[must_use]
    pub fn new(wall: Duration, served: Option<&'a T>) -> Self {
        Self { wall, served, set: 0 }
    }
}

/// A value that passed every check.
#[derive(Debug)]
#[non_exhaustive]
pub struct Built<T> {
    /// The value.
    pub value: T,
    /// The leaf that events and the status show for the file set; `None` where there is none.
    pub leaf: Option<Leaf>,
    /// Warnings to report: facts that an operator should know and that reject nothing.
    pub warnings: Vec<Warning>,
    /// The value is not published before this time, since the Unix epoch by the wall clock. Ignored
    /// at the first load.
    pub not_before: Option<Duration>,
    /// Set where the value no longer trusts a peer that the served value trusts. Ignored at the
    /// first load.
    pub reduced_trust: Option<TrustReduction>,
}

/// The trust that a value has removed. Reported as
/// [`Event::TrustReduced`](crate::Event::TrustReduced) once handshakes get the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustReduction {
    /// The number of the trust epoch that begins with the value.
    pub epoch: u64,
    /// The removed trust, as far as it has a name.
    pub removed: Vec<RemovedTrust>,
}

impl<T> Built<T> {
    /// Makes a result without leaf, warnings or date.
    pub fn new(value: T) -> Self {
        Self { value, leaf: None, warnings: Vec::new(), not_before: None, reduced_trust: None }
    }
}

/// The first value, made of all file sets.
#[derive(Debug)]
#[non_exhaustive]
pub struct InitialBuild<T> {
    /// The value.
    pub value: T,
    /// The leaf of each file set, in the order of the sets; a missing entry counts as `None`.
    pub leaves: Vec<Option<Leaf>>,
    /// Warnings to report, as in [`Built::warnings`].
    pub warnings: Vec<Warning>,
}

impl<T> InitialBuild<T> {
    /// Makes a result without leaves or warnings.
    pub fn new(value: T) -> Self {
        Self { value, leaves: Vec::new(), warnings: Vec::new() }
    }
}

/// Pairs the files that have the same path in both file sets: the index in `old`, the old bytes,
/// the new bytes.
pub(crate) fn same_paths<'a>(
    old: &'a Files,
    new: &'a Files,
) -> impl Iterator<Item = (usize, &'a [u8], &'a [u8])> {
    let in_new = |path: &Path| new.iter().find(|(other, _)| *other == path);
    old.iter().enumerate().filter_map(move |(index, (path, bytes))| {
        // Most files keep their place; only the others are searched for.
        let same = new.get(index).filter(|(other, _)| *other == path).or_else(|| in_new(path));
        same.map(|(_, new)| (index, bytes, new))
    })
}

/// Returns whether files have gone from a directory and no file of another path has come.
pub(crate) fn lost_a_file(old: &Files, new: &Files) -> bool {
    new.iter().count() < old.iter().count() && same_paths(new, old).count() == new.iter().count()
}

/// Returns whether `new` is `old` without its end.
#[must_use]
pub(crate) fn lost_its_end(old: &[u8], new: &[u8]) -> bool {
    new.len() < old.len() && old.starts_with(new)
}
