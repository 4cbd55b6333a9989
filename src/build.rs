//! The step that makes a value of a set of files.

use std::{path::Path, time::Duration};

use crate::{
    error::{Error, Layer},
    event::{Leaf, Lost},
    snapshot::Files,
};

/// Makes published values of a set of files: parse, validate, rehearse.
///
/// It is called on the driver's thread, never while a lock is held, and may take its time: handshakes go on with what
/// is served. It gets bytes, not paths, so that what is checked is what is published (INV-01 (c)).
pub trait Build: Send + 'static {
    /// What is published.
    type Value: Send + Sync + 'static;

    /// Builds a value, with every check that there is. A panic counts as a refusal.
    ///
    /// # Errors
    /// The refusal, naming layer and path; what was served stays served.
    ///
    /// Where there are several sets, `files` is the one of them that has changed: see [`Context::set`].
    fn build(
        &mut self,
        files: &Files,
        context: &Context<'_, Self::Value>,
    ) -> Result<Built<Self::Value>, Error>;

    /// Builds the first whole of all sets, in their order. Any refusal refuses it.
    ///
    /// As it stands it builds them one after the other, each as a change of the whole before it: a build whose values are
    /// costly to copy makes the whole at once instead.
    ///
    /// # Errors
    /// The refusal, naming layer and path.
    fn first(&mut self, sets: &[Files], wall: Duration) -> Result<Whole<Self::Value>, Error> {
        let mut whole: Option<Whole<Self::Value>> = None;
        for (set, files) in sets.iter().enumerate() {
            let served = whole.as_ref().map(|whole| &whole.value);
            let Built { value, leaf, warnings, .. } = self.build(files, &Context { wall, served, set })?;
            let mut next = Whole::new(value);
            if let Some(before) = whole {
                (next.leaves, next.warnings) = (before.leaves, before.warnings);
            }
            next.leaves.push(leaf);
            next.warnings.extend(warnings);
            whole = Some(next);
        }
        whole.ok_or_else(|| Error::new(Layer::Settings, "no sets: there is nothing to load"))
    }

    /// Whether the candidate lacks only an end of what is served, as a write in progress does: such a set has to hold
    /// still for longer. `set` is as in [`Context::set`].
    fn shrinks(&self, set: usize, served: &Files, candidate: &Files) -> bool {
        let _ = set;
        lost_a_file(served, candidate)
            || same_paths(served, candidate).any(|(_, old, new)| lost_its_end(old, new))
    }
}

/// What a build may depend on besides the bytes.
#[derive(Debug)]
#[non_exhaustive]
pub struct Context<'a, T> {
    /// The wall clock, since the Unix epoch.
    pub wall: Duration,
    /// What is served; `None` at the first load. The new value takes everything of the other sets from it.
    pub served: Option<&'a T>,
    /// Which set the files are, of several.
    pub set: usize,
}

impl<'a, T> Context<'a, T> {
    /// For tests of a build step.
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
    /// What to tell of it.
    pub leaf: Option<Leaf>,
    /// What an operator should know of it.
    pub warnings: Vec<Error>,
    /// It must not be published before this time on the wall clock; ignored at the first load.
    pub not_before: Option<Duration>,
    /// Set where it trusts somebody no longer who is trusted by what is served; ignored at the first load.
    pub shrunk: Option<Shrunk>,
}

/// What a value trusts no longer; told once handshakes get it, as [`Event::TrustShrunk`](crate::Event::TrustShrunk).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// The number of the trust that begins with the value.
    pub epoch: u64,
    /// What has gone, as far as it has a name.
    pub lost: Vec<Lost>,
}

impl<T> Built<T> {
    /// A value of which there is nothing to tell.
    pub fn new(value: T) -> Self {
        Self { value, leaf: None, warnings: Vec::new(), not_before: None, shrunk: None }
    }
}

/// The first value of all sets.
#[derive(Debug)]
#[non_exhaustive]
pub struct Whole<T> {
    /// The value.
    pub value: T,
    /// What to tell of each set.
    pub leaves: Vec<Option<Leaf>>,
    /// What an operator should know of it.
    pub warnings: Vec<Error>,
}

impl<T> Whole<T> {
    /// A value of which there is nothing to tell.
    pub fn new(value: T) -> Self {
        Self { value, leaves: Vec::new(), warnings: Vec::new() }
    }
}

/// The files under one path in both, with their place in the first.
pub(crate) fn same_paths<'a>(
    old: &'a Files,
    new: &'a Files,
) -> impl Iterator<Item = (usize, &'a [u8], &'a [u8])> {
    let in_new = |path: &Path| new.iter().find(|(other, _)| *other == path);
    old.iter().enumerate().filter_map(move |(index, (path, bytes))| {
        // Most often it has kept its place.
        let same = new.get(index).filter(|(other, _)| *other == path).or_else(|| in_new(path));
        same.map(|(_, new)| (index, bytes, new))
    })
}

/// Whether files have gone from a directory and nothing has come in their place.
pub(crate) fn lost_a_file(old: &Files, new: &Files) -> bool {
    new.iter().count() < old.iter().count() && same_paths(new, old).count() == new.iter().count()
}

/// Whether `new` is `old` without its end.
#[must_use]
pub(crate) fn lost_its_end(old: &[u8], new: &[u8]) -> bool {
    new.len() < old.len() && old.starts_with(new)
}
