//! Every interleaving of the field's publishers with the reader's verbs, each run judged by the invariants.
//!
//! Checks: INV-01, INV-02, INV-03, INV-04, INV-05, INV-06, INV-08, INV-11. `scripts/interleave` covers the larger worlds.
//!
//! Engine: generated.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)]
// reason: tests stop at the first surprise, and print what they covered

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustls_reload::testkit::sim::{
    self, Events, Exhaustive, ORDERS, Phase, Publisher, Renewal, Replay, Report, Scenario, Shipped,
};

/// How much of the space: `INTERLEAVE=whole` is what `scripts/interleave` covers.
fn is_whole() -> bool {
    std::env::var("INTERLEAVE").is_ok_and(|tier| tier == "whole")
}

/// One publisher alone, by its name in the tables.
fn only() -> Option<String> {
    std::env::var("INTERLEAVE_PUBLISHER").ok()
}

/// In the quick tier a world that is larger than this is cut off, and the table says so.
fn limit() -> u64 {
    let limit = std::env::var("INTERLEAVE_RUNS").ok().and_then(|limit| limit.parse().ok());
    limit.unwrap_or(if is_whole() { u64::MAX } else { 250 })
}

/// Random schedules for each world that was cut off.
fn samples() -> u64 {
    let samples = std::env::var("INTERLEAVE_SAMPLES").ok().and_then(|samples| samples.parse().ok());
    samples.unwrap_or(80)
}

fn seed() -> u64 {
    std::env::var("INTERLEAVE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// Totals of one publisher.
#[derive(Default)]
struct Row {
    worlds: usize,
    crashes: usize,
    cut: usize,
    runs: u64,
    schedules: u128,
    breached: u128,
    looks: HashSet<u64>,
    mixture: Option<String>,
    violations: u64,
}

impl Row {
    /// Adds a report up; a violation ends the test.
    fn take(&mut self, scenario: &str, report: Report) {
        self.violations += u64::from(report.violation.is_some());
        if let Some((violation, line)) = report.violation {
            panic!(
                "{violation}\nREPLAY='{scenario} {line}' cargo test --test interleave replay -- --nocapture"
            );
        }
        self.worlds += usize::from(!report.is_sample);
        self.cut += usize::from(!report.whole && !report.is_sample);
        self.runs += report.runs;
        self.schedules = self.schedules.saturating_add(report.schedules);
        self.breached = self.breached.saturating_add(report.breached);
        self.looks.extend(report.looks);
        let mixture = report.mixture.map(|line| format!("{scenario} {line}"));
        self.mixture = self.mixture.take().or(mixture);
    }
}

impl Row {
    /// The row of one publisher in one line: what was covered, and that nothing was found.
    fn summary(&self, title: &str, publisher: Publisher) -> String {
        format!(
            "summary: {title}: {}: {} runs, {:.3e} schedules covered, {} distinct reader observations, {} violations",
            publisher.name(),
            self.runs,
            self.schedules as f64,
            self.looks.len(),
            self.violations
        )
    }
}

/// Prints a line past the capture of `cargo test`: a count that falls is a finding, so the counts are always shown.
fn say(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
}

/// Explores the scenarios that `worlds` makes for each publisher, and prints the table.
fn table(title: &str, worlds: impl Fn(Publisher) -> Vec<Scenario>) -> Vec<(Publisher, Row)> {
    say(&format!(
        "{title:24} {:30} {:>6} {:>7} {:>4} {:>9} {:>10} {:>10} {:>8} violations",
        "publisher", "worlds", "crashes", "cut", "runs", "schedules", "breached", "looks"
    ));
    let mut rows = Vec::new();
    for publisher in Publisher::all(is_whole()) {
        if only().is_some_and(|only| publisher.name() != only) {
            continue;
        }
        let (mut row, start) = (Row::default(), Instant::now());
        for scenario in worlds(publisher) {
            let name = scenario.name();
            row.crashes += usize::from(scenario.crash.is_some());
            let stage = scenario.prepare();
            // There is a crash world for each step, renewal, pause and wait: each gets a part of what others get.
            let part = if is_whole() && stage.scenario.crash.is_some() { 20 } else { 1 };
            let report = sim::explore::<Shipped>(&stage, limit().div_ceil(part));
            if !report.whole && report.violation.is_none() {
                // Depth first, a cut-off search has seen one corner only: the rest is sampled.
                row.take(&name, sim::sample::<Shipped>(&stage, seed(), samples().div_ceil(part)));
            }
            row.take(&name, report);
        }
        say(&format!(
            "{title:24} {:30} {:>6} {:>7} {:>4} {:>9} {:>10.3e} {:>10.3e} {:>8} 0 ({:.1?})",
            publisher.name(),
            row.worlds,
            row.crashes,
            row.cut,
            row.runs,
            row.schedules as f64,
            row.breached as f64,
            row.looks.len(),
            start.elapsed()
        ));
        if let Some(line) = &row.mixture {
            say(&format!("    beyond its assumption a mixture is published: {line}"));
        }
        if is_whole() {
            say(&row.summary(title, publisher));
        }
        rows.push((publisher, row));
    }
    rows
}

/// What a publisher can renew: `step renew` never writes the key or the CAs.
fn renewals(publisher: Publisher) -> Vec<Renewal> {
    if publisher == Publisher::StepRenew {
        return vec![Renewal::LeafOnly, Renewal::ChainOnly, Renewal::Nothing];
    }
    Renewal::ALL.to_vec()
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Pauses between two steps: within one tick, beyond one, just under the settle time.
const PAUSES: [u64; 3] = [0, 5, 499];

fn waits() -> &'static [usize] {
    if is_whole() { &[0, 1, 2] } else { &[0, 1] }
}

#[test]
fn inv01_to_inv11_hold_over_every_reload() {
    table("reload", |publisher| {
        let mut worlds = Vec::new();
        for renewal in renewals(publisher) {
            for pause in PAUSES {
                for waits in waits() {
                    let mut scenario = Scenario::new(publisher, renewal);
                    (scenario.weather.pause, scenario.weather.waits) = (millis(pause), *waits);
                    worlds.push(scenario);
                }
            }
        }
        worlds
    });
}

/// The whole space, nothing cut off, where the publisher takes its steps without a pause: between any two verbs of the
/// reader, any number of steps.
#[test]
fn inv01_to_inv11_hold_over_every_interleaving_without_a_pause() {
    for publisher in Publisher::all(false) {
        let small = publisher == Publisher::StepRenew;
        if only().map_or(!small && !is_whole(), |only| publisher.name() != only) {
            continue;
        }
        let mut row = Row::default();
        for renewal in renewals(publisher) {
            for phase in [Phase::FirstLoad, Phase::Reload] {
                let mut scenario = Scenario::new(publisher, renewal);
                scenario.phase = phase;
                (scenario.weather.pause, scenario.weather.waits) = (Duration::ZERO, 0);
                let (name, start) = (scenario.name(), Instant::now());
                let report = sim::explore::<Shipped>(&scenario.prepare(), u64::MAX);
                say(&format!(
                    "whole: {name}: {} runs, {:.3e} schedules, {} states, {} looks, {} violations ({:.1?})",
                    report.runs,
                    report.schedules as f64,
                    report.states,
                    report.looks.len(),
                    u8::from(report.violation.is_some()),
                    start.elapsed()
                ));
                assert!(report.violation.is_some() || report.whole, "cut off");
                row.take(&name, report);
            }
        }
        say(&row.summary("whole", publisher));
    }
}

#[test]
fn inv01_to_inv11_hold_over_every_first_load() {
    table("first load", |publisher| {
        let mut worlds = Vec::new();
        for renewal in renewals(publisher) {
            for pause in PAUSES {
                let mut scenario = Scenario::new(publisher, renewal);
                scenario.phase = Phase::FirstLoad;
                (scenario.weather.pause, scenario.weather.waits) = (millis(pause), 1);
                worlds.push(scenario);
            }
        }
        worlds
    });
}

#[test]
fn inv06_lost_doubled_late_and_overflowed_events_change_the_delay_only() {
    table("events", |publisher| {
        let mut worlds = Vec::new();
        for events in Events::ALL {
            for pause in PAUSES {
                let mut scenario = Scenario::new(publisher, renewals(publisher)[0]);
                (scenario.weather.pause, scenario.weather.waits) = (millis(pause), 1);
                scenario.weather.events = events;
                worlds.push(scenario);
            }
        }
        worlds
    });
}

#[test]
fn inv01_a_crash_after_any_step_breaks_one_generation_only() {
    table("crash after each step", |publisher| {
        let (renewals, pauses, waits) = match is_whole() {
            true => (renewals(publisher), &PAUSES[..], &[0, 1][..]),
            false => (renewals(publisher)[..2].to_vec(), &PAUSES[1..2], &[0][..]),
        };
        let mut worlds = Vec::new();
        for renewal in renewals {
            for crash in 0..Scenario::new(publisher, renewal).steps().0.len() {
                for (pause, waits) in pauses.iter().flat_map(|pause| waits.iter().map(move |n| (pause, n))) {
                    let mut scenario = Scenario::new(publisher, renewal);
                    scenario.crash = Some(crash);
                    (scenario.weather.pause, scenario.weather.waits) = (millis(*pause), *waits);
                    worlds.push(scenario);
                }
            }
        }
        worlds
    });
}

#[test]
fn inv04_a_second_update_begins_before_the_first_is_read() {
    table("two updates", |publisher| {
        let mut worlds = Vec::new();
        for pause in PAUSES {
            for second in [renewals(publisher)[0], renewals(publisher)[1]] {
                let mut scenario = Scenario::new(publisher, renewals(publisher)[0]);
                scenario.renewals.push(second);
                (scenario.weather.pause, scenario.weather.waits) = (millis(pause), 0);
                worlds.push(scenario);
            }
        }
        worlds
    });
}

#[test]
fn inv01_slow_reads_and_inode_numbers_used_again() {
    table("slow, reused numbers", |publisher| {
        let mut worlds = Vec::new();
        for (verb, pause) in [(0, 5), (1, 1), (1, 7), (20, 5), (20, 300), (200, 499)] {
            for phase in [Phase::FirstLoad, Phase::Reload] {
                let mut scenario = Scenario::new(publisher, renewals(publisher)[0]);
                scenario.phase = phase;
                scenario.weather.reuse = true;
                (scenario.weather.pause, scenario.weather.verb) = (millis(pause), millis(verb));
                scenario.weather.rest += millis(verb) * 300;
                scenario.weather.waits = 1;
                worlds.push(scenario);
            }
        }
        worlds
    });
}

#[test]
fn inv11_a_refusal_that_stands_is_told_once() {
    table("broken, written again", |publisher| {
        if publisher == Publisher::StepRenew {
            return Vec::new();
        }
        let mut worlds = Vec::new();
        for waits in [2, 3] {
            let mut scenario = Scenario::new(publisher, Renewal::Broken);
            scenario.renewals.push(Renewal::Nothing);
            scenario.weather.waits = waits;
            // Both updates are told apart by the wait between them: elsewhere the publisher does not pause.
            scenario.weather.events = Events::Delivered;
            worlds.push(scenario);
        }
        worlds
    });
}

/// Unpruned schedules of a world, by its share in percent of `INTERLEAVE_UNPRUNED`; the larger worlds come on top.
fn unpruned(share: u64) -> u64 {
    let sum = std::env::var("INTERLEAVE_UNPRUNED").ok().and_then(|sum| sum.parse().ok());
    (sum.unwrap_or(if is_whole() { 1_000_000 } else { 12_000 }) * share).div_ceil(100)
}

#[test]
fn pruning_by_state_loses_no_outcome() {
    // Of the larger worlds a sample does not reach every outcome, but it must not reach one that the search did not.
    let small =
        [(Publisher::StepRenew, 1, 40), (Publisher::DirSwapped, 1, 30), (Publisher::Release(false), 1, 30)];
    let large = [(Publisher::Certbot, 0, 5), (Publisher::InPlace(ORDERS[0]), 0, 5)];
    let mut drawn = 0;
    for (publisher, waits, share) in small.into_iter().chain(large) {
        let is_small = waits == 1;
        if !is_small && !is_whole() {
            continue;
        }
        let mut scenario = Scenario::new(publisher, Renewal::LeafOnly);
        scenario.weather.waits = waits;
        let stage = scenario.prepare();
        let start = Instant::now();
        let whole = sim::explore::<Shipped>(&stage, u64::MAX);
        let searching = start.elapsed();
        let sample = sim::sample::<Shipped>(&stage, seed(), unpruned(share));
        assert!(whole.violation.is_none() && sample.violation.is_none());
        drawn += sample.runs;
        say(&format!(
            "{}: {} runs for {:.3e} schedules in {searching:.1?}, {} unpruned in {:.1?}; outcomes {} and {}",
            publisher.name(),
            whole.runs,
            whole.schedules as f64,
            sample.runs,
            start.elapsed() - searching,
            whole.outcomes.len(),
            sample.outcomes.len()
        ));
        assert!(sample.outcomes.is_subset(&whole.outcomes), "an outcome that pruning has lost");
        assert!(!is_small || whole.outcomes == sample.outcomes, "the sample misses an outcome");
    }
    say(&format!("unpruned in all: {drawn} schedules, the same outcomes"));
}

/// Replays the line of a violation, from the variable `REPLAY`.
#[test]
fn replay() {
    let Ok(line) = std::env::var("REPLAY") else { return };
    let (name, line) = line.split_once(' ').unwrap();
    let scenario = Scenario::parse(name).unwrap();
    let steps = scenario.steps().0;
    let stage = scenario.prepare();
    let run = sim::run::<Shipped>(&stage, Arc::new(Mutex::new(Replay::parse(line).unwrap())));
    for at in &run.history {
        let text = match &at.record {
            sim::Record::Step(index) => format!("step {index}: {:?}", steps[*index]),
            record => format!("{record:?}"),
        };
        println!("{:?} {text}", at.mono);
    }
    sim::check(&stage, &run).unwrap();
}

#[test]
fn a_replayed_line_is_the_same_run() {
    let mut scenario = Scenario::new(Publisher::StepRenew, Renewal::LeafOnly);
    scenario.weather.waits = 1;
    let stage = scenario.prepare();
    let schedule = Arc::new(Mutex::new(Exhaustive::default()));
    let mut complete = 0;
    while schedule.lock().unwrap().next_run() {
        let first = sim::run::<Shipped>(&stage, schedule.clone());
        schedule.lock().unwrap().end_run(first.breached);
        if !first.complete {
            continue;
        }
        complete += 1;
        let name = stage.scenario.name();
        let again = Scenario::parse(&name).unwrap();
        assert_eq!(again.name(), name);
        let line = Replay::line(&first.choices);
        let again =
            sim::run::<Shipped>(&again.prepare(), Arc::new(Mutex::new(Replay::parse(&line).unwrap())));
        assert_eq!((first.outcome, &first.looks), (again.outcome, &again.looks));
        assert_eq!(first.choices, again.choices);
    }
    assert!(complete > 3);
}
