//! An observer that is added while generations are published gets the generation served then or a
//! later one. It gets each at most once, in order, and the last one in any case. Checks: INV-11.
//!
//! Engine: generated.

use std::sync::Arc;

use loom_tests::{Design, Disk, Published, Reload, Shipped, Whole, model, spawn};

#[cfg(loom)]
use loom::sync::Mutex;
#[cfg(not(loom))]
use std::sync::Mutex;

/// Publishes versions 2 to `last` on one thread while another adds the observer.
fn body(last: u64) {
    let disk = Disk::default();
    let design = Shipped::load(&disk, |_, _| {});
    let (publisher, late) = (design.handle(), design.handle());
    let publishing = spawn(move || {
        for version in 2..=last {
            disk.write(version);
            assert_eq!(Shipped::reload_now(&publisher), Reload::Reloaded);
        }
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let adding = spawn(move || {
        late.on_publish(move |published: &Arc<Published<Whole>>| {
            assert_eq!(published.generation, published.value.version());
            log.lock().unwrap().push(published.generation);
        });
    });
    publishing.join().unwrap();
    adding.join().unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.is_sorted_by(|a, b| a < b), "twice, or out of order: {seen:?}");
    assert_eq!(seen.last(), Some(&last), "the last generation is missing: {seen:?}");
}

#[test]
fn inv11_late_observer_against_a_publication() {
    model("a late observer against a publication", || body(2));
}

/// The second publication can come while the observer is called with the first.
#[test]
fn inv11_late_observer_against_two_publications() {
    model("a late observer against two publications", || body(3));
}
