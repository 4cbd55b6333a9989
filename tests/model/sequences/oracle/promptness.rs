//! INV-05: how soon after its last step a publication has to be served.

use std::time::Duration;

use super::{Checker, Verdict, broken};
use rustls_reload::Timing;
use rustls_reload_harness::sim::Events;

/// The bound of INV-05 in the worst case: the files only shrink, no event arrives, and a retry has
/// just begun to wait.
pub fn longest(timing: &Timing) -> Duration {
    timing.shrink_settle + timing.poll + timing.poll + SNAPSHOT
}

/// Time for the snapshots and builds themselves in simulated worlds, including late events and the
/// intervals between snapshots.
const SNAPSHOT: Duration = Duration::from_millis(100);

impl Checker<'_> {
    /// Checks INV-05 where every event arrives and nothing else happened: only the settle time
    /// passes.
    pub(super) fn in_time(&self, published: Duration, due: Duration) -> Verdict {
        let late = published.saturating_sub(self.last_step.max(due));
        let timing = &self.case.timing;
        let prompt = matches!(self.case.events, Some(Events::Delivered | Events::Doubled | Events::Late));
        let bound = match self.case.events {
            // On real files the machine may be loaded.
            None => return Ok(()),
            Some(_) if self.eventful || !prompt => longest(timing),
            Some(_) if self.shrank() => timing.shrink_settle + SNAPSHOT,
            Some(_) => timing.settle + SNAPSHOT,
        };
        if late > bound {
            return broken(format!("INV-05: served {late:?} after the last step, the bound is {bound:?}"));
        }
        Ok(())
    }

    /// Returns whether a file of the last publication is a shorter beginning of its predecessor.
    fn shrank(&self) -> bool {
        let [.., (_, _, old), (_, _, new)] = self.published[..] else { return false };
        old.iter().zip(new).any(|files| match files {
            (Some(old), Some(new)) => new.len() < old.len() && old.starts_with(new),
            _ => false,
        })
    }
}
