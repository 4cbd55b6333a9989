//! No inotify instances or watches are left, in a user namespace with limits of its own.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use rustls_reload::{Layer, ServerReloader};

use crate::{
    Told,
    common::{Generation, Volume, by_events_only, generations},
    own::USER,
    serves,
};

const PROBE: &str =
    "echo 64 >/proc/sys/user/max_inotify_instances && echo 64 >/proc/sys/user/max_inotify_watches";

/// Sets the limit on instances or watches of this user namespace.
fn allow(what: &str, number: u32) {
    fs::write(format!("/proc/sys/user/max_inotify_{what}"), number.to_string()).unwrap();
}

/// Loads a server that polls only while it is degraded, so that it notices later updates by events.
fn server(volume: &Volume) -> (ServerReloader, Told) {
    let (server, told) = Told::by(volume.server().timing(by_events_only()));
    (server.load().unwrap(), told)
}

fn rotate(reloader: &ServerReloader, volume: &mut Volume, updates: &[Generation]) {
    for next in updates {
        volume.publish(&next.files());
        serves(reloader, next);
    }
}

/// The server is degraded from the start, because there is no `what`.
fn none_at_the_start(what: &str) {
    let generations = generations(6);
    let mut volume = Volume::of(&generations[0]);
    let (reloader, told) = server(&volume);
    allow(what, 0);
    reloader.start().unwrap();
    told.wait("started", 1);
    let degraded = reloader.status().degraded.expect("degraded").0;
    assert_eq!(degraded.layer(), Layer::Watch, "{degraded}");
    println!("told: {degraded}");
    // The server polls every 100 ms, and takes no snapshot because of the missing watcher.
    let (start, looks) = (Instant::now(), reloader.status().snapshots);
    thread::sleep(Duration::from_millis(500));
    let (looks, took) = (reloader.status().snapshots - looks, start.elapsed());
    assert!(u128::from(looks) <= 2 + took.as_millis() / 100, "{looks} looks in {took:?}");
    rotate(&reloader, &mut volume, &generations[1..3]);
    told.is(0, &["degraded", "started", "published", "published"]);
    allow(what, 64);
    told.wait("restored", 1);
    let status = reloader.status();
    assert_eq!(status.degraded, None);
    assert!(status.watched.contains(&volume.dir()), "{:?}", status.watched);
    rotate(&reloader, &mut volume, &generations[3..]);
    told.is(4, &["restored", "published", "published", "published"]);
}

#[test]
fn inv05_inv11_start_without_inotify_instances_recovers() {
    if alone!(USER, PROBE) {
        none_at_the_start("instances");
    }
}

#[test]
fn inv05_inv11_start_without_inotify_watches_recovers() {
    if alone!(USER, PROBE) {
        none_at_the_start("watches");
    }
}

#[test]
fn inv05_inv11_later_lack_of_inotify_instances_affects_starts_only() {
    if !alone!(USER, PROBE) {
        return;
    }
    let generations = generations(6);
    let mut volume = Volume::of(&generations[0]);
    let (reloader, told) = server(&volume);
    reloader.start().unwrap();
    told.wait("started", 1);
    allow("instances", 0);
    rotate(&reloader, &mut volume, &generations[1..3]);
    reloader.stop().unwrap();
    told.is(0, &["started", "published", "published", "stopped"]);
    reloader.start().unwrap();
    told.wait("started", 2);
    rotate(&reloader, &mut volume, &generations[3..4]);
    told.is(4, &["degraded", "started", "published"]);
    allow("instances", 64);
    told.wait("restored", 1);
    rotate(&reloader, &mut volume, &generations[4..]);
    told.is(7, &["restored", "published", "published"]);
}

#[test]
fn inv05_inv11_lack_of_inotify_watches_on_rearming_recovers() {
    if !alone!(USER, PROBE) {
        return;
    }
    let generations = generations(6);
    let mut volume = Volume::of(&generations[0]);
    let (reloader, told) = server(&volume);
    reloader.start().unwrap();
    told.wait("started", 1);
    // Existing watches stay, but a directory that is new on the path cannot be watched.
    allow("watches", 1);
    rotate(&reloader, &mut volume, &generations[1..4]);
    told.wait("degraded", 1);
    let degraded = told.last_error();
    println!("told: {degraded}");
    assert_eq!(degraded.layer(), Layer::Watch, "{degraded}");
    assert!(degraded.path().is_some_and(|path| path.starts_with(volume.dir())), "{degraded}");
    allow("watches", 64);
    told.wait("restored", 1);
    rotate(&reloader, &mut volume, &generations[4..]);
    told.wait("published", 5);
    assert_eq!((told.count("degraded"), told.count("restored")), (1, 1), "{}", told.text());
    assert_eq!(told.kinds().len(), 1 + 2 + 5, "nothing else: {}", told.text());
}
