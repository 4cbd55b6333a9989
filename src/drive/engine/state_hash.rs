//! Hashes of the engine's state, and the points at which a [`Probe`] learns them.

use std::{
    hash::{Hash, Hasher},
    time::Duration,
};

use super::Engine;
use crate::{
    build::Build,
    decide::file_set::InitialSettle,
    drive::shared::Shared,
    fs::Fs,
    probe::{Probe, StateHash},
};

/// Reports what the first load keeps while it waits: when it began, how long it waits, and each
/// set.
pub(super) fn keep_starting(probe: &impl Probe, times: (&[Duration], Duration), sets: &[InitialSettle]) {
    probe.keeps(&|mut state| {
        times.hash(&mut state);
        sets.iter().for_each(|set| set.hash_state(state));
    });
}

impl<F: Fs, B: Build, P: Probe> Engine<F, B, P> {
    /// Reports that nothing seen so far matters but what the state and `more` keep of it.
    pub(super) fn keep(&self, shared: &Shared<B::Value>, more: &impl Hash) {
        self.probe.keeps(&|mut state| {
            self.running.hash(&mut state);
            more.hash(&mut state);
            shared.hash_state(state);
            self.hash_state(state);
        });
    }
}

/// Leaves out the counters of the status.
impl<F: Fs, B: Build, P: Probe> StateHash for Engine<F, B, P> {
    fn hash_state(&self, mut state: &mut dyn Hasher) {
        self.sets.iter().for_each(|set| set.hash_state(state));
        self.queue.hash_state(state);
        (&self.faults, &self.degraded, &self.answers.asked).hash(&mut state);
        if let Some(watch) = &self.watch {
            self.watch_made.hash(&mut state);
            watch.hash_state(state);
        }
        self.failed_watcher
            .as_ref()
            .map(|failed| (&failed.why, failed.noted, failed.until, failed.pause))
            .hash(&mut state);
    }
}
