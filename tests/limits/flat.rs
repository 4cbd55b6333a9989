//! The number of descriptors, inotify watches and threads of a running reloader stays exactly the
//! same.

use std::fs;

use rustls_reload::Timing;

use crate::{
    common::{
        Volume, by_events_only, generations,
        held::{held, settled, settled_now},
        server_in,
    },
    fill, serves,
};

#[test]
fn inv12_resources_are_flat_over_a_thousand_rotations() {
    if !alone!(&["env"], "true") {
        return;
    }
    let generations = generations(3);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().timing(by_events_only()).load().unwrap();
    let idle = held();
    reloader.start().unwrap();
    let mut running = idle;
    for i in 0..1_000 {
        let next = &generations[1 + i % 2];
        volume.publish(&next.files());
        serves(&reloader, next);
        if i == 0 || i % 100 == 99 {
            // The snapshot after the publication drops the watch of the old directory.
            reloader.reload_now();
            if i == 0 {
                running = settled_now();
            }
            assert_eq!(settled(running), running, "after {} rotations", i + 1);
        }
    }
    assert!(running.watches > 2 && running.threads == idle.threads + 2, "{running:?}");
    println!("{running:?} throughout, {} snapshots", reloader.status().snapshots);
    reloader.stop().unwrap();
    assert_eq!(settled(idle), idle, "a second after the stop");
}

#[test]
fn inv12_resources_are_flat_over_a_hundred_directory_removals() {
    if !alone!(&["env"], "true") {
        return;
    }
    let generations = generations(3);
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("etc").join("tls");
    fs::create_dir_all(&dir).unwrap();
    fill(&dir, &generations[0]);
    let reloader =
        server_in(&dir).timing(Timing { settle: std::time::Duration::from_millis(20), ..by_events_only() });
    let reloader = reloader.load().unwrap();
    let idle = held();
    reloader.start().unwrap();
    let mut running = idle;
    for i in 0..100 {
        let next = &generations[1 + i % 2];
        // Removes the directory, or its parent as well.
        let gone = if i % 2 == 0 { dir.as_path() } else { dir.parent().unwrap() };
        fs::remove_dir_all(gone).unwrap();
        fs::create_dir_all(&dir).unwrap();
        fill(&dir, next);
        serves(&reloader, next);
        reloader.reload_now();
        if i == 0 {
            running = settled_now();
        }
        assert_eq!(settled(running), running, "after {} removals", i + 1);
    }
    assert!(running.watches > 2 && running.threads == idle.threads + 2, "{running:?}");
    println!("{running:?} throughout, {} snapshots", reloader.status().snapshots);
    reloader.stop().unwrap();
    assert_eq!(settled(idle), idle, "a second after the stop");
}
