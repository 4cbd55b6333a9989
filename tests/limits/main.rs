//! Real refusals and side effects of the operating system: no inotify instances, watches,
//! descriptors or threads left, permissions of a user other than root, an event queue that
//! overflows, and mounts that come and go. Also the resources of a reloader, which must not grow,
//! and its log.
//!
//! Each test runs in a process of its own, with its own limit, user or namespace where it needs
//! one. Where that is not permitted, the test says on stderr that it checked nothing, and why.
#![cfg(all(target_os = "linux", not(loom)))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)] // reason: a test may panic and print

#[path = "../common/mod.rs"]
mod common;
#[macro_use]
mod own;

mod descriptors;
mod flat;
mod inotify;
mod log_noise;
mod mounts;
mod overflow;
mod permissions;
mod resources;

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use common::{DEADLINE, Generation};
use rustls_reload::{Error, Event, ServerBuilder, ServerReloader};

/// Every event of a reloader from its load on.
#[derive(Clone, Default)]
struct Reported(Arc<Mutex<Vec<Event>>>);

impl Reported {
    /// Returns the builder of a server that reports here.
    fn by(server: ServerBuilder) -> (ServerBuilder, Self) {
        let reported = Self::default();
        let keep = reported.clone();
        (server.on_event(move |event| keep.0.lock().unwrap().push(event.clone())), reported)
    }

    /// Returns the kinds of the events, in order.
    fn kinds(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().iter().map(kind).collect()
    }

    fn count(&self, wanted: &str) -> usize {
        self.kinds().iter().filter(|kind| **kind == wanted).count()
    }

    /// Waits until this many events of this kind were reported.
    fn wait(&self, wanted: &str, times: usize) {
        until(&format!("{wanted} reported {times} times"), || self.count(wanted) >= times, || self.text());
    }

    /// Waits for these kinds of events in this order, after the first `passed_over` events. Fails
    /// if other events were reported.
    fn is(&self, passed_over: usize, wanted: &[&str]) {
        let wanted_all = passed_over + wanted.len();
        until(&format!("{wanted:?}"), || self.kinds().len() >= wanted_all, || self.text());
        assert_eq!(self.kinds()[passed_over..], *wanted, "{}", self.text());
    }

    /// Returns the error of the last refusal or degradation.
    fn last_error(&self) -> Error {
        let reported = self.0.lock().unwrap();
        let error = reported.iter().rev().find_map(|event| match event {
            Event::Refused { error, .. } | Event::Degraded { error } => Some(error.clone()),
            _ => None,
        });
        error.expect("something was refused or degraded")
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().iter().map(|event| format!("{event}\n")).collect()
    }
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Published { recovered: false, .. } => "published",
        Event::Published { recovered: true, .. } => "published, recovered",
        Event::Refused { .. } => "refused",
        Event::Warning { .. } => "warning",
        Event::Recovered { .. } => "recovered",
        Event::Degraded { .. } => "degraded",
        Event::Restored => "restored",
        Event::Started { .. } => "started",
        Event::Stopped => "stopped",
        Event::StillChanging { .. } => "still changing",
        _ => "another",
    }
}

/// Waits until `reached` returns true. Panics with the text of `or` if that takes too long.
fn until(what: &str, mut reached: impl FnMut() -> bool, or: impl Fn() -> String) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}; instead:\n{}", or());
        // Neither a status nor /proc raises an event to wait for.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Writes the files of a generation into a directory.
fn fill(dir: &Path, generation: &Generation) {
    for (name, bytes) in generation.files() {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

/// Waits until handshakes get exactly this leaf. The files contain no other, so that it stays.
fn serves(reloader: &ServerReloader, generation: &Generation) {
    common::wait_for_leaf(reloader, &generation.server);
}

/// Returns whether a handshake at this moment gets this leaf.
fn is_served(reloader: &ServerReloader, generation: &Generation) -> bool {
    common::presented(reloader)[0] == generation.server.leaf
}
