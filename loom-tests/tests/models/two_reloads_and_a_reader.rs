//! Two manual reloads and a reader: publications are in order and none is lost. The version that a
//! caller wrote before its request is served when it gets its answer. Checks: INV-04, INV-11.
//!
//! Engine: generated.

use loom_tests::{Design, Disk, Reload, Shipped, bounded, spawn};

fn body<D: Design>() {
    let disk = Disk::default();
    let design = D::load(&disk, |_, _| {});
    let caller = |version: u64| {
        let (disk, handle) = (disk.clone(), design.handle());
        move || {
            disk.write(version);
            let answer = D::reload_now(&handle);
            let served = D::current(&handle);
            let seen = (served.generation, served.value.version());
            assert!(seen.1 >= version, "answered {answer:?} while {seen:?} is served");
            (answer, seen)
        }
    };
    let other = spawn(caller(2));
    let handle = design.handle();
    let reader = spawn(move || {
        let seen = D::current(&handle);
        (seen.generation, seen.value.version())
    });
    let reported = [caller(3)(), other.join().unwrap()];
    let last = D::current(&design.handle());
    let last = (last.generation, last.value.version());
    assert_eq!(last.1, 3, "the last write is lost");
    assert_eq!(D::status(&design.handle()), last.0);
    // Generations give the order: an observer of a later generation never sees an older version.
    let mut seen = [(1, 1), reported[0].1, reported[1].1, reader.join().unwrap(), last];
    seen.sort_unstable();
    assert!(seen.windows(2).all(|two| two[0].1 <= two[1].1), "out of order: {seen:?}");
    // Each publication is the answer to a request. Two simultaneous requests may share one.
    let reloaded = reported.iter().filter(|(answer, _)| *answer == Reload::Reloaded).count() as u64;
    assert!((1..=reloaded).contains(&(last.0 - 1)), "{reported:?} and {last:?}");
}

/// Both callers hand one driver and one lock to and fro, so a complete search has tens of millions
/// of permutations. With five preemptions each caller can be interrupted twice in the other's
/// drive, and the reader can be anywhere.
const PREEMPTIONS: usize = 5;

#[test]
fn inv04_two_reloads_and_a_reader() {
    bounded("two reloads and a reader", PREEMPTIONS, body::<Shipped>);
}

/// Runs the body over wrong designs. The model must catch them, and must pass the sound design of
/// the same shape.
#[cfg(loom)]
mod wrong {
    use loom_tests::{
        must_fail, must_pass,
        wrong::{AnswersOfOthers, Sound, Unserialised, Wrong},
    };

    use super::*;

    #[test]
    fn unserialised() {
        must_fail(
            "two_reloads_and_a_reader::wrong::unserialised",
            "the last write is lost",
            body::<Wrong<Unserialised>>,
        );
    }

    #[test]
    fn answers_of_others() {
        must_fail(
            "two_reloads_and_a_reader::wrong::answers_of_others",
            "is served",
            body::<Wrong<AnswersOfOthers>>,
        );
    }

    #[test]
    fn sound() {
        must_pass("two_reloads_and_a_reader::wrong::sound", body::<Wrong<Sound>>);
    }
}
