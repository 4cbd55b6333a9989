//! A hint against a driver that goes to sleep: the new content is published whenever the hint
//! arrives. The clock stands still, so no poll hides a lost wake-up. Checks: INV-05, INV-06.
//!
//! Engine: generated.

use loom_tests::{Design, Disk, Shipped, Surroundings, bounded, spawn, started};

/// Loads a reloader whose watcher starts a publisher of version 2 once it is made.
pub(crate) fn load(disk: &Disk) -> Shipped {
    let publisher = disk.clone();
    let watch = Box::new(move |hints: rustls_reload::watch::Hints| {
        let publisher = publisher.clone();
        // This thread stands for the watcher's own.
        spawn(move || {
            publisher.write(2);
            hints.lost();
        });
    });
    let surroundings = Surroundings { watch: Some(watch), ..Surroundings::default() };
    Shipped::load_in(disk, surroundings, |_, _| {})
}

fn body<D: Design>(load: impl Fn(&Disk) -> D) {
    let disk = Disk::default();
    let design = load(&disk);
    assert!(design.start());
    started();
    let published = D::wait_published(&design.handle(), 1).expect("the hint is lost");
    assert_eq!((published.generation, published.value.version()), (2, 2));
    assert!(design.stop());
}

/// A driver takes its lock a dozen times between start and stop and may wake a waiter each time, so
/// a complete search has tens of millions of permutations. Every defect found here so far needed at
/// most two preemptions.
const PREEMPTIONS: usize = 3;

#[test]
fn inv06_hint_against_sleep() {
    bounded("hint against the driver going to sleep", PREEMPTIONS, || body(load));
}

/// Runs the body over wrong designs. The model must catch them, and must pass the sound design of
/// the same shape.
#[cfg(loom)]
mod wrong {
    use loom_tests::{
        must_fail, must_pass,
        wrong::{HintWithoutLock, Sound, Wrong},
    };

    use super::*;

    #[test]
    fn hint_without_the_lock() {
        must_fail("hint_against_sleep::wrong::hint_without_the_lock", "deadlock", || {
            body(Wrong::<HintWithoutLock>::load_watching)
        });
    }

    #[test]
    fn sound() {
        must_pass("hint_against_sleep::wrong::sound", || body(Wrong::<Sound>::load_watching));
    }
}
