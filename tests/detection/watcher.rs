//! A watcher around another, which fails when a test says so.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls_reload::{
    Error, Layer, internal,
    watch::{Hints, MakeWatcher, Watched, Watcher},
};

/// Makes what is wrapped.
type Make = Box<dyn Fn(Hints) -> Result<Box<dyn Watcher>, Error> + Send>;

/// What the watcher does and fails to do. Clones are the same.
#[derive(Clone)]
pub struct Fate(Arc<Mutex<State>>);

struct State {
    make: Make,
    inner: Option<Box<dyn Watcher>>,
    /// The directories that it watches.
    watched: BTreeSet<PathBuf>,
    hints: Option<Hints>,
    /// There are no watchers to be had.
    none_left: bool,
    /// There are no watches to be had.
    full: bool,
    /// Every directory can be watched, and nothing is ever heard of any.
    deaf: bool,
    /// Events are lost, and the watches stand.
    muted: bool,
    /// Before this directory is watched, this happens.
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
    /// All is well with the watcher that `make` makes.
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

    /// What a reloader makes its watcher by.
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

    /// No watcher can be made, or one can again.
    pub fn none_left(&self, none_left: bool) {
        self.lock().none_left = none_left;
    }

    /// No further directory can be watched, or some can again.
    pub fn full(&self, full: bool) {
        self.lock().full = full;
    }

    /// From here on no event is heard, and nothing says so: the queue is full.
    pub fn mute(&self) {
        self.lock().set_muted(true);
    }

    /// The same, and each watch is dead. The watcher lives on: that one has ended is told.
    pub fn deafen(&self) {
        let state = &mut *self.lock();
        state.deaf = true;
        for dir in std::mem::take(&mut state.watched) {
            if let Some(inner) = &mut state.inner {
                inner.unwatch(&dir);
            }
        }
    }

    /// The watcher says that it lost events, and hears those of the directories that are watched from here on.
    pub fn overflow(&self) {
        let hints = {
            let mut state = self.lock();
            state.deaf = false;
            state.set_muted(false);
            state.hints.clone()
        };
        hints.expect("a watcher").lost();
    }

    /// Does something just before `dir` is watched for the next time.
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
