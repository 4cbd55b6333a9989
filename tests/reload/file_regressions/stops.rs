//! Stops between a decision and its publication, and the starts after them.

use std::{
    fs,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{Bytes, Value, count, is_refusal, timing, wait_for_snapshot};
use crate::common::{expect, published, started};
use rustls_reload::{Build, Builder, Built, Context, Error, Event, Files, Reload, Reloader, Timing};

/// The reloader, for code that stops it from within.
type Place = Arc<OnceLock<Weak<Reloader<Value>>>>;

/// Checks: INV-01 (b), INV-13. A manual reload says that the writing is over at that moment, and
/// not later.
#[test]
fn inv01_reload_called_before_a_stop_asserts_nothing_at_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["crt", "ca"].map(|name| dir.path().join(name));
    paths.iter().for_each(|path| fs::write(path, "old").unwrap());
    let place = Place::default();
    let (inside, asked) = (Arc::clone(&place), AtomicBool::new(false));
    let ask_and_stop = move |event: &Event| {
        if matches!(event, Event::Started { .. }) && !asked.swap(true, Ordering::SeqCst) {
            let reloader = inside.get().and_then(Weak::upgrade).unwrap();
            assert_eq!(reloader.reload_now(), Reload::Queued);
            reloader.stop().unwrap();
        }
    };
    let timing = Timing { settle: Duration::from_secs(1), ..timing() };
    let reloader = Builder::new(&paths, Bytes).timing(timing).on_event(ask_and_stop).load().unwrap();
    let reloader = Arc::new(reloader);
    place.set(Arc::downgrade(&reloader)).unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    expect(&mut events, "stop", |event| (*event == Event::Stopped).then_some(()));
    reloader.stop().unwrap();
    fs::write(&paths[0], "new").unwrap();
    reloader.start().unwrap();
    started(&mut events);
    wait_for_snapshot(&reloader);
    fs::write(&paths[1], "new").unwrap();
    published(&mut events);
    assert_eq!(reloader.current().value, ["new", "new"]);
    assert_eq!(reloader.current().generation, 2);
}

/// Runs a function, and then builds as [`Bytes`] does.
struct After<F>(F);

impl<F: FnMut() + Send + 'static> Build for After<F> {
    type Value = Value;

    fn build(&mut self, files: &Files, context: &Context<'_, Value>) -> Result<Built<Value>, Error> {
        (self.0)();
        Bytes.build(files, context)
    }
}

/// Checks: INV-11. Reported trouble stands while a stop prevents the publication that would end it.
#[test]
fn inv11_recovery_prevented_by_a_stop_is_reported_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "good").unwrap();
    let place = Place::default();
    let inside = Arc::clone(&place);
    let mut builds = 0;
    let stop = move || {
        builds += 1;
        if builds == 3 {
            inside.get().and_then(Weak::upgrade).unwrap().stop().unwrap();
        }
    };
    let reloader = Arc::new(Builder::new([&path], After(stop)).timing(timing()).load().unwrap());
    place.set(Arc::downgrade(&reloader)).unwrap();
    let mut events = reloader.events();
    fs::write(&path, "bad").unwrap();
    assert!(matches!(reloader.reload_now(), Reload::Refused(_)));
    fs::write(&path, "better").unwrap();
    assert_eq!(reloader.reload_now(), Reload::Stopped);
    assert!(reloader.status().refused.is_some(), "what was refused is over and nothing else is served");
    reloader.start().unwrap();
    let recovered = expect(&mut events, "publication", |event| match event {
        Event::Published { recovered, .. } => Some(*recovered),
        _ => None,
    });
    assert!(recovered, "that it is over was not reported");
    assert_eq!(count(&mut events, is_refusal), 0);
}
