//! A start takes a snapshot at once, but does not know how the files came to be in their state.

use std::{fs, io::Write, time::Duration};

use crate::common;
use rustls_reload::{Build, Builder, Built, Context, Error, Files, Timing};

/// A build step whose value is the file.
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
fn inv01_start_amid_a_write_in_place_waits_for_its_end() {
    // The first start, and a start after a stop.
    common::at_once(&[false, true], |&again| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle");
        fs::write(&path, "old one, old two").unwrap();
        // The settle time is longer than a likely pause of this test between its two writes.
        let timing = Timing { settle: Duration::from_secs(2), ..Timing::default() };
        let reloader = Builder::new([&path], Bytes).timing(timing).load().unwrap();
        let mut events = reloader.events();
        if again {
            reloader.start().unwrap();
            common::started(&mut events);
            reloader.stop().unwrap();
        }
        let mut file = fs::File::create(&path).unwrap();
        write!(file, "new one").unwrap();
        reloader.start().unwrap();
        common::started(&mut events);
        write!(file, ", new two").unwrap();
        let published = reloader.wait_published(1, LIMIT).unwrap();
        assert_eq!(published.value.as_slice(), b"new one, new two");
        assert_eq!(published.generation, 2, "nothing else was published");
    });
}
