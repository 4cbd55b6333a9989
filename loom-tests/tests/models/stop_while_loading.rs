//! A stop during a load: once the stop has returned, nothing is published and no publication is
//! reported. Checks: INV-13, INV-11.
//!
//! Engine: generated.

use loom_tests::{Design, Disk, Reload, Shipped, model, spawn};

fn body<D: Design>() {
    let disk = Disk::default();
    let design = D::load(&disk, |_, _| {});
    disk.write(2);
    let caller = |handle: D::Handle| {
        spawn(move || {
            let answer = D::reload_now(&handle);
            (answer, D::current(&handle).generation)
        })
    };
    let callers = [caller(design.handle())];
    let reader = design.handle();
    let reader = spawn(move || D::current(&reader).generation);
    assert!(design.stop());
    let at_stop = D::current(&design.handle()).generation;
    assert!(reader.join().unwrap() <= 2);
    for caller in callers {
        let (answer, generation) = caller.join().unwrap();
        assert_eq!(generation, at_stop, "published after the stop had returned");
        let reported = if at_stop == 2 { Reload::Reloaded } else { Reload::Stopped };
        assert_eq!(answer, reported, "while generation {at_stop} is served");
    }
}

#[test]
fn inv13_stop_while_loading() {
    model("stop while loading", body::<Shipped>);
}

/// Runs the body over wrong designs. The model must catch them, and must pass the sound design of
/// the same shape.
#[cfg(loom)]
mod wrong {
    use loom_tests::{
        must_fail, must_pass,
        wrong::{CheckThenSwap, Sound, Wrong},
    };

    use super::*;

    #[test]
    fn check_then_swap() {
        must_fail(
            "stop_while_loading::wrong::check_then_swap",
            "published after the stop",
            body::<Wrong<CheckThenSwap>>,
        );
    }

    #[test]
    fn sound() {
        must_pass("stop_while_loading::wrong::sound", body::<Wrong<Sound>>);
    }
}
