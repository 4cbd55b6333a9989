//! What a watcher reports to, and which units that concerns.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    fs::{FOLDS_CASE, same_name},
    snapshot::is_listed,
    sync::{Mutex, MutexGuard, lock},
};

/// What a watcher reports to. It filters, and wakes the driver; it does nothing else.
#[derive(Clone)]
pub struct Hints {
    pub(super) interest: Arc<Mutex<Interest>>,
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
    /// Nothing is heard while this says so.
    #[cfg(feature = "testkit")]
    pub(super) muted: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

/// Who is concerned by what, and what has been told and not been taken yet.
#[derive(Default)]
pub(super) struct Interest {
    /// By the path of a directory in which names were looked up.
    pub(super) places: HashMap<PathBuf, Concerned>,
    /// Watched directories that were removed, moved or replaced: the watch on them is dead or elsewhere.
    pub(super) stale: HashSet<PathBuf>,
    pub(super) all_stale: bool,
    hinted: BTreeSet<usize>,
    all_hinted: bool,
    /// Why the watcher hears nothing any more.
    pub(super) ended: Option<&'static str>,
    /// Nobody listens yet, or any more.
    pub(super) over: bool,
}

/// The units that a directory and its names concern.
#[derive(Default)]
pub(super) struct Concerned {
    pub(super) units: Units,
    pub(super) names: HashMap<OsString, Units>,
    /// Those that each name concerns that does not begin with a dot.
    pub(super) listing: Units,
}

impl Concerned {
    /// The units that a name concerns, in the walk's spelling of it.
    fn named(&self, name: &OsStr) -> Option<&Units> {
        let other = || self.names.iter().find(|(known, _)| same_name(known, name)).map(|(_, units)| units);
        self.names.get(name).or_else(|| FOLDS_CASE.then(other).flatten())
    }
}

/// The place at `path`, and its path in the walk's spelling of the last name: that of its parent is the watch's own.
fn spelled<'a>(places: &'a HashMap<PathBuf, Concerned>, path: &Path) -> Option<(&'a PathBuf, &'a Concerned)> {
    let same = |known: &Path| {
        let names = known.file_name().zip(path.file_name());
        known.parent() == path.parent() && names.is_some_and(|(known, name)| same_name(known, name))
    };
    let place = places.get_key_value(path);
    place.or_else(|| FOLDS_CASE.then(|| places.iter().find(|(known, _)| same(known))).flatten())
}

/// A few units, in order: most directories and names concern one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Units(Vec<usize>);

impl Units {
    /// Whether it was not there.
    pub(super) fn insert(&mut self, unit: usize) -> bool {
        let place = self.0.binary_search(&unit);
        if let Err(place) = place {
            self.0.insert(place, unit);
        }
        place.is_err()
    }

    pub(super) fn remove(&mut self, unit: usize) {
        if let Ok(place) = self.0.binary_search(&unit) {
            self.0.remove(place);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn others(&self, unit: usize) -> impl Iterator<Item = usize> {
        self.0.iter().copied().filter(move |other| *other != unit)
    }
}

/// The units that events were about.
pub(crate) enum Hinted {
    All,
    Some(BTreeSet<usize>),
}

impl Hints {
    /// Reports to `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            interest: Arc::default(),
            wake: Arc::new(wake),
            #[cfg(feature = "testkit")]
            muted: None,
        }
    }

    /// The same for a watcher that is to miss events: what happens while `muted` is lost and nothing says so.
    #[cfg(feature = "testkit")]
    #[must_use]
    pub fn muted_while(&self, muted: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { muted: Some(Arc::new(muted)), ..self.clone() }
    }

    /// Something happened to `path`; `moved` if it may have been created, removed or renamed.
    pub fn touched(&self, path: &Path, moved: bool) {
        #[cfg(feature = "testkit")]
        if self.muted.as_ref().is_some_and(|muted| muted()) {
            return;
        }
        let known = {
            let Interest { places, stale, hinted, over, .. } = &mut *lock(&self.interest);
            let dir = spelled(places, path);
            if let Some((path, _)) = dir.filter(|_| moved) {
                stale.insert(path.clone());
            }
            let dir = dir.map(|(_, place)| &place.units);
            let place = path.parent().and_then(|dir| places.get(dir)).zip(path.file_name());
            let name = place.and_then(|(place, name)| place.named(name));
            let listing = place.filter(|(place, name)| !place.listing.is_empty() && is_listed(name));
            let listing = listing.map(|(place, _)| &place.listing);
            let known = !*over && (dir.is_some() || name.is_some() || listing.is_some());
            hinted.extend(dir.into_iter().chain(name).chain(listing).flat_map(|units| &units.0));
            known
        };
        if known {
            (self.wake)();
        }
    }

    /// Events were lost, or the watcher failed: anything may have happened, to the watches as well.
    pub fn lost(&self) {
        let over = {
            let mut interest = self.interest();
            (interest.all_stale, interest.all_hinted) = (true, true);
            interest.over
        };
        if !over {
            (self.wake)();
        }
    }

    /// The watcher has ended and hears nothing any more, whatever it answers: it is dropped, that is told, the files are
    /// polled, and another is made, later each time.
    pub fn ended(&self, why: &'static str) {
        self.interest().ended.get_or_insert(why);
        self.lost();
    }

    pub(super) fn interest(&self) -> MutexGuard<'_, Interest> {
        lock(&self.interest)
    }

    /// Hashes everything that the next reports depend on, in an order of its own.
    #[cfg(feature = "testkit")]
    pub(super) fn digest(&self, mut state: &mut dyn std::hash::Hasher) {
        use std::{collections::BTreeMap, hash::Hash};
        self.pending(state);
        let interest = self.interest();
        let names = |place: &Concerned| {
            let names: BTreeMap<OsString, Units> =
                place.names.iter().map(|(name, units)| (name.clone(), units.clone())).collect();
            (place.units.clone(), place.listing.clone(), names)
        };
        let places: BTreeMap<_, _> = interest.places.iter().map(|(dir, place)| (dir, names(place))).collect();
        places.hash(&mut state);
    }

    /// Hashes what has been told and not been taken or seen to yet.
    #[cfg(feature = "testkit")]
    pub(crate) fn pending(&self, mut state: &mut dyn std::hash::Hasher) {
        use std::hash::Hash;
        let Interest { places: _, stale, all_stale, hinted, all_hinted, ended, over } = &*self.interest();
        let stale: BTreeSet<_> = stale.iter().collect();
        (stale, all_stale, hinted, all_hinted, ended, over).hash(&mut state);
    }

    /// What was told since the last time.
    pub(super) fn take(&self) -> Hinted {
        let mut interest = self.interest();
        let hinted = std::mem::take(&mut interest.hinted);
        if std::mem::take(&mut interest.all_hinted) { Hinted::All } else { Hinted::Some(hinted) }
    }
}
