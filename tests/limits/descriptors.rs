//! No descriptors or threads are left: the old set stays served, the failure is reported once and
//! retried without an event, and the server recovers.

use std::{
    fs::{self, File},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls_reload::{Layer, ServerReloader};

use crate::{
    Reported,
    common::{Generation, by_events_only, generations, held, server_in, wait_for_tick},
    fill, is_served, serves, until,
};

/// A limit on descriptors that is low enough for the test to use them up.
const FEW: &[&str] = &["prlimit", "--nofile=96:96"];

/// A volume laid out as by kubelet. Its next update is prepared while there are descriptors and
/// committed without any.
struct Volume {
    root: tempfile::TempDir,
    updates: usize,
}

impl Volume {
    fn of(first: &Generation) -> Self {
        let mut volume = Self { root: tempfile::tempdir().unwrap(), updates: 0 };
        fs::create_dir(volume.dir()).unwrap();
        for (name, _) in first.files() {
            std::os::unix::fs::symlink(format!("..data/{name}"), volume.dir().join(name)).unwrap();
        }
        volume.prepare(first);
        volume.commit();
        volume
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("volume")
    }

    fn prepare(&mut self, next: &Generation) {
        self.updates += 1;
        let payload = self.dir().join(format!("..{}", self.updates));
        fs::create_dir(&payload).unwrap();
        fill(&payload, next);
        wait_for_tick(&payload);
    }

    fn commit(&self) {
        let next = self.dir().join("..data_tmp");
        std::os::unix::fs::symlink(format!("..{}", self.updates), &next).unwrap();
        fs::rename(next, self.dir().join("..data")).unwrap();
    }
}

/// Takes all free descriptors but `spare`.
fn take_all_but(spare: usize) -> Vec<File> {
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    assert!(taken.len() > spare, "there were none to take");
    taken.truncate(taken.len() - spare);
    taken
}

fn server(volume: &Volume) -> (ServerReloader, Reported) {
    let (server, reported) = Reported::by(server_in(&volume.dir()).timing(by_events_only()));
    (server.load().unwrap(), reported)
}

#[test]
fn inv03_inv05_lack_of_descriptors_keeps_the_old_set_meanwhile() {
    if !alone!(FEW, "true") {
        return;
    }
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let (reloader, reported) = server(&volume);
    reloader.start().unwrap();
    reported.wait("started", 1);
    volume.prepare(&generations[1]);
    let before = reloader.config();
    let taken = take_all_but(0);
    volume.commit();
    reported.wait("refused", 1);
    // No event arrives any more, so these are retries, each after twice the pause of the one
    // before.
    let count = || reloader.status().refused.map_or(0, |refused| refused.count);
    let (start, first) = (Instant::now(), count());
    until("three more retries", || count() >= first + 3, || format!("{:#?}", reloader.status()));
    // The count is read before the clock: otherwise the time of another retry could be missing.
    let retries = count() - first;
    let took = start.elapsed();
    let first_pause = by_events_only().retry * 2_u32.pow(u32::try_from(first).unwrap() - 1);
    // Every pause but the first lies wholly within the measured time.
    let least: Duration = (1..retries).map(|i| first_pause * 2_u32.pow(u32::try_from(i).unwrap())).sum();
    println!("{retries} retries after the first {first} within {took:?}, at least {least:?} by the back-off");
    assert!(took >= least, "{retries} retries within {took:?}, at least {least:?}");
    assert!(Arc::ptr_eq(&before, &reloader.config()));
    assert!(is_served(&reloader, &generations[0]));
    reported.is(0, &["started", "refused"]);
    assert_eq!(reported.last_error().layer(), Layer::Read, "{}", reported.last_error());
    drop(taken);
    serves(&reloader, &generations[1]);
    reported.is(0, &["started", "refused", "published, recovered"]);
}

#[test]
fn inv05_reload_succeeds_after_any_shortage_of_descriptors() {
    if !alone!(FEW, "true") {
        return;
    }
    let generations = generations(3);
    let mut volume = Volume::of(&generations[2]);
    let (reloader, reported) = server(&volume);
    reloader.start().unwrap();
    reported.wait("started", 1);
    let idle = held::settled_now();
    let mut refused = 0;
    // From no descriptor until there are enough for a whole snapshot.
    for spare in 0.. {
        let (next, old) = (&generations[spare % 2], reloader.config());
        volume.prepare(next);
        let met = reported.count("refused");
        let taken = take_all_but(spare);
        volume.commit();
        until(
            "a refusal or a publication",
            || reported.count("refused") > met || !Arc::ptr_eq(&old, &reloader.config()),
            || format!("{:#?}", reloader.status()),
        );
        let short = reported.count("refused") > met;
        assert!(!short || Arc::ptr_eq(&old, &reloader.config()));
        drop(taken);
        serves(&reloader, next);
        if !short {
            break;
        }
        refused += 1;
    }
    println!("short of descriptors {refused} times; reported:\n{}", reported.text());
    assert!(refused >= 3, "a snapshot takes more descriptors than that");
    assert_eq!(reported.count("refused"), refused, "each reported once: {}", reported.text());
    reloader.reload_now();
    let now = held::settled(idle);
    assert_eq!(now.descriptors, idle.descriptors, "none is lost");
}

#[test]
fn inv05_inv11_start_without_watcher_descriptors_recovers() {
    if !alone!(FEW, "true") {
        return;
    }
    let generations = generations(2);
    let mut volume = Volume::of(&generations[1]);
    let (reloader, reported) = server(&volume);
    let idle = held::settled_now();
    // The watcher takes three descriptors, and a snapshot some more.
    for spare in 0..10 {
        let next = &generations[spare % 2];
        let before = reported.kinds().len();
        let taken = take_all_but(spare);
        reloader.start().unwrap();
        reported.wait("started", spare + 1);
        let degraded = reloader.status().degraded;
        drop(taken);
        until("restored", || reloader.status().degraded.is_none(), || reported.text());
        assert!(spare > 2 || degraded.is_some(), "with {spare} there is no watcher");
        volume.prepare(next);
        volume.commit();
        serves(&reloader, next);
        let kinds = reported.kinds().split_off(before);
        println!("{spare} left: {kinds:?}");
        let count = |wanted: &str| kinds.iter().filter(|kind| **kind == wanted).count();
        assert_eq!(count("degraded"), usize::from(degraded.is_some()), "{}", reported.text());
        assert_eq!(count("restored"), count("degraded"), "{}", reported.text());
        assert!(count("refused") <= 1, "{}", reported.text());
        reloader.stop().unwrap();
        assert_eq!(held::settled(idle), idle, "after a start with {spare} left");
    }
}
