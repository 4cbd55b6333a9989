//! Hashes of one set's state.

use std::hash::{Hash, Hasher};

use super::{Cause, ConsistentRead, FileSet, InitialSettle, PreviousRead, RunQueue};
use crate::probe::StateHash;

impl StateHash for ConsistentRead {
    fn hash_state(&self, mut state: &mut dyn Hasher) {
        self.walk.hash(&mut state);
        self.files.iter().for_each(|(_, bytes)| bytes.hash(&mut state));
    }
}

impl<V> StateHash for FileSet<V> {
    fn hash_state(&self, mut state: &mut dyn Hasher) {
        self.served.hash_state(state);
        if let Some(candidate) = &self.candidate {
            candidate.set.hash_state(state);
        }
        self.candidate.as_ref().map(|candidate| candidate.kind).hash(&mut state);
        self.torn.as_ref().map(|torn| (&torn.walk, torn.files.as_ref().err())).hash(&mut state);
        if let Some((files, _)) = &self.last_evaluated {
            files.iter().for_each(|file| file.hash(&mut state));
        }
        // Numbers matter by what they are compared with: those of the candidate and of what was judged last.
        let content = |number| u64::from(self.candidate.as_ref().is_some_and(|now| now.content == number));
        let bytes = |number: u64| {
            let evaluated = self.last_evaluated.as_ref().is_some_and(|(_, evaluated)| *evaluated == number);
            2 * u64::from(evaluated)
                + u64::from(self.candidate.as_ref().is_some_and(|now| now.bytes == number))
        };
        let cause = |cause: &Cause| Cause { error: cause.error.clone(), bytes: cause.bytes.map(bytes) };
        self.candidate.as_ref().map(|now| bytes(now.bytes)).hash(&mut state);
        self.reported_deferral.map(|(reported, date)| (bytes(reported), date)).hash(&mut state);
        self.machine.renamed(content, cause).hash(&mut state);
        self.differs_since.is_some().hash(&mut state);
    }
}

/// Hashes everything that the next look of the first load compares with.
impl StateHash for InitialSettle {
    fn hash_state(&self, mut state: &mut dyn Hasher) {
        match self {
            Self::Stable(set) => {
                0.hash(&mut state);
                set.hash_state(state);
            }
            Self::Unstable(None) => 1.hash(&mut state),
            Self::Unstable(Some(PreviousRead::Consistent(set, since))) => {
                (2, since).hash(&mut state);
                set.hash_state(state);
            }
            Self::Unstable(Some(PreviousRead::Torn(snapshot, since, pause))) => {
                (3, since, pause, &snapshot.walk, snapshot.files.as_ref().err()).hash(&mut state);
            }
        }
    }
}

/// Leaves out when a file set is due, which follows from its machine.
impl StateHash for RunQueue {
    fn hash_state(&self, mut state: &mut dyn Hasher) {
        self.hinted.hash(&mut state);
    }
}
