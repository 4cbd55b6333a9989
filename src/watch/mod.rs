//! Decides which directories are watched, and which of their events count.
//!
//! The plan follows the walk: every directory in which a name of any path was looked up, up to the
//! root. It is derived anew after every snapshot. After a change of the plan another snapshot is
//! taken, because a watch has to be armed before the snapshot that relies on it. Events are hints
//! (INV-06): they decide only when to take a snapshot, and of which file set.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    path::{Path, PathBuf},
};

use crate::{
    fs::FileId,
    read::walk::WalkedDir,
    report::{
        error::{Error, Layer},
        steps,
    },
};

#[cfg(all(feature = "notify", not(loom)))]
mod events;
#[cfg(all(feature = "notify", not(loom)))]
pub(crate) use events::notify_watcher;
mod hints;
#[cfg(feature = "rustls")]
pub(crate) mod mounts;
mod plan;
mod port;
mod remote_fs;
mod state_hash;
mod watcher;
pub(crate) use hints::Hinted;
pub use hints::Hints;
use hints::{SetIndices, Subscribers};
pub(crate) use plan::{Planned, plan};
use port::Port;
pub(crate) use remote_fs::lacks_remote_events;
pub use watcher::{MakeWatcher, Watched, Watcher};

/// The watches in place, for all file sets together.
///
/// Two paths to one directory share one watch, and its events name the path that it was watched
/// under. A file set that walked the other path subscribes to the watched path. Each directory is
/// therefore watched under a path that some file set walks. Once no file set walks that path, the
/// watch is dropped. Its other subscribers then have to take a snapshot, after which they watch the
/// directory under a path of their own.
pub(crate) struct Watch {
    port: Port,
    hints: Hints,
    /// The directories that are or will be watched, by the path of their watch.
    places: BTreeMap<PathBuf, Place>,
    /// The path under which a directory is watched.
    by_id: HashMap<FileId, PathBuf>,
    /// The directories that each file set subscribes to.
    plans: Vec<Vec<Planned>>,
    /// Directories on the way to the files that cannot be watched. The poll finds their changes.
    denied: BTreeSet<PathBuf>,
}

/// A directory that some file set walks.
#[derive(Hash)]
struct Place {
    id: FileId,
    /// The file sets that walk this very path.
    walkers: SetIndices,
    /// `Some` if the directory is watched, with the kind of its file system if that does not report
    /// changes made elsewhere.
    armed: Option<Option<&'static str>>,
    /// Whether events were lost: the watch may be dead, or on a directory that is elsewhere now.
    needs_rearm: bool,
}

/// The result of arming the watches of one file set.
#[derive(Default)]
pub(crate) struct Armed {
    /// Whether a directory was watched anew, or a name counts that did not count before. A change
    /// just before may have been missed.
    pub(crate) new: bool,
    /// The directories that were watched anew.
    pub(crate) watched: Vec<PathBuf>,
    /// The directories that were unwatched. A directory whose watch was renewed is in both lists.
    pub(crate) unwatched: Vec<PathBuf>,
    /// Other file sets that have to take a snapshot: a directory that they subscribe to was watched
    /// anew or unwatched.
    pub(crate) others: BTreeSet<usize>,
    /// A directory that was gone when it was to be watched.
    pub(crate) gone: Option<PathBuf>,
    /// A fault of a directory that holds files or symlinks of the file set: it has no events, or no
    /// reliable ones.
    pub(crate) fault: Option<Error>,
}

impl Watch {
    pub(crate) fn new(
        make: &mut MakeWatcher,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let hints = Hints::new(wake);
        Ok(Self {
            port: Port::new(make, hints.clone())?,
            hints,
            places: BTreeMap::new(),
            by_id: HashMap::new(),
            plans: Vec::new(),
            denied: BTreeSet::new(),
        })
    }

    /// Returns the directories of the plan that cannot be watched although that is no fault.
    pub(crate) fn denied(&self) -> &BTreeSet<PathBuf> {
        &self.denied
    }

    /// Returns the reason why the watcher has ended, if it has.
    pub(crate) fn end(&self) -> Option<Error> {
        self.hints.subscriptions().ended.map(|why| Error::new(Layer::Watch, why))
    }

    /// Returns the file sets that events concerned since the last call.
    pub(crate) fn take_hinted(&self) -> Hinted {
        self.hints.take()
    }

    /// Makes the watches of one file set match this walk.
    ///
    /// 1. Unwatch the directories that events reported gone. If events were lost, mark all watches
    ///    to be renewed.
    /// 2. Find the path under which to watch each directory of the walk.
    /// 3. Subscribe to its names: from here on their events wake the driver.
    /// 4. Unwatch directories that no file set walks any more, and paths at which another directory
    ///    is now. This precedes step 5: the old directory may be watched next under another path,
    ///    and ending the old watch would end that one.
    /// 5. Watch each directory that is not watched, or whose watch is to be renewed.
    pub(crate) fn arm(&mut self, set: usize, walked: &[WalkedDir]) -> Armed {
        let mut armed = Armed::default();
        self.port.begin_update();
        self.drop_dead_watches(&mut armed);
        self.port.begin_update();
        let plan = plan(walked, |dir| self.shared(set, dir));
        if self.plans.len() <= set {
            self.plans.resize_with(set + 1, Vec::new);
        }
        armed.new = self.listen(set, &plan);
        let old = std::mem::take(&mut self.plans[set]);
        self.leave(set, &old, &plan, &mut armed);
        for planned in &plan {
            self.watch(set, planned, &mut armed);
        }
        self.plans[set] = plan;
        armed.others.remove(&set);
        armed
    }

    /// Step 1. A directory that was moved takes the directories beneath it along.
    fn drop_dead_watches(&mut self, armed: &mut Armed) {
        let (stale, all) = {
            let mut subscriptions = self.hints.subscriptions();
            (std::mem::take(&mut subscriptions.stale), std::mem::take(&mut subscriptions.all_stale))
        };
        let beneath = |dir: &Path| {
            let from = self.places.range::<Path, _>((Bound::Included(dir), Bound::Unbounded));
            from.map(|(path, _)| path).take_while(|path| path.starts_with(dir)).cloned().collect::<Vec<_>>()
        };
        let dropped: BTreeSet<PathBuf> = stale.iter().flat_map(|dir| beneath(dir)).collect();
        dropped.iter().for_each(|path| self.unwatch(path, armed));
        // Lost events make every file set take a snapshot. Nothing else goes through all places:
        // each poll of each of thousands of file sets would.
        if all {
            self.places.values_mut().for_each(|place| place.needs_rearm = true);
        }
    }

    /// Stops watching a directory. Its subscribers have to take a snapshot, because only that
    /// watches it again.
    fn unwatch(&mut self, path: &Path, armed: &mut Armed) {
        let Some(place) = self.places.get_mut(path) else { return };
        if place.armed.take().is_none() {
            return;
        }
        self.port.unwatch(path);
        steps::unwatched(path);
        armed.unwatched.push(path.to_owned());
        self.call_others(path, armed);
    }

    fn call_others(&self, path: &Path, armed: &mut Armed) {
        let subscriptions = self.hints.subscriptions();
        let sets = subscriptions.places.get(path).map(|subscribers| subscribers.sets.others(usize::MAX));
        armed.others.extend(sets.into_iter().flatten());
    }

    /// Returns the path under which another file set watches this directory.
    fn shared(&self, set: usize, dir: &WalkedDir) -> Option<&PathBuf> {
        let path = self.by_id.get(&dir.id)?;
        let place = self.places.get(path)?;
        let stands = place.armed.is_some() && place.walkers.others(set).next().is_some();
        (stands && place.id == dir.id).then_some(path)
    }

    /// Step 3. Returns whether a name counts that did not count before: an event of it was dropped.
    fn listen(&self, set: usize, plan: &[Planned]) -> bool {
        let mut subscriptions = self.hints.subscriptions();
        let mut grown = false;
        for planned in plan {
            let known = subscriptions.places.contains_key(&planned.path);
            if !known {
                subscriptions.places.insert(planned.path.clone(), Subscribers::default());
            }
            let Some(subscribers) = subscriptions.places.get_mut(&planned.path) else { continue };
            subscribers.sets.insert(set);
            grown |= planned.listed && subscribers.listing.insert(set);
            for name in &planned.names {
                grown |= match subscribers.names.get_mut(name) {
                    Some(sets) => sets.insert(set),
                    None => subscribers.names.entry(name.clone()).or_default().insert(set),
                };
            }
        }
        grown
    }

    /// Step 4, for the directories that the file set does not subscribe to any more and the paths
    /// at which another directory is now.
    fn leave(&mut self, set: usize, old: &[Planned], plan: &[Planned], armed: &mut Armed) {
        for left in old {
            let now = plan.iter().find(|planned| planned.path == left.path);
            let is_walked = !left.own || now.is_some_and(|now| now.own);
            self.forget(set, left, now);
            if is_walked {
                continue;
            }
            let Some(place) = self.places.get_mut(&left.path) else { continue };
            place.walkers.remove(set);
            if place.walkers.is_empty() {
                self.unwatch(&left.path, armed);
                self.call_others(&left.path, armed);
                // Another file set may have found another directory there since this one took its
                // snapshot.
                let last = self.places.remove(&left.path).map(|place| place.id);
                self.denied.remove(&left.path);
                [Some(left.id), last].into_iter().flatten().for_each(|id| self.forget_id(id, &left.path));
            }
        }
        for planned in plan.iter().filter(|planned| planned.own) {
            let Some(place) = self.places.get_mut(&planned.path) else { continue };
            let was = std::mem::replace(&mut place.id, planned.id);
            if was != planned.id {
                self.unwatch(&planned.path, armed);
                self.forget_id(was, &planned.path);
            }
        }
    }

    fn forget_id(&mut self, id: FileId, path: &Path) {
        if self.by_id.get(&id).is_some_and(|place| place == path) {
            self.by_id.remove(&id);
        }
    }

    /// Ends the file set's subscription to the names of `left` that are not in `now`.
    fn forget(&self, set: usize, left: &Planned, now: Option<&Planned>) {
        let mut subscriptions = self.hints.subscriptions();
        let Some(subscribers) = subscriptions.places.get_mut(&left.path) else { return };
        for name in left.names.iter().filter(|name| now.is_none_or(|now| !now.names.contains(*name))) {
            if let Some(sets) = subscribers.names.get_mut(name) {
                sets.remove(set);
                if sets.is_empty() {
                    subscribers.names.remove(name);
                }
            }
        }
        if now.is_none_or(|now| !now.listed) {
            subscribers.listing.remove(set);
        }
        if now.is_none() {
            subscribers.sets.remove(set);
            if subscribers.sets.is_empty() {
                subscriptions.places.remove(&left.path);
            }
        }
    }

    /// Step 5, for one directory of the plan.
    fn watch(&mut self, set: usize, planned: &Planned, armed: &mut Armed) {
        let Planned { path, only_traversed, own, .. } = planned;
        if *own {
            let place = self.places.entry(path.clone()).or_insert_with(|| Place {
                id: planned.id,
                walkers: SetIndices::default(),
                armed: None,
                needs_rearm: false,
            });
            place.walkers.insert(set);
        }
        let Some(place) = self.places.get_mut(path) else { return };
        let rearm = std::mem::take(&mut place.needs_rearm);
        let missing_events = match place.armed.filter(|_| !rearm) {
            Some(missing_events) => missing_events,
            None => {
                let watched = self.port.watch(path);
                if !matches!(watched, Ok(Watched::Armed | Watched::Silent(_))) {
                    self.unwatch(path, armed);
                }
                match watched {
                    Ok(Watched::Armed) => self.armed(planned, None, armed),
                    Ok(Watched::Silent(kind)) => self.armed(planned, Some(kind), armed),
                    Ok(Watched::Denied) if *only_traversed => {
                        self.denied.insert(path.clone());
                        return;
                    }
                    Ok(Watched::Denied) => {
                        let why = "the directory may be searched but not read, so it cannot be watched";
                        armed.fault = Some(Error::new(Layer::Watch, why).at(path));
                        return;
                    }
                    Ok(Watched::Gone) => {
                        armed.gone = Some(path.clone());
                        return;
                    }
                    Err(error) => {
                        armed.fault = Some(error);
                        return;
                    }
                }
            }
        };
        if let Some(kind) = missing_events.filter(|_| !only_traversed && armed.fault.is_none()) {
            let why = format!("{kind} does not report changes made elsewhere");
            armed.fault = Some(Error::new(Layer::Watch, why).at(path));
        }
    }

    fn armed(
        &mut self,
        planned: &Planned,
        missing_events: Option<&'static str>,
        armed: &mut Armed,
    ) -> Option<&'static str> {
        let Planned { path, id, names, listed, .. } = planned;
        steps::watched(path, names.iter(), *listed);
        if let Some(place) = self.places.get_mut(path) {
            place.armed = Some(missing_events);
        }
        self.by_id.insert(*id, path.clone());
        self.denied.remove(path);
        armed.new = true;
        armed.watched.push(path.clone());
        self.call_others(path, armed);
        missing_events
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
