//! One run: a design under test in one world, from its first load to the end.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    At, Design, Events, Record, Schedule, Script, Sim, WorldConfig, hash,
    publisher::Publisher,
    scenario::{Renewal, Set, full},
};
use rustls_reload::{Status, Timing};

/// The time at which the publisher begins to take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// With the first load.
    FirstLoad,
    /// After the first load, with the start of the worker.
    Reload,
}

/// An act of the reloader's owner, at a moment that the schedule chooses: before any step of the
/// reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OwnerAct {
    /// Requests a manual reload without waiting for its answer.
    Ask,
    /// Stops the worker.
    Stop,
    /// Starts the worker again.
    Start,
}

impl OwnerAct {
    /// All acts.
    pub const ALL: [Self; 3] = [Self::Ask, Self::Stop, Self::Start];
}

/// A publisher, its updates, and the place where it stops.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The publisher.
    pub publisher: Publisher,
    /// The changes of the updates, one after the other.
    pub renewals: Vec<Renewal>,
    /// The number of steps after which the publisher dies.
    pub crash: Option<usize>,
    /// Whether it may die after any step, as the schedule decides.
    pub mortal: bool,
    /// The time at which it begins.
    pub phase: Phase,
    /// The number of the first set, which its key has too.
    pub first: u32,
    /// The acts of the reloader's owner meanwhile, in this order.
    pub owner: Vec<OwnerAct>,
    /// All other properties.
    pub config: WorldConfig,
}

impl Scenario {
    /// Describes a reload without a crash in a default world.
    #[must_use]
    pub fn new(publisher: Publisher, renewal: Renewal) -> Self {
        let config = WorldConfig::default();
        Self {
            publisher,
            renewals: vec![renewal],
            crash: None,
            mortal: false,
            phase: Phase::Reload,
            first: 1,
            owner: Vec::new(),
            config,
        }
    }

    /// Formats everything except the schedule and the first number as one word, which
    /// [`Scenario::parse`] reads.
    #[must_use]
    pub fn name(&self) -> String {
        let WorldConfig { tick, reuse, events, pause, verb, max_quiet_wait, waits, rest } = self.config;
        let renewals: Vec<_> = self.renewals.iter().map(|renewal| format!("{renewal:?}")).collect();
        let never = if self.mortal { "any" } else { "-" };
        let crash = self.crash.map_or(never.to_owned(), |step| step.to_string());
        let times =
            [tick, pause, verb, max_quiet_wait, rest].map(|time| time.as_millis().to_string()).join(",");
        let (publisher, renewals) = (self.publisher.name(), renewals.join("+"));
        let owner: String = self.owner.iter().map(|act| format!("/{act:?}")).collect();
        format!("{publisher}/{renewals}/{:?}/{crash}/{events:?}/{reuse}/{waits}/{times}{owner}", self.phase)
    }

    /// Parses a name; `None` if it is malformed.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let parts: Vec<&str> = name.split('/').collect();
        let [publisher, renewals, phase, crash, events, reuse, waits, times, ref owner @ ..] = parts[..]
        else {
            return None;
        };
        let act = |name: &&str| OwnerAct::ALL.into_iter().find(|act| format!("{act:?}") == *name);
        let renewal = |name: &str| {
            Renewal::ALL.into_iter().chain([Renewal::Broken]).find(|renewal| format!("{renewal:?}") == name)
        };
        let times: Vec<_> = times
            .split(',')
            .map(|time| time.parse().ok().map(Duration::from_millis))
            .collect::<Option<_>>()?;
        let [tick, pause, verb, max_quiet_wait, rest] = times[..] else { return None };
        Some(Self {
            publisher: Publisher::all(true).into_iter().find(|known| known.name() == publisher)?,
            renewals: renewals.split('+').map(renewal).collect::<Option<_>>()?,
            crash: if ["-", "any"].contains(&crash) { None } else { Some(crash.parse().ok()?) },
            mortal: crash == "any",
            phase: [Phase::FirstLoad, Phase::Reload]
                .into_iter()
                .find(|known| format!("{known:?}") == phase)?,
            first: 1,
            owner: owner.iter().map(act).collect::<Option<_>>()?,
            config: WorldConfig {
                tick,
                reuse: reuse.parse().ok()?,
                events: Events::ALL.into_iter().find(|known| format!("{known:?}") == events)?,
                pause,
                verb,
                max_quiet_wait,
                waits: waits.parse().ok()?,
                rest,
            },
        })
    }

    /// Returns the complete sets, oldest first.
    #[must_use]
    pub fn sets(&self) -> Vec<Set> {
        let mut sets = vec![full(self.first, self.first)];
        for (renewal, number) in self.renewals.iter().zip(self.first + 1..) {
            let next = renewal.next(&sets[sets.len() - 1], number);
            sets.push(next);
        }
        sets
    }

    /// Returns the publisher's steps without a crash, and the indices at which an update begins.
    #[must_use]
    pub fn steps(&self) -> (Vec<rustls_reload_testkit::Op>, Vec<usize>) {
        let (mut steps, mut begins) = (Vec::new(), Vec::new());
        for (set, number) in self.sets().iter().skip(1).zip(2..) {
            begins.push(steps.len());
            steps.extend(self.publisher.update(number, set));
        }
        (steps, begins)
    }

    /// Prepares the scenario once for many runs.
    #[must_use]
    pub fn prepare(self) -> Stage {
        let (steps, begins) = self.steps();
        let sets = self.sets();
        let paths = self.publisher.paths();
        let base = self.publisher.base(&sets[0]);
        let mut script = Script::new(&paths, &base, steps, &begins, self.crash, &self.config);
        if self.mortal {
            script = script.mortal();
        }
        Stage { scenario: self, sets, paths, script }
    }
}

/// A prepared scenario.
pub struct Stage {
    /// The scenario.
    pub scenario: Scenario,
    /// The complete sets, oldest first. If empty, they are the contents of the paths before the
    /// first step and after the last.
    pub sets: Vec<Set>,
    pub(super) paths: Vec<PathBuf>,
    pub(super) script: Arc<Script>,
}

/// The results of a run.
#[derive(Debug)]
pub struct Run {
    /// Every record.
    pub history: Vec<At>,
    /// The choices that replay it.
    pub choices: Vec<usize>,
    /// Whether the publisher paused for too long within an update (ASM-05).
    pub breached: bool,
    /// Whether the publisher died before its last step.
    pub crashed: bool,
    /// Whether the run went on to the end. Otherwise the schedule ended it because the rest is
    /// known.
    pub complete: bool,
    /// The hash of the reports and publications.
    pub outcome: u64,
    /// The hashes of the observations of each snapshot.
    pub snapshots: Vec<u64>,
    /// The time when the publisher took its last step, or the last fault was mended.
    pub last_step: Duration,
    /// Whether calls of the reader were made to fail.
    pub faulted: bool,
    /// The final status of the design.
    pub status: Option<Status>,
}

/// Runs `D` through one schedule of a scenario.
pub fn run<D: Design>(stage: &Stage, schedule: Arc<Mutex<dyn Schedule>>) -> Run {
    run_loaded(stage, schedule, D::load)
}

/// Runs a design that is loaded by `load` through one schedule of a scenario.
pub fn run_loaded<D: Design>(
    stage: &Stage,
    schedule: Arc<Mutex<dyn Schedule>>,
    load: impl FnOnce(&Sim, &[PathBuf]) -> Result<D, String>,
) -> Run {
    let Stage { scenario, paths, script, .. } = stage;
    let sim = Sim::new(script, Timing::default().settle, scenario.config, schedule);
    if scenario.phase == Phase::FirstLoad {
        sim.release();
    }
    let status = match load(&sim, paths) {
        Ok(mut design) => {
            let first = design.current();
            sim.note(Record::Published { generation: first.generation, files: first.value.files.clone() });
            sim.note(Record::Loaded(Ok(())));
            sim.release();
            drive(&sim, &mut design, &scenario.owner);
            design.status()
        }
        Err(error) => {
            sim.note(Record::Loaded(Err(error)));
            None
        }
    };
    sim.take_run(status)
}

fn drive<D: Design>(sim: &Sim, design: &mut D, mut owner: &[OwnerAct]) {
    sim.begin_step(&|| design.digest());
    design.begin();
    observe(sim, design);
    let mut runs = true;
    // A reader that is slower than its poll never idles.
    while !sim.is_over() {
        sim.begin_step(&|| {
            if owner.is_empty() { design.digest() } else { hash(&(design.digest(), owner.len())) }
        });
        let act = owner.first().copied();
        let mut acts = act.filter(|_| sim.lets_owner_act());
        if acts.is_none() {
            let interrupt = act.and_then(|act| Some((act, design.interrupt(act)?)));
            let may_interrupt = interrupt.is_some();
            sim.lets_owner_interrupt(interrupt);
            let turn = if runs { design.turn() } else { Err(Some(STOPPED)) };
            observe(sim, design);
            if may_interrupt && !sim.is_uninterrupted() {
                owner = &owner[1..];
                if act == Some(OwnerAct::Stop) {
                    design.end();
                    runs = false;
                }
                continue;
            }
            sim.lets_owner_interrupt(None);
            // The owner acts before the last rest at the latest. It does not act before a snapshot
            // that follows soon, because that one may publish and the owner may act within it.
            let is_resting = |pause: Option<Duration>| !runs || pause.is_none_or(|pause| pause > SOON);
            acts = act.filter(|_| turn.is_err_and(is_resting) && sim.is_still());
            if let Err(pause) = turn
                && acts.is_none()
                && !sim.idle(pause)
            {
                return;
            }
        }
        let Some(act) = acts.filter(|_| !sim.ended()) else { continue };
        owner = &owner[1..];
        sim.acts(act);
        match act {
            OwnerAct::Ask => design.ask(),
            OwnerAct::Stop => design.end(),
            OwnerAct::Start => design.begin(),
        }
        runs = act == OwnerAct::Start || (runs && act != OwnerAct::Stop);
        observe(sim, design);
    }
}

/// How long the publisher may run between two observations of an owner whose reloader is stopped.
const STOPPED: Duration = Duration::from_millis(100);

/// The longest wait for a snapshot that settles, rereads or confirms files.
const SOON: Duration = Duration::from_secs(5);

/// Observes the served value, as a handshake between two steps does.
fn observe<D: Design>(sim: &Sim, design: &mut D) {
    let current = design.current();
    let object = Arc::as_ptr(&current).addr();
    let files = current.value.files.clone();
    sim.note(Record::Served { generation: current.generation, object, files });
    if let Some(is_served) = design.answer() {
        sim.note(Record::Answered { is_served });
    }
}
