//! Each call in each phase of the driver, a worker or a reload by hand: by another thread while the driver is held there
//! until the call has returned or sleeps, and by the driver itself.

use std::time::Instant;

use crate::{
    history::Phase,
    plan::{Action, Content, Hook, Kind, Plan, Step},
    random::print,
    schedule::{Coverage, run},
};

/// Whose driver is held.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Driver {
    Worker,
    ByHand,
}

/// The hooks in which the driver is held, with the visits of each that come before, and the phase that shows there.
const PLACES: [(Hook, usize, Phase); 8] = [
    // Before anything is read, and after all is read.
    (Hook::Look, 0, Phase::Look),
    (Hook::Look, 1, Phase::Look),
    (Hook::Build, 0, Phase::Build),
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
        // By the driver itself, so that no other thread holds the reloader.
        plan.hooks[0][Hook::Event as usize].push(call(Kind::Stop));
    }
    plan.threads.push(steps);
    let mut caller = vec![Action::AwaitHeld.into(), call(kind)];
    if matches!(kind, Kind::Write(..)) {
        // Whoever asks now asks after the write.
        caller.push(call(Kind::Reload));
    }
    plan.threads.push(caller);
    plan
}

/// A call by the driver itself.
fn own(seed: u64, driver: Driver, (hook, skip, phase): (Hook, usize, Phase), kind: Kind) -> Plan {
    let mut plan = held(seed, driver, (hook, skip, phase), kind);
    plan.threads.pop();
    plan.hooks[0][hook as usize] = vec![Step { skip, action: Action::Call(0, kind) }];
    plan
}

/// Each call that is asked for while nobody drives, and while a worker waits.
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
    for plan in &plans {
        match run(plan) {
            Ok(new) => coverage.add(&new),
            Err(why) => panic!("{why}"),
        }
    }
    println!("{} schedules in {:?}", plans.len(), start.elapsed());
    print("by another thread", &coverage.others);
    print("by the driver itself", &coverage.own);
    for ((kind, others), own) in Kind::ALL.iter().zip(&coverage.others).zip(&coverage.own) {
        assert!(others.iter().all(|count| *count > 0), "{kind:?} was not called in each phase: {others:?}");
        // While it is idle the driver calls nobody.
        assert!(own[1..].iter().all(|count| *count > 0), "{kind:?} was not called in each phase: {own:?}");
    }
}
