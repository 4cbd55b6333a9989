//! The answer to a manual reload, which every file set has a part in.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use crate::{
    decide::{file_set::Cause, machine::Answer},
    drive::shared::Reload,
};

/// Collects the answers of the file sets to a manual reload.
#[derive(Default)]
pub(super) struct Answers {
    /// File sets that have not answered yet.
    pub(super) asked: BTreeSet<usize>,
    given: BTreeMap<usize, Reload>,
}

impl Answers {
    /// Waits for the answers of this many file sets.
    pub(super) fn ask(&mut self, sets: usize) {
        self.asked.extend(0..sets);
    }

    /// Records the answer of one file set, and returns the answer of all once the last one has
    /// come.
    ///
    /// The first rejection stands for all. Without one, a reload does; without that, the nearest
    /// date that a file set is deferred until.
    pub(super) fn note(&mut self, set: usize, answer: Answer<Cause>) -> Option<Reload> {
        let new = match answer {
            Answer::Reloaded => Reload::Reloaded,
            Answer::Unchanged => Reload::Unchanged,
            Answer::Deferred(date) => Reload::Deferred(date),
            Answer::Refused(cause) => Reload::Refused(cause.error),
        };
        let old = self.given.insert(set, new);
        // A second reload was asked for before all file sets had answered the first. For the first
        // caller the file set was reloaded.
        if old == Some(Reload::Reloaded) && self.given.get(&set) == Some(&Reload::Unchanged) {
            self.given.insert(set, Reload::Reloaded);
        }
        self.asked.remove(&set);
        if !self.asked.is_empty() {
            return None;
        }
        let mut all = mem::take(&mut self.given).into_values();
        let first = all.next()?;
        Some(all.fold(first, |one, other| match (one, other) {
            (Reload::Refused(error), _) | (_, Reload::Refused(error)) => Reload::Refused(error),
            (Reload::Reloaded, _) | (_, Reload::Reloaded) => Reload::Reloaded,
            (Reload::Deferred(one), Reload::Deferred(other)) => Reload::Deferred(one.min(other)),
            (Reload::Deferred(date), _) | (_, Reload::Deferred(date)) => Reload::Deferred(date),
            (_, other) => other,
        }))
    }

    /// Waits for no answer any longer.
    pub(super) fn give_up(&mut self) {
        self.asked.clear();
        self.given.clear();
    }
}
