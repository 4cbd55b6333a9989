//! The times in the status: the begin of a state stays until the state is over, and the last
//! snapshot is the latest one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::common::{self, DEADLINE, Generation, Volume, Wall};
use rustls_reload::{Clock, Error, Event, Layer, Reload, Status, Timing};
use rustls_reload_harness::sim::{self, CHAIN, InteractiveWorld, KEY, WorldConfig};
use rustls_reload_testkit::Op;

#[test]
fn inv11_fault_time_stands_until_its_end_and_snapshots_go_on() {
    let generations = common::generations(3);
    let mut volume = Volume::of(&generations[0]);
    let wall = Wall::new();
    let reloader = volume.server().clock(Arc::clone(&wall) as Arc<dyn Clock>).load().unwrap();
    let looked = |seconds, reloaded: &Reload| {
        wall.set(seconds);
        assert_eq!(&reloader.reload_now(), reloaded, "at {seconds} s");
        let status = reloader.status();
        assert_eq!(status.last_snapshot, wall.at(seconds), "at {seconds} s");
        status
    };
    let first = reloader.status();
    assert_eq!((first.served_since, first.last_snapshot), (wall.at(0), wall.at(0)));
    let status = looked(10, &Reload::Unchanged);
    assert_eq!((status.differs_since, status.served_since), (None, wall.at(0)));
    // Publishes the chain of one generation with the key of another.
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

/// Compares the refusal in the status with the last reported one that is not over, and its time,
/// after each step.
struct Reported {
    live: InteractiveWorld,
    events: rustls_reload::Events<sim::Value>,
    stands: Option<(Error, Duration)>,
}

impl Reported {
    fn new(base: &[Op]) -> Self {
        let paths = ["/v/tls.crt", "/v/tls.key", "/v/ca.crt"].map(Into::into);
        let mut live = InteractiveWorld::new(&paths, base, Timing::default(), WorldConfig::default());
        live.load(None).unwrap();
        let events = live.reloader().events();
        live.start();
        Self { live, events, stands: None }
    }

    /// Takes these steps, and lets this many milliseconds pass.
    fn then(&mut self, ops: &[Op], ms: u64) -> Option<Layer> {
        for op in ops {
            self.live.sim().apply(op).unwrap();
        }
        let Self { live, events, stands } = self;
        let sim = live.sim().clone();
        live.until(Duration::from_millis(ms), |reloader| {
            while let Some(reported) = events.try_next() {
                match &*reported.event {
                    Event::Refused { error, .. } => *stands = Some((error.clone(), sim.now().wall)),
                    Event::Published { .. } | Event::Recovered { .. } | Event::Deferred { .. } => {
                        *stands = None
                    }
                    _ => {}
                }
            }
            let shown = reloader.status().refused.map(|refused| (refused.error, refused.since));
            assert_eq!(shown, *stands);
            false
        });
        self.stands.as_ref().map(|(error, _)| error.layer())
    }
}

/// Checks: INV-11. The status shows neither a failed read that the next snapshot may not see, nor
/// the time of another refusal.
#[test]
fn inv11_status_shows_the_reported_rejection_and_its_time() {
    let [old, next] = [1, 2].map(|key| sim::full(0, key));
    let path = |name: &str| format!("v/{name}").into();
    let write = |name, bytes: &Vec<u8>| [Op::Create(path(name)), Op::Append(path(name), bytes.clone())];
    let [away, back] =
        [("tls.key", "away"), ("away", "tls.key")].map(|(from, to)| Op::Rename(path(from), path(to)));
    let files = [("tls.crt", &old[CHAIN]), ("tls.key", &old[KEY]), ("ca.crt", &old[sim::CA])];
    let base = [Op::Mkdir("v".into())]
        .into_iter()
        .chain(files.into_iter().flat_map(|(name, bytes)| write(name, bytes)));
    let mut reported = Reported::new(&base.collect::<Vec<_>>());
    // With one poll a second, the failure is found a while after it began, and is reported half a
    // second later.
    assert_eq!(reported.then(std::slice::from_ref(&away), 1_400), None);
    assert_eq!(reported.then(&[], 1_000), Some(Layer::Read));
    assert_eq!(reported.then(std::slice::from_ref(&back), 11_000), None);
    // The chain of one generation beside the key of another, while the key is missing for a
    // snapshot now and then.
    assert_eq!(reported.then(&write("tls.crt", &next[CHAIN]), 3_000), Some(Layer::Match));
    for _ in 0..40 {
        assert_eq!(reported.then(std::slice::from_ref(&away), 330), Some(Layer::Match));
        assert_eq!(reported.then(std::slice::from_ref(&back), 1_100), Some(Layer::Match));
    }
    assert_eq!(reported.then(&[away], 3_000), Some(Layer::Read));
    assert_eq!(reported.then(&[back], 13_000), Some(Layer::Match));
    assert_eq!(reported.then(&write("tls.key", &next[KEY]), 3_000), None);
    assert_eq!(reported.live.reloader().current().generation, 2);
}

#[test]
fn inv11_degraded_has_its_time_and_cause_for_as_long_as_it_lasts() {
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
    // Waits for two more polls, of which the second began after the clock was set.
    let start = Instant::now();
    while reloader.status().snapshots < status.snapshots + 2 {
        assert!(start.elapsed() < DEADLINE, "no snapshot is taken: {:#?}", reloader.status());
        std::thread::yield_now();
    }
    let status = reloader.status();
    degraded(&status);
    assert_eq!(status.last_snapshot, wall.at(20));
    reloader.stop().unwrap();
    assert!(!reloader.status().running);
}
