//! First loads of several file sets, each of which takes long to read.
//!
//! Checks: INV-16

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls_reload::{Build, Builder, Built, Clock, Context, Error, Files, Now, SystemClock, Timing};

struct Count;

impl Build for Count {
    type Value = usize;

    fn build(&mut self, files: &Files, _: &Context<'_, usize>) -> Result<Built<usize>, Error> {
        Ok(Built::new(files.iter().count()))
    }
}

/// A clock by which two seconds pass between any two questions, and nothing else takes time. The
/// wall clock moves in pauses alone, so that a new file stays new.
struct Slow(Mutex<Now>);

impl Clock for Slow {
    fn now(&self) -> Now {
        let mut now = self.0.lock().unwrap();
        now.mono += Duration::from_secs(2);
        *now
    }

    fn sleep(&self, pause: Duration) {
        let mut now = self.0.lock().unwrap();
        (now.mono, now.wall) = (now.mono + pause, now.wall + pause);
    }
}

/// The files of the last sets are read for the first time once the patience of the first is over.
#[test]
fn inv16_files_that_never_changed_are_not_said_to_keep_changing() {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..20).map(|number| dir.path().join(number.to_string())).collect();
    paths.iter().for_each(|path| fs::write(path, "content").unwrap());
    let clock = Arc::new(Slow(Mutex::new(SystemClock::new().now())));
    let first = Builder::new([&paths[0]], Count).clock(clock).timing(Timing::default());
    let reloader = paths[1..].iter().fold(first, |builder, path| builder.set([path])).load().unwrap();
    assert_eq!(reloader.current().value, 1);
}
