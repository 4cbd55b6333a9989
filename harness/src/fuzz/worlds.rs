//! The state machine against its reference model, and the shipped reader against the publishers of
//! the field, in worlds that the input describes.

use std::{
    io::{self, ErrorKind},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::Script;
use rustls_reload::internal::{
    ChangeKind,
    machine::{Input, ReadOutcome, Verdict},
};
use rustls_reload_testkit::{InterceptFs, Verb};

use crate::{
    reference_model::{DATE, Round, Wall, World},
    sim::{self, Events, Fault, Phase, Publisher, Renewal, STANDS, Scenario, Shipped},
};

/// Limit of rounds of one input.
const ROUND_LIMIT: usize = 512;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Plays rounds on the state machine, which has to agree with its reference model after each round,
/// and to converge wherever the input ends.
///
/// # Panics
/// If they disagree.
pub fn machine_steps(data: &[u8]) {
    let mut script = Script(data);
    let mut world = World::new();
    for _ in 0..ROUND_LIMIT {
        if script.is_over() {
            break;
        }
        world.play(&round(&mut script));
    }
    for kind in [ChangeKind::Atomic, ChangeKind::AmbiguousTime, ChangeKind::InPlace] {
        world.clone().converges(kind);
    }
}

fn round(script: &mut Script<'_>) -> Round {
    let changed = |content, kind, shrinks| ReadOutcome::Changed { content, kind, shrinks };
    let pass = script.pick(&[5, 0, 1, 4, 30, 50, 60, 495, 500, 1_000, 5_000, 10_000]);
    // A stop ends everything, so it is rare.
    let input = match script.byte() {
        0..=99 => Input::Tick,
        100..=199 => Input::Hint,
        200..=229 => Input::Reload,
        230..=240 => Input::Watching(false),
        241..=251 => Input::Watching(true),
        _ => Input::Stop,
    };
    let wall = match script.byte() {
        0..=229 => Wall::Runs,
        230..=242 => Wall::StepsBack,
        _ => Wall::ReachesDate,
    };
    let (content, shrinks) = (u64::from(script.byte() % 3) + 1, script.byte() & 1 == 1);
    let kind = script.pick(&[ChangeKind::Atomic, ChangeKind::AmbiguousTime, ChangeKind::InPlace]);
    let seen = script.pick(&[
        changed(content, kind, shrinks),
        ReadOutcome::Served,
        ReadOutcome::Torn { cause: 1, still: false },
        ReadOutcome::Failed(2),
        ReadOutcome::Failed(3),
        changed(content, kind, shrinks),
        ReadOutcome::Torn { cause: 2, still: true },
        ReadOutcome::Torn { cause: 2, still: true },
    ]);
    let verdict = script.pick(&[
        Verdict::Valid,
        Verdict::Refused(4),
        Verdict::Refused(5),
        Verdict::NotYet(DATE),
        Verdict::NotYet(DATE + ms(700)),
    ]);
    Round { pass: ms(pass), wall, input, seen, verdict }
}

/// Runs the shipped reader in a world with a publisher, renewals, pauses, a fault and a schedule,
/// and checks every invariant.
///
/// # Panics
/// If one is broken, with the name of the world.
pub fn snapshot_ops(data: &[u8]) {
    let mut script = Script(data);
    let scenario = scenario(&mut script);
    let name = scenario.name();
    let stage = scenario.prepare();
    let fault = Fault::new(script.below(256) as u64 + 1, script.byte() & 1 == 1);
    // The two numbers after the last call mean no fault.
    let verb = Verb::ALL.get(usize::from(script.byte()) % (Verb::ALL.len() + 2)).copied();
    let wrong = script.pick(&[
        Some(ErrorKind::PermissionDenied),
        Some(ErrorKind::NotFound),
        Some(ErrorKind::StaleNetworkFileHandle),
        Some(ErrorKind::Other),
        None,
    ]);
    let answer = move || wrong.map_or(Ok(1), |kind| Err(io::Error::from(kind)));
    let schedule = Arc::new(Mutex::new(sim::Bytes::new(script.0)));
    let run = sim::run_faulty(&stage, schedule, &fault, |sim, paths| {
        let (world, fault) = (sim.clone(), Arc::clone(&fault));
        let hook = move |called: Verb| {
            if Some(called) == verb && fault.fires_in(&world) { answer() } else { Ok(usize::MAX) }
        };
        Shipped::load_through(sim, paths, InterceptFs::new(sim.fs(), Arc::new(hook)), |watcher| watcher)
    });
    if let Err(violation) = sim::check(&stage, &run) {
        panic!("{violation}\n{name} {} {verb:?} {wrong:?} {fault:?}", sim::Replay::line(&run.choices));
    }
}

fn scenario(script: &mut Script<'_>) -> Scenario {
    let publisher = script.pick(&Publisher::all(true));
    // `step renew` writes neither the key nor the CAs.
    let renewals: &[Renewal] = match publisher {
        Publisher::StepRenew => &[Renewal::LeafOnly, Renewal::ChainOnly, Renewal::Nothing],
        _ => &Renewal::ALL,
    };
    let mut scenario = Scenario::new(publisher, script.pick(renewals));
    for _ in 0..script.byte() % 3 {
        scenario.renewals.push(script.pick(renewals));
    }
    let steps = scenario.steps().0.len();
    scenario.crash = Some(script.below(2 * steps)).filter(|crash| *crash < steps);
    scenario.phase = script.pick(&[Phase::Reload, Phase::FirstLoad]);
    let config = &mut scenario.config;
    config.events = script.pick(&Events::ALL);
    config.reuse = script.byte() & 1 == 1;
    config.tick = ms(script.pick(&[4, 1, 10]));
    config.pause = ms(script.pick(&[0, 1, 5, 30, 300, 499]));
    config.verb = ms(script.pick(&[0, 0, 0, 1, 20]));
    config.waits = usize::from(script.byte() % 4);
    config.rest += config.verb * 300 + STANDS;
    scenario
}
