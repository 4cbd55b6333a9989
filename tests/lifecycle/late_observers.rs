//! Observers of publications that are added after the load.
//!
//! Checks: INV-04, INV-07, INV-12, INV-13, INV-15

use std::{
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use crate::common::{self, Volume, by_events_only, drain, generations, in_time};
use rustls_reload::{Event, Layer, Reload};

#[test]
fn inv04_late_observer_gets_the_served_value_then_each_in_order() {
    const UPDATES: usize = 40;
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().timing(by_events_only()).load().unwrap();
    let seen: Vec<Arc<Mutex<Vec<u64>>>> = (0..UPDATES).map(|_| Arc::default()).collect();
    // Each observer is added while an update is published.
    for (round, seen) in seen.iter().enumerate() {
        volume.publish_in_one_tick(&generations[(round + 1) % 2].files());
        let both = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                both.wait();
                assert_eq!(reloader.reload_now(), Reload::Reloaded);
            });
            both.wait();
            let noted = Arc::clone(seen);
            reloader.on_publish(move |published| noted.lock().unwrap().push(published.generation));
            assert!(!seen.lock().unwrap().is_empty(), "it is called before the call returns");
        });
    }
    let last = reloader.status().generation;
    assert_eq!(last, UPDATES as u64 + 1);
    for (round, seen) in seen.iter().enumerate() {
        let seen = seen.lock().unwrap();
        let first = seen[0];
        assert!(first == round as u64 + 1 || first == round as u64 + 2, "round {round}: {first}");
        assert!(seen.iter().copied().eq(first..=last), "round {round}: {seen:?}");
    }
}

#[test]
fn inv13_late_observer_may_reload_and_add_others() {
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().load().unwrap();
    volume.publish(&generations[1].files());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let inner = Arc::new(AtomicUsize::new(0));
    let (noted, counted, handle) = (Arc::clone(&seen), Arc::clone(&inner), reloader.clone());
    reloader.on_publish(move |published| {
        noted.lock().unwrap().push(published.generation);
        if published.generation == 1 {
            assert_eq!(handle.reload_now(), Reload::Reloaded);
            let counted = Arc::clone(&counted);
            handle.on_publish(move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(*seen.lock().unwrap(), [1, 2]);
    assert_eq!(inner.load(Ordering::Relaxed), 1);
}

#[test]
fn inv07_late_observer_is_called_by_the_publisher_under_no_lock() {
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().load().unwrap();
    let (called, calls) = mpsc::channel();
    let handle = reloader.clone();
    reloader.on_publish(move |published| {
        if published.generation == 2 {
            let (called, status) = (called.clone(), handle.status());
            handle.on_publish(move |inner| {
                called.send((status.generation, inner.generation)).unwrap();
            });
        }
    });
    volume.publish(&generations[1].files());
    let by_hand = reloader.clone();
    assert_eq!(in_time(move || by_hand.reload_now()), Reload::Reloaded);
    assert_eq!(calls.try_recv(), Ok((2, 2)));
}

#[test]
fn inv12_late_observer_that_is_slow_gets_the_latest_alone() {
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().load().unwrap();
    let (begun, begins) = mpsc::channel();
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let overlaps = Arc::new(AtomicUsize::new(0));
    let (handle, counted) = (reloader.clone(), Arc::clone(&overlaps));
    let observing = thread::spawn(move || {
        handle.on_publish(move |published| {
            // The gate is taken as long as a call lasts.
            let Ok(gate) = gate.try_lock() else {
                counted.fetch_add(1, Ordering::Relaxed);
                return;
            };
            begun.send(published.generation).unwrap();
            gate.recv().unwrap();
        });
    });
    assert_eq!(begins.recv_timeout(common::DEADLINE), Ok(1));
    let replaced: Vec<_> = (1..=5)
        .map(|round| {
            volume.publish_in_one_tick(&generations[round % 2].files());
            let by_hand = reloader.clone();
            assert_eq!(in_time(move || by_hand.reload_now()), Reload::Reloaded);
            Arc::downgrade(&reloader.config())
        })
        .collect();
    let held = replaced.iter().filter(|config| config.upgrade().is_some()).count();
    assert_eq!(held, 1, "only the served configuration waits for the observer");
    open.send(()).unwrap();
    assert_eq!(begins.recv_timeout(common::DEADLINE), Ok(6));
    open.send(()).unwrap();
    observing.join().unwrap();
    assert_eq!(begins.try_recv(), Err(mpsc::TryRecvError::Empty), "none is delivered twice");
    assert_eq!(overlaps.load(Ordering::Relaxed), 0, "one call after the other");
}

#[test]
fn inv15_late_observer_that_panics_is_reported_and_called_again() {
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().load().unwrap();
    let mut events = reloader.events();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    reloader.on_publish(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::panic::resume_unwind(Box::new("an observer's own"));
    });
    volume.publish(&generations[1].files());
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    let panics = drain(&mut events)
        .iter()
        .filter(|event| matches!(***event, Event::Warning { ref warning } if warning.layer() == Layer::Panic))
        .count();
    assert_eq!(panics, 2);
}
