//! The settings of a reloader, and its first load.

use std::{fmt, path::Path, time::Duration};

use super::{Owner, Reloader};
use crate::{
    build::Build,
    clock::{Clock, SystemClock},
    decide::machine::Timing,
    drive::{
        cell::Published,
        engine::{Engine, InitialLoad},
        shared::{Observers, Shared},
    },
    fs::{Fs, NativeFs},
    probe::Probe,
    read::snapshot::PathSet,
    report::{
        error::Error,
        event::{self, Event},
        expiry::Thresholds,
        status::Status,
    },
    sync::{Arc, Mutex},
    watch::MakeWatcher,
};

/// Settings of a [`Reloader`] before its first load.
pub struct Builder<B: Build> {
    build: B,
    sets: Result<Vec<PathSet>, Error>,
    timing: Timing,
    clock: Arc<dyn Clock>,
    make_watcher: Option<MakeWatcher>,
    observers: Observers<B::Value>,
    thresholds: Thresholds,
}

impl<B: Build> Builder<B> {
    /// Makes the settings of a reloader that reads these files, as one file set, and builds values
    /// with `build`. [`set`](Self::set) adds further file sets.
    #[must_use]
    pub fn new<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>, build: B) -> Self {
        Self {
            build,
            sets: PathSet::new(paths).map(|set| vec![set]),
            timing: Timing::default(),
            clock: Arc::new(SystemClock::new()),
            #[cfg(all(feature = "notify", not(loom)))]
            make_watcher: Some(Box::new(crate::watch::notify_watcher)),
            #[cfg(not(all(feature = "notify", not(loom))))]
            make_watcher: None,
            observers: Observers::default(),
            thresholds: Thresholds::default(),
        }
    }

    /// Adds a file set: it is read, settled and rejected by itself, and keeps its own last good
    /// value. A publication changes one set. The build step gets its index by
    /// [`Context::set`](crate::Context::set), in the order given here, the first being 0.
    #[must_use]
    pub fn set<P: AsRef<Path>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.sets = self.sets.and_then(|mut sets| {
            sets.push(PathSet::new(paths)?);
            Ok(sets)
        });
        self
    }

    /// Adds a file set as [`set`](Self::set) does, for a set of directories only
    /// ([`PathSet::of_directory`]).
    #[must_use]
    pub fn path_set(mut self, set: PathSet) -> Self {
        if let Ok(sets) = &mut self.sets {
            sets.push(set);
        }
        self
    }

    /// Adds every file in this directory to the file set that was added last, behind its paths: see
    /// [`PathSet::directory`]. A file that comes, goes or is replaced in it is a change of the set.
    /// Such a change always has to settle, unless the directory itself has moved with all other
    /// files of the set.
    #[must_use]
    pub fn directory(mut self, dir: impl AsRef<Path>) -> Self {
        self.sets = self.sets.and_then(|mut sets| {
            let last = sets.pop().map(|set| set.directory(dir)).transpose()?;
            sets.extend(last);
            Ok(sets)
        });
        self
    }

    /// Raises the size limit of the files of the last file set, from the file at index `first` on:
    /// see [`PathSet::large_from`].
    #[must_use]
    pub fn large_from(mut self, first: usize) -> Self {
        self.sets = self.sets.map(|mut sets| {
            let last = sets.pop().map(|set| set.large_from(first));
            sets.extend(last);
            sets
        });
        self
    }

    /// Calls `observer` with each event, in order, on the thread that reports it (most often the
    /// driver's), while no lock is held. It may ask for a reload (which is queued) or stop the
    /// reloader. A panic in it is reported as a warning to subscribers.
    ///
    /// It must not block: nothing is reloaded while it runs. `eprintln!` blocks while stderr is a
    /// full pipe that nobody reads. [`Status::stalled_since`] shows a callback that does not return.
    #[must_use]
    pub fn on_event(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.observers.events.push(Box::new(observer));
        self
    }

    /// Calls `observer` with each value that is published after the first load, once handshakes get
    /// it. It may do as an observer of [`on_event`](Self::on_event) may.
    #[must_use]
    pub fn on_publish(
        mut self,
        observer: impl Fn(&Arc<Published<B::Value>>) + Send + Sync + 'static,
    ) -> Self {
        self.observers.publications.push(Box::new(observer));
        self
    }

    /// Replaces the default delays. Invariants about time hold with the delays given.
    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing.bounded();
        self
    }

    /// Replaces the system's clocks, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Replaces the watcher. With `None` the files are polled, which is reported as degraded.
    #[must_use]
    pub fn watcher(mut self, make: Option<MakeWatcher>) -> Self {
        self.make_watcher = make;
        self
    }

    /// Reports a served leaf whose end is no further away than each of these times
    /// ([`Event::Expiring`]), instead of [`EXPIRY_WARNINGS`](crate::EXPIRY_WARNINGS). Without any,
    /// only an expired leaf is reported ([`Event::Expired`]).
    ///
    /// Each threshold is reported once, at the first load or the first snapshot after it has
    /// passed. Of several that have passed only the last is reported. A threshold is reported again
    /// only after the wall clock was set back to more than an hour before it, and at most once a
    /// day. The thresholds hold for each leaf alike, however short its validity.
    #[must_use]
    pub fn expiry_warnings(mut self, before: impl IntoIterator<Item = Duration>) -> Self {
        self.thresholds = Thresholds::exactly(before);
        self
    }

    /// Sets the label `reloader` of this reloader's metrics; `generic` without it. Two reloaders of
    /// one process need two names, since they would set the same gauges otherwise. The page on
    /// [embedding](crate::manual::embedding) lists the metrics.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.observers.metrics_name = name.into().into();
        self
    }

    /// Puts another build step around this one.
    pub(crate) fn around<C: Build<Value = B::Value>>(self, around: impl FnOnce(B) -> C) -> Builder<C> {
        let Self { build, sets, timing, clock, make_watcher, observers, thresholds } = self;
        Builder { build: around(build), sets, timing, clock, make_watcher, observers, thresholds }
    }

    /// Loads the files and builds the first value. Nothing is watched before [`Reloader::start`].
    ///
    /// Blocks for at most about six seconds (with the default [`Timing`]), where the files changed
    /// within the settle time or keep changing.
    ///
    /// # Errors
    /// Any rejection, naming layer and path. Only torn reads are retried.
    pub fn load(self) -> Result<Reloader<B::Value>, Error> {
        self.load_from(NativeFs::default())
    }

    /// Loads the files as [`load`](Self::load) does, from another file system, for tests.
    ///
    /// # Errors
    /// Fails as [`load`](Self::load) does.
    pub fn load_from<F>(self, fs: F) -> Result<Reloader<B::Value>, Error>
    where
        F: Fs,
        F::Dir: Send,
        F::File: Send,
    {
        self.load_probed(fs, ())
    }

    /// As [`load_from`](Self::load_from), with a probe.
    pub(crate) fn load_probed<F, P>(self, fs: F, probe: P) -> Result<Reloader<B::Value>, Error>
    where
        F: Fs,
        F::Dir: Send,
        F::File: Send,
        P: Probe,
    {
        let sets = self.sets?;
        let names: Vec<_> = sets.iter().map(|set| Arc::from(set.name())).collect();
        let Self { build, clock, timing, make_watcher, thresholds, .. } = self;
        let InitialLoad { mut engine, whole, now, progress } =
            Engine::load((fs, probe), sets, build, &*clock, timing, make_watcher, thresholds)?;
        // A build may return fewer leaves than there are file sets; the others have none.
        let leaves = whole.leaves.into_iter().chain(std::iter::repeat(None));
        let mut status = Status::first(names.into_iter().zip(leaves), now.wall);
        let expiring: Vec<_> =
            (0..status.sets.len()).filter_map(|set| engine.check_expiry(&mut status, set, now)).collect();
        let shared =
            Arc::new(Shared::new(whole.value, (status, progress), self.observers, clock, Box::new(engine)));
        #[cfg(feature = "metrics")]
        shared.describe_metrics();
        event::warnings(whole.warnings).for_each(|warning| shared.report(warning));
        expiring.into_iter().for_each(|event| shared.report(event));
        Ok(Reloader(Arc::new(Owner { shared, worker: Arc::new(Mutex::new(None)) })))
    }
}

impl<B: Build> fmt::Debug for Builder<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sets, timing, .. } = self;
        f.debug_struct("Builder").field("sets", sets).field("timing", timing).finish_non_exhaustive()
    }
}
