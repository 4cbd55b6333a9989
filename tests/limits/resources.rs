//! Threads, descriptors and watches of a reloader, as the system counts them.

use std::fs;

use crate::common::{
    self, Volume, by_events_only, generations,
    held::{held, settled, settled_now},
};

#[test]
fn inv12_inv13_resources_are_flat_while_it_runs_and_freed_by_a_stop() {
    if !alone!(&["env"], "true") {
        return;
    }
    let generations = generations(3);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().timing(by_events_only()).load().unwrap();
    let idle = held();
    let rotate = |volume: &mut Volume, times: usize| {
        for i in 0..times {
            let next = &generations[1 + i % 2];
            volume.publish(&next.files());
            common::wait_for_leaf(&reloader, &next.server);
            // The snapshot after the publication drops the watch of the old directory.
            reloader.reload_now();
        }
    };
    for _ in 0..5 {
        reloader.start().unwrap();
        rotate(&mut volume, 2);
        let running = settled_now();
        assert!(running.watches > 2 && running.threads > idle.threads, "{running:?}");
        rotate(&mut volume, 20);
        assert_eq!(settled(running), running, "after twenty rotations");
        // Publishes a broken set, and reloads repeatedly.
        volume.publish(&generations[1].files());
        reloader.reload_now();
        volume.publish_invalid(&generations[2].files(), |dir| fs::write(dir.join("tls.key"), "").unwrap());
        for _ in 0..50 {
            reloader.reload_now();
        }
        volume.publish(&generations[2].files());
        common::wait_for_leaf(&reloader, &generations[2].server);
        reloader.reload_now();
        assert_eq!(settled(running), running, "after fifty refusals");
        reloader.stop().unwrap();
        assert_eq!(settled(idle), idle, "a second after the stop");
    }
}
