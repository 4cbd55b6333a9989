//! The simulated world, in which only the reloader is real.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rustls_reload::{Events, Reload, Status, Timing};
use rustls_reload_harness::sim::{self, BLOCK, CA, CHAIN, InteractiveWorld, SimWatcher, Value, WorldConfig};
use rustls_reload_testkit::Op;

use super::{
    common::DEADLINE,
    scenarios::Scenario,
    watcher::Fate,
    world::{Files, Reported, Set, World, made},
};

pub struct Simulated {
    live: InteractiveWorld,
    timing: Timing,
    tick: Duration,
    fate: Fate,
    events: Option<Events<Value>>,
    reported: Vec<Reported>,
    published: u64,
    disturbed: u64,
}

/// Returns the marked blocks of a set.
fn files(set: Set) -> Files {
    let leaf = &sim::full(set.leaf, set.key)[CHAIN][..BLOCK];
    let issuer = &sim::full(set.issuer, set.key)[CHAIN][BLOCK..];
    let [_, key, _] = sim::full(0, set.key);
    [[leaf, issuer].concat(), key, sim::full(set.ca, 0)[CA].clone()]
}

impl Simulated {
    pub fn new(scenario: &Scenario, timing: Timing) -> Self {
        let config = WorldConfig { tick: scenario.tick, reuse: scenario.reuse, ..WorldConfig::default() };
        let base = (scenario.base)(&files(Set::whole(1)));
        let live = InteractiveWorld::new(&scenario.paths, &base, timing, config);
        let sim = live.sim().clone();
        let fate = Fate::new(Box::new(move |hints| Ok(Box::new(SimWatcher::new(&sim, hints)))));
        Self {
            live,
            timing,
            tick: scenario.tick,
            fate,
            events: None,
            reported: Vec::new(),
            published: 0,
            disturbed: 0,
        }
    }

    fn listen(&mut self) {
        let events = self.events.iter_mut().flat_map(|events| std::iter::from_fn(|| events.try_next()));
        self.reported.extend(events.map(|reported| Reported::from(&*reported.event)));
    }
}

impl World for Simulated {
    fn timing(&self) -> Timing {
        self.timing
    }

    fn at(&self, path: &str) -> PathBuf {
        // On Windows the server's path has a drive.
        std::path::absolute(Path::new("/").join(path)).unwrap()
    }

    fn files(&mut self, set: Set) -> Files {
        files(set)
    }

    fn now(&self) -> Duration {
        self.live.sim().now().mono
    }

    fn apply(&mut self, ops: &[Op]) {
        for op in ops {
            self.live.sim().apply(op).unwrap_or_else(|error| panic!("{op:?}: {error}"));
        }
    }

    fn later(&self, ops: Vec<Op>) -> Box<dyn FnOnce() + Send> {
        let sim = self.live.sim().clone();
        Box::new(move || ops.iter().for_each(|op| sim.apply(op).unwrap()))
    }

    fn tick(&mut self) {
        self.pass(self.tick);
    }

    fn changed(&self, op: &Op) -> Option<i128> {
        made(op).map(|path| self.live.sim().changed(path).unwrap())
    }

    fn neighbour(&mut self, every: Duration, ops: Vec<Op>) {
        self.disturbed += self.live.rounds();
        self.live.neighbour(every.max(Duration::from_millis(1)), ops);
    }

    fn disturbed(&self) -> u64 {
        self.disturbed + self.live.rounds()
    }

    fn fate(&self) -> &Fate {
        &self.fate
    }

    fn load(&mut self) {
        if self.events.is_some() {
            self.published = self.published();
            self.listen();
        }
        self.live.load(Some(self.fate.make_watcher())).unwrap();
        self.events = Some(self.live.reloader().events());
    }

    fn start(&mut self) {
        self.live.start();
    }

    fn reload(&mut self) -> Reload {
        self.live.reload_now().expect("an answer")
    }

    fn serves(&mut self, set: Set) -> bool {
        is(self.live.reloader().current().value.files.as_slice(), set)
    }

    fn wait_served(&mut self, set: Set) {
        let served = self.live.until(DEADLINE, |reloader| is(&reloader.current().value.files, set));
        assert!(served, "{set:?} is not served: {:#?}", self.status());
    }

    fn wait_reported(&mut self, reported: &Reported) {
        let events = self.events.as_mut().unwrap();
        let mut seen = Vec::new();
        let reported_now = self.live.until(DEADLINE, |_| {
            std::iter::from_fn(|| events.try_next()).any(|next| {
                seen.push(Reported::from(&*next.event));
                seen.last() == Some(reported)
            })
        });
        assert!(reported_now, "not reported: {reported:?}, but {seen:?}");
        self.reported.extend(seen);
    }

    fn idle(&mut self, time: Duration) -> bool {
        let generation = self.live.reloader().current().generation;
        !self.live.until(time, |reloader| reloader.current().generation != generation)
    }

    fn status(&self) -> Status {
        self.live.reloader().status()
    }

    fn reported(&mut self) -> Vec<Reported> {
        self.listen();
        self.reported.clone()
    }

    fn published(&self) -> u64 {
        self.published + self.live.reloader().current().generation - 1
    }
}

fn is(served: &[Option<std::sync::Arc<Vec<u8>>>], set: Set) -> bool {
    served.iter().zip(files(set)).all(|(served, wanted)| served.as_deref() == Some(&wanted))
}
