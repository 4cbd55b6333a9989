//! A swap against two handshakes: each sees one whole value, and never an older one after a newer
//! one. The replaced value is freed exactly once, when its last holder has dropped it.
//! Checks: INV-01, INV-04.
//!
//! Engine: generated.

use loom_tests::{Design, Disk, Reload, Shipped, model, spawn};

fn body<D: Design>() {
    let disk = Disk::default();
    let design = D::load(&disk, |_, _| {});
    let handshake = || {
        let handle = design.handle();
        spawn(move || {
            let held = D::current(&handle);
            let before = (held.generation, held.value.version());
            let now = D::current(&handle);
            let after = (now.generation, now.value.version());
            assert!(before <= after, "went back from {before:?} to {after:?}");
            // The held value is still whole and not freed.
            assert_eq!((held.generation, held.value.version()), before);
        })
    };
    let handshakes = [handshake(), handshake()];
    disk.write(2);
    assert_eq!(D::reload_now(&design.handle()), Reload::Reloaded);
    for handshake in handshakes {
        handshake.join().unwrap();
    }
    assert_eq!(disk.counts(1), (1, 1), "the old value is freed once");
    assert_eq!(disk.counts(2), (1, 0), "the new value is served");
    assert_eq!(D::current(&design.handle()).value.version(), 2);
    drop(design);
    assert_eq!(disk.counts(2), (1, 1), "the last value is freed once");
}

#[test]
fn inv04_swap_against_two_handshakes() {
    model("swap against two handshakes", body::<Shipped>);
}

/// Runs the body over wrong designs. The model must catch them, and must pass the sound design of
/// the same shape.
#[cfg(loom)]
mod wrong {
    use loom_tests::{
        must_fail, must_pass,
        wrong::{Sound, TwoCells, Wrong},
    };

    use super::*;

    #[test]
    fn two_cells() {
        must_fail("swap_against_handshakes::wrong::two_cells", "a mixture", body::<Wrong<TwoCells>>);
    }

    #[test]
    fn sound() {
        must_pass("swap_against_handshakes::wrong::sound", body::<Wrong<Sound>>);
    }
}
