//! What happens between a walk and the watch that is armed for it, made certain by a watcher that is slow at the right moment.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)] // reason: a test may panic and print

mod common;

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use common::{Volume, by_events_only, drain, expect, generations};
use rustls_reload::{
    Error, Event, Layer,
    watch::{Hints, MakeWatcher, Watcher},
};

/// Called with each directory before it is watched.
type Before = Arc<Mutex<dyn FnMut(&Path) + Send>>;

/// Watches nothing, but fails where there is nothing to watch.
struct Slow(Before);

impl Watcher for Slow {
    fn watch(&mut self, dir: &Path) -> Result<(), Error> {
        (self.0.lock().unwrap())(dir);
        if dir.is_dir() { Ok(()) } else { Err(Error::new(Layer::Watch, "it is gone").at(dir)) }
    }

    fn unwatch(&mut self, _: &Path) {}
}

/// A watcher, and a place for the hints that it was given.
fn slow(before: impl FnMut(&Path) + Send + 'static) -> (MakeWatcher, Arc<Mutex<Option<Hints>>>) {
    let before: Before = Arc::new(Mutex::new(before));
    let place = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&place);
    let make = move |hints| {
        *kept.lock().unwrap() = Some(hints);
        Ok(Box::new(Slow(Arc::clone(&before))) as Box<dyn Watcher>)
    };
    (Box::new(make), place)
}

#[test]
fn inv11_a_directory_that_is_gone_before_it_is_watched_is_not_told_as_degraded() {
    let generations = generations(3);
    let volume = Volume::of(&generations[0]);
    let (dir, path) = (volume.dir(), volume.path("tls.crt"));
    let builder = volume.server().timing(by_events_only());
    let updates: Vec<_> = generations[1..].iter().map(|g| g.server.clone()).collect();
    let mut rest = updates.clone().into_iter();
    let mut volume = volume;
    // The payload directory is replaced, twice, just when it is about to be watched.
    let (watcher, _) = slow(move |watched| {
        if watched.parent() == Some(&dir) && path.exists() {
            if let Some(pair) = rest.next() {
                volume.publish(&[("tls.crt", pair.chain.as_bytes()), ("tls.key", pair.key.as_bytes())]);
            }
        }
    });
    let reloader = builder.watcher(Some(watcher)).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    let mut told = Vec::new();
    expect(&mut events, "start", |event| {
        told.push(event.clone());
        matches!(event, Event::Started).then_some(())
    });
    told.extend(drain(&mut events).iter().map(|event| Event::clone(event)));
    let degraded = |event: &Event| matches!(event, Event::Degraded { .. } | Event::Restored);
    assert!(!told.iter().any(degraded), "{told:?}");
    assert_eq!(common::presented(&reloader)[0], updates[1].leaf, "what came last is served");
    assert_eq!(reloader.status().degraded, None);
}
