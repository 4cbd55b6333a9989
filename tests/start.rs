//! What a start may publish: it looks at once, but knows nothing of how the files came to be as they are.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)] // reason: a test

use std::{fs, io::Write, time::Duration};

use rustls_reload::{Build, Built, Context, Error, Event, Reloader, Timing, snapshot::Files};

/// Publishes the file as it is.
struct Bytes;

impl Build for Bytes {
    type Value = Vec<u8>;

    fn build(&mut self, files: &Files, _: &Context<'_, Vec<u8>>) -> Result<Built<Vec<u8>>, Error> {
        Ok(Built::new(files.get(0).unwrap().1.to_vec()))
    }
}

const LIMIT: Duration = Duration::from_secs(20);

/// Checks: INV-01 (b)
#[test]
fn inv01_a_start_in_the_middle_of_a_write_in_place_waits_for_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle");
    fs::write(&path, "old one, old two").unwrap();
    // Longer than this test may be held up between its two writes.
    let timing = Timing { settle: Duration::from_secs(2), ..Timing::default() };
    let reloader = Reloader::builder([&path], Bytes).timing(timing).load().unwrap();

    // Before the start, and again before a start after a stop.
    for (generation, name) in [(1, "new"), (2, "newer")] {
        let mut file = fs::File::create(&path).unwrap();
        write!(file, "{name} one").unwrap();
        let mut events = reloader.events();
        reloader.start().unwrap();
        while *events.next_within(LIMIT).unwrap().event != Event::Started {}
        write!(file, ", {name} two").unwrap();
        let published = reloader.wait_published(generation, LIMIT).unwrap();
        assert_eq!(published.value.as_slice(), format!("{name} one, {name} two").as_bytes());
        assert_eq!(published.generation, generation + 1, "nothing else was published");
        reloader.stop().unwrap();
    }
}
