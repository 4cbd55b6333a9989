//! Every interleaving of the field's publishers with the reader's verbs, each run judged by the invariants.
//!
//! Checks: INV-01, INV-02, INV-03, INV-04, INV-05, INV-06, INV-08, INV-11. `scripts/interleave` covers the larger worlds.
//!
//! Engine: generated.

mod leaps;
mod table;
mod without_handles;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls_reload_harness::sim::{
    self, Design, Events, Exhaustive, OwnerAct, Phase, Publisher, Renewal, Replay, Scenario, Shipped,
};
use table::{is_whole, only, publishers, table, whole_table};

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

/// Those whose worlds are small enough to be searched to their ends in the quick tier.
const SMALL: [Publisher; 4] =
    [Publisher::StepRenew, Publisher::Release(false), Publisher::Release(true), Publisher::DirSwapped];

/// All of them where the whole space is asked for, or the one that was asked for.
fn all_or_small() -> Vec<Publisher> {
    if is_whole() || only().is_some() { publishers() } else { SMALL.to_vec() }
}

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
                    if is_whole() && (pause, *waits) == (0, 0) {
                        // Searched to its end elsewhere.
                        continue;
                    }
                    let mut scenario = Scenario::new(publisher, renewal);
                    (scenario.weather.pause, scenario.weather.waits) = (millis(pause), *waits);
                    worlds.push(scenario);
                }
            }
        }
        worlds
    });
}

/// The whole space where the publisher takes its steps without a pause: before anything that the reader asks any number of
/// steps, and after any of them the publisher may die.
#[test]
fn inv01_to_inv11_hold_over_every_interleaving_without_a_pause() {
    whole_table("whole, without a pause", all_or_small(), |publisher| {
        let mut worlds = Vec::new();
        for renewal in renewals(publisher) {
            for phase in [Phase::FirstLoad, Phase::Reload] {
                let mut scenario = Scenario::new(publisher, renewal);
                (scenario.phase, scenario.mortal) = (phase, true);
                (scenario.weather.pause, scenario.weather.waits) = (Duration::ZERO, 0);
                worlds.push(scenario);
            }
        }
        worlds
    });
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
        let mut worlds = Vec::new();
        if is_whole() {
            for renewal in renewals(publisher) {
                // Without a pause and a wait it is searched to its end elsewhere.
                for (pause, waits) in [(0, 1), (5, 0), (5, 1), (499, 0), (499, 1)] {
                    let mut scenario = Scenario::new(publisher, renewal);
                    scenario.mortal = true;
                    (scenario.weather.pause, scenario.weather.waits) = (millis(pause), waits);
                    worlds.push(scenario);
                }
            }
            return worlds;
        }
        // A search that is cut off would see the last crashes alone: each gets a world of its own.
        for renewal in renewals(publisher).into_iter().take(2) {
            for crash in 0..Scenario::new(publisher, renewal).steps().0.len() {
                let mut scenario = Scenario::new(publisher, renewal);
                scenario.crash = Some(crash);
                (scenario.weather.pause, scenario.weather.waits) = (millis(5), 0);
                worlds.push(scenario);
            }
        }
        worlds
    });
}

/// All renewals in small worlds, one in larger ones.
fn some_renewals(publisher: Publisher) -> Vec<Renewal> {
    let mut renewals = renewals(publisher);
    if !SMALL.contains(&publisher) {
        renewals.truncate(1);
    }
    renewals
}

/// The whole space where the publisher pauses before each step, beyond one tick or just under the settle time, and the reader
/// takes no rest in between: each of its questions may find any step taken, and any of their times.
#[test]
fn inv01_to_inv11_hold_over_every_interleaving_with_pauses() {
    let mut of = publishers();
    of.retain(|publisher| match is_whole() {
        // The three that take the most runs without a pause: with pauses no search of them has been seen to its end.
        true => !matches!(publisher, Publisher::InPlaceOldTimes | Publisher::DirRemade | Publisher::Volumes),
        false => *publisher == Publisher::StepRenew,
    });
    whole_table("whole, with pauses", of, |publisher| {
        let mut worlds = Vec::new();
        for renewal in some_renewals(publisher) {
            for phase in [Phase::FirstLoad, Phase::Reload] {
                for pause in [5, 499] {
                    let mut scenario = Scenario::new(publisher, renewal);
                    scenario.phase = phase;
                    (scenario.weather.pause, scenario.weather.waits) = (millis(pause), 0);
                    worlds.push(scenario);
                }
            }
        }
        worlds
    });
}

/// The whole space where the publisher does not pause, and once amidst its steps the reader has nothing to do and waits: for
/// what is reported, for a file to hold still, for its next poll. After any step the publisher may die.
#[test]
fn inv01_to_inv11_hold_over_every_interleaving_with_a_wait() {
    whole_table("whole, with a wait", all_or_small(), |publisher| {
        let mut worlds = Vec::new();
        for renewal in some_renewals(publisher) {
            for phase in [Phase::FirstLoad, Phase::Reload] {
                let mut scenario = Scenario::new(publisher, renewal);
                (scenario.phase, scenario.mortal) = (phase, true);
                (scenario.weather.pause, scenario.weather.waits) = (Duration::ZERO, 1);
                worlds.push(scenario);
            }
        }
        worlds
    });
}

/// The same for one renewal in a reload, with events that are lost, doubled, late, or said to be lost; the publisher lives.
#[test]
fn inv06_events_change_the_delay_only_over_every_interleaving_with_a_wait() {
    whole_table("whole, events", all_or_small(), |publisher| {
        let mut worlds = Vec::new();
        for events in Events::ALL {
            if events != Events::Delivered {
                let mut scenario = Scenario::new(publisher, renewals(publisher)[0]);
                (scenario.weather.pause, scenario.weather.waits) = (Duration::ZERO, 1);
                scenario.weather.events = events;
                worlds.push(scenario);
            }
        }
        worlds
    });
}

/// The whole space where the owner of the reloader asks for a reload or stops it, before any step of the loop or any verb
/// within a step, and starts it again before any later step.
#[test]
fn inv13_owner_acts_at_any_moment() {
    use OwnerAct::{Ask, Start, Stop};
    let mut of = publishers();
    of.retain(|publisher| match is_whole() {
        true => SMALL.contains(publisher),
        false => matches!(publisher, Publisher::StepRenew | Publisher::DirSwapped),
    });
    let owners: [&[OwnerAct]; 5] =
        [&[Stop, Start], &[Ask], &[Ask, Ask], &[Ask, Stop, Start], &[Stop, Start, Ask]];
    whole_table("whole, owner acts", of, |publisher| {
        let mut worlds = Vec::new();
        for owner in &owners[..if is_whole() { 5 } else { 2 }] {
            // Whoever asks for a reload says that the writing is over.
            if owner.contains(&Ask) && !publisher.commits_by_rename() {
                continue;
            }
            let mut scenario = Scenario::new(publisher, renewals(publisher)[0]);
            (scenario.weather.pause, scenario.weather.waits) = (Duration::ZERO, 0);
            scenario.owner = owner.to_vec();
            worlds.push(scenario);
        }
        worlds
    });
}

/// The whole space where a second update begins before the first is read, and the publisher does not pause.
#[test]
fn inv04_a_second_update_over_every_interleaving_without_a_pause() {
    whole_table("whole, two updates", all_or_small(), |publisher| {
        let [first, second, ..] = renewals(publisher)[..] else { return Vec::new() };
        let world = |second| {
            let mut scenario = Scenario::new(publisher, first);
            scenario.renewals.push(second);
            (scenario.weather.pause, scenario.weather.waits) = (Duration::ZERO, 0);
            scenario
        };
        vec![world(first), world(second)]
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

/// Replays the line of a violation, from the variable `REPLAY`.
#[test]
fn replay() {
    replayed::<Shipped>();
}

fn replayed<D: Design>() {
    let Ok(line) = std::env::var("REPLAY") else { return };
    let (name, line) = line.split_once(' ').unwrap();
    let scenario = Scenario::parse(name).unwrap();
    let steps = scenario.steps().0;
    let stage = scenario.prepare();
    let run = sim::run::<D>(&stage, Arc::new(Mutex::new(Replay::parse(line).unwrap())));
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
    for (search, pause, mortal) in [
        (Exhaustive::default(), 0, false),
        (Exhaustive::leaping(), 0, true),
        (Exhaustive::leaping(), 5, false),
        (Exhaustive::default(), 5, true),
    ] {
        let mut scenario = Scenario::new(Publisher::StepRenew, Renewal::LeafOnly);
        (scenario.weather.pause, scenario.weather.waits, scenario.mortal) = (millis(pause), 1, mortal);
        let stage = scenario.prepare();
        let schedule = Arc::new(Mutex::new(search));
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
            assert_eq!(
                (first.outcome, first.crashed, &first.looks),
                (again.outcome, again.crashed, &again.looks)
            );
            assert_eq!(first.choices, again.choices);
        }
        assert!(complete > 3);
    }
}
