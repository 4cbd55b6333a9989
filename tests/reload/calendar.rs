//! Certificates that have expired or are not valid yet, and clocks that are set.
//!
//! These tests use real files, a wall clock that the test sets, and clients with that clock.
//! [`simulated`] tests many calendars to the millisecond, and wrong designs.

mod callbacks;
mod expiring;
mod simulated;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use crate::common::{
    self, DEADLINE, Generation, NamedFile, Volume, Wall, at_time, client, expect, handshake, published,
    refused, started,
};
use rustls::version::{TLS12, TLS13};
use rustls_reload::{Clock, Event, Events, Layer, Reload, ServerBuilder, ServerReloader, ServerTls, Timing};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

const HOUR: i64 = 3600;

/// Short delays: the poll notices that the clock was set.
fn timing() -> Timing {
    Timing { poll: Duration::from_millis(40), ..common::quick() }
}

/// A running server with a clock that the test sets. All times are seconds after its first load.
struct Stage {
    wall: Arc<Wall>,
    generation: Generation,
    volume: Volume,
    reloader: ServerReloader,
    events: Events<ServerTls>,
}

fn issue(ca: &Authority, wall: &Wall, (from, to): (i64, i64)) -> Pair {
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(wall.at(seconds).as_secs());
    ca.issue(&Subject::server("localhost").valid(at(from), at(to)), &PrivateKey::ed25519())
}

fn files(pair: &Pair) -> [NamedFile<'_>; 2] {
    [("tls.crt", pair.chain.as_bytes()), ("tls.key", pair.key.as_bytes())]
}

impl Stage {
    fn new(window: (i64, i64), with: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let (wall, mut generation) = (Wall::new(), Generation::new(0));
        generation.server = issue(&generation.ca, &wall, window);
        let volume = Volume::new(&files(&generation.server));
        let server = with(volume.server().timing(timing()).clock(Arc::clone(&wall) as Arc<dyn Clock>));
        let reloader = server.load().unwrap();
        let mut events = reloader.events();
        reloader.start().unwrap();
        started(&mut events);
        Self { wall, generation, volume, reloader, events }
    }

    /// Publishes a pair with this validity.
    fn publish(&mut self, window: (i64, i64)) -> Pair {
        let pair = issue(&self.generation.ca, &self.wall, window);
        self.volume.publish(&files(&pair));
        pair
    }

    /// Asserts that handshakes of both versions get this pair, and whether a client with the
    /// server's clock accepts it.
    fn serves(&self, pair: &Pair, taken: bool) {
        assert_eq!(common::presented(&self.reloader)[0], pair.leaf);
        for version in [&TLS12, &TLS13] {
            let client = client(std::slice::from_ref(&self.generation), &[version]);
            let client = at_time(&client, self.wall.now().wall);
            match handshake(&self.reloader.config(), &client) {
                Ok(connection) if taken => {
                    assert_eq!((connection.leaf(), connection.version), (&pair.leaf, version.version));
                }
                Err(error) if !taken => {
                    let text = error.to_string();
                    assert!(text.contains("expired") || text.contains("not valid yet"), "{text}");
                }
                other => panic!("{:?}: {other:?}", version.version),
            }
        }
    }

    /// Waits for so many snapshots, and asserts that they changed and reported nothing.
    fn idle_snapshots(&mut self, snapshots: u64) {
        let (before, start) = (self.reloader.current(), Instant::now());
        let first = self.reloader.status().snapshots;
        while self.reloader.status().snapshots < first + snapshots {
            assert!(start.elapsed() < DEADLINE, "no snapshot is taken: {:#?}", self.reloader.status());
            std::thread::yield_now();
        }
        assert!(Arc::ptr_eq(&before, &self.reloader.current()));
        let mut reported = common::drain(&mut self.events);
        reported.retain(|event| !matches!(**event, Event::Expiring { .. } | Event::Expired { .. }));
        assert_eq!(reported, []);
    }

    fn held(&mut self) -> Duration {
        expect(&mut self.events, "a hold", |event| match event {
            Event::Deferred { not_before, .. } => Some(*not_before),
            Event::Published { .. } => panic!("served before its date"),
            _ => None,
        })
    }

    fn warned(&mut self) -> rustls_reload::Warning {
        expect(&mut self.events, "a warning", |event| match event {
            Event::Warning { warning } => Some(warning.clone()),
            _ => None,
        })
    }
}

#[test]
fn inv02_inv03_expired_leaf_does_not_replace_a_valid_one() {
    let mut stage = Stage::new((-HOUR, 2 * HOUR), |server| server);
    let old = stage.generation.server.clone();
    let before = stage.reloader.current();
    let expired = stage.publish((-3 * HOUR, -HOUR));
    let error = refused(&mut stage.events);
    assert_eq!(error.layer(), Layer::Validity);
    assert_eq!(error.path(), Some(stage.volume.path("tls.crt").as_path()));
    assert_eq!(stage.reloader.reload_now(), Reload::Refused(error.clone()));
    stage.idle_snapshots(3);
    assert!(Arc::ptr_eq(&before, &stage.reloader.current()));
    stage.serves(&old, true);
    // No file is written. The clock is set to a time at which the served leaf has expired too.
    stage.wall.set(2 * HOUR + 1);
    published(&mut stage.events);
    assert_eq!(stage.warned(), error.into(), "served for want of a better one");
    stage.serves(&expired, false);
    assert_eq!(stage.reloader.status().refused, None);
}

#[test]
fn inv05_expired_leaf_is_served_once_the_clock_makes_it_valid() {
    let mut stage = Stage::new((-4 * HOUR, 2 * HOUR), |server| server);
    let expired = stage.publish((-3 * HOUR, -HOUR));
    refused(&mut stage.events);
    stage.wall.set(-2 * HOUR);
    assert_eq!(published(&mut stage.events), 2);
    stage.serves(&expired, true);
    // The leaf stays served, whatever the clock says next.
    for hours in [-4, 0, 3] {
        stage.wall.set(hours * HOUR);
        stage.idle_snapshots(3);
        stage.serves(&expired, false);
    }
}

#[test]
fn inv05_early_leaf_is_deferred_and_served_at_its_date() {
    let mut stage = Stage::new((-HOUR, 4 * HOUR), |server| server);
    let old = stage.generation.server.clone();
    let new = stage.publish((HOUR, 8 * HOUR));
    let date = stage.held();
    assert_eq!(date.as_secs(), stage.wall.at(HOUR).as_secs());
    assert_eq!(stage.reloader.status().deferred_until, Some(date));
    assert_eq!(stage.reloader.reload_now(), Reload::Deferred(date));
    // Sets the clock up to the last second before the date, and back again.
    for seconds in [1, HOUR - 1, -HOUR, HOUR - 1] {
        stage.wall.set(seconds);
        stage.idle_snapshots(3);
        stage.serves(&old, true);
    }
    stage.wall.set(HOUR);
    assert_eq!(published(&mut stage.events), 2);
    stage.serves(&new, true);
    assert_eq!(stage.reloader.status().deferred_until, None);
}

#[test]
fn inv03_deferred_leaf_that_expires_unserved_is_rejected() {
    let mut stage = Stage::new((-HOUR, 8 * HOUR), |server| server);
    let old = stage.generation.server.clone();
    let new = stage.publish((HOUR, 2 * HOUR));
    let date = stage.held();
    // Sets the clock past the whole validity, and back.
    stage.wall.set(3 * HOUR);
    assert_eq!(refused(&mut stage.events).layer(), Layer::Validity);
    assert_eq!(stage.reloader.status().deferred_until, None);
    stage.serves(&old, true);
    stage.wall.set(0);
    assert_eq!(stage.held(), date);
    assert_eq!(stage.reloader.status().refused, None);
    stage.serves(&old, true);
    stage.wall.set(HOUR);
    assert_eq!(published(&mut stage.events), 2);
    stage.serves(&new, true);
}

#[test]
fn inv05_new_of_two_expired_leaves_is_served_with_a_warning() {
    let mut stage = Stage::new((-3 * HOUR, -2 * HOUR), |server| server);
    let mut last = stage.generation.server.clone();
    stage.serves(&last, false);
    for window in [(-3 * HOUR, -HOUR), (-4 * HOUR, -3 * HOUR)] {
        last = stage.publish(window);
        published(&mut stage.events);
        assert_eq!(stage.warned().layer(), Layer::Validity);
        stage.serves(&last, false);
    }
    // A valid leaf is preferred to all of them.
    last = stage.publish((-HOUR, HOUR));
    published(&mut stage.events);
    stage.serves(&last, true);
}

#[test]
fn inv03_clock_steps_keep_serving_and_add_no_snapshots() {
    let mut stage = Stage::new((-HOUR, 2 * HOUR), |server| server);
    let pair = stage.generation.server.clone();
    for (seconds, taken) in [(3 * HOUR, false), (-2 * HOUR, false), (0, true), (i64::from(i32::MAX), false)] {
        stage.wall.set(seconds);
        let (start, first) = (Instant::now(), stage.reloader.status().snapshots);
        stage.idle_snapshots(3);
        let snapshots = u128::from(stage.reloader.status().snapshots - first);
        let poll = timing().poll.as_millis();
        // One of them may have begun before the start, and one is begun at it.
        assert!(snapshots <= start.elapsed().as_millis() / poll + 2, "{snapshots} in {:?}", start.elapsed());
        stage.serves(&pair, taken);
    }
}

#[test]
fn inv02_skewed_clock_serves_a_leaf_once_every_clock_accepts_it() {
    let skew = Duration::from_secs(600);
    let mut stage = Stage::new((-HOUR, 8 * HOUR), |server| server.clock_skew(skew));
    let old = stage.generation.server.clone();
    let new = stage.publish((HOUR, 9 * HOUR));
    assert_eq!(stage.held().as_secs(), stage.wall.at(HOUR + 600).as_secs());
    stage.wall.set(HOUR + 599);
    stage.idle_snapshots(3);
    stage.serves(&old, true);
    stage.wall.set(HOUR + 600);
    published(&mut stage.events);
    stage.serves(&new, true);
    // With the clock error, a leaf counts as expired ten minutes before its end.
    stage.wall.set(2 * HOUR);
    stage.publish((HOUR, 2 * HOUR + 500));
    assert_eq!(refused(&mut stage.events).layer(), Layer::Validity);
    // By a clock that is ahead, the served leaf may be valid for ten minutes after its end, so it
    // is not replaced yet.
    stage.wall.set(9 * HOUR + 500);
    stage.idle_snapshots(3);
    stage.wall.set(9 * HOUR + 601);
    published(&mut stage.events);
    assert_eq!(stage.warned().layer(), Layer::Validity);
}
