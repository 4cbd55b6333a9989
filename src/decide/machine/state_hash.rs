//! The machine under other names, so that equal states have equal hashes.

use super::{Busy, ContentId, Machine, Refusal, Settling, Unread};

impl<E: Clone + PartialEq> Machine<E> {
    /// Returns the machine with other names for contents and causes, which matter by their equality
    /// only.
    pub(crate) fn renamed(&self, content: impl Fn(ContentId) -> ContentId, cause: impl Fn(&E) -> E) -> Self {
        let mut new = self.clone();
        if let Busy::Building(building) = &mut new.busy {
            *building = content(*building);
        }
        new.settling = new.settling.map(|still| Settling { content: content(still.content), ..still });
        new.refusal = new.refusal.map(|old| Refusal {
            cause: cause(&old.cause),
            content: old.content.map(&content),
            ..old
        });
        new.unread = new.unread.map(|old| Unread { cause: cause(&old.cause), ..old });
        new.deferred = new.deferred.map(|(deferred, date)| (content(deferred), date));
        new
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock::Now,
        decide::machine::{Effect, Input, ReadOutcome, Timing, Verdict},
        read::walk::ChangeKind,
    };

    /// Returns machines after inputs of many kinds, with contents of these names.
    fn states(name: u64) -> Vec<Machine<u64>> {
        let at = |ms| Now { mono: Duration::from_millis(ms), wall: Duration::from_millis(ms) };
        let changed = |content| ReadOutcome::Changed { content, kind: ChangeKind::InPlace, shrinks: false };
        let mut machine = Machine::new(Timing::default());
        let mut states = Vec::new();
        for (ms, seen, verdict) in [
            (0, changed(name), None),
            (500, changed(name), Some(Verdict::Refused(name + 1))),
            (600, ReadOutcome::Failed(name + 2), None),
            (700, changed(name + 3), None),
            (1_200, changed(name + 3), Some(Verdict::NotYet(Duration::from_secs(100)))),
        ] {
            assert_eq!(machine.step(at(ms), Input::Hint), [Effect::TakeSnapshot]);
            machine.step(at(ms), Input::SnapshotTaken(seen));
            states.push(machine.clone());
            if let Some(verdict) = verdict {
                machine.step(at(ms), Input::Built(verdict));
                states.push(machine.clone());
            }
        }
        states
    }

    /// The interleavings count states that differ in names alone as one, so a name that is left out
    /// would be two states.
    #[test]
    fn renaming_what_was_seen_is_seeing_it_under_other_names() {
        for (one, other) in states(10).iter().zip(states(20)) {
            assert_ne!(*one, other, "each of these states holds a name");
            assert_eq!(one.renamed(|content| content + 10, |cause| cause + 10), other);
        }
    }
}
