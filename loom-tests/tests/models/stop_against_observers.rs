//! A stop against observers that other threads call: once it has returned, none of them is called
//! with a publication from before it. Observers that stop the reloader wait for none. Checks: INV-13.
//!
//! Engine: generated.

use std::sync::{Arc, OnceLock};

use loom_tests::{Design, Disk, Published, Shipped, Whole, bounded, spawn};

#[cfg(loom)]
use loom::sync::Mutex;
#[cfg(not(loom))]
use std::sync::Mutex;

/// Set once a stop has returned.
type Stopped = Arc<Mutex<bool>>;

fn assert_not(stopped: &Stopped) {
    assert!(!*stopped.lock().unwrap(), "an observer is called after the stop");
}

/// Two threads reload and call the observer while a third one stops.
fn reloads<D: Design>() {
    let (disk, stopped) = (Disk::default(), Stopped::default());
    let seen = Arc::clone(&stopped);
    let design = D::load(&disk, move |_, _| assert_not(&seen));
    let callers = [2, 3].map(|version| {
        let (disk, handle) = (disk.clone(), design.handle());
        spawn(move || {
            disk.write(version);
            let _ = D::reload_now(&handle);
        })
    });
    assert!(design.stop());
    *stopped.lock().unwrap() = true;
    for caller in callers {
        caller.join().unwrap();
    }
}

/// One thread adds an observer while another one publishes and a third one stops. The first call is
/// made for the caller of `on_publish`, whenever that begins. A second call is a publication's.
fn additions() {
    let (disk, stopped) = (Disk::default(), Stopped::default());
    let design = Shipped::load(&disk, |_, _| {});
    let (publisher, adder) = (design.handle(), design.handle());
    let publishing = spawn(move || {
        disk.write(2);
        let _ = Shipped::reload_now(&publisher);
    });
    let (seen, first) = (Arc::clone(&stopped), OnceLock::new());
    let adding = spawn(move || {
        adder.on_publish(move |_: &Arc<Published<Whole>>| {
            if first.set(()).is_err() {
                assert_not(&seen);
            }
        });
    });
    assert!(design.stop());
    *stopped.lock().unwrap() = true;
    publishing.join().unwrap();
    adding.join().unwrap();
}

/// Two observers on two threads stop the reloader, beside a stop on a third one.
fn stops() {
    let disk = Disk::default();
    let design = Shipped::load(&disk, |handle, _| assert!(handle.stop().is_ok()));
    let (publisher, adder) = (design.handle(), design.handle());
    let publishing = spawn(move || {
        disk.write(2);
        let _ = Shipped::reload_now(&publisher);
    });
    // The handle is kept only here, so that the observer does not keep the reloader alive.
    let slot = Arc::new(adder.clone());
    let handle = Arc::downgrade(&slot);
    let adding = spawn(move || {
        adder.on_publish(move |_: &Arc<Published<Whole>>| {
            assert!(handle.upgrade().is_none_or(|handle| handle.stop().is_ok()));
        });
    });
    assert!(design.stop());
    publishing.join().unwrap();
    adding.join().unwrap();
}

/// Three threads take one lock some twenty times together, so a complete search takes minutes. The
/// wrong design is caught with as many preemptions.
const PREEMPTIONS: usize = 3;

#[test]
fn inv13_stop_against_reloads_that_call_an_observer() {
    bounded("stop against two reloads that call an observer", PREEMPTIONS, reloads::<Shipped>);
}

#[test]
fn inv13_stop_against_an_observer_that_is_added() {
    bounded("stop against an observer that is added", PREEMPTIONS, additions);
}

#[test]
fn inv13_observers_that_stop_against_a_stop() {
    bounded("two observers that stop against a stop", PREEMPTIONS, stops);
}

/// Runs the body over a wrong design. The model must catch it, and must pass the sound design of the
/// same shape.
#[cfg(loom)]
mod wrong {
    use loom_tests::{
        must_fail, must_pass,
        wrong::{Sound, StopLeavesCallbacks, Wrong},
    };

    use super::*;

    #[test]
    fn stop_leaves_callbacks() {
        must_fail(
            "stop_against_observers::wrong::stop_leaves_callbacks",
            "an observer is called after the stop",
            reloads::<Wrong<StopLeavesCallbacks>>,
        );
    }

    #[test]
    fn sound() {
        must_pass("stop_against_observers::wrong::sound", reloads::<Wrong<Sound>>);
    }
}
