//! Two callers of a manual reload against a stop and a start: each answer is true, and no call
//! waits for ever. Checks: INV-11, INV-13.
//!
//! Engine: generated.

use loom_tests::{Design, Disk, Reload, Shipped, bounded, spawn, started};

fn body<D: Design>() {
    let disk = Disk::default();
    let design = D::load(&disk, |_, _| {});
    let callers = [2, 3].map(|version| {
        let (disk, handle) = (disk.clone(), design.handle());
        spawn(move || {
            disk.write(version);
            let answer = D::reload_now(&handle);
            let served = D::current(&handle).value.version();
            let is_true = answer == Reload::Stopped || served >= version;
            assert!(is_true, "answered {answer:?} of version {version} while {served} is served");
        })
    });
    assert!(design.stop());
    assert!(design.start(), "a start after a stop works");
    started();
    for caller in callers {
        caller.join().unwrap();
    }
    assert!(design.stop());
    let last = D::current(&design.handle());
    assert_eq!(D::status(&design.handle()), last.generation);
}

/// A worker and two callers take one lock some thirty times together, so more preemptions would
/// take minutes.
const PREEMPTIONS: usize = 2;

#[test]
fn inv13_two_manual_reloads_against_stop_and_start() {
    bounded("two reloads by hand against a stop and a start", PREEMPTIONS, body::<Shipped>);
}

/// Runs the body over wrong designs. The model must catch them, and must pass the sound design of
/// the same shape.
#[cfg(loom)]
mod wrong {
    use loom_tests::{
        must_fail,
        wrong::{AnswersOfOthers, Sound, Wrong},
    };

    use super::*;

    #[test]
    fn answers_of_others() {
        must_fail(
            "callers_against_stop_and_start::wrong::answers_of_others",
            "is served",
            body::<Wrong<AnswersOfOthers>>,
        );
    }

    /// The fault is caught with two preemptions as well, and three would take minutes.
    #[test]
    fn sound() {
        bounded("callers_against_stop_and_start::wrong::sound", PREEMPTIONS, body::<Wrong<Sound>>);
    }
}
