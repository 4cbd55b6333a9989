//! The real cell, whose inside loom cannot observe: readers against a publisher at full speed.
//! `scripts/miri` runs this under Miri over many seeds, `scripts/tsan` under ThreadSanitizer.
//! Checks: INV-01, INV-04, INV-07.
//!
//! Engine: generated.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)] // reason: what fails here is a failed test, and counts are printed

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use rustls_reload::{Published, internal::Cell};

/// A value in many equal parts on the heap, so that a mixture is noticed, and a counter of freed
/// values.
struct Whole {
    parts: Vec<u64>,
    freed: Arc<AtomicU64>,
}

impl Whole {
    fn published(generation: u64, freed: &Arc<AtomicU64>) -> Arc<Published<Self>> {
        let parts = vec![generation; PARTS];
        Arc::new(Published::new(generation, Self { parts, freed: Arc::clone(freed) }))
    }

    fn check(published: &Published<Self>) -> u64 {
        let whole = published.value.parts.iter().all(|part| *part == published.generation);
        assert!(whole && published.value.parts.len() == PARTS, "a mixture in {}", published.generation);
        published.generation
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        // Overwritten so that a read after the drop is noticed.
        self.parts.fill(u64::MAX);
        self.freed.fetch_add(1, SeqCst);
    }
}

const PARTS: usize = 8;
const READERS: usize = 3;

/// Returns how long the publisher runs, and the least number of generations that it makes.
fn effort() -> (Duration, u64) {
    if cfg!(miri) {
        return (Duration::ZERO, 12);
    }
    let millis =
        std::env::var("CELL_STRESS_MS").map_or(500, |text| text.parse().expect("a number of milliseconds"));
    (Duration::from_millis(millis), 1_000)
}

#[test]
fn inv04_readers_against_a_publisher_at_full_speed() {
    let freed = Arc::new(AtomicU64::new(0));
    let cell = Arc::new(Cell::new(Whole::published(1, &freed)));
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..READERS)
        .map(|reader| {
            let (cell, done) = (Arc::clone(&cell), Arc::clone(&done));
            thread::spawn(move || {
                let (mut last, mut reads) = (0, 0_u64);
                let mut held = cell.load();
                loop {
                    let end = done.load(SeqCst);
                    let generation = if reads.is_multiple_of(2) {
                        let now = cell.load();
                        let generation = Whole::check(&now);
                        // Some readers hold a value for a while: it must be neither freed nor
                        // changed.
                        if reads % 64 == reader as u64 * 2 {
                            held = now;
                        }
                        generation
                    } else {
                        cell.with(Whole::check)
                    };
                    assert!(last <= generation, "{generation} after {last}");
                    assert!(Whole::check(&held) <= generation);
                    last = generation;
                    reads += 1;
                    if end {
                        return (last, reads);
                    }
                }
            })
        })
        .collect();
    let (limit, least) = effort();
    let start = Instant::now();
    let mut generation = 1;
    while generation < least || start.elapsed() < limit {
        generation += 1;
        let old = cell.swap(Whole::published(generation, &freed));
        assert_eq!(Whole::check(&old), generation - 1, "a swap returns what it replaced");
    }
    done.store(true, SeqCst);
    let mut reads = 0;
    for reader in readers {
        let (last, count) = reader.join().unwrap();
        assert_eq!(last, generation, "a reader that begins after the last swap sees it");
        reads += count;
    }
    assert_eq!(freed.load(SeqCst), generation - 1, "all but the last are freed, each once");
    drop(cell);
    assert_eq!(freed.load(SeqCst), generation);
    println!("cell: {generation} generations, {reads} reads by {READERS} readers, all freed");
}

#[test]
fn inv01_what_is_held_outlives_its_replacement() {
    let freed = Arc::new(AtomicU64::new(0));
    let cell = Cell::new(Whole::published(1, &freed));
    let held = cell.load();
    let replaced = cell.with(|first| {
        let replaced = cell.swap(Whole::published(2, &freed));
        assert_eq!(Whole::check(first), 1, "a read goes on with what it began with");
        replaced
    });
    assert!(Arc::ptr_eq(&held, &replaced));
    drop(replaced);
    assert_eq!((freed.load(SeqCst), Whole::check(&held)), (0, 1));
    drop(held);
    assert_eq!((freed.load(SeqCst), Whole::check(&cell.load())), (1, 2));
}
