//! Hashes of what the clones of a reloader and its driver have in common.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
};

use super::{ManualReload, Shared, State, WorkerLoop};
use crate::probe::StateHash;

/// Leaves out the status, and whoever waits for a change of it.
impl<T> StateHash for State<T> {
    fn hash_state(&self, mut state: &mut dyn Hasher) {
        (self.hint, self.stopped, self.asked > self.begun).hash(&mut state);
        // Tickets matter by their order only.
        let answers: BTreeMap<_, _> = self.answers.iter().collect();
        for (ticket, answer) in answers {
            [self.begun, self.ended, self.published].map(|last| *ticket <= last).hash(&mut state);
            answer.hash(&mut state);
        }
    }
}

/// Leaves out a driver that a caller has taken.
impl<T> StateHash for Shared<T> {
    fn hash_state(&self, state: &mut dyn Hasher) {
        let locked = self.lock();
        locked.hash_state(state);
        if let Some(drive) = &locked.idle {
            drive.hash_state(state);
        }
    }
}

impl<T> StateHash for WorkerLoop<T> {
    fn hash_state(&self, state: &mut dyn Hasher) {
        if let Some(drive) = &self.drive {
            drive.hash_state(state);
        }
    }
}

impl<T> StateHash for ManualReload<T> {
    fn hash_state(&self, state: &mut dyn Hasher) {
        if let Some(drive) = &self.drive {
            drive.hash_state(state);
        }
    }
}
