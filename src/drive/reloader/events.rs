//! Subscriptions to the events.

use std::{fmt, time::Duration};

use crate::{
    drive::shared::Shared,
    report::event::Event,
    sync::{Arc, Deadline},
};

/// Reads events one by one. A subscriber that lags by more than [`EVENT_LIMIT`](crate::EVENT_LIMIT)
/// events loses the oldest.
pub struct Events<T> {
    pub(super) shared: Arc<Shared<T>>,
    pub(super) next: u64,
}

impl<T> fmt::Debug for Events<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("next", &self.next).finish_non_exhaustive()
    }
}

/// An event, and the number of events lost before it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// The event.
    pub event: Arc<Event>,
    /// The number of events that this subscriber has lost directly before it.
    pub lost: u64,
}

impl<T: Send + Sync + 'static> Events<T> {
    /// Returns the next event, if there is one already.
    pub fn try_next(&mut self) -> Option<Delivered> {
        let event = self.shared.lock().events.read(self.next);
        event.map(|event| self.take(event))
    }

    /// Returns the next event; waits for it at most `limit`.
    pub fn next_within(&mut self, limit: Duration) -> Option<Delivered> {
        let deadline = Deadline::after(limit);
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        loop {
            if let Some(event) = state.events.read(self.next) {
                return Some(self.take(event));
            }
            state = shared.wait(state, Some(deadline.left()?));
        }
    }

    fn take(&mut self, (event, lost): (Arc<Event>, u64)) -> Delivered {
        self.next += lost + 1;
        Delivered { event, lost }
    }
}
