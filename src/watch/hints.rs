//! The reports of a watcher, and the file sets that they concern.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    fs::{FOLDS_CASE, same_name},
    read::snapshot::is_listed,
    report::steps,
    sync::{Mutex, MutexGuard, lock},
};

/// Paths that are traced for one wake-up of the driver.
const TRACED_LIMIT: usize = 16;

/// Receives the reports of a [`Watcher`](super::Watcher).
///
/// A report is filtered, and wakes the driver if it concerns a file set; nothing else happens.
/// Clones report to the same driver.
#[derive(Clone)]
pub struct Hints {
    pub(super) subscriptions: Arc<Mutex<Subscriptions>>,
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Hints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hints").finish_non_exhaustive()
    }
}

/// The subscriptions of the file sets, and the reports that were not taken yet.
#[derive(Default)]
pub(super) struct Subscriptions {
    /// By the path of a directory in which names were looked up.
    pub(super) places: HashMap<PathBuf, Subscribers>,
    /// Watched directories that were removed, moved or replaced: their watches are dead or
    /// elsewhere.
    pub(super) stale: HashSet<PathBuf>,
    pub(super) all_stale: bool,
    pub(super) hinted: BTreeSet<usize>,
    /// The paths of the first reports that concerned a file set, for `tracing`.
    pub(super) traced: Vec<PathBuf>,
    pub(super) all_hinted: bool,
    /// The reason why the watcher has ended, if it has.
    pub(super) ended: Option<&'static str>,
    /// Whether reports wake nothing: the watcher is not made yet, or is dropped.
    pub(super) closed: bool,
}

/// The file sets that a directory and its names concern.
#[derive(Default)]
pub(super) struct Subscribers {
    pub(super) sets: SetIndices,
    pub(super) names: HashMap<OsString, SetIndices>,
    /// The file sets that every name concerns that does not begin with a dot.
    pub(super) listing: SetIndices,
}

impl Subscribers {
    /// Returns the file sets that a name concerns, which may be spelt in another case than in the
    /// walk.
    fn named(&self, name: &OsStr) -> Option<&SetIndices> {
        let other = || self.names.iter().find(|(known, _)| same_name(known, name)).map(|(_, sets)| sets);
        self.names.get(name).or_else(|| FOLDS_CASE.then(other).flatten())
    }
}

/// Returns the place at `path`, and its path with the last name as the walk spells it. The path of
/// its parent is spelt as in the watch.
fn spelled<'a>(
    places: &'a HashMap<PathBuf, Subscribers>,
    path: &Path,
) -> Option<(&'a PathBuf, &'a Subscribers)> {
    let same = |known: &Path| {
        let names = known.file_name().zip(path.file_name());
        known.parent() == path.parent() && names.is_some_and(|(known, name)| same_name(known, name))
    };
    let place = places.get_key_value(path);
    place.or_else(|| FOLDS_CASE.then(|| places.iter().find(|(known, _)| same(known))).flatten())
}

/// A few file sets, in order: most directories and names concern one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct SetIndices(Vec<usize>);

impl SetIndices {
    /// Adds a file set; returns whether it was absent.
    pub(super) fn insert(&mut self, set: usize) -> bool {
        let place = self.0.binary_search(&set);
        if let Err(place) = place {
            self.0.insert(place, set);
        }
        place.is_err()
    }

    pub(super) fn remove(&mut self, set: usize) {
        if let Ok(place) = self.0.binary_search(&set) {
            self.0.remove(place);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn others(&self, set: usize) -> impl Iterator<Item = usize> {
        self.0.iter().copied().filter(move |other| *other != set)
    }
}

/// The file sets that events concerned.
pub(crate) enum Hinted {
    All,
    Some(BTreeSet<usize>),
}

impl Hints {
    /// Makes hints that call `wake` for each report that concerns a file set.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { subscriptions: Arc::default(), wake: Arc::new(wake) }
    }

    /// Reports an event of `path`; `moved` says that it may have been created, removed or renamed.
    pub fn touched(&self, path: &Path, moved: bool) {
        let known = {
            let Subscriptions { places, stale, hinted, traced, closed, .. } = &mut *lock(&self.subscriptions);
            if *closed {
                return;
            }
            let dir = spelled(places, path);
            if let Some((path, _)) = dir.filter(|_| moved) {
                stale.insert(path.clone());
            }
            let dir = dir.map(|(_, place)| &place.sets);
            let place = path.parent().and_then(|dir| places.get(dir)).zip(path.file_name());
            let name = place.and_then(|(place, name)| place.named(name));
            let listing = place.filter(|(place, name)| !place.listing.is_empty() && is_listed(name));
            let listing = listing.map(|(place, _)| &place.listing);
            let known = dir.is_some() || name.is_some() || listing.is_some();
            hinted.extend(dir.into_iter().chain(name).chain(listing).flat_map(|sets| &sets.0));
            if known && cfg!(feature = "tracing") && traced.len() < TRACED_LIMIT {
                traced.push(path.to_owned());
            }
            known
        };
        if known {
            (self.wake)();
        }
    }

    /// Reports that events were lost or the watcher failed: anything may have happened, to the
    /// watches as well.
    pub fn lost(&self) {
        let over = {
            let mut subscriptions = self.subscriptions();
            (subscriptions.all_stale, subscriptions.all_hinted) = (true, true);
            subscriptions.closed
        };
        if !over {
            (self.wake)();
        }
    }

    /// Reports that the watcher has ended and receives no more events, whatever it returns.
    ///
    /// The driver drops the watcher, reports that, and polls the files. It makes another watcher
    /// after a delay that grows each time.
    pub fn ended(&self, why: &'static str) {
        self.subscriptions().ended.get_or_insert(why);
        self.lost();
    }

    /// Drops what is reported for as long as `muted`.
    pub(crate) fn mute(&self, muted: bool) {
        self.subscriptions().closed = muted;
    }

    pub(super) fn subscriptions(&self) -> MutexGuard<'_, Subscriptions> {
        lock(&self.subscriptions)
    }

    /// Returns the file sets that events concerned since the last call.
    pub(super) fn take(&self) -> Hinted {
        let mut subscriptions = self.subscriptions();
        let hinted = std::mem::take(&mut subscriptions.hinted);
        let (all, traced) =
            (std::mem::take(&mut subscriptions.all_hinted), std::mem::take(&mut subscriptions.traced));
        drop(subscriptions);
        // Only here: a subscriber of `tracing` must not hold up the watcher's thread.
        traced.iter().for_each(|path| steps::hint(path));
        if all {
            steps::lost();
        }
        if all { Hinted::All } else { Hinted::Some(hinted) }
    }
}
