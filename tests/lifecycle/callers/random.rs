//! Random schedules.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use rustls_reload_harness::settings;

use super::{
    history::Phase,
    plan::{Kind, Plan},
    schedule::{Coverage, run},
};

/// Number of schedules that run at the same time. They wait more than they compute.
const LANES: usize = 4;

pub fn print(title: &str, table: &[[usize; 5]; 12]) {
    println!("{title}: {:?}", Phase::ALL);
    for (kind, row) in Kind::ALL.iter().zip(table) {
        println!("  {:10} {row:?}", format!("{kind:?}").split('(').next().unwrap_or_default());
    }
}

/// Engine: generated.
#[test]
fn inv13_random_calls_return_and_keep_their_promises() {
    let (count, one) = match settings::set_number("CALLERS_SEED") {
        Some(seed) => (1_000, Some(seed)),
        None => (settings::number("CALLERS_SCHEDULES", 1_500), None),
    };
    let start = Instant::now();
    let (next, coverage, failed) = (AtomicU64::new(0), Mutex::new(Coverage::default()), Mutex::new(None));
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while failed.lock().unwrap().is_none() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let seed = one.unwrap_or(number);
                    match run(&Plan::random(seed)) {
                        Ok(seen) => coverage.lock().unwrap().add(&Coverage::of(&seen)),
                        Err(why) => *failed.lock().unwrap() = Some((seed, why)),
                    }
                }
            });
        }
    });
    if let Some((seed, why)) = failed.into_inner().unwrap() {
        panic!("{why}\nagain with CALLERS_SEED={seed}");
    }
    let coverage = coverage.into_inner().unwrap();
    println!(
        "{count} schedules in {:?}: {} calls, {} publications, {} queued",
        start.elapsed(),
        coverage.calls,
        coverage.publications,
        coverage.queued
    );
    print("by other threads", &coverage.others);
    print("by the driver itself", &coverage.own);
    if one.is_none() {
        // By chance the rarest combinations may be missing. `phases` covers each of them.
        let count =
            |table: &[[usize; 5]; 12]| table.as_flattened().iter().filter(|count| **count > 0).count();
        assert!(
            count(&coverage.others) >= 50 && count(&coverage.own) >= 30,
            "the plans have lost their variety"
        );
        assert!(coverage.queued > 100 && coverage.publications > 1_000);
    }
}
