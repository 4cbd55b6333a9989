//! A wrapper around a watcher, which fails on request.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls_reload::{
    Error, Layer, internal,
    watch::{Hints, MakeWatcher, Watched, Watcher},
};

/// Makes the wrapped watcher.
type Make = Box<dyn Fn(Hints) -> Result<Box<dyn Watcher>, Error> + Send>;

/// Controls how the watcher behaves and fails. Clones share the state.
#[derive(Clone)]
pub struct Fate(Arc<Mutex<State>>);

struct State {
    make: Make,
    inner: Option<Box<dyn Watcher>>,
    /// The watched directories.
    watched: BTreeSet<PathBuf>,
    hints: Option<Hints>,
    /// Whether no watcher can be made.
    none_left: bool,
    /// Whether no directory can be watched.
    full: bool,
    /// Whether every directory can be watched, but no event arrives.
    deaf: bool,
    /// Whether events are lost while the watches exist.
    muted: bool,
    /// A function that runs before this directory is watched.
    before: Option<(PathBuf, Box<dyn FnOnce() + Send>)>,
}

impl State {
    fn set_muted(&mut self, muted: bool) {
        if let Some(hints) = self.hints.as_ref().filter(|_| self.muted != muted) {
            internal::mute(hints, muted);
        }
        self.muted = muted;
    }
}

impl Fate {
    /// Makes a wrapper without failures around the watcher that `make` makes.
    pub fn new(make: Make) -> Self {
        Self(Arc::new(Mutex::new(State {
            make,
            inner: None,
            watched: BTreeSet::new(),
            hints: None,
            none_left: false,
            full: false,
            deaf: false,
            muted: false,
            before: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the function by which a reloader makes its watcher.
    pub fn make_watcher(&self) -> MakeWatcher {
        let fate = self.clone();
        Box::new(move |hints| {
            let mut state = fate.lock();
            if state.none_left {
                return Err(Error::new(Layer::Watch, "no watcher is to be had"));
            }
            state.hints = Some(hints);
            drop(state);
            Ok(Box::new(Wrapped(fate.clone())))
        })
    }

    /// Sets whether making a watcher fails.
    pub fn none_left(&self, none_left: bool) {
        self.lock().none_left = none_left;
    }

    /// Sets whether watching a further directory fails.
    pub fn full(&self, full: bool) {
        self.lock().full = full;
    }

    /// Drops all events from here on without a notice, as a full queue does.
    pub fn mute(&self) {
        self.lock().set_muted(true);
    }

    /// Drops all events and ends each watch. The watcher itself lives on, because its end would be
    /// reported.
    pub fn deafen(&self) {
        let state = &mut *self.lock();
        state.deaf = true;
        for dir in std::mem::take(&mut state.watched) {
            if let Some(inner) = &mut state.inner {
                inner.unwatch(&dir);
            }
        }
    }

    /// Reports lost events. Events of directories that are watched from here on arrive again.
    pub fn overflow(&self) {
        let hints = {
            let mut state = self.lock();
            state.deaf = false;
            state.set_muted(false);
            state.hints.clone()
        };
        hints.expect("a watcher").lost();
    }

    /// Runs a function just before `dir` is next watched.
    pub fn before_watching(&self, dir: PathBuf, what: Box<dyn FnOnce() + Send>) {
        self.lock().before = Some((dir, what));
    }
}

struct Wrapped(Fate);

impl Watcher for Wrapped {
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
        let due = {
            let mut state = self.0.lock();
            state.before.take_if(|(at, _)| at == dir)
        };
        if let Some((_, what)) = due {
            what();
        }
        let mut state = self.0.lock();
        if state.full {
            return Err(Error::new(Layer::Watch, "no watches left").at(dir));
        }
        if state.deaf {
            return Ok(Watched::Armed);
        }
        if state.inner.is_none() {
            let hints = state.hints.clone().expect("it was made with some");
            if state.muted {
                internal::mute(&hints, true);
            }
            state.inner = Some((state.make)(hints)?);
        }
        let watched = state.inner.as_mut().expect("just made").watch(dir)?;
        state.watched.insert(dir.to_owned());
        Ok(watched)
    }

    fn unwatch(&mut self, dir: &Path) {
        let state = &mut *self.0.lock();
        if state.watched.remove(dir)
            && let Some(inner) = &mut state.inner
        {
            inner.unwatch(dir);
        }
    }
}

impl Drop for Wrapped {
    fn drop(&mut self) {
        let inner = {
            let mut state = self.0.lock();
            state.watched.clear();
            state.inner.take()
        };
        drop(inner);
    }
}
