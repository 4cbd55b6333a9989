//! Which directories are watched, and what of their events counts.
//!
//! The plan is the walk: every directory in which any name of any path was looked up, up to the root. It is derived
//! anew after every look, and after a change of it the files are looked at once more: first arm, then look. Events are
//! hints (INV-06): nothing here decides anything but when to look.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    error::{Error, Layer},
    sync::{Mutex, lock},
    walk::WalkedDir,
};

#[cfg(all(feature = "notify", not(loom)))]
mod events;
#[cfg(all(feature = "notify", not(loom)))]
pub(crate) use events::notify_watcher;
mod silent;
pub use silent::silent;

/// What came of watching a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Watched {
    /// Events of it are reported.
    Armed,
    /// The same, but a file system of this kind is known to report nothing of what is changed elsewhere.
    Silent(&'static str),
    /// It may be searched and not read: nobody who may do no more can watch it.
    Denied,
    /// There is no such directory any more.
    Gone,
}

/// Watches directories, not what is beneath their subdirectories.
pub trait Watcher: Send {
    /// Watches `dir`.
    ///
    /// # Errors
    /// [`Layer::Watch`], with the directory.
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error>;

    /// Stops watching `dir`; that it was not watched any more is no error.
    fn unwatch(&mut self, dir: &Path);
}

/// Makes a watcher that reports to the given hints. Called at each start, so that a stop frees thread and descriptors.
pub type MakeWatcher = Box<dyn FnMut(Hints) -> Result<Box<dyn Watcher>, Error> + Send>;

/// What a watcher reports to. It filters, and wakes the driver; it does nothing else.
#[derive(Clone)]
pub struct Hints {
    interest: Arc<Mutex<Interest>>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Interest {
    /// Every name looked up, with its directory's path.
    names: HashSet<PathBuf>,
    dirs: HashSet<PathBuf>,
    /// Watched directories that were removed, moved or replaced: the watch on them is dead or elsewhere.
    stale: HashSet<PathBuf>,
    all_stale: bool,
}

impl Hints {
    /// Reports to `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { interest: Arc::default(), wake: Arc::new(wake) }
    }

    /// Something happened to `path`; `moved` if it may have been created, removed or renamed.
    pub fn touched(&self, path: &Path, moved: bool) {
        let known = {
            let mut interest = lock(&self.interest);
            let dir = interest.dirs.contains(path);
            if moved && dir {
                interest.stale.insert(path.to_owned());
            }
            dir || interest.names.contains(path)
        };
        if known {
            (self.wake)();
        }
    }

    /// Events were lost, or the watcher failed: anything may have happened, to the watches as well.
    pub fn lost(&self) {
        lock(&self.interest).all_stale = true;
        (self.wake)();
    }
}

/// The watches in place.
pub(crate) struct Watch {
    port: Box<dyn Watcher>,
    hints: Hints,
    armed: Vec<Held>,
    /// Ways to the files that cannot be watched: a change of them waits for the poll.
    denied: Vec<PathBuf>,
}

/// A watch in place.
struct Held {
    dir: WalkedDir,
    /// What kind of file system keeps changes to itself.
    silent: Option<&'static str>,
}

/// What arming did.
pub(crate) struct Armed {
    /// A directory is watched that was not before, or a name counts that did not: a change just before may have been
    /// missed.
    pub(crate) new: bool,
    /// The watched directories are others than before, or fewer.
    pub(crate) changed: bool,
    /// A directory was gone when it was to be watched.
    pub(crate) gone: Option<PathBuf>,
    /// Of a directory that holds files or links of the set there are no events, or none that can be relied on.
    pub(crate) fault: Option<Error>,
}

impl Watch {
    pub(crate) fn new(
        make: &mut MakeWatcher,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let hints = Hints::new(wake);
        Ok(Self { port: make(hints.clone())?, hints, armed: Vec::new(), denied: Vec::new() })
    }

    /// The directories watched.
    pub(crate) fn dirs(&self) -> Vec<PathBuf> {
        self.armed.iter().map(|held| held.dir.path.clone()).collect()
    }

    /// The directories of the plan that cannot be watched, where that is no fault.
    pub(crate) fn denied(&self) -> &[PathBuf] {
        &self.denied
    }

    /// Makes the watches those of this walk.
    pub(crate) fn arm(&mut self, walked: &[WalkedDir]) -> Armed {
        let plan = plan(walked);
        let (stale, all_stale, grown) = {
            let mut interest = lock(&self.hints.interest);
            let names =
                plan.iter().flat_map(|dir| dir.names.iter().map(|name| dir.path.join(name))).collect();
            let grown = !interest.names.is_superset(&names);
            interest.names = names;
            interest.dirs = plan.iter().map(|dir| dir.path.clone()).collect();
            (std::mem::take(&mut interest.stale), std::mem::take(&mut interest.all_stale), grown)
        };
        let dead = |held: &Held| {
            let moved = |path: &Path| stale.iter().any(|stale| path.starts_with(stale));
            let planned = |now: &WalkedDir| now.path == held.dir.path && now.id == held.dir.id;
            all_stale || moved(&held.dir.path) || !plan.iter().any(planned)
        };
        let (dead, kept): (Vec<_>, Vec<_>) = self.armed.drain(..).partition(dead);
        self.armed = kept;
        self.denied.clear();
        let mut result = Armed { new: grown, changed: !dead.is_empty(), gone: None, fault: None };
        for held in dead {
            self.port.unwatch(&held.dir.path);
        }
        for dir in plan {
            if let Some(held) = self.armed.iter_mut().find(|held| held.dir.path == dir.path) {
                held.dir = dir;
                continue;
            }
            match self.port.watch(&dir.path) {
                Ok(Watched::Gone) => result.gone = Some(dir.path),
                Ok(Watched::Denied) if dir.leads => self.denied.push(dir.path),
                Ok(Watched::Denied) => {
                    let why = "it may be searched but not read, and so not be watched";
                    result.fault = Some(Error::new(Layer::Watch, why).at(dir.path));
                }
                Ok(watched) => {
                    let silent = if let Watched::Silent(kind) = watched { Some(kind) } else { None };
                    (result.new, result.changed) = (true, true);
                    self.armed.push(Held { dir, silent });
                }
                Err(error) => result.fault = Some(error),
            }
        }
        result.fault = result.fault.or_else(|| self.armed.iter().find_map(Held::fault));
        result
    }
}

impl Held {
    /// That a file of the set may change without an event.
    fn fault(&self) -> Option<Error> {
        let kind = self.silent.filter(|_| !self.dir.leads)?;
        let why = format!("{kind} does not report what is changed elsewhere");
        Some(Error::new(Layer::Watch, why).at(&self.dir.path))
    }
}

/// The directories to watch: two paths to one directory would share one watch, and the events would name either.
pub(crate) fn plan(walked: &[WalkedDir]) -> Vec<WalkedDir> {
    let mut plan: Vec<WalkedDir> = Vec::with_capacity(walked.len());
    let mut by_id = HashMap::new();
    for dir in walked {
        let known = *by_id.entry(dir.id).or_insert(plan.len());
        let unknowable = dir.id.ino == 0;
        if known < plan.len() && !unknowable {
            plan[known].names.extend(dir.names.iter().cloned());
            plan[known].leads &= dir.leads;
        } else {
            plan.push(dir.clone());
        }
    }
    plan
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fs::FileId;

    struct Nothing;

    impl Watcher for Nothing {
        fn watch(&mut self, _: &Path) -> Result<Watched, Error> {
            Ok(Watched::Armed)
        }

        fn unwatch(&mut self, _: &Path) {}
    }

    fn walked(names: &[&str]) -> Vec<WalkedDir> {
        let names = names.iter().map(Into::into).collect();
        vec![WalkedDir { path: "/d".into(), id: FileId { dev: 1, ino: 2 }, names, leads: false }]
    }

    /// Checks: INV-05. An event of a name that did not count yet was dropped, so somebody has to look again.
    #[test]
    fn inv05_a_name_that_begins_to_count_asks_for_another_look() {
        let mut make: MakeWatcher = Box::new(|_| Ok(Box::new(Nothing)));
        let Ok(mut watch) = Watch::new(&mut make, || {}) else { panic!("a watcher") };
        assert!(watch.arm(&walked(&["link", "a"])).new);
        assert!(!watch.arm(&walked(&["link", "a"])).new);
        assert!(watch.arm(&walked(&["link", "b"])).new);
        assert!(!watch.arm(&walked(&["link"])).new, "fewer names are no news");
    }

    /// Checks: INV-12. However much a neighbour is written, it costs no look.
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
        watch.arm(&walked(&["tls.crt"]));
        let hints = lock(&place).clone().expect("the hints of the watcher");
        for (path, wakes) in
            [("/d/neighbour", 0), ("/d/tls.crt.tmp", 0), ("/e/tls.crt", 0), ("/d/tls.crt", 1), ("/d", 2)]
        {
            hints.touched(Path::new(path), true);
            assert_eq!(woken.load(Ordering::SeqCst), wakes, "{path}");
        }
    }

    /// Notes what is asked of it; there is no `/gone`.
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
        WalkedDir { path: path.into(), id: FileId { dev: 1, ino }, names, leads: false }
    }

    fn taken(notes: &Mutex<Vec<String>>) -> Vec<String> {
        std::mem::take(&mut *lock(notes))
    }

    /// Checks: INV-05. Between the end of the old watch and the new one the directory changed unheard.
    #[test]
    fn inv05_a_directory_that_is_watched_anew_asks_for_another_look() {
        let (mut watch, notes) = noting();
        let walked = [dir("/d", 2, "a")];
        assert!(watch.arm(&walked).new);
        assert!(!watch.arm(&walked).new);
        taken(&notes);
        watch.hints.touched(Path::new("/d"), true);
        assert!(watch.arm(&walked).new, "the same names, after the directory moved");
        assert_eq!(taken(&notes), ["unwatch /d", "watch /d"]);
        watch.hints.lost();
        assert!(watch.arm(&walked).new, "the same names, after events were lost");
        assert_eq!(taken(&notes), ["unwatch /d", "watch /d"]);
    }

    /// Checks: INV-05. A second watch of one inode takes the first one's name, and its end takes both.
    #[test]
    fn inv05_a_directory_under_two_paths_is_watched_once_and_under_one_name() {
        let (mut watch, notes) = noting();
        watch.arm(&[dir("/one", 2, "crt"), dir("/two", 2, "key")]);
        assert_eq!(taken(&notes), ["watch /one"]);
        let counts = |path: &str| lock(&watch.hints.interest).names.contains(Path::new(path));
        assert!(counts("/one/crt") && counts("/one/key"), "events name the path that is watched");
        assert!(!counts("/two/key"));
    }

    /// Checks: INV-12. A directory that moved away is there all the same, and so would its watch be.
    #[test]
    fn inv12_a_directory_that_is_left_is_watched_no_longer() {
        let (mut watch, notes) = noting();
        watch.arm(&[dir("/v", 2, "link"), dir("/v/1", 3, "crt")]);
        taken(&notes);
        let armed = watch.arm(&[dir("/v", 2, "link"), dir("/v/2", 4, "crt")]);
        assert_eq!(taken(&notes), ["unwatch /v/1", "watch /v/2"]);
        assert!(armed.new && armed.changed);
    }

    /// Checks: INV-05, INV-11. What could not be watched because it is gone is named, so that somebody looks again.
    #[test]
    fn inv05_a_directory_that_is_gone_when_it_is_to_be_watched_is_named() {
        let (mut watch, _) = noting();
        let armed = watch.arm(&[dir("/gone", 2, "crt")]);
        assert_eq!(armed.gone.as_deref(), Some(Path::new("/gone")));
        assert!(armed.fault.is_none() && watch.dirs().is_empty());
    }
}
