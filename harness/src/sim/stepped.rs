//! The shipped loop on the caller's thread, in which a simulation's own time passes instead of a
//! thread's.

use std::{
    hash::Hasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Interrupt, OwnerAct};
use rustls_reload::{
    Reload, Reloader,
    internal::{self, ManualReload, Next, Shared, StateHash as _, WorkerLoop},
};

/// A worker that takes one step per call, and one manual reload.
pub(super) struct Stepped<T: Send + Sync + 'static> {
    shared: Arc<Shared<T>>,
    worker: Option<WorkerLoop<T>>,
    reload: Arc<Mutex<Option<ManualReload<T>>>>,
}

impl<T: Send + Sync + 'static> Stepped<T> {
    /// Makes a driver in which nothing runs yet.
    pub(super) fn new(reloader: &Reloader<T>) -> Self {
        Self { shared: Arc::clone(internal::shared(reloader)), worker: None, reload: Arc::default() }
    }

    /// Starts a worker and its first step, unless one runs.
    pub(super) fn begin(&mut self) {
        if self.shared.start().is_some() {
            self.worker = Some(WorkerLoop::default());
            let _ = self.turn();
        }
    }

    /// Returns whether a worker has begun and not ended.
    pub(super) fn has_begun(&self) -> bool {
        self.worker.is_some()
    }

    /// Lets the worker take a step.
    ///
    /// # Errors
    /// The duration for which the worker has nothing to do.
    pub(super) fn turn(&mut self) -> Result<(), Option<Duration>> {
        let Some(worker) = &mut self.worker else { return Err(None) };
        match worker.go_on(&self.shared, self.shared.lock()) {
            Next::Again(_) => Ok(()),
            Next::Wait(_, limit) => Err(limit),
            Next::Over(()) => {
                self.worker = None;
                Ok(())
            }
        }
    }

    /// Stops the worker and lets it end.
    pub(super) fn end(&mut self) {
        self.shared.lock().stop();
        while self.turn().is_ok() {}
    }

    /// Requests a manual reload; returns the answer if it is available at once.
    pub(super) fn ask(&mut self) -> Option<Reload> {
        let asked = ManualReload::ask(&self.shared, &mut self.shared.lock(), false);
        asked.map(|reload| *self.reload() = Some(reload)).err()
    }

    /// Returns the answer to the request, once there is one.
    pub(super) fn answer(&mut self) -> Option<Reload> {
        let mut reload = self.reload();
        match reload.as_mut()?.go_on(&self.shared, self.shared.lock()) {
            Next::Over(answer) => {
                *reload = None;
                Some(answer)
            }
            Next::Again(_) | Next::Wait(..) => None,
        }
    }

    /// Returns whether no request waits for its answer.
    pub(super) fn is_answered(&mut self) -> bool {
        self.reload().is_none() || self.answer().is_some()
    }

    fn reload(&self) -> MutexGuard<'_, Option<ManualReload<T>>> {
        self.reload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an act that requests a reload or stops from another thread, during a step of the
    /// worker.
    pub(super) fn interrupt(&self, act: OwnerAct) -> Option<Interrupt> {
        let (shared, slot) = (Arc::clone(&self.shared), Arc::clone(&self.reload));
        match act {
            OwnerAct::Start => None,
            OwnerAct::Stop => Some(Arc::new(move || shared.lock().stop())),
            OwnerAct::Ask => Some(Arc::new(move || {
                let asked = ManualReload::ask(&shared, &mut shared.lock(), false);
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = asked.ok();
            })),
        }
    }

    /// Hashes everything that later turns depend on.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = super::StateHasher::default();
        self.shared.hash_state(&mut hasher);
        if let Some(worker) = &self.worker {
            worker.hash_state(&mut hasher);
        }
        if let Some(reload) = &*self.reload() {
            reload.hash_state(&mut hasher);
        }
        hasher.finish()
    }
}

impl<T: Send + Sync + 'static> Drop for Stepped<T> {
    fn drop(&mut self) {
        // Otherwise the reloader's end would wait for a worker that takes no further turn.
        self.shared.lock().status.running = false;
    }
}
