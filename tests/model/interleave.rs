//! Runs every interleaving of the field's publishers with the reader's calls, and checks each run
//! by the invariants.
//!
//! Checks: INV-01, INV-02, INV-03, INV-04, INV-05, INV-06, INV-08, INV-11. `scripts/interleave` covers the larger worlds.
//!
//! Engine: generated.

mod partial_order_reduction;
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

/// Returns the renewals that a publisher can make: `step renew` never writes the key or the CAs.
fn renewals(publisher: Publisher) -> Vec<Renewal> {
    if publisher == Publisher::StepRenew {
        return vec![Renewal::LeafOnly, Renewal::ChainOnly, Renewal::Nothing];
    }
    Renewal::ALL.to_vec()
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Pauses between two steps in milliseconds: within one tick, longer than one, and slightly shorter
/// than the settle time.
const PAUSES: [u64; 3] = [0, 5, 499];

/// Publishers whose worlds are small enough for a complete search in the quick tier.
const SMALL: [Publisher; 4] =
    [Publisher::StepRenew, Publisher::Release(false), Publisher::Release(true), Publisher::DirSwapped];

/// Returns all publishers in the whole tier, or the one that was selected; otherwise the small
/// ones.
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
                        // Another test searches this world completely.
                        continue;
                    }
                    let mut scenario = Scenario::new(publisher, renewal);
                    (scenario.config.pause, scenario.config.waits) = (millis(pause), *waits);
                    worlds.push(scenario);
                }
            }
        }
        worlds
    });
}

/// Searches completely where the publisher does not pause: before each question of the reader it
/// takes any number of steps, and it may die after any of them.
#[test]
fn inv01_to_inv11_hold_over_every_interleaving_without_a_pause() {
    whole_table("whole, without a pause", all_or_small(), |publisher| {
        let mut worlds = Vec::new();
        for renewal in renewals(publisher) {
            for phase in [Phase::FirstLoad, Phase::Reload] {
                let mut scenario = Scenario::new(publisher, renewal);
                (scenario.phase, scenario.mortal) = (phase, true);
                (scenario.config.pause, scenario.config.waits) = (Duration::ZERO, 0);
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
                (scenario.config.pause, scenario.config.waits) = (millis(pause), 1);
                worlds.push(scenario);
            }
        }
        worlds
    });
}

#[test]
fn inv06_lost_doubled_late_and_overflowed_events_only_delay() {
    table("events", |publisher| {
        let mut worlds = Vec::new();
        for events in Events::ALL {
            for pause in PAUSES {
                let mut scenario = Scenario::new(publisher, renewals(publisher)[0]);
                (scenario.config.pause, scenario.config.waits) = (millis(pause), 1);
                scenario.config.events = events;
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
                // Without a pause and a wait, another test searches this world completely.
                for (pause, waits) in [(0, 1), (5, 0), (5, 1), (499, 0), (499, 1)] {
                    let mut scenario = Scenario::new(publisher, renewal);
                    scenario.mortal = true;
                    (scenario.config.pause, scenario.config.waits) = (millis(pause), waits);
                    worlds.push(scenario);
                }
            }
            return worlds;
        }
        // A search that is cut off sees only the last crashes, so each crash gets a world of its
        // own.
        for renewal in renewals(publisher).into_iter().take(2) {
            for crash in 0..Scenario::new(publisher, renewal).steps().0.len() {
                let mut scenario = Scenario::new(publisher, renewal);
                scenario.crash = Some(crash);
                (scenario.config.pause, scenario.config.waits) = (millis(5), 0);
                worlds.push(scenario);
            }
        }
        worlds
    });
}

/// Returns all renewals for small worlds, and one for larger ones.
fn some_renewals(publisher: Publisher) -> Vec<Renewal> {
    let mut renewals = renewals(publisher);
    if !SMALL.contains(&publisher) {
        renewals.truncate(1);
    }
    renewals
}

/// Searches completely where the publisher pauses before each step, for longer than a tick or
/// slightly less than the settle time, and the reader does not wait. Each question of the reader
/// may find any step taken, at any of these times.
#[test]
fn inv01_to_inv11_hold_over_every_interleaving_with_pauses() {
    let mut of = publishers();
    of.retain(|publisher| match is_whole() {
        // No search with pauses of these three has come to its end. They take the most runs without
        // pauses, too.
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
                    (scenario.config.pause, scenario.config.waits) = (millis(pause), 0);
                    worlds.push(scenario);
                }
            }
        }
        worlds
    });
}

/// Searches completely where the publisher does not pause, and the reader waits once amid its
/// steps: for an event, for a file to be stable, or for its next poll. The publisher may die after
/// any step.
#[test]
fn inv01_to_inv11_hold_over_every_interleaving_with_a_wait() {
    whole_table("whole, with a wait", all_or_small(), |publisher| {
        let mut worlds = Vec::new();
        for renewal in some_renewals(publisher) {
            for phase in [Phase::FirstLoad, Phase::Reload] {
                let mut scenario = Scenario::new(publisher, renewal);
                (scenario.phase, scenario.mortal) = (phase, true);
                (scenario.config.pause, scenario.config.waits) = (Duration::ZERO, 1);
                worlds.push(scenario);
            }
        }
        worlds
    });
}

/// Searches one renewal in a reload completely, with events that are lost, doubled, late, or
/// reported as lost. The publisher does not die.
#[test]
fn inv06_events_only_delay_in_each_interleaving_with_a_wait() {
    whole_table("whole, events", all_or_small(), |publisher| {
        let mut worlds = Vec::new();
        for events in Events::ALL {
            if events != Events::Delivered {
                let mut scenario = Scenario::new(publisher, renewals(publisher)[0]);
                (scenario.config.pause, scenario.config.waits) = (Duration::ZERO, 1);
                scenario.config.events = events;
                worlds.push(scenario);
            }
        }
        worlds
    });
}

/// Searches completely where the owner requests a reload or stops the reloader, before any step of
/// the loop or any call within a step, and starts it again before any later step.
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
            // A manual reload says that the writing is over, which only a commit by rename
            // guarantees.
            if owner.contains(&Ask) && !publisher.commits_by_rename() {
                continue;
            }
            let mut scenario = Scenario::new(publisher, renewals(publisher)[0]);
            (scenario.config.pause, scenario.config.waits) = (Duration::ZERO, 0);
            scenario.owner = owner.to_vec();
            worlds.push(scenario);
        }
        worlds
    });
}

/// Searches completely where a second update begins before the first is read. The publisher does
/// not pause.
#[test]
fn inv04_a_second_update_over_every_interleaving_without_a_pause() {
    whole_table("whole, two updates", all_or_small(), |publisher| {
        let [first, second, ..] = renewals(publisher)[..] else { return Vec::new() };
        let world = |second| {
            let mut scenario = Scenario::new(publisher, first);
            scenario.renewals.push(second);
            (scenario.config.pause, scenario.config.waits) = (Duration::ZERO, 0);
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
                (scenario.config.pause, scenario.config.waits) = (millis(pause), 0);
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
                scenario.config.reuse = true;
                (scenario.config.pause, scenario.config.verb) = (millis(pause), millis(verb));
                scenario.config.rest += millis(verb) * 300;
                scenario.config.waits = 1;
                worlds.push(scenario);
            }
        }
        worlds
    });
}

#[test]
fn inv11_standing_rejection_is_reported_once() {
    table("broken, written again", |publisher| {
        if publisher == Publisher::StepRenew {
            return Vec::new();
        }
        let mut worlds = Vec::new();
        for waits in [2, 3] {
            let mut scenario = Scenario::new(publisher, Renewal::Broken);
            scenario.renewals.push(Renewal::Nothing);
            scenario.config.waits = waits;
            // The wait separates the two updates; elsewhere the publisher does not pause.
            scenario.config.events = Events::Delivered;
            worlds.push(scenario);
        }
        worlds
    });
}

/// Replays a line that a violation has printed, from the variable `REPLAY`.
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
        (Exhaustive::reduced(), 0, true),
        (Exhaustive::reduced(), 5, false),
        (Exhaustive::default(), 5, true),
    ] {
        let mut scenario = Scenario::new(Publisher::StepRenew, Renewal::LeafOnly);
        (scenario.config.pause, scenario.config.waits, scenario.mortal) = (millis(pause), 1, mortal);
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
                (first.outcome, first.crashed, &first.snapshots),
                (again.outcome, again.crashed, &again.snapshots)
            );
            assert_eq!(first.choices, again.choices);
        }
        assert!(complete > 3);
    }
}
