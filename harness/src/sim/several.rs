//! Several file sets in one world: their publishers take turns, and the checkers of one set check
//! each of them.
//!
//! A run is split into the files, builds, publications, events and status of each set. The rest has
//! to hold for the whole: generations without a gap, each of which changes exactly one set.

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    At, Contents, MarkedBuild, Record, Run, Scenario, Schedule, Script, Shipped, Sim, Stage, Value,
    Violation, check, run_loaded,
};
use rustls_reload::{Build, Built, Context, Error, Event, Files, Status, Timing};

/// Publishers that share a world, prepared once for many runs.
pub struct MultiSetScenario {
    parts: Vec<Stage>,
    whole: Stage,
    /// The publisher of each step.
    owners: Vec<usize>,
}

impl MultiSetScenario {
    /// Takes a step of each publisher in the order of `turns`, over and over, until one of them has
    /// none left, and then the rest of each. The first scenario determines the world. The
    /// publishers must not share a directory.
    ///
    /// # Panics
    /// If a step fails.
    #[must_use]
    pub fn new(scenarios: &[Scenario], turns: &[usize]) -> Self {
        let config = scenarios[0].config;
        let mut left: Vec<_> = scenarios.iter().map(|scenario| scenario.steps().0.into_iter()).collect();
        for (scenario, steps) in scenarios.iter().zip(&mut left) {
            if let Some(crash) = scenario.crash {
                *steps = steps.by_ref().take(crash).collect::<Vec<_>>().into_iter();
            }
        }
        let (mut steps, mut owners) = (Vec::new(), Vec::new());
        let mut take = |owner: usize| {
            let step = left[owner].next();
            owners.extend(step.as_ref().map(|_| owner));
            let took = step.is_some();
            steps.extend(step);
            took
        };
        for owner in turns.iter().cycle().copied() {
            if !take(owner) {
                break;
            }
        }
        (0..scenarios.len()).for_each(|owner| while take(owner) {});
        let parts: Vec<_> = scenarios.iter().cloned().map(Scenario::prepare).collect();
        let paths: Vec<_> = scenarios.iter().flat_map(|scenario| scenario.publisher.paths()).collect();
        let base: Vec<_> =
            parts.iter().flat_map(|stage| stage.scenario.publisher.base(&stage.sets[0])).collect();
        let script = Script::new(&paths, &base, steps, &[], None, &config);
        let whole = Stage { scenario: scenarios[0].clone(), sets: Vec::new(), paths, script };
        Self { parts, whole, owners }
    }

    /// Returns the paths of each set.
    #[must_use]
    pub fn sets(&self) -> Vec<Vec<PathBuf>> {
        self.parts.iter().map(|stage| stage.scenario.publisher.paths()).collect()
    }

    /// Runs the shipped reloader, with this build step, through one schedule.
    pub fn run<B: Build<Value = Value>>(
        &self,
        schedule: Arc<Mutex<dyn Schedule>>,
        build: impl FnOnce(&Sim) -> B,
    ) -> Run {
        run_loaded(&self.whole, schedule, |sim, _| Shipped::load_several(sim, &self.sets(), build(sim)))
    }

    /// Returns the correct build step.
    pub fn build(&self, sim: &Sim) -> SetsBuild {
        SetsBuild { inner: MarkedBuild::new(sim), ranges: self.ranges() }
    }

    /// Returns where in the whole the files of each set are.
    #[must_use]
    pub fn ranges(&self) -> Vec<Range<usize>> {
        let mut next = 0;
        let range = |paths: Vec<PathBuf>| {
            next += paths.len();
            next - paths.len()..next
        };
        self.sets().into_iter().map(range).collect()
    }

    /// Checks each set by itself, and then the whole.
    ///
    /// # Errors
    /// The first violation, with its set.
    pub fn check(&self, run: &Run) -> Result<(), Violation> {
        for (set, stage) in self.parts.iter().enumerate() {
            let part = self.part(run, set)?;
            check(stage, &part)
                .map_err(|broken| Violation { why: format!("set {set}: {}", broken.why), ..broken })?;
        }
        self.one_at_a_time(run)
    }

    /// INV-04, INV-08: generations have no gap, and each changes one set.
    fn one_at_a_time(&self, run: &Run) -> Result<(), Violation> {
        let mut last: Option<(u64, &Contents)> = None;
        for at in &run.history {
            let Record::Published { generation, files } = &at.record else { continue };
            if let Some((number, old)) = last {
                let changed =
                    self.ranges().into_iter().filter(|range| files[range.clone()] != old[range.clone()]);
                let changed = changed.count();
                if *generation != number + 1 || changed != 1 {
                    let why = format!("generation {generation} after {number} changes {changed} sets");
                    return Err(Violation { invariant: "INV-04", why });
                }
            }
            last = Some((*generation, files));
        }
        Ok(())
    }

    /// Returns the part of a run that concerns one set.
    fn part(&self, run: &Run, set: usize) -> Result<Run, Violation> {
        let range = self.ranges()[set].clone();
        let mut part = Part { set, name: self.whole.paths[range.start].clone(), range, ..Part::default() };
        let mut history = Vec::new();
        for at in &run.history {
            let record = part.own(at, &self.owners)?;
            history.extend(record.map(|record| At { mono: at.mono, record }));
        }
        let settle = Timing::default().settle;
        // The first contents are those that the world began with.
        let paused = |pair: &[Duration]| pair[1] >= pair[0] + settle;
        Ok(Run {
            history,
            choices: Vec::new(),
            breached: part.changes.get(1..).unwrap_or_default().windows(2).any(paused),
            complete: run.complete,
            outcome: run.outcome,
            snapshots: Vec::new(),
            // While steps of another set are due, the reader may be kept from its own set. It is
            // free after the last step of all.
            last_step: run.last_step,
            faulted: run.faulted,
            crashed: run.crashed,
            status: run.status.clone().map(|status| part.own_status(status)),
        })
    }
}

/// The part of a run that concerns one set, as far as it has been read.
#[derive(Default)]
struct Part {
    set: usize,
    name: PathBuf,
    range: Range<usize>,
    /// The set that is evaluated.
    evaluates: usize,
    on_disk: Option<Contents>,
    /// When these contents changed.
    changes: Vec<Duration>,
    served: Option<Contents>,
    number: u64,
    /// The number of the set's own value, by generation.
    numbers: HashMap<u64, u64>,
}

impl Part {
    fn files(&self, all: &Contents) -> Contents {
        all[self.range.clone()].to_vec()
    }

    fn number_of(&self, generation: u64) -> u64 {
        self.numbers.get(&generation).copied().unwrap_or(0)
    }

    /// Returns a record as the set alone would have it; `None` if it does not concern the set.
    /// `owners` has the publisher of each step.
    fn own(&mut self, at: &At, owners: &[usize]) -> Result<Option<Record>, Violation> {
        Ok(match &at.record {
            Record::Step(index) if owners[*index] == self.set => Some(Record::Step(*index)),
            Record::Disk(all) if self.on_disk.as_ref() != Some(&self.files(all)) => {
                self.on_disk = Some(self.files(all));
                self.changes.push(at.mono);
                Some(Record::Disk(self.files(all)))
            }
            Record::Mark(_, of) => {
                self.evaluates = *of;
                None
            }
            Record::Evaluated { .. } if self.evaluates == self.set => Some(at.record.clone()),
            Record::Published { generation, files } => self.own_publication(*generation, self.files(files)),
            Record::Reported(event) => self.own_event(event)?.map(Record::Reported),
            Record::Served { generation, files, .. } => {
                let generation = self.number_of(*generation);
                let object = usize::try_from(generation).unwrap_or(0);
                Some(Record::Served { generation, object, files: self.files(files) })
            }
            Record::Loaded(_) | Record::StopTimeout(_) => Some(at.record.clone()),
            _ => None,
        })
    }

    /// Numbers a publication; `None` if it did not change the set.
    fn own_publication(&mut self, generation: u64, files: Contents) -> Option<Record> {
        let new = self.served.as_ref() != Some(&files);
        self.number += u64::from(new);
        self.numbers.insert(generation, self.number);
        self.served = Some(files.clone());
        new.then_some(Record::Published { generation: self.number, files })
    }

    fn own_event(&self, event: &Event) -> Result<Option<Event>, Violation> {
        match of_set(event) {
            None if matches!(event, Event::Started { .. } | Event::Stopped) => Ok(Some(event.clone())),
            Some(Some(of)) if of == self.name => Ok(Some(self.renumbered(event))),
            Some(Some(_)) => Ok(None),
            _ => Err(Violation { invariant: "INV-11", why: format!("reported without a set: {event}") }),
        }
    }

    fn renumbered(&self, event: &Event) -> Event {
        let mut event = event.clone();
        if let Event::Published { generation, .. } | Event::Refused { generation, .. } = &mut event {
            *generation = self.number_of(*generation);
        }
        event
    }

    fn own_status(&self, mut status: Status) -> Status {
        let own = status.sets[self.set].clone();
        status.generation = self.number_of(own.generation);
        (status.refused, status.deferred_until) = (own.refused, own.deferred_until);
        status.differs_since = own.differs_since;
        status
    }
}

/// Returns the set that an event names; `None` for an event without a set.
fn of_set(event: &Event) -> Option<Option<&Path>> {
    match event {
        Event::Published { set, .. }
        | Event::Refused { set, .. }
        | Event::Recovered { set }
        | Event::Deferred { set, .. }
        | Event::StillChanging { set } => Some(set.as_deref()),
        _ => None,
    }
}

/// The build step of several sets, which replaces the files of the set that changed.
pub struct SetsBuild {
    inner: MarkedBuild,
    ranges: Vec<Range<usize>>,
}

impl SetsBuild {
    /// Checks the files of one set by themselves.
    ///
    /// # Errors
    /// The errors of the build of one set.
    pub fn evaluate(&mut self, files: &Files, context: &Context<'_, Value>) -> Result<Built<Value>, Error> {
        self.inner.mark("set", context.set);
        self.inner.build(files, context)
    }

    /// Returns the whole with the files of one set replaced.
    #[must_use]
    pub fn put(&self, whole: Option<&Contents>, set: usize, files: Contents) -> Value {
        let length = self.ranges.last().map_or(0, |range| range.end);
        let mut whole = whole.cloned().unwrap_or_else(|| vec![None; length]);
        whole.splice(self.ranges[set].clone(), files);
        Value { files: whole }
    }
}

impl Build for SetsBuild {
    type Value = Value;

    fn build(&mut self, files: &Files, context: &Context<'_, Value>) -> Result<Built<Value>, Error> {
        let built = self.evaluate(files, context)?;
        let value = self.put(context.served.map(|served| &served.files), context.set, built.value.files);
        let mut whole = Built::new(value);
        whole.not_before = built.not_before;
        Ok(whole)
    }
}
