//! Two reloads by hand and a reader: publications are in order, none is lost, and each caller's answer is true: what it
//! wrote before it asked is served when it is told so. Checks: INV-04, INV-11.
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
            assert!(seen.1 >= version, "told {answer:?} while {seen:?} is served");
            (answer, seen)
        }
    };
    let other = spawn(caller(2));
    let handle = design.handle();
    let reader = spawn(move || {
        let seen = D::current(&handle);
        (seen.generation, seen.value.version())
    });
    let told = [caller(3)(), other.join().unwrap()];
    let last = D::current(&design.handle());
    let last = (last.generation, last.value.version());
    assert_eq!(last.1, 3, "the last write is lost");
    assert_eq!(D::status(&design.handle()), last.0);
    // The generations tell the order; who saw a later one saw no older version.
    let mut seen = [(1, 1), told[0].1, told[1].1, reader.join().unwrap(), last];
    seen.sort_unstable();
    assert!(seen.windows(2).all(|two| two[0].1 <= two[1].1), "out of order: {seen:?}");
    // Each publication is told to somebody who asked; two who asked together may share one.
    let reloaded = told.iter().filter(|(answer, _)| *answer == Reload::Reloaded).count() as u64;
    assert!((1..=reloaded).contains(&(last.0 - 1)), "{told:?} and {last:?}");
}

/// Both callers hand one driver and one lock to and fro, so that the permutations go on for tens of millions. With five
/// preemptions each caller can be interrupted twice in the other's drive, and the reader put anywhere.
const PREEMPTIONS: usize = 5;

#[test]
fn inv04_two_reloads_and_a_reader() {
    bounded("two reloads and a reader", PREEMPTIONS, body::<Shipped>);
}

/// The same over wrong designs: they must be caught, and the sound one of the same shape must not.
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
