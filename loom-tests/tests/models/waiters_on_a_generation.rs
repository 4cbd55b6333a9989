//! Waiters on a generation, blocking and as a future: each is woken, and a future is woken once.
//! Checks: INV-11.
//!
//! Engine: generated.

use loom_tests::{Design, Disk, Reload, Shipped, block_on, bounded, spawn};

fn body<D: Design>() {
    let disk = Disk::default();
    let design = D::load(&disk, |_, _| {});
    let handle = design.handle();
    let blocking = spawn(move || D::wait_published(&handle, 1).unwrap().generation);
    let handle = design.handle();
    let future = spawn(move || {
        let (published, woken) = block_on(D::published(&handle, 1));
        (published.generation, woken)
    });
    disk.write(2);
    assert_eq!(D::reload_now(&design.handle()), Reload::Reloaded);
    assert_eq!(blocking.join().unwrap(), 2);
    let (generation, woken) = future.join().unwrap();
    assert_eq!(generation, 2);
    assert!(woken <= 1, "woken {woken} times for one publication");
}

/// A driver takes its lock a dozen times between start and stop and may wake a waiter each time, so
/// a complete search has tens of millions of permutations. Every defect found here so far needed at
/// most two preemptions.
const PREEMPTIONS: usize = 3;

#[test]
fn inv11_waiters_on_a_generation() {
    bounded("waiters on a generation", PREEMPTIONS, body::<Shipped>);
}

/// Runs the body over wrong designs. The model must catch them, and must pass the sound design of
/// the same shape.
#[cfg(loom)]
mod wrong {
    use loom_tests::{
        must_fail, must_pass,
        wrong::{RegisterLate, Sound, Wrong},
    };

    use super::*;

    #[test]
    fn registered_late() {
        must_fail("waiters_on_a_generation::wrong::registered_late", "deadlock", body::<Wrong<RegisterLate>>);
    }

    #[test]
    fn sound() {
        must_pass("waiters_on_a_generation::wrong::sound", body::<Wrong<Sound>>);
    }
}
