//! Panics in code of others whose payload panics again when it is dropped. Checks: INV-15.

use std::{
    panic::panic_any,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::common::{expect, published, quick, refused, replace, started};
use rustls_reload::{
    Build, Built, Context, Error, Event, Layer, Reloader, snapshot::Files, watch::MakeWatcher,
};

/// A payload whose drop panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("the drop of a payload");
        }
    }
}

/// The bytes of one file; panics for "bad".
struct Bytes;

impl Build for Bytes {
    type Value = Vec<u8>;

    fn build(&mut self, files: &Files, _: &Context<'_, Vec<u8>>) -> Result<Built<Vec<u8>>, Error> {
        let bytes = files.get(0).unwrap().1.to_vec();
        if bytes == b"bad" {
            panic_any(Bomb);
        }
        Ok(Built::new(bytes))
    }
}

/// Each piece of somebody else's code panics once; after each, an update is served.
#[test]
fn inv15_panic_payload_that_panics_when_dropped_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    replace(&path, b"1");
    let make: MakeWatcher = Box::new(|_| panic_any(Bomb));
    let panicked = AtomicBool::new(false);
    let builder = Reloader::builder([&path], Bytes).timing(quick()).watcher(Some(make));
    let callback = move |event: &Event| {
        if matches!(event, Event::Published { .. }) && !panicked.swap(true, Ordering::SeqCst) {
            panic_any(Bomb);
        }
    };
    let reloader = builder.on_event(callback).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    let why = expect(&mut events, "the end of the watcher", |event| match event {
        Event::Degraded { error } => Some(error.to_string()),
        _ => None,
    });
    assert!(why.contains("the watcher panicked"), "{why}");
    started(&mut events);
    for (bytes, generation) in [(&b"22"[..], 2), (b"333", 3)] {
        replace(&path, bytes);
        assert_eq!(published(&mut events), generation);
    }
    replace(&path, b"bad");
    assert_eq!(refused(&mut events).layer(), Layer::Panic);
    replace(&path, b"4444");
    assert_eq!(published(&mut events), 4);
    assert_eq!(reloader.current().value, b"4444");
    reloader.stop().unwrap();
}
