//! Plays a scenario in both worlds, and compares what each measured.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use super::{
    common,
    real::Real,
    run::{Pace, Run},
    scenarios::Scenario,
    world::{Reported, World},
};
use rustls_reload::Timing;
use rustls_reload_harness::settings;

/// The number of scenarios that run now, and whether one of them runs alone.
static MACHINE: (Mutex<(usize, bool)>, Condvar) = (Mutex::new((0, false)), Condvar::new());

/// A scenario's share of the machine.
///
/// A scenario that is measured in milliseconds runs alone. Scenarios that mostly wait run together,
/// and run first, so that as many as possible wait at the same time.
pub(super) struct Share {
    alone: bool,
}

impl Share {
    pub(super) fn take(alone: bool) -> Self {
        let state = MACHINE.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_taken = |(sharing, owned): &mut (usize, bool)| *owned || alone && *sharing > 0;
        let mut state = MACHINE.1.wait_while(state, is_taken).unwrap_or_else(PoisonError::into_inner);
        if alone {
            state.1 = true
        } else {
            state.0 += 1
        }
        Self { alone }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = MACHINE.0.lock().unwrap_or_else(PoisonError::into_inner);
        if self.alone {
            state.1 = false
        } else {
            state.0 -= 1
        }
        MACHINE.1.notify_all();
    }
}

/// Number of attempts on a busy machine, each with twice the delays of the one before. The bounds
/// are fractions of the delays, and a missed event is missed at any scale.
pub(super) const TRIES: u32 = 6;

/// Returns whether the default delays are used, as `scripts/detection` does. They take longer.
pub(super) fn by_defaults() -> bool {
    settings::is("DETECTION", "defaults")
}

/// Returns the delays of a scenario, scaled for a busy machine.
pub(super) fn timing(scenario: &Scenario, scale: u32) -> Timing {
    // Under Wine steps take longer.
    let settle = Duration::from_millis(if cfg!(windows) { 500 } else { 50 });
    let timing = if by_defaults() { Timing::default() } else { Timing { settle, ..common::quick() } };
    let timing = Timing {
        settle: timing.settle * scale,
        shrink_settle: timing.shrink_settle * scale,
        poll: timing.poll * scale,
        degraded_poll: timing.degraded_poll * scale,
        still_changing_after: timing.still_changing_after * scale,
        ..timing
    };
    if by_defaults() { timing } else { scenario.timing(timing) }
}

fn rounds() -> u32 {
    if by_defaults() { 3 } else { 10 }
}

/// Prints a line past the capture of `cargo test`, so that measurements are always shown.
pub(super) fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").unwrap();
}

/// The results of a scenario in one world.
pub(super) struct Outcome {
    pub(super) published: u64,
    pub(super) reported: Vec<Reported>,
    pub(super) took: BTreeMap<Pace, Vec<Duration>>,
    pub(super) tied: Vec<Duration>,
}

/// Runs a scenario. Returns `Err` where the machine stalled the publisher, so that the run shows
/// nothing.
pub(super) fn go(world: &mut dyn World, scenario: &Scenario) -> Result<Outcome, ()> {
    played(Run::new(world, rounds()), scenario)
}

pub(super) fn played(mut run: Run<'_>, scenario: &Scenario) -> Result<Outcome, ()> {
    (scenario.body)(&mut run);
    let Run { world, set, expected, mut took, tied, stalled, .. } = run;
    if stalled {
        return Err(());
    }
    assert!(world.serves(set), "{}: {set:?} is not served in the end", scenario.name);
    let reported = world.reported();
    assert_eq!(reported, expected, "{}: reported, and expected to be reported", scenario.name);
    let publications =
        reported.iter().filter(|reported| matches!(reported, Reported::Published { .. })).count() as u64;
    assert_eq!(world.published(), publications, "{}: each publication is reported", scenario.name);
    took.retain(|_, took| !took.is_empty());
    Ok(Outcome { published: publications, reported, took, tied })
}

fn median(took: &[Duration]) -> Duration {
    let mut took = took.to_vec();
    took.sort();
    took[took.len() / 2]
}

/// Returns the longest wait for a set at this pace, without the work itself.
fn wait(pace: Pace, timing: &Timing) -> Duration {
    match pace {
        Pace::Commit | Pace::Soon => Duration::ZERO,
        Pace::Settle => timing.settle,
        Pace::Poll => timing.poll,
        Pace::PollSettle => timing.poll + timing.settle,
        Pace::Degraded => timing.degraded_poll,
        Pace::DegradedSettle => timing.degraded_poll + timing.settle,
    }
}

/// Returns the medians as text, or `Err` where one exceeds its bound.
fn check_real(scenario: &Scenario, scale: u32, outcome: &Outcome) -> Result<String, String> {
    let timing = timing(scenario, scale);
    let mut line = String::new();
    for (pace, took) in &outcome.took {
        let (median, worst) = (median(took), *took.iter().max().unwrap());
        line += &format!("; {pace:?}: median {median:.1?}, worst {worst:.1?} of {}", took.len());
        // On a noisy machine the worst value is only printed, and the bound applies to the median.
        let work = match pace {
            // Wine passes every call through one process, so this bound only distinguishes an event
            // from a missed one.
            _ if cfg!(windows) => 5_000,
            Pace::Commit => 10,
            _ => 50,
        };
        let work = Duration::from_millis(work) * scale;
        let bound = wait(*pace, &timing) + work;
        if median >= bound {
            return Err(format!("{}{line}, and the bound is {bound:?}", scenario.name));
        }
        if matches!(pace, Pace::Commit | Pace::Soon | Pace::Settle) && worst >= timing.poll {
            return Err(format!("{}: {worst:?}: found by the poll", scenario.name));
        }
    }
    if !outcome.tied.is_empty() {
        line += &format!("; tied: median {:.1?} of {}", median(&outcome.tied), outcome.tied.len());
    }
    Ok(line)
}

pub(super) fn check_simulated(scenario: &Scenario, outcome: &Outcome) -> String {
    let timing = timing(scenario, 1);
    let mut line = String::new();
    for (pace, took) in &outcome.took {
        let (median, worst) = (median(took), *took.iter().max().unwrap());
        line += &format!("; {pace:?}: {median:.1?}, {worst:.1?}");
        // Work takes no time in the simulation.
        let bound = wait(*pace, &timing) + timing.min_interval;
        assert!(worst <= bound, "{}: {pace:?}: {worst:?}, bound {bound:?}", scenario.name);
    }
    assert!(outcome.tied.is_empty(), "{}: a tick lies between", scenario.name);
    line
}

/// Runs a scenario in the real world. Returns its outcome, and its times as text.
///
/// On a busy machine the scenario is repeated with longer delays. A missed event, or a settle time
/// where none is due, shows each time.
pub(super) fn show(
    mut world: impl FnMut(Timing) -> Real,
    scenario: &Scenario,
    alone: bool,
) -> (Outcome, String) {
    let _share = Share::take(alone);
    let mut why = String::new();
    for scale in (0..TRIES).map(|tried| 1 << tried) {
        match go(&mut world(timing(scenario, scale)), scenario) {
            Err(()) => why = format!("{}: the publisher was held up", scenario.name),
            Ok(outcome) => match check_real(scenario, scale, &outcome) {
                Ok(line) => return (outcome, line),
                Err(slow) => why = slow,
            },
        }
        say(&format!("detection: once more: {why}"));
    }
    panic!("{TRIES} times: {why}");
}
