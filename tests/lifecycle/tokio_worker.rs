//! The worker for tokio, which only its shutdown receiver ends.

use std::time::{Duration, Instant};

use crate::common::{self, Generation, Volume, by_events_only, drain, expect, generations, started};
use rustls_reload::{Event, Layer, Reload, StartError};
use tokio::sync::watch;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn inv13_the_tokio_worker_ends_when_shutdown_turns_true() {
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().load().unwrap();
    let mut events = reloader.events();
    runtime().block_on(async {
        let (shutdown, receiver) = watch::channel(false);
        let worker = reloader.spawn_worker(receiver.clone()).unwrap();
        assert!(matches!(reloader.spawn_worker(receiver), Err(StartError::AlreadyRunning)));
        tokio::task::block_in_place(|| started(&mut events));
        volume.publish(&generations[1].files());
        let next = tokio::time::timeout(common::DEADLINE, reloader.published(1)).await.unwrap();
        assert_eq!(next.generation, 2);
        assert_eq!(reloader.reload().await, Reload::Unchanged);
        assert!(!worker.is_finished());
        shutdown.send(true).unwrap();
        tokio::time::timeout(common::DEADLINE, worker).await.unwrap().unwrap();
        assert!(!reloader.status().running);
        // A start after that works, and a stop ends the task as well.
        let (_shutdown, receiver) = watch::channel(false);
        let worker = reloader.spawn_worker(receiver).unwrap();
        tokio::task::block_in_place(|| reloader.stop()).unwrap();
        tokio::time::timeout(common::DEADLINE, worker).await.unwrap().unwrap();
    });
}

#[test]
fn inv13_dropped_shutdown_sender_is_reported_once_without_a_spin() {
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().timing(by_events_only()).load().unwrap();
    let mut events = reloader.events();
    let runtime = runtime();
    let (shutdown, receiver) = watch::channel(false);
    let worker = {
        let _inside = runtime.enter();
        reloader.spawn_worker(receiver).unwrap()
    };
    started(&mut events);
    drop(shutdown);
    let warned = expect(&mut events, "warning", |event| match event {
        Event::Warning { warning } => Some(warning.clone()),
        _ => None,
    });
    assert_eq!(warned.layer(), Layer::Settings);
    // The runtime's only worker thread has no other work.
    let busy = || runtime.metrics().worker_total_busy_duration(0);
    // The time until it parks counts at that moment, however long it was held up. An odd count is a
    // parked thread's.
    let deadline = Instant::now() + common::DEADLINE;
    while runtime.metrics().worker_park_unpark_count(0).is_multiple_of(2) && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let before = busy();
    let pause = Duration::from_millis(300);
    assert!(reloader.wait_published(1, pause).is_none());
    assert!(busy() - before < pause / 2, "it spins: busy for {:?} of {pause:?}", busy() - before);
    volume.publish(&generations[1].files());
    common::wait_for_leaf(&reloader, &generations[1].server);
    let reported = drain(&mut events);
    assert_eq!(reported.len(), 1, "a publication, and no second warning: {reported:?}");
    assert!(!worker.is_finished());
    drop(reloader);
    runtime.block_on(async { tokio::time::timeout(common::DEADLINE, worker).await }).unwrap().unwrap();
}

#[test]
fn inv13_the_task_of_an_ended_run_leaves_a_later_run_alone() {
    let volume = Volume::of(&Generation::new(0));
    let reloader = volume.server().load().unwrap();
    let mut events = reloader.events();
    // On a busy runtime of one thread, the task notices the stop only after the next start.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (shutdown, receiver) = watch::channel(false);
        let worker = reloader.spawn_worker(receiver).unwrap();
        started(&mut events);
        reloader.stop().unwrap();
        reloader.start().unwrap();
        started(&mut events);
        shutdown.send(true).unwrap();
        tokio::time::timeout(common::DEADLINE, worker).await.unwrap().unwrap();
        assert!(reloader.status().running, "its shutdown ended a run that is not its own");
    });
}
