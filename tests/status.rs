//! What the status says of times: since when something is so stands until it is over, and the last look is the last one.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs)] // reason: a test may panic

mod common;

use std::{sync::Arc, time::Instant};

use common::{DEADLINE, Generation, Volume, Wall};
use rustls_reload::{Clock, Layer, Reload, Status};

#[test]
fn inv11_since_when_stands_until_it_is_over_and_the_last_look_goes_on() {
    let generations = common::generations(3);
    let mut volume = Volume::of(&generations[0]);
    let wall = Wall::new();
    let reloader = volume.server().clock(Arc::clone(&wall) as Arc<dyn Clock>).load().unwrap();
    let looked = |seconds, reloaded: &Reload| {
        wall.set(seconds);
        assert_eq!(&reloader.reload_now(), reloaded, "at {seconds} s");
        let status = reloader.status();
        assert_eq!(status.last_look, wall.at(seconds), "at {seconds} s");
        status
    };
    let first = reloader.status();
    assert_eq!((first.served_since, first.last_look), (wall.at(0), wall.at(0)));
    let status = looked(10, &Reload::Unchanged);
    assert_eq!((status.differs_since, status.served_since), (None, wall.at(0)));
    // The chain of one and the key of another.
    volume.publish(&[
        ("tls.crt", generations[1].server.chain.as_bytes()),
        ("tls.key", generations[0].server.key.as_bytes()),
    ]);
    wall.set(20);
    let Reload::Refused(error) = reloader.reload_now() else { panic!("it was taken") };
    assert_eq!(error.layer(), Layer::Match);
    for (seconds, count) in [(30, 2), (40, 3)] {
        let status = looked(seconds, &Reload::Refused(error.clone()));
        let refused = status.refused.unwrap();
        assert_eq!(status.differs_since, Some(wall.at(20)));
        assert_eq!((refused.since, refused.count, &refused.error), (wall.at(20), count, &error));
        assert_eq!((status.served_since, status.generation), (wall.at(0), 1));
    }
    volume.publish(&generations[2].files());
    let status = looked(50, &Reload::Reloaded);
    assert_eq!((status.differs_since, status.refused), (None, None));
    assert_eq!((status.served_since, status.generation), (wall.at(50), 2));
    let status = looked(60, &Reload::Unchanged);
    assert_eq!(status.served_since, wall.at(50));
}

#[test]
fn inv11_degraded_says_since_when_and_why_for_as_long_as_it_is_so() {
    let volume = Volume::of(&Generation::new(0));
    let wall = Wall::new();
    let clock = Arc::clone(&wall) as Arc<dyn Clock>;
    let reloader = volume.server().clock(clock).watcher(None).load().unwrap();
    assert_eq!(reloader.status().degraded, None, "nothing is to be watched yet");
    wall.set(10);
    let mut events = reloader.events();
    reloader.start().unwrap();
    common::started(&mut events);
    let degraded = |status: &Status| {
        let (error, since) = status.degraded.clone().unwrap();
        assert_eq!((error.layer(), since), (Layer::Watch, wall.at(10)), "{error}");
        assert_eq!((&*status.watched, status.running), (&[][..], true));
    };
    let status = reloader.status();
    degraded(&status);
    wall.set(20);
    // It is polled: two more looks, of which the second began after the clock was set.
    let start = Instant::now();
    while reloader.status().looks < status.looks + 2 {
        assert!(start.elapsed() < DEADLINE, "nobody looks: {:#?}", reloader.status());
        std::thread::yield_now();
    }
    let status = reloader.status();
    degraded(&status);
    assert_eq!(status.last_look, wall.at(20));
    reloader.stop().unwrap();
    assert!(!reloader.status().running);
}
