//! The state machine against simple reference models, over every sequence of rounds up to a stated
//! depth.
//!
//! In a round time passes, the wall clock may step, and an input arrives. If the machine takes a
//! snapshot, the round says how it ends; if the machine builds, the round says how the build ends.
//! Checks INV-02 to INV-06, INV-08 and INV-11 as far as the machine decides them: it publishes only
//! contents that were built successfully, neither early nor late, and reports each event once.
//! After each sequence the disk comes to rest with a valid set, which the machine has to publish
//! within the bound of INV-05 without any hint.
//!
//! Engine: generated. Checks: INV-02, INV-03, INV-04, INV-06, INV-08, INV-11

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use rustls_reload::{
    Now, Timing,
    internal::{
        ChangeKind,
        machine::{Answer, Effect, Input, Machine, Notice, ReadOutcome, Verdict},
    },
};
use rustls_reload_harness::{
    reference_model::{DATE, Round, Wall, World},
    settings,
};

/// A whole number of milliseconds.
const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Returns every round.
fn alphabet() -> Vec<Round> {
    let changed = |content, kind, shrinks| ReadOutcome::Changed { content, kind, shrinks };
    let seen = [
        ReadOutcome::Served,
        ReadOutcome::Torn { cause: 1, still: false },
        ReadOutcome::Torn { cause: 2, still: true },
        ReadOutcome::Failed(2),
        ReadOutcome::Failed(3),
        changed(1, ChangeKind::Atomic, false),
        changed(1, ChangeKind::AmbiguousTime, false),
        changed(1, ChangeKind::InPlace, false),
        changed(1, ChangeKind::InPlace, true),
        changed(1, ChangeKind::AmbiguousTime, true),
        changed(2, ChangeKind::InPlace, false),
    ];
    let verdicts = [Verdict::Valid, Verdict::NotYet(DATE), Verdict::Refused(4)];
    let mut rounds = Vec::new();
    for seen in seen {
        let builds = matches!(seen, ReadOutcome::Changed { .. });
        for verdict in verdicts.iter().take(if builds { 3 } else { 1 }) {
            let round =
                |pass, wall, input| Round { pass, wall, input, seen: seen.clone(), verdict: verdict.clone() };
            for (pass, input) in [
                (5, Input::Hint),
                (30, Input::Hint),
                (60, Input::Tick),
                (500, Input::Tick),
                (10_000, Input::Tick),
                (0, Input::Reload),
            ] {
                rounds.push(round(ms(pass), Wall::Runs, input));
            }
            for wall in [Wall::StepsBack, Wall::ReachesDate] {
                rounds.push(round(ms(5), wall, Input::Hint));
            }
        }
    }
    let idle = Round {
        pass: ms(0),
        wall: Wall::Runs,
        input: Input::Hint,
        seen: ReadOutcome::Served,
        verdict: Verdict::Valid,
    };
    for input in [Input::Hint, Input::Watching(false), Input::Watching(true)] {
        rounds.push(Round { input, ..idle.clone() });
    }
    // Long enough for a degraded poll.
    rounds.push(Round { pass: ms(1_000), input: Input::Tick, ..idle.clone() });
    rounds.push(Round { input: Input::Stop, ..idle });
    rounds
}

fn every_sequence(world: &World, rounds: &[Round], depth: usize, line: &mut Vec<usize>, count: &mut u64) {
    if depth == 0 {
        *count += 1;
        for kind in [ChangeKind::Atomic, ChangeKind::InPlace] {
            world.clone().converges(kind);
        }
        return;
    }
    (0..rounds.len()).for_each(|i| every_sequence_with(i, world, rounds, depth, line, count));
}

/// Plays every sequence that begins with the round of this number.
fn every_sequence_with(
    i: usize,
    world: &World,
    rounds: &[Round],
    depth: usize,
    line: &mut Vec<usize>,
    count: &mut u64,
) {
    let mut next = world.clone();
    line.push(i);
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| next.play(&rounds[i])));
    if played.is_err() {
        panic!("replay: rounds {line:?} of the alphabet; the last is {:?}", rounds[i]);
    }
    every_sequence(&next, rounds, depth - 1, line, count);
    line.pop();
}

/// `MACHINE_DEPTH` overrides the depth of the quick tier.
#[test]
fn inv05_every_sequence_agrees_with_the_reference_model() {
    let depth = settings::number("MACHINE_DEPTH", 3);
    let rounds = alphabet();
    let from = |first: usize| {
        let mut count = 0;
        every_sequence_with(first, &World::new(), &rounds, depth, &mut Vec::new(), &mut count);
        count
    };
    let next = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count: u64 = std::thread::scope(|scope| {
        let share = || {
            let firsts = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
            firsts.take_while(|first| *first < rounds.len()).map(from).sum::<u64>()
        };
        let shares: Vec<_> = (0..cores).map(|_| scope.spawn(share)).collect();
        shares.into_iter().map(|share| share.join().unwrap()).sum()
    });
    println!("machine: {} rounds, depth {depth}, {count} sequences, 0 disagreements", rounds.len());
    assert_eq!(count, (rounds.len() as u64).pow(u32::try_from(depth).unwrap()));
}

/// Checks: INV-11. A second manual reload does not delay the answer to the first.
#[test]
fn inv11_a_second_reload_by_hand_does_not_prolong_the_first() {
    let mut world = World::new();
    let torn = |pass, input| Round {
        pass: ms(pass),
        wall: Wall::Runs,
        input,
        seen: ReadOutcome::Torn { cause: 1, still: false },
        verdict: Verdict::Valid,
    };
    assert_eq!(world.play(&torn(0, Input::Reload)).answered, []);
    assert_eq!(world.play(&torn(4_000, Input::Reload)).answered, []);
    assert_eq!(world.play(&torn(1_000, Input::Tick)).answered, [Answer::Refused(1)]);
}

/// Plays sequences that are too long to enumerate, in which the back-off grows and
/// `still_changing_after` passes. The seed replays them.
#[test]
fn inv05_long_random_sequences_agree_with_the_reference_model() {
    let rounds = alphabet();
    let (walks, length) = (20_000u64, 60);
    for seed in 1..=walks {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut draw = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below as u64).unwrap()
        };
        let mut world = World::new();
        // Each sequence uses a few kinds of rounds only, so that the same round often repeats
        // (swarm testing).
        let few: Vec<_> = (0..4).map(|_| &rounds[draw(rounds.len() - 1)]).collect();
        for _ in 0..length {
            let round = few[draw(few.len())];
            let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.play(round)));
            assert!(played.is_ok(), "replay: seed {seed}, at {round:?}");
        }
        world.converges(ChangeKind::InPlace);
    }
    println!("machine: {walks} random sequences of {length} rounds, 0 disagreements");
}

/// Checks the machine's own state step by step.
#[test]
fn inv11_inv13_standing_rejection_answers_callers_over_a_restart() {
    let now = |mono| Now { mono: ms(mono), wall: DATE - ms(1_000_000) };
    let changed =
        |content, kind| Input::SnapshotTaken(ReadOutcome::Changed { content, kind, shrinks: false });
    let mut machine = Machine::new(Timing::default());
    assert_eq!((machine.timing(), machine.refusal(), machine.deferred()), (Timing::default(), None, None));
    assert_eq!(machine.wake(now(0)), Some(ms(0)));
    assert_eq!(machine.step(now(0), Input::Tick), [Effect::TakeSnapshot]);
    assert_eq!(machine.wake(now(0)), None, "while a snapshot is taken it waits for that");
    assert_eq!(machine.step(now(0), changed(1, ChangeKind::Atomic)), [Effect::Build(1)]);
    machine.step(now(0), Input::Built(Verdict::Refused("why")));
    assert_eq!(machine.refusal(), Some((&"why", 1)));
    machine.step(now(1), Input::Stop);
    assert_eq!(machine.wake(now(1)), None, "after a stop it waits for nothing");
    machine.restart();
    assert_eq!(machine.refusal(), Some((&"why", 1)), "what was reported stands");
    assert_eq!(machine.wake(now(60)), Some(ms(60)), "it takes a snapshot as soon as a caller asks");
    assert_eq!(machine.step(now(60), Input::Tick), [Effect::TakeSnapshot]);
    // The refused content could be retried at once, but a stopped machine may have missed a change
    // in between.
    assert_eq!(machine.step(now(60), changed(1, ChangeKind::InPlace)), []);
    assert_eq!(machine.step(now(560), Input::Tick), [Effect::TakeSnapshot]);
    assert_eq!(machine.step(now(560), changed(1, ChangeKind::InPlace)), [Effect::Build(1)]);
    machine.step(now(560), Input::Built(Verdict::NotYet(DATE)));
    assert_eq!((machine.deferred(), machine.refusal()), (Some(DATE), None));
    machine.restart();
    assert_eq!(machine.deferred(), Some(DATE), "what is held is held");
}

/// Checks: INV-05. A restart resets the pause between retries, because the operator may have
/// repaired the cause.
#[test]
fn inv05_a_restart_begins_the_pauses_of_the_retries_anew() {
    let now = |mono| Now { mono: ms(mono), wall: DATE - ms(1_000_000) };
    let mut machine = Machine::new(Timing::default());
    let mut at = 0;
    let mut snapshot = |machine: &mut Machine<&str>| {
        assert_eq!(machine.step(now(at), Input::Tick), [Effect::TakeSnapshot]);
        machine.step(now(at), Input::SnapshotTaken(ReadOutcome::Failed("gone")));
        let before = at;
        at = u64::try_from(machine.wake(now(at)).unwrap().as_millis()).unwrap();
        at - before
    };
    let pauses: Vec<_> = (0..9).map(|_| snapshot(&mut machine)).collect();
    assert_eq!(pauses, [50, 100, 200, 150, 800, 1_600, 3_200, 6_400, 10_000], "reported after 500 ms");
    machine.restart();
    assert_eq!(machine.refusal(), Some((&"gone", 9)));
    assert_eq!([snapshot(&mut machine), snapshot(&mut machine)], [50, 100]);
}

/// Checks: INV-11. A single snapshot does not show that files were unchanged for any time.
#[test]
fn inv11_one_torn_snapshot_without_settling_rejects_nothing() {
    let now = |mono| Now { mono: ms(mono), wall: DATE };
    let torn = |still| Input::SnapshotTaken(ReadOutcome::Torn { cause: "stale", still });
    let timing = Timing { settle: Duration::ZERO, ..Timing::default() };
    let mut machine = Machine::new(timing);
    assert_eq!(machine.timing(), timing);
    assert_eq!(machine.step(now(0), Input::Tick), [Effect::TakeSnapshot]);
    assert_eq!(machine.step(now(0), torn(false)), []);
    assert_eq!(machine.step(now(10), Input::Tick), [Effect::TakeSnapshot]);
    let reported = [Effect::Report(Notice::Refused("stale"))];
    assert_eq!(machine.step(now(10), torn(true)), reported, "the second, in the same way");
}

/// Checks: INV-05, INV-11. A snapshot in progress began before the request, so the next one answers
/// it. There are never two snapshots at once.
#[test]
fn inv11_reload_called_while_busy_is_answered_by_a_later_snapshot() {
    let now = |mono| Now { mono: ms(mono), wall: DATE };
    let changed = || {
        Input::SnapshotTaken(ReadOutcome::Changed { content: 1, kind: ChangeKind::Atomic, shrinks: false })
    };
    let mut machine: Machine<&str> = Machine::new(Timing::default());
    assert_eq!(machine.step(now(0), Input::Tick), [Effect::TakeSnapshot]);
    assert_eq!(machine.step(now(1), Input::Reload), []);
    assert_eq!(machine.step(now(2), Input::SnapshotTaken(ReadOutcome::Served)), [Effect::TakeSnapshot]);
    assert_eq!(
        machine.step(now(3), Input::SnapshotTaken(ReadOutcome::Served)),
        [Effect::Answer(Answer::Unchanged)]
    );
    // The request arrives during a build.
    assert_eq!(machine.step(now(10), Input::Hint), [Effect::TakeSnapshot]);
    assert_eq!(machine.step(now(11), changed()), [Effect::Build(1)]);
    assert_eq!(machine.step(now(12), Input::Reload), []);
    let published = Effect::Publish { content: 1, recovered: false };
    assert_eq!(machine.step(now(13), Input::Built(Verdict::Valid)), [published, Effect::TakeSnapshot]);
    assert_eq!(
        machine.step(now(14), Input::SnapshotTaken(ReadOutcome::Served)),
        [Effect::Answer(Answer::Unchanged)]
    );
}
