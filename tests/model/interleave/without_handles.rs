//! Runs the publishers against a port without directory handles. It is checked by the weaker
//! promises of `Fs::HAS_DIR_HANDLES`: every published set was on disk for the settle time, and no
//! rename commits. All other promises stay.

use std::sync::{Arc, Mutex};

use rustls_reload::Timing;
use rustls_reload_harness::sim::{
    self, At, ByPath, Events, Phase, Publisher, Record, Renewal, Replay, Scenario,
};

use super::{
    PAUSES, millis, renewals,
    table::{is_whole, table_of},
};

/// Number of runs of each world in the quick tier, and of random schedules of a world that is cut
/// off.
const RUNS: u64 = 8;

const REPLAY: &str = "replay_without_handles";

fn table(title: &str, worlds: impl Fn(Publisher) -> Vec<Scenario>) {
    table_of::<ByPath>(title, RUNS, REPLAY, worlds);
}

/// Returns one renewal of each publisher in the quick tier, and all renewals in the whole tier.
fn some(publisher: Publisher) -> Vec<Renewal> {
    let mut some = renewals(publisher);
    some.truncate(if is_whole() { usize::MAX } else { 1 });
    some
}

fn world(publisher: Publisher, renewal: Renewal, pause: u64, waits: usize) -> Scenario {
    let mut scenario = Scenario::new(publisher, renewal);
    (scenario.config.pause, scenario.config.waits) = (millis(pause), waits);
    scenario
}

#[test]
fn inv01_to_inv11_hold_over_reloads_without_handles() {
    table("by path: reload", |publisher| {
        let mut worlds = Vec::new();
        for renewal in some(publisher) {
            worlds.extend(PAUSES.map(|pause| world(publisher, renewal, pause, 1)));
        }
        // With these pauses a file is equal at two snapshots and was different in between.
        worlds.extend([166, 250].map(|pause| {
            let mut scenario = world(publisher, Renewal::LeafOnly, pause, 2);
            scenario.renewals.push(Renewal::Nothing);
            scenario.config.events = Events::Lost;
            scenario
        }));
        worlds
    });
}

#[test]
fn inv01_to_inv11_hold_over_first_loads_without_handles() {
    table("by path: first load", |publisher| {
        let mut worlds = Vec::new();
        for renewal in some(publisher) {
            worlds.extend(
                PAUSES
                    .map(|pause| Scenario { phase: Phase::FirstLoad, ..world(publisher, renewal, pause, 1) }),
            );
        }
        worlds
    });
}

#[test]
fn inv01_a_crash_without_handles_breaks_one_generation_only() {
    table("by path: crash", |publisher| {
        let mut worlds = Vec::new();
        for renewal in some(publisher) {
            for (pause, phase) in [(0, Phase::FirstLoad), (0, Phase::Reload), (5, Phase::Reload)] {
                let mut scenario = Scenario { phase, ..world(publisher, renewal, pause, 0) };
                scenario.mortal = true;
                worlds.push(scenario);
            }
        }
        worlds
    });
}

#[test]
fn inv04_two_updates_in_a_row_hold_without_handles() {
    table("by path: two updates", |publisher| {
        let mut worlds = Vec::new();
        for (pause, second) in [(0, Renewal::LeafOnly), (5, Renewal::LeafOnly), (5, Renewal::Nothing)] {
            let mut scenario = world(publisher, renewals(publisher)[0], pause, 1);
            scenario.renewals.push(second);
            worlds.push(scenario);
        }
        worlds
    });
}

#[test]
fn inv06_events_change_the_delay_only_without_handles() {
    table("by path: events", |publisher| {
        let mut worlds = Vec::new();
        for events in [Events::Lost, Events::Late, Events::Overflowed] {
            let mut scenario = world(publisher, renewals(publisher)[0], 5, 1);
            scenario.config.events = events;
            worlds.push(scenario);
        }
        worlds
    });
}

#[test]
fn inv01_slow_reads_hold_without_handles() {
    table("by path: slow", |publisher| {
        let mut worlds = Vec::new();
        for (verb, pause) in [(1, 7), (20, 5), (20, 300)] {
            for phase in [Phase::FirstLoad, Phase::Reload] {
                let mut scenario = Scenario { phase, ..world(publisher, renewals(publisher)[0], pause, 1) };
                scenario.config.verb = millis(verb);
                scenario.config.rest += millis(verb) * 300;
                worlds.push(scenario);
            }
        }
        worlds
    });
}

/// INV-03, INV-11: an invalid set is refused, the refusal is reported once, and the served set
/// stays.
#[test]
fn inv03_a_refused_set_keeps_serving_without_handles() {
    table("by path: broken", |publisher| {
        if publisher == Publisher::StepRenew {
            return Vec::new();
        }
        let mut scenario = world(publisher, Renewal::Broken, 0, 2);
        scenario.renewals.push(Renewal::Nothing);
        vec![scenario]
    });
}

/// A file that is rewritten with the same bytes, length and modification time between two snapshots
/// counts as unchanged, because nothing shows the difference without change times. The published set
/// was on disk at both snapshots.
#[test]
fn inv01_bytes_that_return_with_their_times_count_as_unchanged() {
    let world = "in-place-old-times/LeafOnly+Nothing/Reload/-/Lost/false/2/4,166,0,600,26000";
    let line = "r34pr9pr3pr19prn7tpr14pr3n6tr12pr21pr4n4trpr12pr18pr26n12t";
    let stage = Scenario::parse(world).unwrap().prepare();
    let mut run = sim::run::<ByPath>(&stage, Arc::new(Mutex::new(Replay::parse(line).unwrap())));
    sim::check(&stage, &run).unwrap();
    let published = run
        .history
        .iter()
        .position(|at| matches!(at.record, Record::Published { generation: 2, .. }))
        .unwrap();
    let (before, rest) = run.history.split_at(published);
    let Record::Published { files, .. } = &rest[0].record else { unreachable!() };
    let mut others =
        before.iter().filter(|at| matches!(&at.record, Record::Disk(contents) if contents != files));
    let (last, settle) = (others.next_back().unwrap().mono, Timing::default().settle);
    assert!(
        rest[0].mono - last < settle,
        "the files were unchanged for the settle time: {:?}",
        rest[0].mono - last
    );
    // A reader that saw the other bytes has to begin the settle time again.
    let gone =
        before.iter().rposition(|at| matches!(&at.record, Record::Disk(contents) if contents != files));
    let gone = gone.unwrap();
    let answers = |at: &At| match at.record {
        Record::Observed { asked, seen } => Some((asked, seen)),
        _ => None,
    };
    let (asked, seen) = before.iter().rev().find_map(answers).unwrap();
    let noticed = At { record: Record::Observed { asked, seen: !seen }, ..run.history[gone] };
    run.history.insert(gone + 1, noticed);
    assert_eq!(sim::check(&stage, &run).unwrap_err().invariant, "INV-01 (b)");
}

/// Right runs that the checker once took for violations: an inner stat of `open`, a read in two
/// pieces, and a file that returns by a rename within the tick in which it was written.
#[test]
fn inv01_what_the_reader_does_not_go_by_is_no_violation() {
    for (world, line) in [
        (
            "in-place-old-times/NewKey+Nothing/Reload/-/Delivered/false/1/4,5,0,600,26000",
            "r20p12r28prp3r26p8",
        ),
        (
            "in-place-old-times/NewKey+Nothing/Reload/-/Delivered/false/1/4,5,0,600,26000",
            "r20p12r35p2rp2r20p8",
        ),
        ("rename-with-backup/NewKey+LeafOnly/Reload/-/Delivered/false/1/4,0,0,600,26000", "r20p16r22t6r23pt"),
    ] {
        let stage = Scenario::parse(world).unwrap().prepare();
        let run = sim::run::<ByPath>(&stage, Arc::new(Mutex::new(Replay::parse(line).unwrap())));
        assert_eq!(sim::check(&stage, &run), Ok(()), "{world} {line}");
        let published = run.history.iter().filter(|at| matches!(at.record, Record::Published { .. })).count();
        assert!(published > 1, "{world} {line}");
    }
}

/// Replays a line that a violation has printed, from the variable `REPLAY`.
#[test]
fn replay_without_handles() {
    super::replayed::<ByPath>();
}
