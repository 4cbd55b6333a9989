//! Publishes one immutable value at a time through one cell.
//!
//! [`Cell`] is `arc-swap` in the shipped build and a loom lock under `--cfg loom`. Loom cannot see
//! inside arc-swap: its models there explore one permutation and find nothing. So the models check
//! the protocol *given a linearizable cell*, and Miri over many seeds and ThreadSanitizer check the
//! real cell (`scripts/miri`, `scripts/tsan`).

use crate::sync::Arc;

/// A value with the number of its publication. Generations start at 1 and grow by one (INV-04).
#[derive(Debug)]
#[non_exhaustive]
pub struct Published<T> {
    /// The number of the publication by one reloader; the first load is 1.
    pub generation: u64,
    /// The published value.
    pub value: T,
}

impl<T> Published<T> {
    /// Pairs a value with its generation, for tests of code that takes a `Published`.
    pub fn new(generation: u64, value: T) -> Self {
        Self { generation, value }
    }
}

/// Holds the current `Arc<T>`. A reader never waits for a writer (INV-07).
pub struct Cell<T> {
    #[cfg(not(loom))]
    slot: arc_swap::ArcSwap<T>,
    #[cfg(loom)]
    slot: crate::sync::RwLock<Arc<T>>,
}

#[cfg(not(loom))]
impl<T> Cell<T> {
    /// Makes a cell that holds `first`.
    pub fn new(first: Arc<T>) -> Self {
        Self { slot: arc_swap::ArcSwap::new(first) }
    }

    /// Returns the value stored last, and counts one more reference to it.
    pub fn load(&self) -> Arc<T> {
        self.slot.load_full()
    }

    /// Runs `read` on the value stored last, without counting a reference to it. `read` must be
    /// short.
    pub fn with<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&self.slot.load())
    }

    /// Stores `next` and returns the replaced value, so that the caller decides where it is
    /// dropped.
    pub fn swap(&self, next: Arc<T>) -> Arc<T> {
        self.slot.swap(next)
    }
}

#[cfg(loom)]
#[allow(clippy::unwrap_used)] // reason: a poisoned model lock is a failed model
impl<T> Cell<T> {
    /// Makes a cell that holds `first`.
    pub fn new(first: Arc<T>) -> Self {
        Self { slot: crate::sync::RwLock::new(first) }
    }

    /// Returns the value stored last.
    pub fn load(&self) -> Arc<T> {
        Arc::clone(&self.slot.read().unwrap())
    }

    /// Runs `read` on the value stored last.
    pub fn with<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&self.load())
    }

    /// Stores `next` and returns the replaced value.
    pub fn swap(&self, next: Arc<T>) -> Arc<T> {
        std::mem::replace(&mut *self.slot.write().unwrap(), next)
    }
}
