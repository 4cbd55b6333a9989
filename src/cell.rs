//! One cell publishes one immutable whole.
//!
//! [`Cell`] is `arc-swap` in the shipped build and a loom lock under `--cfg loom`: loom cannot see inside arc-swap (its
//! models there explore one permutation and find nothing), so the models check the protocol *given a linearizable
//! cell*, and the real cell is checked by Miri over many seeds and by ThreadSanitizer (`scripts/miri`, `scripts/tsan`).

use crate::sync::Arc;

/// A value with the number of its publication. Generations start at 1 and grow by one (INV-04).
#[derive(Debug)]
#[non_exhaustive]
pub struct Published<T> {
    /// Counts publications of one reloader, the first load being 1.
    pub generation: u64,
    /// What was built.
    pub value: T,
}

impl<T> Published<T> {
    /// Pairs a value with its generation: for tests of code that takes a `Published`.
    pub fn new(generation: u64, value: T) -> Self {
        Self { generation, value }
    }
}

/// Holds the current `Arc<T>`; reading never waits for a writer (INV-07).
pub struct Cell<T> {
    #[cfg(not(loom))]
    slot: arc_swap::ArcSwap<T>,
    #[cfg(loom)]
    slot: crate::sync::RwLock<Arc<T>>,
}

#[cfg(not(loom))]
impl<T> Cell<T> {
    /// A cell that holds `first`.
    pub fn new(first: Arc<T>) -> Self {
        Self { slot: arc_swap::ArcSwap::new(first) }
    }

    /// The value stored last; one atomic reference more on it.
    pub fn load(&self) -> Arc<T> {
        self.slot.load_full()
    }

    /// Runs `read` on the value stored last without taking a reference on it: `read` must be short.
    pub fn with<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&self.slot.load())
    }

    /// Stores `next` and returns what it replaced, so that the caller decides where that is dropped.
    pub fn swap(&self, next: Arc<T>) -> Arc<T> {
        self.slot.swap(next)
    }
}

#[cfg(loom)]
#[allow(clippy::unwrap_used)] // reason: a poisoned model lock is a failed model
impl<T> Cell<T> {
    /// A cell that holds `first`.
    pub fn new(first: Arc<T>) -> Self {
        Self { slot: crate::sync::RwLock::new(first) }
    }

    /// The value stored last.
    pub fn load(&self) -> Arc<T> {
        Arc::clone(&self.slot.read().unwrap())
    }

    /// Runs `read` on the value stored last.
    pub fn with<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&self.load())
    }

    /// Stores `next` and returns what it replaced.
    pub fn swap(&self, next: Arc<T>) -> Arc<T> {
        std::mem::replace(&mut *self.slot.write().unwrap(), next)
    }
}
