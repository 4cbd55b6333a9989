//! A start while another thread's manual reload drives: the worker takes the driver over when that
//! reload has ended. Checks: INV-13.
//!
//! Engine: generated.

use loom_tests::{Design, Disk, Shipped, bounded, spawn, started};

use crate::hint_against_sleep::load;

/// The watcher's publisher writes version 2. Only a worker that has begun makes the watcher.
fn body<D: Design>(load: impl Fn(&Disk) -> D) {
    let disk = Disk::default();
    let design = load(&disk);
    let handle = design.handle();
    let caller = spawn(move || D::reload_now(&handle));
    assert!(design.start());
    started();
    let published = D::wait_published(&design.handle(), 1).expect("the start is not taken up");
    assert_eq!(published.value.version(), 2);
    let _ = caller.join().unwrap();
    assert!(design.stop());
}

/// The worker, the reload and the publisher take one lock some thirty times together. The fault
/// that this model has to catch needs two preemptions: one before the reload puts the driver back,
/// and one after the worker has found it taken.
const PREEMPTIONS: usize = 2;

#[test]
fn inv13_start_against_manual_reload() {
    bounded("start against a reload by hand that drives", PREEMPTIONS, || body::<Shipped>(load));
}

/// Runs the body over wrong designs. The model must catch them, and must pass the sound design of
/// the same shape. Both are searched with as many preemptions as the shipped code is. With a third
/// preemption the sound design alone took 946,000 permutations, a quarter of the time of all models.
#[cfg(loom)]
mod wrong {
    use loom_tests::{
        must_fail_within,
        wrong::{SilentRest, Sound, Wrong},
    };

    use super::*;

    #[test]
    fn silent_rest() {
        must_fail_within(PREEMPTIONS, "start_against_reload::wrong::silent_rest", "deadlock", || {
            body(Wrong::<SilentRest>::load_watching)
        });
    }

    #[test]
    fn sound() {
        let name = "start_against_reload::wrong::sound";
        bounded(name, PREEMPTIONS, || body(Wrong::<Sound>::load_watching));
    }
}
