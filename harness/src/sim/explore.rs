//! Runs every schedule of a scenario, or many random ones, and checks each run.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    At, Design, Exhaustive, Record, Replay, Run, Sampled, Stage, Violation, check, one_generation, run,
};

/// The result of a search.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Whether every schedule was covered. Otherwise the limit of runs or a violation came first.
    pub whole: bool,
    /// Whether the schedules are random, not a complete search.
    pub is_sample: bool,
    /// The number of runs.
    pub runs: u64,
    /// A lower bound on the schedules that the runs cover. A search counts each once, and a sample
    /// counts each as often as it was drawn. A reduced search counts only schedules in which
    /// each step comes as late as it can unnoticed, and covers all others too.
    pub schedules: u128,
    /// The number of schedules among them that break the assumption that the publisher commits by.
    pub breached: u128,
    /// Distinct states in which there was a choice.
    pub states: usize,
    /// Distinct snapshots: every call with its arguments and results.
    pub snapshots: HashSet<u64>,
    /// Distinct sequences of reports and publications.
    pub outcomes: HashSet<u64>,
    /// The numbers of steps after which a mortal publisher died in some run.
    pub deaths: BTreeSet<usize>,
    /// A schedule that breaks the assumption and publishes a mixture.
    pub mixture: Option<String>,
    /// The count of [`Exhaustive::confused`] at the end of the search.
    pub confused: u64,
    /// The first violation, and the line that replays it.
    pub violation: Option<(Violation, String)>,
}

impl Report {
    fn take(&mut self, stage: &Stage, run: &Run) {
        self.snapshots.extend(&run.snapshots);
        if run.complete {
            self.outcomes.insert(run.outcome);
        }
        if run.crashed {
            let step = |at: &At| matches!(at.record, Record::Step(_));
            self.deaths.insert(run.history.iter().filter(|at| step(at)).count());
        }
        let line = || Replay::line(&run.choices);
        if run.breached && self.mixture.is_none() && one_generation(stage, run).is_err() {
            self.mixture = Some(line());
        }
        if let Err(violation) = check(stage, run) {
            self.violation = Some((violation, line()));
        }
    }
}

/// Runs `D` through every schedule, until the first violation or until `limit` runs have been made.
///
/// Schedules that the reader cannot distinguish share one run: see [`Exhaustive::reduced`].
#[must_use]
pub fn explore<D: Design>(stage: &Stage, limit: u64) -> Report {
    search::<D>(stage, limit, Exhaustive::reduced())
}

/// Runs `D` as [`explore`] does, with each step before each call, distinguishable or not. This
/// takes many times the runs.
#[must_use]
pub fn explore_unreduced<D: Design>(stage: &Stage, limit: u64) -> Report {
    search::<D>(stage, limit, Exhaustive::default())
}

/// Runs `D` as [`explore`] does, with every schedule run to its own end: a check of the pruning,
/// for small worlds.
#[must_use]
pub fn explore_unpruned<D: Design>(stage: &Stage, limit: u64) -> Report {
    search::<D>(stage, limit, Exhaustive::reduced().unpruned())
}

/// Runs `D` as [`explore`] does, with states that differ by each reported event: a check of their
/// merging.
#[must_use]
pub fn explore_finely<D: Design>(stage: &Stage, limit: u64) -> Report {
    search::<D>(stage, limit, Exhaustive::reduced().fine())
}

fn search<D: Design>(stage: &Stage, limit: u64, schedule: Exhaustive) -> Report {
    let mut report = Report::default();
    let schedule = Arc::new(Mutex::new(schedule));
    let lock = || schedule.lock().unwrap_or_else(PoisonError::into_inner);
    while lock().next_run() {
        let run = run::<D>(stage, schedule.clone());
        lock().end_run(run.breached);
        report.take(stage, &run);
        if report.violation.is_some() || lock().runs == limit {
            break;
        }
    }
    let schedule = lock();
    report.whole = schedule.is_done();
    report.runs = schedule.runs;
    report.states = schedule.states();
    report.confused = schedule.confused;
    (report.schedules, report.breached) = schedule.schedules();
    report
}

/// Runs `D` through `count` random schedules without pruning, until the first violation.
#[must_use]
pub fn sample<D: Design>(stage: &Stage, seed: u64, count: u64) -> Report {
    let mut report = Report { is_sample: true, ..Report::default() };
    for i in 0..count {
        let run = run::<D>(stage, Arc::new(Mutex::new(Sampled::new(seed.wrapping_add(i)))));
        report.runs += 1;
        report.schedules += 1;
        report.breached += u128::from(run.breached);
        report.take(stage, &run);
        if report.violation.is_some() {
            break;
        }
    }
    report
}
