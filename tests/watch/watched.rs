//! The status of watching.

use std::{
    fs,
    time::{Duration, Instant},
};

use rustls_reload::{Build, Builder, Built, Context, Error, Event, Files, Timing};

struct Bytes;

impl Build for Bytes {
    type Value = Vec<u8>;

    fn build(&mut self, files: &Files, _: &Context<'_, Vec<u8>>) -> Result<Built<Vec<u8>>, Error> {
        Ok(Built::new(files.get(0).unwrap().1.to_vec()))
    }
}

const LIMIT: Duration = Duration::from_secs(20);

/// Checks: INV-11
#[test]
fn inv11_a_directory_that_is_gone_is_not_told_as_watched() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().canonicalize().unwrap().join("tls");
    let path = dir.join("file");
    fs::create_dir(&dir).unwrap();
    fs::write(&path, "one").unwrap();
    let timing = Timing { settle: Duration::from_millis(1), ..Timing::default() };
    let reloader = Builder::new([&path], Bytes).timing(timing).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    while *events.next_within(LIMIT).unwrap().event != Event::Started {}
    assert!(reloader.status().watched.contains(&dir), "{:?}", reloader.status());

    fs::remove_dir_all(&dir).unwrap();
    let refused = events.next_within(LIMIT).unwrap().event;
    assert!(matches!(*refused, Event::Refused { .. }), "{refused}");
    let deadline = Instant::now() + LIMIT;
    while reloader.status().watched.contains(&dir) {
        assert!(Instant::now() < deadline, "{:?}", reloader.status());
        // Snapshots raise no event, so the status is polled.
        std::thread::yield_now();
    }
    assert!(reloader.status().watched.contains(&dir.parent().unwrap().to_owned()));

    fs::create_dir(&dir).unwrap();
    fs::write(&path, "two").unwrap();
    let published = reloader.wait_published(1, LIMIT).unwrap();
    assert_eq!(published.value.as_slice(), b"two");
    assert!(reloader.status().watched.contains(&dir), "{:?}", reloader.status());
}
