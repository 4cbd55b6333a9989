//! Publishers that commit an update by one rename: noticed by events alone, every time, whatever else happens there.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)] // reason: a test may panic and print

mod common;

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use common::{Generation, Volume, by_events_only, client_of, generations, published, shake};
use rustls_reload::{ClientAuth, Event, ServerReloader, Timing};

/// The default delays, but no poll to help.
fn defaults_by_events_only() -> Timing {
    Timing { poll: Duration::from_secs(3600), ..Timing::default() }
}

fn fill(dir: &Path, generation: &Generation) {
    fs::create_dir_all(dir).unwrap();
    for (name, bytes) in generation.files() {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

/// Makes `link` point at `target`, by one rename.
fn point(link: &Path, target: &str) {
    let next = link.with_extension("next");
    std::os::unix::fs::symlink(target, &next).unwrap();
    fs::rename(&next, link).unwrap();
}

#[test]
fn inv05_inv06_ten_kubelet_updates_in_a_row_are_served_by_events_alone() {
    let generations = generations(11);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().timing(defaults_by_events_only()).load().unwrap();
    reloader.start().unwrap();
    for (i, next) in generations.iter().enumerate().skip(1) {
        volume.publish(&next.files());
        assert_eq!(common::wait_for_leaf(&reloader, &next.server), i as u64 + 1);
    }
}

#[test]
fn inv05_kubelet_updates_without_a_pause_converge_to_the_last() {
    let generations = generations(30);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().timing(defaults_by_events_only()).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    for next in &generations[1..] {
        volume.publish_in_one_tick(&next.files());
    }
    common::wait_for_leaf(&reloader, &generations[29].server);
    for event in common::drain(&mut events) {
        let fine = matches!(&*event, Event::Published { .. } | Event::Started);
        assert!(fine, "a whole set at every moment, yet: {event}");
    }
}

#[test]
fn inv09_a_new_client_ca_is_trusted_and_the_old_one_no_longer() {
    let (old, new) = (Generation::new(0), Generation::new(1));
    let mut volume = Volume::of(&old);
    let server = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required);
    let reloader = server.timing(Timing::default()).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    let clients = [&old, &new].map(|shown| client_of(&old, Some(shown)));
    let accepted = || clients.each_ref().map(|client| shake(&reloader.current(), client).is_ok());
    assert_eq!(accepted(), [true, false]);
    // The pair stays.
    let mut files = old.files();
    files[2].1 = new.ca.pem.as_bytes();
    volume.publish(&files);
    published(&mut events);
    assert_eq!(accepted(), [false, true]);
}

#[test]
fn inv05_a_parent_and_a_grandparent_link_that_is_re_pointed_is_followed_each_time() {
    for beneath in ["", "certs", "certs/default"] {
        let generations = generations(4);
        let root = tempfile::tempdir().unwrap();
        let link = root.path().join("current");
        let release = |i: usize| root.path().join(format!("release-{i}"));
        fill(&release(0).join(beneath), &generations[0]);
        point(&link, "release-0");
        let server = common::server_in(&link.join(beneath)).timing(by_events_only());
        let reloader = server.load().unwrap();
        reloader.start().unwrap();
        for (i, next) in generations.iter().enumerate().skip(1) {
            // The old target is kept: nothing happens in any directory that the files were in.
            fill(&release(i).join(beneath), next);
            point(&link, &format!("release-{i}"));
            common::wait_for_leaf(&reloader, &next.server);
        }
        // And back.
        point(&link, "release-0");
        common::wait_for_leaf(&reloader, &generations[0].server);
    }
}

#[test]
fn inv05_a_link_into_a_volume_elsewhere_is_followed_three_times() {
    let generations = generations(4);
    let mut volume = Volume::of(&generations[0]);
    let root = tempfile::tempdir().unwrap();
    for name in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(volume.path(name), root.path().join(name)).unwrap();
    }
    let reloader = common::server_in(root.path()).timing(by_events_only()).load().unwrap();
    reloader.start().unwrap();
    for next in &generations[1..] {
        volume.publish(&next.files());
        common::wait_for_leaf(&reloader, &next.server);
    }
}

#[test]
fn inv05_a_directory_renamed_away_and_replaced_is_followed_twice() {
    let generations = generations(3);
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("certs");
    fill(&dir, &generations[0]);
    let reloader = common::server_in(&dir).timing(by_events_only()).load().unwrap();
    reloader.start().unwrap();
    for (i, next) in generations.iter().enumerate().skip(1) {
        let staged = root.path().join("staged");
        fill(&staged, next);
        fs::rename(&dir, root.path().join(format!("old-{i}"))).unwrap();
        fs::rename(&staged, &dir).unwrap();
        common::wait_for_leaf(&reloader, &next.server);
    }
    // What is done to a directory that was moved away is no longer anybody's business.
    let mut events = reloader.events();
    fill(&root.path().join("old-2"), &generations[0]);
    assert_eq!(reloader.reload_now(), rustls_reload::Reload::Unchanged);
    assert_eq!(common::drain(&mut events), []);
}

#[test]
fn inv05_a_change_between_load_and_start_is_served_after_the_start() {
    let (old, new) = (Generation::new(0), Generation::new(1));
    let mut volume = Volume::of(&old);
    let reloader = volume.server().timing(by_events_only()).load().unwrap();
    volume.publish(&new.files());
    reloader.start().unwrap();
    common::wait_for_leaf(&reloader, &new.server);
}

#[test]
fn inv05_the_files_are_served_where_there_are_no_events_at_all() {
    let (old, new) = (Generation::new(0), Generation::new(1));
    let mut volume = Volume::of(&old);
    let reloader = volume.server().watcher(None).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    common::expect(&mut events, "degradation", |event| matches!(event, Event::Degraded { .. }).then_some(()));
    volume.publish(&new.files());
    common::wait_for_leaf(&reloader, &new.server);
    let degraded = reloader.status().degraded.unwrap().0;
    assert_eq!(degraded.layer(), rustls_reload::Layer::Watch);
}

/// Does `work` over and over while `test` runs; returns how often.
fn meanwhile(work: impl Fn(u64) + Sync, test: impl FnOnce()) -> u64 {
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    struct StopOnDrop<'a>(&'a AtomicBool);
    impl Drop for StopOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                work(count.fetch_add(1, Ordering::Relaxed));
            }
        });
        let _stop = StopOnDrop(&stop);
        test();
    });
    count.into_inner()
}

/// A neighbour file that is written, replaced and removed as fast as that goes.
fn chatty(dir: &Path) -> impl Fn(u64) + Sync {
    let (neighbour, next) = (dir.join("neighbour"), dir.join("neighbour.next"));
    move |i| {
        fs::write(&next, i.to_string()).unwrap();
        fs::rename(&next, &neighbour).unwrap();
        fs::write(&neighbour, i.to_string()).unwrap();
        fs::remove_file(&neighbour).unwrap();
    }
}

#[test]
fn inv05_inv12_a_chatty_neighbour_delays_no_rotation() {
    let generations = generations(11);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().timing(defaults_by_events_only()).load().unwrap();
    reloader.start().unwrap();
    let mut worst = Duration::ZERO;
    let looks = reloader.status().looks;
    let written = meanwhile(chatty(&volume.dir()), || {
        for next in &generations[1..] {
            let renamed = volume.publish(&next.files());
            common::wait_for_leaf(&reloader, &next.server);
            worst = worst.max(renamed.elapsed());
        }
    });
    let looks = reloader.status().looks - looks;
    println!("a neighbour written {written} times: worst latency {worst:?}, {looks} looks for 10 rotations");
    assert!(written > 10, "it was not chatty");
    assert!(worst < Duration::from_secs(2), "{worst:?}");
}

#[test]
fn inv05_a_chatty_neighbour_does_not_restart_the_settling() {
    let (old, new) = (Generation::new(0), Generation::new(1));
    let root = tempfile::tempdir().unwrap();
    fill(root.path(), &old);
    let timing = Timing { settle: Duration::from_millis(200), ..by_events_only() };
    let reloader = common::server_in(root.path()).timing(timing).load().unwrap();
    reloader.start().unwrap();
    let mut took = Duration::ZERO;
    meanwhile(chatty(root.path()), || {
        let start = Instant::now();
        fill(root.path(), &new);
        common::wait_for_leaf(&reloader, &new.server);
        took = start.elapsed();
    });
    println!("settled beside a chatty neighbour within {took:?}");
    assert!(took >= timing.settle, "it did not settle: {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn inv05_a_relative_path_and_one_with_dots_are_followed() {
    let generations = generations(3);
    let mut volume = Volume::of(&generations[0]);
    let here = std::env::current_dir().unwrap();
    // From the working directory up to the root and down again.
    let up: std::path::PathBuf = here.components().skip(1).map(|_| "..").collect();
    let relative = up.join(volume.dir().strip_prefix("/").unwrap());
    let dotted = volume.dir().join("..").join(".").join("volume");
    let servers: Vec<ServerReloader> = [relative, dotted]
        .iter()
        .map(|dir| common::server_in(dir).timing(by_events_only()).load().unwrap())
        .collect();
    for reloader in &servers {
        reloader.start().unwrap();
    }
    for next in &generations[1..] {
        volume.publish(&next.files());
        for reloader in &servers {
            common::wait_for_leaf(reloader, &next.server);
        }
    }
}
