//! The latest events, for subscribers.

use std::{collections::VecDeque, sync::Arc};

use super::{EVENT_LIMIT, Event};

/// The latest events, each with its number.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    events: VecDeque<Arc<Event>>,
    /// The number of the oldest event kept.
    first: u64,
}

impl Ring {
    pub(crate) fn push(&mut self, event: Arc<Event>) {
        if self.events.len() == EVENT_LIMIT {
            self.events.pop_front();
            self.first += 1;
        }
        self.events.push_back(event);
    }

    /// Returns the number that the next event will have.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Returns the event with number `next`, or the oldest kept and how many were lost before it.
    pub(crate) fn read(&self, next: u64) -> Option<(Arc<Event>, u64)> {
        let lost = self.first.saturating_sub(next);
        let index = usize::try_from(next.max(self.first) - self.first).ok()?;
        self.events.get(index).map(|event| (Arc::clone(event), lost))
    }
}
