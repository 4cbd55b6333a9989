//! The boundary to a watcher, which runs the caller's code or a foreign thread, either of which may
//! end.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use super::{Hints, MakeWatcher, Watched, Watcher};
use crate::report::error::{Error, Layer};

/// A watcher whose panic ends it, and not the driver.
pub(super) struct Port {
    watcher: Option<Box<dyn Watcher>>,
    hints: Hints,
}

const PANICKED: &str = "the watcher panicked";

impl Port {
    pub(super) fn new(make: &mut MakeWatcher, hints: Hints) -> Result<Self, Error> {
        // Reports wake nothing before the watcher is made. A watcher that cannot be made would
        // request a snapshot when it ends, and the attempt after that another one.
        hints.subscriptions().closed = true;
        let made = guarded(|| make(hints.clone()));
        let watcher = Some(made.unwrap_or_else(|| Err(Error::new(Layer::Watch, PANICKED)))?);
        hints.subscriptions().closed = false;
        Ok(Self { watcher, hints })
    }

    pub(super) fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
        self.ask(|watcher| watcher.watch(dir))
            .unwrap_or_else(|| Err(Error::new(Layer::Watch, PANICKED).at(dir)))
    }

    pub(super) fn unwatch(&mut self, dir: &Path) {
        self.ask(|watcher| watcher.unwatch(dir));
    }

    pub(super) fn begin_update(&mut self) {
        self.ask(|watcher| watcher.begin_update());
    }

    fn ask<T>(&mut self, question: impl FnOnce(&mut dyn Watcher) -> T) -> Option<T> {
        let watcher = self.watcher.as_mut()?;
        let answer = guarded(|| question(&mut **watcher));
        if answer.is_none() {
            self.hints.ended(PANICKED);
        }
        answer
    }
}

impl Drop for Port {
    /// Reports that the watcher still makes wake nothing.
    fn drop(&mut self) {
        self.hints.subscriptions().closed = true;
        let watcher = self.watcher.take();
        guarded(|| drop(watcher));
    }
}

/// Runs foreign code; returns `None` if it panicked.
pub(super) fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(crate::report::error::drop_payload).ok()
}
