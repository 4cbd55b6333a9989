//! Several sets under one driver: each is served, refused and settled by itself, and all are
//! published as one value.
//!
//! Checks: INV-01, INV-02, INV-03, INV-04, INV-05, INV-06, INV-08, INV-11. In a simulated run the
//! checkers of one set check each set, whatever the publisher of the other does.
//!
//! Engine: generated.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustls_reload::{
    Build, Builder, Built, Clock, Context, Error, Event, Files, Timing,
    watch::{Hints, MakeWatcher, Watched, Watcher},
};
use rustls_reload_harness::{
    settings,
    sim::{
        Contents, Events, Exhaustive, InteractiveWorld, MultiSetScenario, ORDERS, Publisher, Renewal, Replay,
        Sampled, Scenario, Schedule, SetsBuild, Sim, SimWatcher, Value, Violation, WorldConfig,
    },
};
use rustls_reload_testkit::Op;

/// Returns the number of runs after which a search is sampled. `SETS_RUNS` sets another number for
/// both.
fn limit() -> u64 {
    settings::number("SETS_RUNS", 12)
}

#[derive(Default)]
struct Tried {
    runs: u64,
    outcomes: HashSet<u64>,
    violation: Option<(Violation, String)>,
}

/// Runs schedules in order, and then random ones.
fn tried<B: Build<Value = Value>>(world: &MultiSetScenario, build: impl Fn(&Sim) -> B) -> Tried {
    let mut tried = Tried::default();
    let mut goes_on = |schedule: Arc<Mutex<dyn Schedule>>| {
        let run = world.run(schedule, &build);
        tried.runs += 1;
        tried.outcomes.insert(run.outcome);
        tried.violation = world.check(&run).err().map(|violation| (violation, Replay::line(&run.choices)));
        tried.violation.is_none()
    };
    let search = Arc::new(Mutex::new(Exhaustive::default()));
    let mut good = true;
    for _ in 0..limit() {
        if !good || !search.lock().unwrap().next_run() {
            break;
        }
        good = goes_on(search.clone());
        search.lock().unwrap().end_run(false);
    }
    let _ = good && (0..limit()).all(|seed| goes_on(Arc::new(Mutex::new(Sampled::new(seed)))));
    tried
}

fn scenario(publisher: Publisher, renewals: &[Renewal], pause: u64) -> Scenario {
    let mut scenario = Scenario::new(publisher, renewals[0]);
    scenario.renewals = renewals.to_vec();
    scenario.config.pause = Duration::from_millis(pause);
    scenario.config.waits = 1;
    scenario
}

/// Publishers that share no directory but the root.
const PAIRS: [(Publisher, Publisher); 5] = [
    (Publisher::StepRenew, Publisher::Release(false)),
    (Publisher::Kubelet(ORDERS[0]), Publisher::Certbot),
    (Publisher::InPlace(ORDERS[3]), Publisher::LinkedVolume),
    (Publisher::RenamePerFile(ORDERS[0]), Publisher::Volumes),
    (Publisher::DirRemade, Publisher::Release(true)),
];

/// Returns each world with its name.
fn worlds() -> Vec<(String, MultiSetScenario)> {
    use Renewal::{Broken, LeafOnly, NewKey, Nothing, SameKey};
    let mut worlds = Vec::new();
    for (first, second) in PAIRS {
        let own = if first == Publisher::StepRenew { [LeafOnly, LeafOnly] } else { [NewKey, SameKey] };
        for turns in [&[0][..], &[1], &[0, 1], &[0, 0, 1]] {
            for events in [Events::Delivered, Events::Overflowed, Events::Lost] {
                for pause in [0, 5, 300] {
                    // The poll finds changes without events in any order of turns, so one order is
                    // enough.
                    if events != Events::Delivered && (turns.len() != 2 || pause == 0) {
                        continue;
                    }
                    for (mine, theirs) in
                        [(&own[..1], &[SameKey][..]), (&own[..], &[Broken]), (&own[..1], &[Nothing])]
                    {
                        let mut one = scenario(first, mine, pause);
                        one.config.events = events;
                        let mut other = scenario(second, theirs, pause);
                        // The numbers distinguish the files of the two sets.
                        other.first = 100;
                        other.config = one.config;
                        let name = format!(
                            "{} and {} {theirs:?} {turns:?} {events:?} {pause} ms",
                            first.name(),
                            second.name()
                        );
                        worlds.push((name, MultiSetScenario::new(&[one, other], turns)));
                    }
                }
            }
        }
    }
    worlds
}

#[test]
fn inv01_to_inv11_hold_for_each_of_two_sets_whatever_the_other_does() {
    let (mut runs, mut outcomes, start) = (0, 0, Instant::now());
    let worlds = worlds();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let search = |(name, world): &(String, MultiSetScenario)| {
        let tried = tried(world, |sim| world.build(sim));
        if let Some((violation, line)) = tried.violation {
            panic!("{violation}\n{name}: {line}");
        }
        [tried.runs, tried.outcomes.len() as u64]
    };
    std::thread::scope(|scope| {
        let shares = worlds.chunks(worlds.len().div_ceil(cores));
        let spawn = |share| scope.spawn(move || <[_]>::iter(share).map(search).collect::<Vec<_>>());
        let shares: Vec<_> = shares.map(spawn).collect();
        for [run, differing] in shares.into_iter().flat_map(|share| share.join().unwrap()) {
            runs += run;
            outcomes += differing;
        }
    });
    println!(
        "two sets: {} worlds, {runs} runs, {outcomes} outcomes, 0 violations in {:.1?}",
        worlds.len(),
        start.elapsed()
    );
    assert!(outcomes > worlds.len() as u64, "the schedules differ in nothing");
}

/// Checks: INV-05. A set is served as if it were alone, however the other is written.
#[test]
fn inv05_a_set_that_never_rests_postpones_no_other() {
    let settle = Timing::default().settle;
    // The longest time of the other set alone: nearly none where one rename commits it.
    for (quiet, bound) in [(Publisher::LinkedVolume, ms(50)), (Publisher::Certbot, settle + ms(100))] {
        let noisy = Scenario::new(Publisher::InPlace(ORDERS[0]), Renewal::SameKey);
        let other = Scenario::new(quiet, Renewal::NewKey);
        let world = MultiSetScenario::new(&[noisy.clone(), other.clone()], &[0]);
        let base: Vec<_> =
            [&noisy, &other].into_iter().flat_map(|one| one.publisher.base(&one.sets()[0])).collect();
        let mut live = InteractiveWorld::new(&world.sets().concat(), &base, Timing::default(), noisy.config);
        let sim = live.sim().clone();
        let watcher: MakeWatcher = {
            let sim = sim.clone();
            Box::new(move |hints| Ok(Box::new(SimWatcher::new(&sim, hints))))
        };
        let builder = Builder::new(&world.sets()[0], world.build(&sim)).set(&world.sets()[1]);
        live.load_by(builder.clock(sim.clock()).watcher(Some(watcher))).unwrap();
        live.start();
        // Each round writes different bytes, and the last block of each file is missing in between.
        let rounds = noisy.steps().0.into_iter().chain(noisy.publisher.update(1, &noisy.sets()[0]));
        live.neighbour(ms(90), rounds.take(5).collect());
        assert!(
            !live.until(Duration::from_secs(20), |reloader| reloader.status().generation > 1),
            "it never rests"
        );
        let sets = live.reloader().status().sets;
        assert!(sets[0].differs_since.is_some() && sets[1].differs_since.is_none(), "{sets:?}");
        other.steps().0.iter().for_each(|step| sim.apply(step).unwrap());
        let renamed = sim.now().mono;
        let served = live.until(bound * 2, |reloader| reloader.status().sets[1].generation > 1);
        let took = sim.now().mono - renamed;
        assert!(served && took <= bound, "{}: {took:?}, the bound is {bound:?}", quiet.name());
        assert_eq!(live.reloader().status().sets[0].generation, 1);
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A build step whose value is the length of the file that changed last.
struct Length;

impl Build for Length {
    type Value = usize;

    fn build(&mut self, files: &Files, _: &Context<'_, usize>) -> Result<Built<usize>, Error> {
        Ok(Built::new(files.iter().map(|(_, bytes)| bytes.len()).sum()))
    }
}

/// The world's watcher, which panics on request.
struct Mortal {
    watcher: SimWatcher,
    dies: Arc<AtomicBool>,
}

impl Watcher for Mortal {
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
        if self.dies.swap(false, Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new("planted"));
        }
        self.watcher.watch(dir)
    }

    fn unwatch(&mut self, dir: &Path) {
        self.watcher.unwatch(dir);
    }
}

/// Checks: INV-05, INV-11. After the end of a watcher the next one watches for every set, not only
/// for the set that noticed the end and the one that makes the next.
/// listened to it.
#[test]
fn inv11_new_watcher_takes_the_watches_of_all_sets_over() {
    let names = ["a", "b", "c"];
    let paths = names.map(|name| PathBuf::from("/").join(name).join("f"));
    let write = |name: &str, bytes: &[u8]| {
        let [new, file] = ["new", "f"].map(|file| PathBuf::from(name).join(file));
        [Op::Create(new.clone()), Op::Append(new.clone(), bytes.to_vec()), Op::Rename(new, file)]
    };
    let base = names.iter().flat_map(|name| [Op::Mkdir((*name).into())].into_iter().chain(write(name, b"1")));
    let base: Vec<_> = base.collect();
    let mut live = InteractiveWorld::<usize>::new(&paths, &base, Timing::default(), WorldConfig::default());
    let sim = live.sim().clone();
    let (dies, place) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
    let make: MakeWatcher = {
        let (sim, dies, place) = (sim.clone(), Arc::clone(&dies), Arc::clone(&place));
        Box::new(move |hints: Hints| {
            *place.lock().unwrap() = Some(hints.clone());
            Ok(Box::new(Mortal { watcher: SimWatcher::new(&sim, hints), dies: Arc::clone(&dies) }))
        })
    };
    // The report of the end takes longer than the pause before the next watcher is made.
    let clock = sim.clock();
    let slow = move |event: &Event| {
        if matches!(event, Event::Degraded { .. }) {
            clock.sleep(ms(60));
        }
    };
    let builder = Builder::new([&paths[0]], Length).set([&paths[1]]).set([&paths[2]]);
    live.load_by(builder.clock(sim.clock()).watcher(Some(make)).on_event(slow)).unwrap();
    let mut events = live.reloader().events();
    live.start();
    let touched = |path: &str, moved| place.lock().unwrap().as_ref().unwrap().touched(Path::new(path), moved);
    // The last set has just been read when the poll of the second is due, and the watcher ends
    // then.
    live.until(ms(9_000), |_| false);
    touched("/c/f", false);
    live.until(ms(980), |_| false);
    dies.store(true, Ordering::SeqCst);
    touched("/a", true);
    let mut reported = Vec::new();
    let restored = live.until(ms(12_000), |_| {
        reported
            .extend(std::iter::from_fn(|| events.try_next()).map(|reported| Event::clone(&reported.event)));
        reported.contains(&Event::Restored)
    });
    assert!(restored && !dies.load(Ordering::SeqCst), "{reported:?}");
    let watched = live.reloader().status().watched;
    for name in names {
        assert!(watched.contains(&Path::new("/").join(name)), "{name}: {watched:?}, {reported:?}");
    }
    for op in write("c", b"22") {
        sim.apply(&op).unwrap();
    }
    assert!(live.until(ms(1_000), |reloader| reloader.current().value == 2), "it is not noticed");
}

/// The way in which a wrong build combines the sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// Breaks: INV-05, INV-11. One bad set blocks all: the whole passes only if each set passed
    /// when it was last read.
    BlocksAll,
    /// Breaks: INV-02, INV-03. A bad set is replaced by another's certificate.
    FallsToTheFirst,
    /// Breaks: INV-02. The last read content of a set counts as its last good one.
    TakesTheLastSeen,
    /// Breaks: INV-01, INV-03. The last good content of one set is used for the other.
    MixesUp,
}

struct WrongBuild {
    right: SetsBuild,
    wrong: Wrong,
    /// The last read files of each set, and whether they passed.
    seen: Vec<Option<(Contents, bool)>>,
    world: Arc<MultiSetScenario>,
}

impl Build for WrongBuild {
    type Value = Value;

    fn build(&mut self, files: &Files, context: &Context<'_, Value>) -> Result<Built<Value>, Error> {
        let set = context.set;
        let own: Contents = files.iter().map(|(_, bytes)| Some(Arc::new(bytes.to_vec()))).collect();
        let evaluated = self.right.evaluate(files, context);
        self.seen[set] = Some((own.clone(), evaluated.is_ok()));
        let ranges = self.world.ranges();
        let served = context.served.map(|served| &served.files);
        let whole = match (self.wrong, evaluated) {
            (Wrong::FallsToTheFirst, Err(_)) if set > 0 && served.is_some() => {
                let first = served.unwrap()[ranges[0].clone()].to_vec();
                self.right.put(served, set, first)
            }
            (_, Err(error)) => return Err(error),
            (Wrong::BlocksAll, Ok(_)) if self.seen.iter().flatten().any(|(_, passed)| !passed) => {
                return Err(Error::new(rustls_reload::Layer::Match, "another set does not pass"));
            }
            (Wrong::TakesTheLastSeen, Ok(_)) => {
                let mut whole = served.cloned();
                for (other, seen) in self.seen.iter().enumerate() {
                    if let (Some((files, _)), true) = (seen, whole.is_some()) {
                        whole = Some(self.right.put(whole.as_ref(), other, files.clone()).files);
                    }
                }
                self.right.put(whole.as_ref(), set, own)
            }
            (Wrong::MixesUp, Ok(_))
                if set > 0 && served.is_some_and(|served| served[ranges[set].end - 1].is_some()) =>
            {
                let other = served.unwrap()[ranges[set].clone()].to_vec();
                let mixed = self.right.put(served, 0, other).files;
                self.right.put(Some(&mixed), set, own)
            }
            (_, Ok(built)) => self.right.put(served, set, built.value.files),
        };
        Ok(Built::new(whole))
    }
}

#[test]
fn wrong_ways_to_drive_several_sets_are_caught() {
    let worlds: Vec<_> = worlds().into_iter().map(|(name, world)| (name, Arc::new(world))).collect();
    for (wrong, invariants) in [
        (Wrong::BlocksAll, &["INV-05", "INV-11"][..]),
        (Wrong::FallsToTheFirst, &["INV-01 (a)", "INV-01 (c)", "INV-02"]),
        (Wrong::TakesTheLastSeen, &["INV-01 (a)", "INV-01 (c)", "INV-02", "INV-04"]),
        (Wrong::MixesUp, &["INV-01 (a)", "INV-01 (c)", "INV-03", "INV-04"]),
    ] {
        let mut runs = 0;
        let caught = worlds.iter().find_map(|(name, world)| {
            let tried = tried(world, |sim| WrongBuild {
                right: world.build(sim),
                wrong,
                seen: vec![None; world.sets().len()],
                world: Arc::clone(world),
            });
            runs += tried.runs;
            tried.violation.map(|(violation, _)| (violation, name))
        });
        let (violation, name) = caught.unwrap_or_else(|| panic!("{wrong:?} was not caught in {runs} runs"));
        println!("{wrong:?}: caught after {runs} runs by {violation}, in {name}");
        assert!(invariants.contains(&violation.invariant), "{wrong:?} was caught by {violation}");
    }
}
