//! Files that no snapshot reads whole, because they are written without a pause, or because a found
//! file cannot be opened.
//!
//! Both begin alike and end differently. Files that change are reported as still changing, and are
//! served once they are stable. Files that do not change are refused.

use std::{
    io::ErrorKind,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::common::{self, Volume};
use rustls_reload::{Builder, Error, Event, Events, Layer, Reload, Timing, fs::NativeFs};
use rustls_reload_harness::sim::{
    self, CHAIN, InteractiveWorld, KEY, MarkedBuild, Set, SimWatcher, Value, WorldConfig,
};
use rustls_reload_testkit::{InterceptFs, Op, Verb};

const NAMES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

fn at(name: &str) -> PathBuf {
    PathBuf::from("v").join(name)
}

fn write(name: &str, bytes: &[u8]) -> [Op; 2] {
    [Op::Create(at(name)), Op::Append(at(name), bytes.to_vec())]
}

/// Called before each call. Returns how the call fails, or acts first.
type Before = Box<dyn FnMut(Verb) -> Option<ErrorKind> + Send>;

/// A worker in a simulated world, with a function called before each of its calls.
struct World {
    live: InteractiveWorld,
    events: Events<Value>,
    reported: Vec<Event>,
}

impl World {
    fn loaded(before: impl FnOnce(&sim::Sim) -> Before) -> Result<Self, Error> {
        let paths = NAMES.map(|name| PathBuf::from("/v").join(name));
        let files = sim::full(0, 1);
        let base = NAMES.iter().zip(&files).flat_map(|(name, bytes)| write(name, bytes));
        let base: Vec<_> = [Op::Mkdir("v".into())].into_iter().chain(base).collect();
        let config = WorldConfig { verb: Duration::from_micros(100), ..WorldConfig::default() };
        let mut live = InteractiveWorld::new(&paths, &base, Timing::default(), config);
        let sim = live.sim().clone();
        let before = Mutex::new(before(&sim));
        let hook = move |verb| match (before.lock().unwrap())(verb) {
            Some(kind) => Err(kind.into()),
            None => Ok(usize::MAX),
        };
        let watched = sim.clone();
        let builder = Builder::new(&paths, MarkedBuild::new(&sim))
            .clock(sim.clock())
            .watcher(Some(Box::new(move |hints| Ok(Box::new(SimWatcher::new(&watched, hints))))));
        live.load_through(builder, InterceptFs::new(sim.fs(), Arc::new(hook)))?;
        let events = live.reloader().events();
        live.start();
        let mut world = Self { live, events, reported: Vec::new() };
        world.pass(1);
        world.reported.clear();
        Ok(world)
    }

    fn apply(&self, ops: &[Op]) {
        ops.iter().for_each(|op| self.live.sim().apply(op).unwrap());
    }

    /// Lets time pass. Returns the number of snapshots.
    fn pass(&mut self, ms: u64) -> u64 {
        let before = self.live.reloader().status().snapshots;
        self.live.until(Duration::from_millis(ms), |_| false);
        while let Some(reported) = self.events.try_next() {
            self.reported.push(Event::clone(&reported.event));
        }
        self.live.reloader().status().snapshots - before
    }

    fn serves(&self, set: &Set) -> bool {
        let served = self.live.reloader().current();
        served.value.files.iter().zip(set).all(|(file, wanted)| file.as_deref() == Some(wanted))
    }

    /// Returns the events since the last call, in short.
    fn reported(&mut self) -> Vec<&'static str> {
        let short = |event: &Event| match event {
            Event::StillChanging { .. } => "still changing",
            Event::Refused { error, .. } if error.layer() == Layer::Read => "unreadable",
            Event::Recovered { .. } => "recovered",
            Event::Published { recovered: false, .. } => "published",
            Event::Published { recovered: true, .. } => "recovered by publishing",
            other => panic!("{other}"),
        };
        self.reported.drain(..).map(|event| short(&event)).collect()
    }
}

/// Makes a world in which this call fails while the switch is on.
fn failing(verb: Verb, kind: ErrorKind) -> (World, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&fails);
    let hook = move |called| (called == verb && switch.load(Ordering::SeqCst)).then_some(kind);
    (World::loaded(|_| Box::new(hook)).unwrap(), fails)
}

/// A file or directory was found, and is gone or stale when it is opened.
const FAULTS: [(Verb, ErrorKind); 5] = [
    (Verb::Open, ErrorKind::NotFound),
    (Verb::Open, ErrorKind::StaleNetworkFileHandle),
    // Another process holds a lease and keeps it.
    (Verb::Open, ErrorKind::WouldBlock),
    (Verb::OpenDir, ErrorKind::NotFound),
    (Verb::OpenDir, ErrorKind::StaleNetworkFileHandle),
];

/// Checks: INV-03, INV-05, INV-11, INV-12
#[test]
fn inv11_file_that_never_opens_is_rejected_by_name_ever_less_often() {
    for (verb, kind) in FAULTS {
        let (mut world, fails) = failing(verb, kind);
        let old = world.live.reloader().current();
        fails.store(true, Ordering::SeqCst);
        let next = sim::full(0, 2);
        world.apply(&[write("tls.crt", &next[CHAIN]), write("tls.key", &next[KEY])].concat());
        let soon = world.pass(450);
        assert_eq!(world.reported(), [""; 0], "{verb:?} {kind:?}: a publisher may be at work");
        assert!(soon <= 3 + 450 / 50 + 2, "{verb:?} {kind:?}: {soon} snapshots");
        let more = world.pass(150);
        let status = world.live.reloader().status();
        let error = status.refused.unwrap_or_else(|| panic!("{verb:?} {kind:?}: nothing is refused")).error;
        assert_eq!(error.layer(), Layer::Read, "{error}");
        let named = if verb == Verb::Open { "/v/tls.crt" } else { "/v" };
        assert_eq!(error.path(), Some(named.as_ref()), "{error}");
        assert!(error.why().contains("cannot open"), "{error}");
        // The pauses begin at 50 ms and double up to 10 s.
        let later = world.pass(60_000);
        assert!(later <= 8 + 6, "{verb:?} {kind:?}: {later} snapshots");
        println!(
            "torn: {verb:?} {kind:?}: {} snapshots in 600 ms, {later} in the next minute: {error}",
            soon + more
        );
        assert_eq!(world.reported(), ["unreadable"], "{verb:?} {kind:?}");
        assert!(Arc::ptr_eq(&old, &world.live.reloader().current()), "{verb:?} {kind:?}");
        fails.store(false, Ordering::SeqCst);
        world.pass(10_000 + 600);
        assert!(world.serves(&next), "{verb:?} {kind:?}");
        assert_eq!(world.reported(), ["recovered by publishing"], "{verb:?} {kind:?}");
    }
}

/// Checks: INV-03, INV-11. A manual reload on the real file system: the set is refused after the
/// settle time, the error names the file, and the refusal is reported. Once the file can be opened,
/// the reload succeeds.
#[test]
fn inv11_manual_reload_of_a_file_that_never_opens_names_it() {
    let generations = common::generations(2);
    let mut volume = Volume::of(&generations[0]);
    let fails = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&fails);
    let hook = move |called| match called {
        Verb::Open if switch.load(Ordering::SeqCst) => Err(ErrorKind::NotFound.into()),
        _ => Ok(usize::MAX),
    };
    let server = volume.server().timing(common::by_events_only());
    let reloader = server.load_from(InterceptFs::new(NativeFs::default(), Arc::new(hook))).unwrap();
    let (mut events, old) = (reloader.events(), reloader.current());
    fails.store(true, Ordering::SeqCst);
    volume.publish(&generations[1].files());
    let (start, snapshots) = (Instant::now(), reloader.status().snapshots);
    let Reload::Refused(error) = reloader.reload_now() else { panic!("it was taken") };
    let (took, snapshots) = (start.elapsed(), reloader.status().snapshots - snapshots);
    println!("torn: by hand: {snapshots} snapshots, refused after {took:?}: {error}");
    assert_eq!(error.layer(), Layer::Read, "{error}");
    assert_eq!(error.path().and_then(|path| path.file_name()), Some("tls.crt".as_ref()), "{error}");
    let settle = common::by_events_only().settle;
    assert!(took >= settle, "{took:?}");
    assert!(u128::from(snapshots) <= 4 + took.as_millis() / 20, "{snapshots} snapshots in {took:?}");
    assert_eq!(common::refused(&mut events), error);
    assert!(Arc::ptr_eq(&old, &reloader.current()));
    fails.store(false, Ordering::SeqCst);
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    assert_eq!(reloader.status().refused, None);
}

/// Checks: INV-11. A first load is strict, and ends once it is clear that no publisher is at work.
#[test]
fn inv11_a_first_load_of_what_is_never_opened_names_it() {
    for (verb, kind) in FAULTS {
        let error =
            World::loaded(|_| Box::new(move |called| (called == verb).then_some(kind))).err().unwrap();
        assert_eq!(error.layer(), Layer::Read, "{verb:?} {kind:?}: {error}");
    }
}

/// Makes a world in which the chain is extended at each read while the switch is on.
fn growing() -> (World, Arc<AtomicBool>) {
    let grows = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&grows);
    let world = World::loaded(|sim| {
        let sim = sim.clone();
        Box::new(move |called| {
            if called == Verb::Read && switch.load(Ordering::SeqCst) {
                sim.apply(&Op::Append(at("tls.crt"), b"#".to_vec())).unwrap();
            }
            None
        })
    });
    (world.unwrap(), grows)
}

/// Checks: INV-01, INV-05, INV-11, INV-12. The file changes, so it is not reported as unreadable.
/// Once it is stable it is served as soon as any file that was written in place.
#[test]
fn inv11_growing_file_is_still_changing_and_served_once_stable() {
    let (mut world, grows) = growing();
    let next = sim::full(0, 2);
    grows.store(true, Ordering::SeqCst);
    world.apply(&write("tls.key", &next[KEY]));
    assert_eq!((world.pass(4_900), world.reported()).1, [""; 0]);
    world.pass(200);
    assert_eq!(world.reported(), ["still changing"]);
    let snapshots = world.pass(60_000);
    println!("torn: growing: {snapshots} snapshots a minute");
    assert!(
        (60..=60 * 20).contains(&snapshots),
        "{snapshots} snapshots a minute: 20 a second at most, and no fewer than one"
    );
    assert_eq!(world.reported(), [""; 0]);
    grows.store(false, Ordering::SeqCst);
    world.apply(&write("tls.crt", &next[CHAIN]));
    world.pass(499);
    assert_eq!(world.live.reloader().current().generation, 1, "it has to hold still");
    world.pass(100);
    assert!(world.serves(&next));
    assert_eq!(world.reported(), ["recovered by publishing"]);
}

/// Checks: INV-11. A symlink that is recreated shows that a publisher is at work, also where it
/// leads to the served target each time.
#[test]
fn inv11_link_recreated_at_each_torn_read_is_still_changing() {
    let link = [Op::Unlink(at("tls.crt")), Op::Symlink("chain".into(), at("tls.crt"))];
    let recreates = Arc::new(AtomicBool::new(false));
    let (switch, again) = (Arc::clone(&recreates), link.clone());
    let world = World::loaded(|sim| {
        let sim = sim.clone();
        Box::new(move |called| {
            let fails = called == Verb::Open && switch.load(Ordering::SeqCst);
            fails.then(|| {
                again.iter().for_each(|op| sim.apply(op).unwrap());
                ErrorKind::NotFound
            })
        })
    });
    let mut world = world.unwrap();
    // The served chain is behind a symlink.
    world.apply(&write("chain", &sim::full(0, 1)[CHAIN]));
    world.apply(&link);
    assert_eq!((world.pass(1_000), world.reported()).1, [""; 0]);
    let next = sim::full(0, 2);
    recreates.store(true, Ordering::SeqCst);
    world.apply(&write("tls.key", &next[KEY]));
    assert_eq!((world.pass(4_900), world.reported()).1, [""; 0]);
    world.pass(200);
    assert_eq!(world.reported(), ["still changing"]);
    recreates.store(false, Ordering::SeqCst);
    world.apply(&write("chain", &next[CHAIN]));
    world.pass(2_000);
    assert!(world.serves(&next));
    assert_eq!(world.reported(), ["recovered by publishing"]);
}
