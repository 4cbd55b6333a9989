//! Lets tasks wait for a change of the shared state.

use std::task::{Poll, Waker};

use super::{Shared, State, WaitKind};
use crate::sync::Arc;

/// A task's wait for a change of the state. It keeps one waker, and none once it is dropped. So
/// memory depends on the tasks that wait now, however many have come and gone between two
/// publications (INV-12).
pub(crate) struct Waiting<T> {
    shared: Arc<Shared<T>>,
    kind: WaitKind,
    number: Option<u64>,
}

impl<T> Waiting<T> {
    pub(crate) fn new(shared: &Arc<Shared<T>>) -> Self {
        Self::of(WaitKind::All, shared)
    }

    /// Makes a wait for reduced trust, which nothing else wakes.
    pub(crate) fn draining(shared: &Arc<Shared<T>>) -> Self {
        Self::of(WaitKind::Draining, shared)
    }

    fn of(kind: WaitKind, shared: &Arc<Shared<T>>) -> Self {
        Self { shared: Arc::clone(shared), kind, number: None }
    }

    /// Returns the result of `ready`, or registers the waker for the next change. Both happen under
    /// one lock, so no change is missed.
    pub(crate) fn poll<R>(&mut self, waker: &Waker, ready: impl FnOnce(&State<T>) -> Option<R>) -> Poll<R> {
        let waker = waker.clone();
        let mut state = self.shared.lock();
        if let Some(ready) = ready(&state) {
            return Poll::Ready(ready);
        }
        let number = *self.number.get_or_insert(state.waits);
        state.waits = state.waits.max(number + 1);
        let old = state.wakers_of(self.kind).insert(number, waker);
        drop(state);
        // Dropped without the lock, since a waker's drop is the caller's code.
        drop(old);
        Poll::Pending
    }
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        let old = self.number.and_then(|number| self.shared.lock().wakers_of(self.kind).remove(&number));
        drop(old);
    }
}
