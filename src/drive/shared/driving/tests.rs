//! Plays every order in which a few acts fall between and into the calls of a scripted driver, and
//! checks rules.
//!
//! The loop releases its lock between two calls of `go_on` and inside a call of the driver or its
//! clock, and nowhere else. So it can meet acts of other threads at these points only, and one
//! thread can play them all. Wake-ups are left to the models under loom: here every waiting caller
//! checks again after each act.

#![allow(clippy::print_stdout, clippy::expect_used)] // reason: the count is printed; tests stop at the first surprise

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::{
    clock::{Clock, Now},
    drive::shared::Observers,
    probe::StateHash,
    report::status::{Progress, Status},
};

mod played;
mod slow;
use played::{Act, Played, World, Wrong};

/// Plays one run to its end: until all acts were chosen or passed over, and a tick was taken after
/// the last.
fn play(played: &Played, is_started: bool) {
    let set = (Arc::from(std::path::Path::new("/file")), None);
    let status = Status::first(std::iter::once(set), Duration::ZERO);
    let progress = Progress::new(Now::PAST, Duration::MAX, Duration::ZERO);
    let clock = Arc::new(played.clone());
    let drive = Box::new(played.clone());
    let shared = Arc::new(Shared::new(0, (status, progress), Observers::default(), clock, drive));
    played.world().shared = Arc::downgrade(&shared);
    if is_started {
        played.act(&shared, Act::Start);
    }
    let (mut worker, mut passes) = (None, 0);
    for _ in 0..200 {
        let mut limit = None;
        let mut is_idle = true;
        played.may_act();
        let acts = played.world().acts.len();
        if played.world().started {
            match worker.get_or_insert_with(WorkerLoop::default).go_on(&shared, shared.lock()) {
                Next::Again(_) => is_idle = false,
                Next::Wait(_state, wait) => {
                    limit = wait;
                    let world = played.world();
                    let is_asked = world.hinted || world.wanted || world.stopped;
                    assert!(!world.begun || !is_asked, "it sleeps although it is asked");
                }
                Next::Over(()) => {
                    let mut world = played.world();
                    assert!(world.stopped, "a worker ends that nobody stopped");
                    (worker, is_idle) = (None, false);
                    (world.started, world.begun) = (false, false);
                }
            }
        }
        played.may_act();
        is_idle &= !played.look_for_answers(&shared);
        let mut world = played.world();
        if !is_idle || world.acts.len() > acts {
            continue;
        }
        check_rest(&shared, &world, limit);
        let Some(limit) = limit.filter(|_| passes < PASSES) else { return };
        passes += 1;
        world.now += limit.as_secs();
    }
    unreachable!("the loop goes on and on");
}

/// Checks the rules of a loop that has nothing to do for `limit`.
fn check_rest(shared: &Shared<u64>, world: &World, limit: Option<Duration>) {
    assert!(world.asked.is_empty(), "a manual reload is not answered");
    assert!(!world.wanted, "a reload from a callback is lost");
    assert_eq!(shared.lock().status.running, world.started, "the status says whether it runs");
    assert!(!world.stopped || !world.started, "a stop does not end the worker");
    if world.started {
        assert!(world.begun, "a start is not taken up");
        assert!(!world.hinted, "a hint is lost");
        let due = world.due.map(|due| due.saturating_sub(world.now));
        assert_ne!(due, Some(0), "a tick is not taken");
        assert_eq!(limit, due.map(Duration::from_secs), "it waits for another time than it has to");
    }
}

/// How often time passes in a run.
const PASSES: u32 = 1;

/// Plays every run of so many acts, up to the first that breaks a rule. Returns the number of runs.
fn play_all(limit: usize, wrong: Wrong) -> Result<u64, String> {
    let mut runs = 0;
    for is_started in [true, false] {
        let mut choices = Vec::new();
        loop {
            let played = Played::default();
            {
                let mut world = played.world();
                (world.choices, world.limit, world.wrong) = (choices, limit, wrong);
            }
            let run = AssertUnwindSafe(|| play(&played, is_started));
            runs += 1;
            if catch_unwind(run).is_err() {
                return Err(format!("run {runs}, started: {is_started}, acts: {:?}", played.world().acts));
            }
            choices = std::mem::take(&mut played.world().choices);
            while choices.last().is_some_and(|(choice, options)| choice + 1 == *options) {
                choices.pop();
            }
            let Some((choice, _)) = choices.last_mut() else { break };
            *choice += 1;
        }
    }
    Ok(runs)
}

/// Checks: INV-01, INV-05, INV-06, INV-11, INV-13.
///
/// Engine: generated, exhaustive: every place of every sequence of acts.
#[test]
fn inv13_loop_keeps_its_rules_wherever_acts_fall() {
    let begun = std::time::Instant::now();
    let runs = play_all(3, Wrong::Nothing).expect("the loop keeps its rules");
    println!("loop: {runs} runs of up to 3 acts in {:.1?}", begun.elapsed());
    assert!(runs > 10_000, "{runs} runs");
}

#[test]
fn rules_of_the_loop_catch_wrong_designs() {
    for wrong in [Wrong::LosesHints, Wrong::SleepsOn, Wrong::PublishesAfterStop, Wrong::AnswersLate] {
        let caught = play_all(2, wrong).expect_err("a rule speaks up");
        println!("{wrong:?}: {caught}");
    }
}
