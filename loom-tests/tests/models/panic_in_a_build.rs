//! A build that panics while other threads read and reload: the served pointer stays, and the
//! driver goes on. Checks: INV-03.
//!
//! Engine: generated.

use std::sync::Arc;

use loom_tests::{Design, Disk, Reload, Shipped, Surroundings, model, quiet, spawn};

const BAD: u64 = 2;

fn body<D: Design>(load: impl Fn(&Disk) -> D) {
    quiet();
    let disk = Disk::default();
    let design = load(&disk);
    let first = D::current(&design.handle());
    disk.write(BAD);
    let handle = design.handle();
    let caller = spawn(move || D::reload_now(&handle));
    let (handle, served) = (design.handle(), Arc::clone(&first));
    let reader = spawn(move || {
        let seen = D::current(&handle);
        assert!(seen.generation == 2 || Arc::ptr_eq(&seen, &served), "what was served is gone");
    });
    let refused = caller.join().unwrap();
    assert!(matches!(refused, Reload::Refused(_)), "{refused:?}");
    assert!(Arc::ptr_eq(&D::current(&design.handle()), &first), "what was served is gone");
    disk.write(BAD + 1);
    assert_eq!(D::reload_now(&design.handle()), Reload::Reloaded, "the driver has died");
    reader.join().unwrap();
}

#[test]
fn inv03_panic_in_a_build() {
    model("last good value while a build panics", || body(load::<Shipped>));
}

fn load<D: Design>(disk: &Disk) -> D {
    disk.invalidate(BAD);
    D::load(disk, |_, _| {})
}

fn load_shrinking(disk: &Disk) -> Shipped {
    Shipped::load_in(disk, Surroundings { bad_shrink: Some(BAD), ..Surroundings::default() }, |_, _| {})
}

#[test]
fn inv03_panic_in_a_comparison() {
    model("last good value while a comparison panics", || body(load_shrinking));
}

/// Runs the body over wrong designs. The model must catch them, and must pass the sound design of
/// the same shape.
#[cfg(loom)]
mod wrong {
    use loom_tests::{
        must_fail, must_pass,
        wrong::{PanicEscapes, Sound, Wrong},
    };

    use super::*;

    #[test]
    fn panic_escapes() {
        must_fail("panic_in_a_build::wrong::panic_escapes", "deadlock", || body(load::<Wrong<PanicEscapes>>));
    }

    #[test]
    fn sound() {
        must_pass("panic_in_a_build::wrong::sound", || body(load::<Wrong<Sound>>));
    }
}
