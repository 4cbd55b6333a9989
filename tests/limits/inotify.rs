//! No inotify instances or watches are left, in a user namespace with limits of its own.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use rustls_reload::{Layer, ServerReloader};

use crate::{
    Reported,
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
fn server(volume: &Volume) -> (ServerReloader, Reported) {
    let (server, reported) = Reported::by(volume.server().timing(by_events_only()));
    (server.load().unwrap(), reported)
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
    let (reloader, reported) = server(&volume);
    allow(what, 0);
    reloader.start().unwrap();
    reported.wait("started", 1);
    let degraded = reloader.status().degraded.expect("degraded").0;
    assert_eq!(degraded.layer(), Layer::Watch, "{degraded}");
    println!("reported: {degraded}");
    // The server polls every 100 ms, and takes no snapshot because of the missing watcher.
    let (start, snapshots) = (Instant::now(), reloader.status().snapshots);
    thread::sleep(Duration::from_millis(500));
    let (snapshots, took) = (reloader.status().snapshots - snapshots, start.elapsed());
    assert!(u128::from(snapshots) <= 2 + took.as_millis() / 100, "{snapshots} snapshots in {took:?}");
    rotate(&reloader, &mut volume, &generations[1..3]);
    reported.is(0, &["degraded", "started", "published", "published"]);
    allow(what, 64);
    reported.wait("restored", 1);
    let status = reloader.status();
    assert_eq!(status.degraded, None);
    assert!(status.watched.contains(&volume.dir()), "{:?}", status.watched);
    rotate(&reloader, &mut volume, &generations[3..]);
    reported.is(4, &["restored", "published", "published", "published"]);
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
    let (reloader, reported) = server(&volume);
    reloader.start().unwrap();
    reported.wait("started", 1);
    allow("instances", 0);
    rotate(&reloader, &mut volume, &generations[1..3]);
    reloader.stop().unwrap();
    reported.is(0, &["started", "published", "published", "stopped"]);
    reloader.start().unwrap();
    reported.wait("started", 2);
    rotate(&reloader, &mut volume, &generations[3..4]);
    reported.is(4, &["degraded", "started", "published"]);
    allow("instances", 64);
    reported.wait("restored", 1);
    rotate(&reloader, &mut volume, &generations[4..]);
    reported.is(7, &["restored", "published", "published"]);
}

#[test]
fn inv05_inv11_lack_of_inotify_watches_on_rearming_recovers() {
    if !alone!(USER, PROBE) {
        return;
    }
    let generations = generations(6);
    let mut volume = Volume::of(&generations[0]);
    let (reloader, reported) = server(&volume);
    reloader.start().unwrap();
    reported.wait("started", 1);
    // Existing watches stay, but a directory that is new on the path cannot be watched.
    allow("watches", 1);
    rotate(&reloader, &mut volume, &generations[1..4]);
    reported.wait("degraded", 1);
    let degraded = reported.last_error();
    println!("reported: {degraded}");
    assert_eq!(degraded.layer(), Layer::Watch, "{degraded}");
    assert!(degraded.path().is_some_and(|path| path.starts_with(volume.dir())), "{degraded}");
    allow("watches", 64);
    reported.wait("restored", 1);
    rotate(&reloader, &mut volume, &generations[4..]);
    reported.wait("published", 5);
    assert_eq!((reported.count("degraded"), reported.count("restored")), (1, 1), "{}", reported.text());
    assert_eq!(reported.kinds().len(), 1 + 2 + 5, "nothing else: {}", reported.text());
}
