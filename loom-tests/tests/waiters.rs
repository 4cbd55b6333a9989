//! Tasks that wait for a publication: the reloader keeps none of them for longer than it waits, and
//! no limit of a wait is too long.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs)] // reason: what fails here is a failed test

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use loom_tests::{Design, Disk, Notify, Shipped, spawn};

/// Checks: INV-12
#[test]
fn inv12_a_wait_that_was_given_up_is_forgotten() {
    let design = Shipped::load(&Disk::default(), |_, _| {});
    let notify = Arc::new(Notify::default());
    for _ in 0..100 {
        let waker = Waker::from(Arc::clone(&notify));
        let mut wait = pin!(design.handle().published(1));
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(Arc::strong_count(&notify), 1, "wakers of tasks that are gone");
}

/// Checks: INV-11
#[test]
fn inv11_a_wait_keeps_the_latest_waker_only() {
    let disk = Disk::default();
    let design = Shipped::load(&disk, |_, _| {});
    let (old, new) = (Arc::new(Notify::default()), Arc::new(Notify::default()));
    let mut wait = pin!(design.handle().published(1));
    for notify in [&old, &new] {
        let waker = Waker::from(Arc::clone(notify));
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    disk.write(2);
    Shipped::reload_now(&design.handle());
    assert_eq!((old.count(), new.count()), (0, 1));
    let waker = Waker::from(Arc::clone(&new));
    let Poll::Ready(published) = wait.as_mut().poll(&mut Context::from_waker(&waker)) else {
        unreachable!("it was published")
    };
    assert_eq!(published.generation, 2);
}

/// Checks: INV-11
#[test]
fn inv11_a_wait_may_have_any_limit() {
    let disk = Disk::default();
    let design = Shipped::load(&disk, |_, _| {});
    let handle = design.handle();
    assert!(handle.wait_published(1, Duration::ZERO).is_none());
    let waiter = spawn(move || handle.wait_published(1, Duration::MAX).unwrap().generation);
    disk.write(2);
    Shipped::reload_now(&design.handle());
    assert_eq!(waiter.join().unwrap(), 2);
}
