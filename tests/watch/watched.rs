//! The status of watching.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls_reload::{Build, Builder, Built, Context, Error, Event, Events, Files, Timing};

struct Bytes;

impl Build for Bytes {
    type Value = Vec<u8>;

    fn build(&mut self, files: &Files, _: &Context<'_, Vec<u8>>) -> Result<Built<Vec<u8>>, Error> {
        Ok(Built::new(files.get(0).unwrap().1.to_vec()))
    }
}

const LIMIT: Duration = Duration::from_secs(20);

/// Waits until the driver has started, and returns the event that reports it.
fn started(events: &mut Events<Vec<u8>>) -> Arc<Event> {
    loop {
        let event = events.next_within(LIMIT).unwrap().event;
        if matches!(*event, Event::Started { .. }) {
            return event;
        }
    }
}

/// Checks: INV-11
#[test]
fn inv11_a_start_without_a_watcher_reports_that_nothing_is_watched() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    fs::write(&path, "one").unwrap();
    let timing = Timing { settle: Duration::from_millis(1), ..Timing::default() };
    let reloader = Builder::new([&path], Bytes).timing(timing).watcher(None).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    let started = started(&mut events);
    assert_eq!(*started, Event::Started { watched: Vec::new() });
    assert!(started.to_string().contains("no directory is watched"), "{started}");
}

/// Checks: INV-11
#[test]
fn inv11_removed_directory_is_not_reported_as_watched() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().canonicalize().unwrap().join("tls");
    let path = dir.join("file");
    fs::create_dir(&dir).unwrap();
    fs::write(&path, "one").unwrap();
    let timing = Timing { settle: Duration::from_millis(1), ..Timing::default() };
    let reloader = Builder::new([&path], Bytes).timing(timing).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    let started = started(&mut events);
    let Event::Started { watched } = &*started else { panic!("{started}") };
    assert_eq!(*watched, reloader.status().watched);
    assert!(watched.contains(&dir), "{watched:?}");
    let line = started.to_string();
    let shown = line.strip_prefix("started, watching ").unwrap();
    assert_eq!(shown.split(", ").map(PathBuf::from).collect::<Vec<_>>(), *watched, "{line}");

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

    // The file is whole once the directory is there.
    let next = dir.with_extension("next");
    fs::create_dir(&next).unwrap();
    fs::write(next.join(path.file_name().unwrap()), "two").unwrap();
    fs::rename(next, &dir).unwrap();
    let published = reloader.wait_published(1, LIMIT).unwrap();
    assert_eq!(published.value.as_slice(), b"two");
    assert!(reloader.status().watched.contains(&dir), "{:?}", reloader.status());
}
