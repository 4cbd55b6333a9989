//! Each call in each phase of the driver, a worker or a manual reload. It is made by another
//! thread, while the driver is held there until the call has returned or sleeps, and by the driver
//! itself.

use std::time::Instant;

use rustls_reload::Reload;

use super::{
    history::{Outcome, Phase},
    plan::{Action, Content, Hook, Kind, Plan, Step},
    random::print,
    schedule::{Coverage, run},
};

/// The kind of the driver that is held.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Driver {
    Worker,
    ByHand,
}

/// The hooks in which the driver is held, the number of earlier visits of each, and the phase that
/// is observed there.
const PLACES: [(Hook, usize, Phase); 9] = [
    // Before the first read, and after the last.
    (Hook::Snapshot, 0, Phase::Snapshot),
    (Hook::Snapshot, 1, Phase::Snapshot),
    (Hook::Build, 0, Phase::Build),
    (Hook::Discard, 0, Phase::Callback),
    (Hook::Publish, 0, Phase::Callback),
    (Hook::Publish, 1, Phase::Callback),
    (Hook::Event, 0, Phase::Callback),
    (Hook::Ending, 0, Phase::Ending),
    (Hook::Stopped, 0, Phase::Ending),
];

fn held(seed: u64, driver: Driver, (hook, skip, phase): (Hook, usize, Phase), kind: Kind) -> Plan {
    let mut plan = Plan::empty(seed, vec![false]);
    plan.hooks[0][hook as usize].push(Step { skip, action: Action::Hold });
    let call = |kind| Step::from(Action::Call(0, kind));
    let good = Kind::Write(Content::Good, seed.is_multiple_of(2));
    let mut steps = vec![call(good), call(if driver == Driver::Worker { Kind::Start } else { Kind::Reload })];
    if phase == Phase::Ending && seed.is_multiple_of(2) {
        steps.extend([Action::AwaitStarted.into(), call(Kind::Stop)]);
    } else if phase == Phase::Ending {
        // The driver itself makes the call, so that no other thread holds the reloader.
        plan.hooks[0][Hook::Event as usize].push(Action::StopAlone.into());
    }
    plan.threads.push(steps);
    let mut caller = vec![Action::AwaitHeld(1).into(), call(kind)];
    if matches!(kind, Kind::Write(..)) {
        // This reload is requested after the write.
        caller.push(call(Kind::Reload));
    }
    plan.threads.push(caller);
    plan
}

/// A reload is requested during a callback, build or read, which then stops the reloader and
/// returns only after the reload.
fn stopped(seed: u64, driver: Driver, (hook, skip, phase): (Hook, usize, Phase)) -> Plan {
    let mut plan = held(seed, driver, (hook, skip, phase), Kind::Reload);
    plan.hooks[0][hook as usize] = vec![Step { skip, action: Action::StopAndAwait }];
    plan
}

/// A manual reload is ended by a stop. A start and another update follow, and for even seeds a
/// reload.
fn restarted(seed: u64, place: (Hook, usize, Phase)) -> Plan {
    let mut plan = held(seed, Driver::ByHand, place, Kind::Stop);
    let write = Kind::Write(Content::Good, seed.is_multiple_of(2));
    let calls = [Kind::Stop, Kind::Start, write, Kind::Reload].map(|kind| Action::Call(0, kind).into());
    let calls = &calls[..if seed.is_multiple_of(2) { 4 } else { 3 }];
    plan.threads[1] = [Action::AwaitHeld(calls.len()).into()].iter().chain(calls).copied().collect();
    plan
}

/// The build stops the reloader, so that its value is not published. The start comes while that
/// value is dropped.
fn discarded(seed: u64) -> Plan {
    let mut plan = held(seed, Driver::ByHand, (Hook::Discard, 0, Phase::Callback), Kind::Start);
    plan.hooks[0][Hook::Build as usize].push(Action::Call(0, Kind::Stop).into());
    let calls = [Kind::Start, Kind::Reload].map(|kind| Action::Call(0, kind).into());
    plan.threads[1] = [Action::AwaitHeld(calls.len()).into()].into_iter().chain(calls).collect();
    plan
}

/// A reload publishes its update, and then a callback stops the reloader.
fn published() -> Plan {
    let mut plan = held(0, Driver::Worker, (Hook::Snapshot, 0, Phase::Snapshot), Kind::Reload);
    plan.hooks[0][Hook::Publish as usize].push(Action::StopAndAwait.into());
    plan
}

/// The driver itself makes a call.
fn own(seed: u64, driver: Driver, (hook, skip, phase): (Hook, usize, Phase), kind: Kind) -> Plan {
    let mut plan = held(seed, driver, (hook, skip, phase), kind);
    plan.threads.pop();
    plan.hooks[0][hook as usize] = vec![Step { skip, action: Action::Call(0, kind) }];
    plan
}

/// Each call while no driver runs, and while a worker waits.
fn idle(seed: u64, driver: Driver, kind: Kind) -> Plan {
    let mut plan = Plan::empty(seed, vec![driver == Driver::Worker]);
    let call = |kind| Step::from(Action::Call(0, kind));
    plan.threads.push(vec![call(kind), call(Kind::Write(Content::Good, true)), call(kind)]);
    plan
}

/// Engine: generated, exhaustive: each call in each place of each driver.
#[test]
fn inv13_each_call_in_each_phase_returns_and_keeps_its_promise() {
    let start = Instant::now();
    let mut coverage = Coverage::default();
    let mut plans = Vec::new();
    for kind in Kind::ALL {
        for driver in [Driver::Worker, Driver::ByHand] {
            for seed in 0..2 {
                plans.push(idle(seed, driver, kind));
                let places =
                    PLACES.iter().filter(|(.., phase)| driver == Driver::Worker || *phase != Phase::Ending);
                plans.extend(
                    places.flat_map(|place| {
                        [held(seed, driver, *place, kind), own(seed, driver, *place, kind)]
                    }),
                );
            }
        }
    }
    for place in PLACES.iter().filter(|(.., phase)| *phase != Phase::Ending) {
        plans.extend([Driver::Worker, Driver::ByHand].map(|driver| stopped(0, driver, *place)));
        plans.extend([0, 1].map(|seed| restarted(seed, *place)));
    }
    plans.extend([0, 1].map(discarded));
    for plan in &plans {
        match run(plan) {
            Ok(seen) => coverage.add(&Coverage::of(&seen)),
            Err(why) => panic!("{why}"),
        }
    }
    // The request comes before the worker reads, and the worker's publication answers it.
    let seen = run(&published()).unwrap();
    let first = seen.calls.iter().find(|called| called.kind == Kind::Reload && !called.driver).unwrap();
    assert_eq!(first.outcome, Outcome::Reload(Reload::Reloaded), "the stop comes after the publication");
    println!("{} schedules in {:?}", plans.len() + 1, start.elapsed());
    print("by another thread", &coverage.others);
    print("by the driver itself", &coverage.own);
    for ((kind, others), own) in Kind::ALL.iter().zip(&coverage.others).zip(&coverage.own) {
        assert!(others.iter().all(|count| *count > 0), "{kind:?} was not called in each phase: {others:?}");
        // An idle driver calls no code of the embedder.
        assert!(own[1..].iter().all(|count| *count > 0), "{kind:?} was not called in each phase: {own:?}");
    }
}
