//! Decides which directories are watched, and which of their events count.
//!
//! The plan follows the walk: every directory in which a name of any path was looked up, up to the
//! root. It is derived anew after every snapshot. After a change of the plan another snapshot is
//! taken, because a watch has to be armed before the snapshot that relies on it. Events are hints
//! (INV-06): they decide only when to take a snapshot, and of which file set.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::OsString,
    ops::Bound,
    path::{Path, PathBuf},
};

use crate::{
    fs::FileId,
    read::walk::WalkedDir,
    report::error::{Error, Layer},
};

#[cfg(all(feature = "notify", not(loom)))]
mod events;
#[cfg(all(feature = "notify", not(loom)))]
pub(crate) use events::notify_watcher;
mod hints;
mod port;
mod remote_fs;
mod state_hash;
pub(crate) use hints::Hinted;
pub use hints::Hints;
use hints::{SetIndices, Subscribers};
use port::Port;
pub(crate) use remote_fs::lacks_remote_events;

/// The result of watching a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Watched {
    /// Events of the directory are reported.
    Armed,
    /// Events are reported, but a file system of this kind is known not to report changes that are
    /// made elsewhere.
    Silent(&'static str),
    /// The directory may be searched but not read, so that this user cannot watch it.
    Denied,
    /// The directory does not exist any more.
    Gone,
}

/// Watches directories, not their subdirectories, and reports events to the [`Hints`] that it was
/// made with.
pub trait Watcher: Send {
    /// Watches `dir`.
    ///
    /// A `dir` that is watched already has to be watched at the directory that is there now, and
    /// not at one that was there before. If both are the same, keep the watch: inotify takes 10 ms
    /// to end and begin it, and microseconds to find it in place. A symlink at `dir` is not
    /// followed: the result is [`Watched::Gone`].
    ///
    /// # Errors
    /// [`Layer::Watch`], with the directory.
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error>;

    /// Stops watching `dir`. A directory that is not watched any more is no error.
    fn unwatch(&mut self, dir: &Path);

    /// Called at the start of each plan update, once before and once after dead watches are
    /// dropped. Does nothing by default.
    ///
    /// Ends of watches that were reported before the first call returns are handled in this update.
    /// Events that are reported after the second call returns count by the names of the new walk.
    fn begin_update(&mut self) {}
}

/// Makes a watcher that reports to the given hints.
///
/// It is called at each start, so that a stop frees the watcher's thread and descriptors, and again
/// some time after a watcher has ended by itself.
pub type MakeWatcher = Box<dyn FnMut(Hints) -> Result<Box<dyn Watcher>, Error> + Send>;

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

/// A directory that a file set subscribes to.
#[derive(Hash)]
pub(crate) struct Planned {
    /// The path that it is watched under.
    pub(crate) path: PathBuf,
    id: FileId,
    names: BTreeSet<OsString>,
    /// As [`WalkedDir::only_traversed`].
    only_traversed: bool,
    /// Whether every name counts that does not begin with a dot.
    listed: bool,
    /// Whether the file set walks this very path.
    own: bool,
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
        // Lost events make every file set take a snapshot.
        self.places.values_mut().for_each(|place| place.needs_rearm |= all);
    }

    /// Stops watching a directory. Its subscribers have to take a snapshot, because only that
    /// watches it again.
    fn unwatch(&mut self, path: &Path, armed: &mut Armed) {
        let Some(place) = self.places.get_mut(path) else { return };
        if place.armed.take().is_none() {
            return;
        }
        self.port.unwatch(path);
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
        let Planned { path, id, .. } = planned;
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

/// Returns where to watch each directory of a walk. `shared` returns the path under which a
/// directory is watched already. Two paths to one directory would share one watch, and its events
/// would name either path.
pub(crate) fn plan<'a>(
    walked: &'a [WalkedDir],
    shared: impl Fn(&WalkedDir) -> Option<&'a PathBuf>,
) -> Vec<Planned> {
    let mut plan: Vec<Planned> = Vec::with_capacity(walked.len());
    for dir in walked {
        let knowable = dir.id.ino != 0;
        let own = plan.iter().find(|planned| knowable && planned.own && planned.id == dir.id);
        let path = match own {
            Some(planned) => planned.path.clone(),
            None => shared(dir).filter(|_| knowable).unwrap_or(&dir.path).clone(),
        };
        let own = path == dir.path;
        match plan.iter_mut().find(|planned| planned.path == path) {
            Some(planned) => {
                planned.names.extend(dir.names.iter().cloned());
                planned.only_traversed &= dir.only_traversed;
                planned.listed |= dir.listed.is_some();
                planned.own |= own;
            }
            None => plan.push(Planned {
                own,
                path,
                id: dir.id,
                names: dir.names.clone(),
                only_traversed: dir.only_traversed,
                listed: dir.listed.is_some(),
            }),
        }
    }
    plan
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use super::*;
    use crate::{
        fs::FileId,
        sync::{Mutex, lock},
    };

    struct Nothing;

    impl Watcher for Nothing {
        fn watch(&mut self, _: &Path) -> Result<Watched, Error> {
            Ok(Watched::Armed)
        }

        fn unwatch(&mut self, _: &Path) {}
    }

    fn walked(names: &[&str]) -> Vec<WalkedDir> {
        let names = names.iter().map(Into::into).collect();
        vec![WalkedDir {
            path: "/d".into(),
            id: FileId { dev: 1, ino: 2 },
            names,
            only_traversed: false,
            listed: None,
        }]
    }

    /// Checks: INV-05.
    ///
    /// An event of a name that did not count yet was dropped, so that another snapshot is needed.
    #[test]
    fn inv05_a_name_that_begins_to_count_asks_for_another_look() {
        let mut make: MakeWatcher = Box::new(|_| Ok(Box::new(Nothing)));
        let Ok(mut watch) = Watch::new(&mut make, || {}) else { panic!("a watcher") };
        assert!(watch.arm(0, &walked(&["link", "a"])).new);
        assert!(!watch.arm(0, &walked(&["link", "a"])).new);
        assert!(watch.arm(0, &walked(&["link", "b"])).new);
        assert!(!watch.arm(0, &walked(&["link"])).new, "fewer names are no news");
    }

    /// Checks: INV-12.
    ///
    /// Writes to a neighbouring file, however many, cause no snapshot.
    #[test]
    fn inv12_an_event_of_a_name_that_was_not_looked_up_wakes_nobody() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let woken = Arc::new(AtomicUsize::new(0));
        let (count, place) = (Arc::clone(&woken), Arc::new(Mutex::new(None)));
        let keep = Arc::clone(&place);
        let mut make: MakeWatcher = Box::new(move |hints| {
            *lock(&keep) = Some(hints);
            Ok(Box::new(Nothing) as Box<dyn Watcher>)
        });
        let wake = move || {
            count.fetch_add(1, Ordering::SeqCst);
        };
        let mut watch = Watch::new(&mut make, wake).expect("a watch");
        watch.arm(0, &walked(&["tls.crt"]));
        let hints = lock(&place).clone().expect("the hints of the watcher");
        for (path, wakes) in
            [("/d/neighbour", 0), ("/d/tls.crt.tmp", 0), ("/e/tls.crt", 0), ("/d/tls.crt", 1), ("/d", 2)]
        {
            hints.touched(Path::new(path), true);
            assert_eq!(woken.load(Ordering::SeqCst), wakes, "{path}");
        }
    }

    /// Records its calls; `/gone` does not exist.
    struct Noting(Arc<Mutex<Vec<String>>>);

    impl Watcher for Noting {
        fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
            lock(&self.0).push(format!("watch {}", dir.display()));
            Ok(if dir == Path::new("/gone") { Watched::Gone } else { Watched::Armed })
        }

        fn unwatch(&mut self, dir: &Path) {
            lock(&self.0).push(format!("unwatch {}", dir.display()));
        }
    }

    fn noting() -> (Watch, Arc<Mutex<Vec<String>>>) {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&notes);
        let mut make: MakeWatcher = Box::new(move |_| Ok(Box::new(Noting(Arc::clone(&keep)))));
        (Watch::new(&mut make, || {}).expect("a watch"), notes)
    }

    fn dir(path: &str, ino: u64, name: &str) -> WalkedDir {
        let names = BTreeSet::from([name.into()]);
        WalkedDir {
            path: path.into(),
            id: FileId { dev: 1, ino },
            names,
            only_traversed: false,
            listed: None,
        }
    }

    fn taken(notes: &Mutex<Vec<String>>) -> Vec<String> {
        std::mem::take(&mut *lock(notes))
    }

    /// Checks: INV-05.
    ///
    /// A change of the directory between the end of the old watch and the new one is missed.
    #[test]
    fn inv05_a_directory_that_is_watched_anew_asks_for_another_look() {
        let (mut watch, notes) = noting();
        let walked = [dir("/d", 2, "a")];
        assert!(watch.arm(0, &walked).new);
        assert!(!watch.arm(0, &walked).new);
        taken(&notes);
        watch.hints.touched(Path::new("/d"), true);
        assert!(watch.arm(0, &walked).new, "the same names, after the directory moved");
        assert_eq!(taken(&notes), ["unwatch /d", "watch /d"]);
        watch.hints.lost();
        assert!(watch.arm(0, &walked).new, "the same names, after events were lost");
        assert_eq!(taken(&notes), ["watch /d"]);
        assert!(!watch.arm(0, &walked).new, "it is certain now");
        // A directory that is not walked any more is unwatched, also after events were lost.
        watch.hints.lost();
        watch.arm(0, &[dir("/e", 3, "link")]);
        assert_eq!(taken(&notes), ["unwatch /d", "watch /e"]);
    }

    /// Reports an end of the watch on `/d`, and a change in it, at each call about a plan update.
    struct Restless(Hints, Arc<Mutex<Vec<String>>>);

    impl Watcher for Restless {
        fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
            lock(&self.1).push(format!("watch {}", dir.display()));
            Ok(Watched::Armed)
        }

        fn unwatch(&mut self, dir: &Path) {
            lock(&self.1).push(format!("unwatch {}", dir.display()));
        }

        fn begin_update(&mut self) {
            lock(&self.1).push("plans".to_owned());
            self.0.touched(Path::new("/d"), true);
        }
    }

    /// Checks: INV-05.
    ///
    /// A watch may end between the last operation of a snapshot and the arming. An end that is
    /// reported before dead watches are dropped is handled at once, and a later end in the next
    /// update.
    #[test]
    fn inv05_a_watch_that_ends_as_it_is_armed_is_armed_anew_or_looked_at_again() {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&notes);
        let mut make: MakeWatcher =
            Box::new(move |hints| Ok(Box::new(Restless(hints, Arc::clone(&keep))) as Box<dyn Watcher>));
        let mut watch = Watch::new(&mut make, || {}).expect("a watch");
        let walked = [dir("/d", 2, "a")];
        watch.arm(0, &walked);
        assert_eq!(taken(&notes), ["plans", "plans", "watch /d"]);
        assert!(watch.arm(0, &walked).new, "it ended before the first was buried");
        assert_eq!(taken(&notes), ["plans", "unwatch /d", "plans", "watch /d"]);
        assert!(watch.hints.subscriptions().stale.contains(Path::new("/d")), "and once more after that");
    }

    /// Checks: INV-05.
    ///
    /// A second watch of one inode replaces the first one's path, and ending it ends both.
    #[test]
    fn inv05_a_directory_under_two_paths_is_watched_once_and_under_one_name() {
        let (mut watch, notes) = noting();
        watch.arm(0, &[dir("/one", 2, "crt"), dir("/two", 2, "key")]);
        assert_eq!(taken(&notes), ["watch /one"]);
        assert_eq!(hinted(&watch, "/one/crt"), [0], "events name the path that is watched");
        assert_eq!(hinted(&watch, "/one/key"), [0], "events name the path that is watched");
        assert_eq!(hinted(&watch, "/two/key"), [0; 0]);
    }

    /// Checks: INV-12.
    ///
    /// A directory that moved away still exists, and so would its watch.
    #[test]
    fn inv12_a_directory_that_is_left_is_watched_no_longer() {
        let (mut watch, notes) = noting();
        watch.arm(0, &[dir("/v", 2, "link"), dir("/v/1", 3, "crt")]);
        taken(&notes);
        let armed = watch.arm(0, &[dir("/v", 2, "link"), dir("/v/2", 4, "crt")]);
        assert_eq!(taken(&notes), ["unwatch /v/1", "watch /v/2"]);
        assert!(armed.new);
        assert_eq!((armed.watched, armed.unwatched), (vec!["/v/2".into()], vec!["/v/1".into()]));
    }

    /// Checks: INV-05, INV-11.
    ///
    /// A directory that is gone when it is to be watched is reported, so that another snapshot is
    /// taken.
    #[test]
    fn inv05_a_directory_that_is_gone_when_it_is_to_be_watched_is_named() {
        let (mut watch, _) = noting();
        let armed = watch.arm(0, &[dir("/gone", 2, "crt")]);
        assert_eq!(armed.gone.as_deref(), Some(Path::new("/gone")));
        assert!(armed.fault.is_none() && armed.watched.is_empty());
    }

    /// Arms a watch whose watcher returns this result for `/d`; returns the watch and the fault.
    fn answered(answer: Watched, walked: &[WalkedDir]) -> (Watch, Option<String>) {
        struct Answering(Watched);

        impl Watcher for Answering {
            fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
                Ok(if dir == Path::new("/d") { self.0 } else { Watched::Armed })
            }

            fn unwatch(&mut self, _: &Path) {}
        }

        let mut make: MakeWatcher = Box::new(move |_| Ok(Box::new(Answering(answer))));
        let mut watch = Watch::new(&mut make, || {}).expect("a watch");
        let fault = watch.arm(0, walked).fault.map(|fault| fault.to_string());
        (watch, fault)
    }

    /// Checks: INV-11.
    ///
    /// A directory on the way that may only be searched is no fault. A directory that holds the
    /// files and has no events is one, even if another path only traverses it.
    #[test]
    fn inv11_a_directory_without_events_is_a_fault_unless_it_only_leads_to_the_files() {
        let only_traversed = |dir| WalkedDir { only_traversed: true, ..dir };
        let on_the_way = [only_traversed(dir("/d", 2, "link"))];
        let holds = [dir("/d", 2, "crt")];
        let both = [only_traversed(dir("/d", 2, "link")), dir("/two", 2, "crt")];
        let (watch, fault) = answered(Watched::Denied, &on_the_way);
        assert_eq!((watch.denied(), fault), (&BTreeSet::from(["/d".into()]), None));
        for walked in [&holds[..], &both] {
            let (watch, fault) = answered(Watched::Denied, walked);
            let why = "watch: /d: the directory may be searched but not read, so it cannot be watched";
            assert_eq!((watch.denied(), fault.as_deref()), (&BTreeSet::new(), Some(why)));
        }
        assert_eq!(answered(Watched::Silent("NFS"), &on_the_way).1, None);
        for walked in [&holds[..], &both] {
            let (watch, fault) = answered(Watched::Silent("NFS"), walked);
            let why = "watch: /d: NFS does not report changes made elsewhere";
            assert_eq!((watch.denied(), fault.as_deref()), (&BTreeSet::new(), Some(why)));
        }
    }

    /// Checks: INV-11.
    ///
    /// One fault is reported. A directory without events is worse than one that may miss some.
    #[test]
    fn inv11_a_directory_that_cannot_be_watched_is_told_before_one_that_may_be_silent() {
        struct Faulty;

        impl Watcher for Faulty {
            fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
                Ok(if dir == Path::new("/silent") { Watched::Silent("NFS") } else { Watched::Denied })
            }

            fn unwatch(&mut self, _: &Path) {}
        }

        let [denied, silent] = [dir("/denied", 2, "crt"), dir("/silent", 3, "key")];
        for walked in [[denied.clone(), silent.clone()], [silent, denied]] {
            let mut make: MakeWatcher = Box::new(|_| Ok(Box::new(Faulty)));
            let mut watch = Watch::new(&mut make, || {}).expect("a watch");
            let fault = watch.arm(0, &walked).fault.expect("a fault");
            assert_eq!(fault.path(), Some(Path::new("/denied")), "{fault}");
        }
    }

    /// Checks: INV-05.
    ///
    /// Another directory is now where the directory of another file set was, and its events say
    /// nothing about that set.
    #[test]
    fn inv05_a_directory_that_has_moved_is_not_listened_to_where_it_was() {
        let (mut watch, notes) = noting();
        watch.arm(0, &[dir("/d", 2, "crt")]);
        watch.arm(0, &[dir("/d", 3, "crt")]);
        taken(&notes);
        watch.arm(1, &[dir("/e", 2, "key")]);
        assert_eq!(taken(&notes), ["watch /e"]);
        assert_eq!(hinted(&watch, "/e/key"), [1]);
        assert_eq!(hinted(&watch, "/d/key"), [0; 0]);
    }

    /// Checks: INV-12.
    ///
    /// Each rotation of a Kubernetes volume has a directory of its own, and each rename into place
    /// has another inode number.
    #[test]
    fn inv12_nothing_is_kept_of_the_directories_of_earlier_rotations() {
        let (mut watch, _) = noting();
        for round in 0..100 {
            let payload = dir(&format!("/v/..{round}"), 1_000 + round, "crt");
            watch.arm(0, &[dir("/v", 1, "link"), payload, dir("/renamed", 2_000 + round, "ca")]);
        }
        let heard = watch.hints.subscriptions().places.len();
        assert_eq!((watch.places.len(), watch.by_id.len(), heard), (3, 3, 3));
        watch.arm(0, &[]);
        let heard = watch.hints.subscriptions().places.len();
        assert_eq!((watch.places.len(), watch.by_id.len(), heard), (0, 0, 0));
    }

    /// Checks: INV-05, INV-12.
    ///
    /// Where every file counts, an added name is a change, under whichever path the directory is
    /// walked. Names that begin with a dot, which writers and Kubernetes use for themselves, are
    /// not.
    #[test]
    fn inv05_every_name_without_a_dot_wakes_where_every_file_counts() {
        let (mut watch, _) = noting();
        let listed = |dir| WalkedDir { listed: Some(1), ..dir };
        watch.arm(0, &[dir("/d", 2, "a")]);
        watch.arm(1, &[dir("/d", 2, "a")]);
        assert_eq!(hinted(&watch, "/d/new"), [0; 0]);
        assert!(watch.arm(0, &[listed(dir("/d", 2, "a"))]).new, "an event of another name was dropped");
        assert!(!watch.arm(0, &[listed(dir("/d", 2, "a"))]).new);
        assert_eq!(hinted(&watch, "/d/new"), [0]);
        assert_eq!(hinted(&watch, "/d/.new"), [0; 0]);
        watch.arm(0, &[dir("/d", 2, "a")]);
        assert_eq!(hinted(&watch, "/d/new"), [0; 0], "not any more");
        let [one, two] = [dir("/one", 3, "a"), dir("/two", 3, "b")];
        for walked in [[one.clone(), listed(two.clone())], [listed(one), two]] {
            watch.arm(0, &walked);
            assert_eq!(hinted(&watch, "/one/new"), [0]);
        }
    }

    /// The search of interleavings merges states with equal digests.
    #[test]
    fn watches_that_act_differently_have_different_digests() {
        use std::hash::{DefaultHasher, Hasher};

        use crate::probe::StateHash;
        let digest = |watch: &Watch| {
            let mut state = DefaultHasher::new();
            watch.hash_state(&mut state);
            state.finish()
        };
        let (mut watch, _) = noting();
        let mut seen = vec![digest(&watch)];
        watch.arm(0, &[dir("/d", 2, "a")]);
        seen.push(digest(&watch));
        watch.hints.lost();
        seen.push(digest(&watch));
        watch.arm(0, &[dir("/d", 2, "b")]);
        seen.push(digest(&watch));
        let (mut other, _) = noting();
        other.arm(0, &[dir("/d", 2, "a")]);
        assert_eq!(digest(&other), seen[1], "of one history, one digest");
        let each: BTreeSet<_> = seen.iter().collect();
        assert_eq!(each.len(), seen.len(), "{seen:?}");
    }

    /// Checks: INV-05.
    ///
    /// Where directories have no inode number (`PathFs`), each path is a directory of its own.
    #[test]
    fn inv05_directories_that_cannot_be_told_apart_are_each_watched() {
        let (mut watch, notes) = noting();
        watch.arm(0, &[dir("/one", 0, "crt"), dir("/two", 0, "key")]);
        watch.arm(1, &[dir("/three", 0, "crt")]);
        assert_eq!(taken(&notes), ["watch /one", "watch /two", "watch /three"]);
    }

    /// Returns the file sets that an event of this path wakes.
    fn hinted(watch: &Watch, path: &str) -> Vec<usize> {
        watch.hints.touched(Path::new(path), false);
        match watch.take_hinted() {
            Hinted::All => panic!("nothing was lost"),
            Hinted::Some(sets) => sets.into_iter().collect(),
        }
    }

    /// Checks: INV-05.
    ///
    /// A directory that moved keeps its watch. Ending the watch of its old path, at which another
    /// directory is now, would end it.
    #[test]
    fn inv05_a_directory_that_moved_aside_is_given_up_before_it_is_watched_where_it_is_now() {
        let (mut watch, notes) = noting();
        watch.arm(0, &[dir("/d", 2, "crt")]);
        taken(&notes);
        watch.arm(0, &[dir("/e", 2, "crt"), dir("/d", 3, "key")]);
        assert_eq!(taken(&notes), ["unwatch /d", "watch /e", "watch /d"]);
    }

    /// Checks: INV-12.
    ///
    /// A write in one file set's directory does not concern another file set.
    #[test]
    fn inv12_an_event_wakes_the_sets_that_looked_its_name_up_and_no_other() {
        let (mut watch, notes) = noting();
        watch.arm(0, &[dir("/", 1, "a"), dir("/a", 2, "crt")]);
        watch.arm(1, &[dir("/", 1, "b"), dir("/b", 3, "crt")]);
        watch.arm(2, &[dir("/", 1, "a"), dir("/a", 2, "key")]);
        assert_eq!(taken(&notes), ["watch /", "watch /a", "watch /b"], "each directory once");
        assert_eq!(hinted(&watch, "/a/crt"), [0]);
        assert_eq!(hinted(&watch, "/a/key"), [2]);
        assert_eq!(hinted(&watch, "/b"), [1]);
        assert_eq!(hinted(&watch, "/a"), [0, 2]);
        assert_eq!(hinted(&watch, "/"), [0, 1, 2]);
        watch.arm(0, &[dir("/", 1, "b"), dir("/b", 3, "crt")]);
        assert_eq!(taken(&notes), [""; 0], "the other set is still in the one, and the other is watched");
        assert_eq!(hinted(&watch, "/a/crt"), [0; 0], "a name that no set looks up");
        assert_eq!(hinted(&watch, "/b/crt"), [0, 1]);
        watch.hints.lost();
        assert!(matches!(watch.take_hinted(), Hinted::All));
    }

    /// Checks: INV-05.
    ///
    /// One file set may leave the path under which it shares a watch with another, which goes on
    /// receiving events.
    #[test]
    fn inv05_a_watch_that_two_sets_share_outlives_the_set_that_it_is_named_by() {
        let (mut watch, notes) = noting();
        watch.arm(0, &[dir("/one", 2, "crt")]);
        watch.arm(1, &[dir("/two", 2, "crt")]);
        assert_eq!(taken(&notes), ["watch /one"]);
        assert_eq!(hinted(&watch, "/one/crt"), [0, 1]);
        let armed = watch.arm(0, &[dir("/other", 3, "crt")]);
        assert_eq!(taken(&notes), ["unwatch /one", "watch /other"]);
        assert_eq!(
            armed.others,
            BTreeSet::from([1]),
            "who listened there has to watch it under its own path"
        );
        assert!(watch.arm(1, &[dir("/two", 2, "crt")]).new, "and to look again");
        assert_eq!(taken(&notes), ["watch /two"]);
        assert_eq!(hinted(&watch, "/two/crt"), [1]);
        assert_eq!(hinted(&watch, "/one/crt"), [0; 0]);
    }

    /// Checks: INV-05.
    ///
    /// Each file set that subscribes to a directory that was watched anew may have missed a change
    /// of it.
    #[test]
    fn inv05_a_directory_that_one_set_watches_anew_is_looked_at_by_all_that_listen_to_it() {
        let (mut watch, notes) = noting();
        for set in 0..3 {
            watch.arm(set, &[dir("/d", 2, "crt")]);
        }
        watch.hints.touched(Path::new("/d"), true);
        taken(&notes);
        let armed = watch.arm(1, &[dir("/d", 3, "crt")]);
        assert_eq!(taken(&notes), ["unwatch /d", "watch /d"]);
        assert!(armed.new);
        assert_eq!(armed.others, BTreeSet::from([0, 2]));
    }

    /// Checks: INV-05.
    ///
    /// Inode numbers are reused, and a file set may have found another directory at a path than the
    /// last set that leaves it.
    #[test]
    fn inv05_a_directory_is_never_listened_to_where_another_is_watched() {
        let (mut watch, notes) = noting();
        watch.arm(0, &[dir("/p", 2, "crt")]);
        watch.arm(1, &[dir("/p", 2, "key")]);
        watch.arm(1, &[dir("/p", 3, "key")]);
        watch.arm(1, &[]);
        watch.arm(0, &[]);
        watch.arm(0, &[dir("/p", 4, "crt")]);
        taken(&notes);
        watch.arm(1, &[dir("/x", 3, "key")]);
        assert_eq!(taken(&notes), ["watch /x"]);
        assert_eq!(hinted(&watch, "/x/key"), [1]);
    }
}
