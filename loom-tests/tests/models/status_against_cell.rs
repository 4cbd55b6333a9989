//! The status against the cell: the status names no generation that a handshake does not get yet,
//! and none older than a handshake has got. Checks: INV-11.
//!
//! Engine: generated.

use loom_tests::{Design, Disk, Reload, Shipped, model, spawn};

fn body<D: Design>() {
    let disk = Disk::default();
    let design = D::load(&disk, |_, _| {});
    let handle = design.handle();
    let ahead = spawn(move || {
        let status = D::status(&handle);
        let served = D::current(&handle).generation;
        assert!(status <= served, "the status says {status} while {served} is served");
    });
    let handle = design.handle();
    let behind = spawn(move || {
        let served = D::current(&handle).generation;
        let status = D::status(&handle);
        assert!(served <= status, "the status says {status} when {served} was served");
    });
    disk.write(2);
    assert_eq!(D::reload_now(&design.handle()), Reload::Reloaded);
    assert_eq!(D::status(&design.handle()), 2);
    ahead.join().unwrap();
    behind.join().unwrap();
}

#[test]
fn inv11_status_against_cell() {
    model("status against cell", body::<Shipped>);
}

/// Runs the body over wrong designs. The model must catch them, and must pass the sound design of
/// the same shape.
#[cfg(loom)]
mod wrong {
    use loom_tests::{
        must_fail, must_pass,
        wrong::{GenerationFirst, GenerationLate, Sound, Wrong},
    };

    use super::*;

    #[test]
    fn generation_first() {
        must_fail(
            "status_against_cell::wrong::generation_first",
            "the status says 2 while 1",
            body::<Wrong<GenerationFirst>>,
        );
    }

    #[test]
    fn sound() {
        must_pass("status_against_cell::wrong::sound", body::<Wrong<Sound>>);
    }

    #[test]
    fn generation_late() {
        must_fail(
            "status_against_cell::wrong::generation_late",
            "the status says 1 when 2",
            body::<Wrong<GenerationLate>>,
        );
    }
}
