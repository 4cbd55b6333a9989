//! The async entry points on a runtime of one thread whose clock stands still, while the driver is
//! held at each of its stages: nothing blocks the executor, nothing needs its timers, each waiter
//! is woken, and nothing is left behind.
//!
//! Engine: generated.

mod accepting;
mod case;
mod course;
#[path = "../model/mutants/disk.rs"]
#[allow(dead_code)] // reason: another test counts how often its file is opened
mod disk;
mod executor;
mod world;

use std::{
    future::Future,
    io::Write,
    pin::Pin,
    time::{Duration, Instant},
};

use case::{Case, Driver, Entry, Fate, Meanwhile};
use course::Reloads;
use rustls_reload::{Reload, Reloader};
use world::Stage;

fn cases() -> Vec<Case> {
    let mut drivers = vec![Driver::Ending, Driver::Stopped];
    for stage in Stage::RELOAD {
        drivers.extend([
            Driver::Loaded(stage),
            Driver::Idle(stage),
            Driver::Held(stage),
            Driver::ByHand(stage),
        ]);
        drivers.push(Driver::Stopping(stage));
    }
    let entries = [
        Entry::Reload,
        Entry::Published,
        Entry::TrustReduced,
        Entry::Spawn,
        Entry::Task,
        Entry::Orphan,
        Entry::Shutdown,
    ];
    let meanwhiles = [Meanwhile::Nothing, Meanwhile::Write, Meanwhile::Shrink, Meanwhile::Stop];
    let fates =
        [Fate::Awaited, Fate::TimedOut, Fate::DroppedWhileHeld, Fate::DroppedLate, Fate::DroppedUnpolled];
    let mut cases = Vec::new();
    for (entry, driver) in
        entries.into_iter().flat_map(|entry| drivers.iter().map(move |driver| (entry, *driver)))
    {
        for (meanwhile, fate) in
            meanwhiles.into_iter().flat_map(|meanwhile| fates.map(move |fate| (meanwhile, fate)))
        {
            let case = Case { entry, driver, meanwhile, fate };
            cases.extend(case.exists().then_some(case));
        }
    }
    cases
}

fn shipped(handle: Reloader<u64>) -> Pin<Box<dyn Future<Output = Reload>>> {
    Box::pin(async move { handle.reload().await })
}

/// Breaks: INV-07. Waits for the reload on the executor.
fn blocking(handle: Reloader<u64>) -> Pin<Box<dyn Future<Output = Reload>>> {
    Box::pin(async move { handle.reload_now() })
}

/// Runs all cases, several at a time. Returns the violations.
fn run(cases: &[Case], reloads: Reloads) -> Vec<String> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let found = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, std::sync::atomic::Ordering::SeqCst)) {
                    if let Err(why) = case.run(reloads, world::HANG) {
                        found.lock().unwrap().push(format!("{case:?}: {why}"));
                        // The first violations are enough.
                        next.fetch_add(cases.len() / 4, std::sync::atomic::Ordering::SeqCst);
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// Checks: INV-05, INV-11, INV-12
#[test]
fn inv07_inv13_async_entry_points_block_no_executor() {
    let cases = cases();
    let start = Instant::now();
    let found = run(&cases, shipped);
    let count = cases.len();
    writeln!(std::io::stdout(), "{count} combinations of async entry points in {:?}", start.elapsed())
        .unwrap();
    assert!(found.is_empty(), "{found:#?}");
    assert!(count > 1000, "{count}");
}

#[test]
fn inv07_a_reload_on_the_executor_is_caught() {
    let driver = Driver::Loaded(Stage::Build);
    let case = Case { entry: Entry::Reload, driver, meanwhile: Meanwhile::Nothing, fate: Fate::Awaited };
    let why = case.run(blocking, Duration::from_millis(200)).unwrap_err();
    assert!(why.contains("the executor was blocked"), "{why}");
}
