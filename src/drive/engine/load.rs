//! The first load of all file sets.

use std::{cell::Cell, collections::BTreeMap, time::Duration};

use super::{Answers, Engine, Running, caught, state_hash};
use crate::{
    build::{Build, InitialBuild},
    clock::{Clock, Now},
    decide::{
        file_set::{ConsistentRead, FileSet, InitialSettle, RunQueue},
        machine::Timing,
    },
    fs::Fs,
    probe::Probe,
    read::snapshot::PathSet,
    report::{
        error::Error,
        expiry::{Expiry, Thresholds},
        status::Progress,
    },
    watch::MakeWatcher,
};

/// The results of the first load.
pub(crate) struct InitialLoad<F: Fs, B: Build, P: Probe> {
    pub(crate) engine: Engine<F, B, P>,
    pub(crate) whole: InitialBuild<B::Value>,
    pub(crate) now: Now,
    pub(crate) progress: Progress,
}

impl<F: Fs, B: Build, P: Probe> Engine<F, B, P> {
    /// Loads all file sets for the first time: synchronous and strict. [`InitialSettle::take_snapshot`] defines
    /// when a file set is stable.
    pub(crate) fn load(
        (fs, probe): (F, P),
        sets: Vec<PathSet>,
        mut build: B,
        clock: &dyn Clock,
        timing: Timing,
        make_watcher: Option<MakeWatcher>,
        thresholds: Thresholds,
    ) -> Result<InitialLoad<F, B, P>, Error> {
        let still = settled((&fs, &probe), &sets, clock, &timing)?;
        let now = clock.now();
        let files: Vec<_> = still.iter().map(|set| set.files.clone()).collect();
        let whole = caught(|| build.first(&files, now.wall))?;
        let count = sets.len() as u64;
        let expiry = Expiry::new(thresholds);
        let file_sets: Vec<_> = sets
            .into_iter()
            .zip(still)
            .map(|(paths, set)| FileSet::new(paths, set, timing, expiry.clone()))
            .collect();
        let mut engine = Self {
            fs,
            probe,
            build,
            read: Cell::new(now),
            make_watcher,
            watch: None,
            watch_made: now.mono,
            failed_watcher: None,
            queue: RunQueue::new(file_sets.len()),
            sets: file_sets,
            wake: None,
            faults: BTreeMap::new(),
            degraded: None,
            answers: Answers::default(),
            last_snapshot: now.wall,
            snapshots: count,
            builds: count,
            directories: BTreeMap::new(),
            running: Running::default(),
        };
        let numbered = engine.sets.iter().enumerate();
        numbered.for_each(|(number, set)| engine.queue.note(number, set, now));
        let progress = Progress::new(now, timing.poll, Duration::ZERO);
        Ok(InitialLoad { engine, whole, now, progress })
    }
}

/// Reads all file sets, and waits until each is stable.
fn settled<F: Fs>(
    (fs, probe): (&F, &impl Probe),
    sets: &[PathSet],
    clock: &dyn Clock,
    timing: &Timing,
) -> Result<Vec<ConsistentRead>, Error> {
    let mut starting: Vec<_> = sets.iter().map(|_| InitialSettle::Unstable(None)).collect();
    // The patience with a set begins with its own first snapshot: the sets before it may be slow.
    let mut starts = Vec::with_capacity(sets.len());
    loop {
        let mut pause: Option<Duration> = None;
        for (number, (set, paths)) in starting.iter_mut().zip(sets).enumerate() {
            if starts.len() == number {
                starts.push(clock.now().mono);
            }
            let wait = set.take_snapshot(fs, paths, clock, timing, starts[number])?;
            pause = pause.into_iter().chain(wait).min();
        }
        let Some(pause) = pause else { break };
        state_hash::keep_starting(probe, (&starts, pause), &starting);
        clock.sleep(pause);
    }
    let stable = starting.into_iter().filter_map(|set| match set {
        InitialSettle::Stable(set) => Some(set),
        InitialSettle::Unstable(_) => None,
    });
    Ok(stable.collect())
}
