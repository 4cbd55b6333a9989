//! All schedules of a scenario, or many at random, with every run judged.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    At, Design, Exhaustive, Record, Replay, Run, Sampled, Stage, Violation, check, one_generation, run,
};

/// What a search found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Every schedule was covered; else the limit of runs, or a violation, came first.
    pub whole: bool,
    /// Random schedules, not a search.
    pub is_sample: bool,
    /// Runs made.
    pub runs: u64,
    /// Schedules that they cover, and no fewer: in a search each once, in a sample as often as it was drawn. Where a search
    /// leaps, those are counted in which each step comes as late as nobody notices, and all others are covered too.
    pub schedules: u128,
    /// Those of them that break the assumption that the publisher commits by.
    pub breached: u128,
    /// Distinct states in which somebody could be chosen.
    pub states: usize,
    /// Distinct looks: every verb with its arguments and results.
    pub looks: HashSet<u64>,
    /// Distinct sequences of what was told and published.
    pub outcomes: HashSet<u64>,
    /// After how many steps a mortal publisher died in some run.
    pub deaths: BTreeSet<usize>,
    /// A schedule that breaks the assumption and publishes a mixture.
    pub mixture: Option<String>,
    /// As [`Exhaustive::confused`].
    pub confused: u64,
    /// The first violation, and the line that replays it.
    pub violation: Option<(Violation, String)>,
}

impl Report {
    fn take(&mut self, stage: &Stage, run: &Run) {
        self.looks.extend(&run.looks);
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
/// Schedules that the reader cannot tell apart are run once for all of them: see [`Exhaustive::leaping`].
#[must_use]
pub fn explore<D: Design>(stage: &Stage, limit: u64) -> Report {
    search::<D>(stage, limit, Exhaustive::leaping())
}

/// The same with each step before each verb, told apart or not: many times the runs.
#[must_use]
pub fn explore_unreduced<D: Design>(stage: &Stage, limit: u64) -> Report {
    search::<D>(stage, limit, Exhaustive::default())
}

/// As [`explore`], with every schedule run to its own end: for a check on the pruning, where there are few.
#[must_use]
pub fn explore_unpruned<D: Design>(stage: &Stage, limit: u64) -> Report {
    search::<D>(stage, limit, Exhaustive::leaping().unpruned())
}

/// As [`explore`], with states told apart by each event that was reported: for a check on what they have in common.
#[must_use]
pub fn explore_finely<D: Design>(stage: &Stage, limit: u64) -> Report {
    search::<D>(stage, limit, Exhaustive::leaping().fine())
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

/// Runs `D` through `count` random schedules, nothing pruned, until the first violation.
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
