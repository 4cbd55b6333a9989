//! Starts and stops against each other: one driver runs at a time, a refused start leaves the
//! running driver alone, and a start after a stop works. Checks: INV-13.
//!
//! Engine: generated.

use std::sync::{Arc, OnceLock, Weak};

use loom_tests::{Design, Disk, Reload, Shipped, Surroundings, bounded, model, spawn, started};

/// Two starts at the same time.
fn starts<D: Design>() {
    let disk = Disk::default();
    let design = Arc::new(D::load(&disk, |_, _| {}));
    let other = Arc::clone(&design);
    let other = spawn(move || other.start());
    let mine = design.start();
    started();
    assert!(mine != other.join().unwrap(), "exactly one start starts");
    assert!(design.stop());
    assert_eq!(D::current(&design.handle()).value.version(), 1);
}

/// A second start against a stop of the first driver: neither waits for the driver that the other
/// began or ended.
fn restart<D: Design>() {
    let disk = Disk::default();
    let design = Arc::new(D::load(&disk, |_, _| {}));
    assert!(design.start());
    started();
    let other = Arc::clone(&design);
    let stop = spawn(move || other.stop());
    let again = design.start();
    assert!(stop.join().unwrap(), "the stop waits for a driver that it did not stop");
    // A start that comes too early is refused. One that comes after the end of the first driver
    // starts a second, which the stop may have ended too.
    if again {
        started();
    }
    assert!(design.stop());
}

/// Two stops at the same time, and a start when both have returned.
fn stops<D: Design>() {
    let disk = Disk::default();
    let design = Arc::new(D::load(&disk, |_, _| {}));
    assert!(design.start());
    started();
    let other = Arc::clone(&design);
    let stop = spawn(move || other.stop());
    assert!(design.stop());
    assert!(stop.join().unwrap());
    disk.write(2);
    assert!(design.start(), "a start after a stop works");
    assert_eq!(D::wait_published(&design.handle(), 1).unwrap().value.version(), 2);
    assert!(design.stop());
}

/// A driver takes its lock a dozen times between start and stop and may wake a waiter each time, so
/// a complete search has tens of millions of permutations. Every defect found here so far needed at
/// most two preemptions.
const PREEMPTIONS: usize = 3;

/// A start and a stop while a manual reload drives. The reload ends only after both.
fn while_loading() {
    let disk = Disk::default();
    let slot: Arc<OnceLock<Weak<Shipped>>> = Arc::default();
    let owner = Arc::clone(&slot);
    let build = move |version| {
        let Some(design) = owner.get().and_then(Weak::upgrade).filter(|_| version == 2) else { return };
        let other = spawn(move || {
            assert!(design.start());
            started();
            assert!(design.stop(), "the stop waits for a load that is not its driver's");
        });
        other.join().unwrap();
    };
    let surroundings = Surroundings { build: Some(Box::new(build)), ..Surroundings::default() };
    let design = Arc::new(Shipped::load_in(&disk, surroundings, |_, _| {}));
    let _ = slot.set(Arc::downgrade(&design));
    disk.write(2);
    assert_eq!(design.handle().reload_now(), Reload::Stopped);
    assert_eq!(design.handle().current().generation, 1);
}

#[test]
fn inv13_start_and_stop_while_loading() {
    model("start and stop while a reload by hand drives", while_loading);
}

#[test]
fn inv13_start_against_start() {
    bounded("start against start", PREEMPTIONS, starts::<Shipped>);
}

#[test]
fn inv13_start_against_stop() {
    bounded("start against stop", PREEMPTIONS, restart::<Shipped>);
}

#[test]
fn inv13_stop_against_stop() {
    bounded("stop against stop, then start", PREEMPTIONS, stops::<Shipped>);
}

/// Runs the bodies over wrong designs. The model must catch them, and must pass the sound design of
/// the same shape.
#[cfg(loom)]
mod wrong {
    use loom_tests::{
        must_fail, must_pass,
        wrong::{GuardNeverReset, Sound, StopWaitsForAny, Wrong},
    };

    use super::*;

    #[test]
    fn guard_never_reset() {
        must_fail(
            "start_against_stop::wrong::guard_never_reset",
            "a start after a stop works",
            stops::<Wrong<GuardNeverReset>>,
        );
    }

    #[test]
    fn sound() {
        must_pass("start_against_stop::wrong::sound", stops::<Wrong<Sound>>);
    }

    #[test]
    fn stop_waits_for_any() {
        must_fail(
            "start_against_stop::wrong::stop_waits_for_any",
            "deadlock",
            restart::<Wrong<StopWaitsForAny>>,
        );
    }

    #[test]
    fn sound_too() {
        must_pass("start_against_stop::wrong::sound_too", restart::<Wrong<Sound>>);
    }
}
