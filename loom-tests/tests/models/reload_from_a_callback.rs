//! A callback that requests a reload while another thread stops the reloader: neither waits for
//! ever for the other. Checks: INV-07, INV-13.
//!
//! Engine: generated.

use std::sync::{Arc, OnceLock, Weak};

use loom_tests::{Design, Disk, Reload, Shipped, bounded, model, spawn};

fn body<D: Design>() {
    let disk = Disk::default();
    let again = disk.clone();
    let design = D::load(&disk, move |handle, published| {
        if published.generation == 2 {
            again.write(3);
            let answer = D::reload_now(handle);
            assert!(matches!(answer, Reload::Queued | Reload::Stopped), "{answer:?}");
        }
    });
    disk.write(2);
    let handle = design.handle();
    let caller = spawn(move || D::reload_now(&handle));
    let handle = design.handle();
    let reader = spawn(move || D::current(&handle).generation);
    assert!(design.stop());
    let at_stop = D::current(&design.handle()).generation;
    let answer = caller.join().unwrap();
    assert!(reader.join().unwrap() <= 3);
    assert_eq!(D::current(&design.handle()).generation, at_stop, "published after the stop had returned");
    if at_stop >= 2 {
        assert_eq!(answer, Reload::Reloaded);
    }
}

#[test]
fn inv13_reload_from_a_callback_while_stopping() {
    model("reload from a callback while stopping", body::<Shipped>);
}

/// A callback requests a reload once, while another thread waits for the publication of that
/// reload.
fn queued<D: Design>() {
    let disk = Disk::default();
    let again = disk.clone();
    let design = D::load(&disk, move |handle, published| {
        if published.generation == 2 {
            again.write(3);
            assert_eq!(D::reload_now(handle), Reload::Queued);
        }
    });
    let waiters = [2, 1].map(|generation| {
        let handle = design.handle();
        spawn(move || D::wait_published(&handle, generation).unwrap().value.version())
    });
    disk.write(2);
    assert_eq!(D::reload_now(&design.handle()), Reload::Reloaded);
    let [second, first] = waiters.map(|waiter| waiter.join().unwrap());
    assert!(second == 3 && (first == 2 || first == 3), "{first} and {second}");
}

/// Two publications in one drive wake two waiters up to five times each, so a complete search has
/// millions of permutations.
const PREEMPTIONS: usize = 4;

#[test]
fn inv07_reload_from_a_callback_is_queued() {
    bounded("reload from a callback against two waiters", PREEMPTIONS, queued::<Shipped>);
}

/// A callback stops the reloader and then waits for a thread that has requested a reload.
fn stop_inside<D: Design>() {
    let disk = Disk::default();
    let slot: Arc<OnceLock<Weak<D>>> = Arc::default();
    let owner = Arc::clone(&slot);
    let design = Arc::new(D::load(&disk, move |handle, _| {
        let Some(design) = owner.get().and_then(Weak::upgrade) else { return };
        let callers = [handle.clone(), handle.clone()].map(|handle| spawn(move || D::reload_now(&handle)));
        assert!(design.stop());
        for caller in callers {
            assert_eq!(caller.join().unwrap(), Reload::Stopped);
        }
    }));
    let _ = slot.set(Arc::downgrade(&design));
    disk.write(2);
    assert_eq!(D::reload_now(&design.handle()), Reload::Reloaded);
    assert_eq!(D::reload_now(&design.handle()), Reload::Stopped);
}

#[test]
fn inv13_stop_from_a_callback_frees_waiting_callers() {
    model("stop from a callback against two callers", stop_inside::<Shipped>);
}

/// Runs the bodies over wrong designs. The model must catch them, and must pass the sound design of
/// the same shape.
#[cfg(loom)]
mod wrong {
    use loom_tests::{
        must_fail, must_pass,
        wrong::{CallbackWaits, SilentStop, Sound, Wrong},
    };

    use super::*;

    #[test]
    fn callback_waits() {
        must_fail(
            "reload_from_a_callback::wrong::callback_waits",
            "deadlock",
            queued::<Wrong<CallbackWaits>>,
        );
    }

    #[test]
    fn sound() {
        must_pass("reload_from_a_callback::wrong::sound", queued::<Wrong<Sound>>);
    }

    #[test]
    fn silent_stop() {
        must_fail("reload_from_a_callback::wrong::silent_stop", "deadlock", stop_inside::<Wrong<SilentStop>>);
    }

    #[test]
    fn sound_too() {
        must_pass("reload_from_a_callback::wrong::sound_too", stop_inside::<Wrong<Sound>>);
    }
}
