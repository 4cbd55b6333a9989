//! Faults of the file system and of the watcher: the n-th call of each verb fails, for n = 1, 2,
//! ... until there is no n-th call. The fault lasts for one call or until it is mended. Both are
//! run in the simulated world and on the real file system.
//!
//! Fault model: a call fails with an error of open(2), stat(2), read(2), readlink(2) or
//! inotify_add_watch(2), or a read is short. Every other result is true.
//!
//! Engine: generated.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::common::{self, Volume, at_once, by_events_only, generations};
use rustix::io::Errno;
use rustls_reload::{
    Error, Event, Layer, Reload, Timing,
    fs::NativeFs,
    internal,
    watch::{Hints, MakeWatcher, Watched, Watcher},
};
use rustls_reload_harness::sim::{
    self, DirectoryPublisher, Fault, ORDERS, Phase, Publisher, Record, Renewal, Run, STANDS, Sampled,
    Scenario, Shipped, Sim, Stage,
};
use rustls_reload_testkit::{InterceptFs, Verb};

/// The way in which a call fails.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Errno(Errno),
    /// A read returns one byte at a time.
    Short,
}

const WRONGS: [Wrong; 9] = [
    Wrong::Errno(Errno::ACCESS),
    Wrong::Errno(Errno::IO),
    Wrong::Errno(Errno::MFILE),
    Wrong::Errno(Errno::NFILE),
    Wrong::Errno(Errno::NOENT),
    Wrong::Errno(Errno::LOOP),
    Wrong::Errno(Errno::STALE),
    Wrong::Errno(Errno::INTR),
    Wrong::Short,
];

impl Wrong {
    /// Returns whether a call of this verb can fail in this way.
    fn is_of(self, verb: Verb) -> bool {
        matches!(self, Self::Errno(_)) || verb == Verb::Read
    }

    fn answer(self) -> io::Result<usize> {
        match self {
            Self::Errno(errno) => Err(errno.into()),
            Self::Short => Ok(1),
        }
    }
}

/// Prints a line past the capture of `cargo test`.
fn say(line: &str) {
    writeln!(io::stdout().lock(), "{line}").unwrap();
}

fn worlds(phase: Phase) -> Vec<Stage> {
    let publishers = [
        Publisher::Kubelet(ORDERS[0]),
        Publisher::Certbot,
        Publisher::RenamePerFile(ORDERS[2]),
        Publisher::DirRemade,
        Publisher::Release(true),
    ];
    let world = |publisher| {
        let mut scenario = Scenario::new(publisher, Renewal::SameKey);
        scenario.phase = phase;
        scenario.config.pause = Duration::from_millis(5);
        // The world goes on until the fault is mended, and for the whole bound of INV-05 after
        // that.
        scenario.config.rest += STANDS;
        scenario.prepare()
    };
    let publisher = DirectoryPublisher::Adds.prepare(|scenario| {
        scenario.phase = phase;
        scenario.config.pause = Duration::from_millis(5);
        scenario.config.rest += STANDS;
    });
    publishers.into_iter().map(world).chain([publisher]).collect()
}

/// Runs a world with a fault. `through` injects it.
fn run(
    stage: &Stage,
    seed: u64,
    fault: &Arc<Fault>,
    through: impl FnOnce(&Sim, &[std::path::PathBuf]) -> Result<Shipped, String>,
) -> Run {
    sim::run_faulty(stage, Arc::new(Mutex::new(Sampled::new(seed))), fault, through)
}

fn evaluate(stage: &Stage, run: &Run, what: &str) {
    if let Err(violation) = sim::check(stage, run) {
        let history: Vec<_> = run
            .history
            .iter()
            .filter(|at| {
                matches!(at.record, Record::Reported(_) | Record::Published { .. } | Record::Step(_))
            })
            .collect();
        panic!("{what} in {}: {violation}\n{history:#?}", stage.scenario.name());
    }
    // Degraded watching is reported once, and so is its end.
    let mut degraded = false;
    for at in &run.history {
        let Record::Reported(event) = &at.record else { continue };
        match event {
            Event::Degraded { error } => assert!(!std::mem::replace(&mut degraded, true), "{what}: {error}"),
            Event::Restored => assert!(std::mem::take(&mut degraded), "{what}: restored from nothing"),
            _ => {}
        }
    }
    let loaded = run.status.as_ref();
    assert_eq!(loaded.is_some_and(|status| status.degraded.is_some()), degraded, "{what}");
}

/// Counts of one verb.
#[derive(Default)]
struct Row {
    faults: u64,
    runs: u64,
    deepest: u64,
}

/// The counts of each verb.
type Rows = BTreeMap<String, Row>;

fn sum(parts: Vec<Rows>) -> Rows {
    let mut rows = Rows::new();
    for (verb, part) in parts.into_iter().flatten() {
        let row = rows.entry(verb).or_default();
        row.faults += part.faults;
        row.runs += part.runs;
        row.deepest = row.deepest.max(part.deepest);
    }
    rows
}

fn report(title: &str, rows: &Rows) {
    for (verb, Row { faults, runs, deepest }) in rows {
        say(&format!(
            "{title}: {verb:12} {faults:>7} faults in {runs:>6} runs, up to call {deepest:>4}, 0 violations"
        ));
        assert!(*faults > 0, "{verb} was never made to fail");
    }
}

/// Tries each n in turn. `one` makes a run with the fault, and returns whether it occurred.
fn sweep(row: &mut Row, for_good: bool, mut one: impl FnMut(&Arc<Fault>)) {
    for nth in 1.. {
        let fault = Fault::new(nth, for_good);
        one(&fault);
        row.runs += 1;
        if !fault.has_fired() {
            break;
        }
        row.faults += fault.fired();
        row.deepest = row.deepest.max(nth);
    }
}

/// Checks: INV-01, INV-02, INV-03, INV-04, INV-05, INV-08, INV-11, INV-12
#[test]
fn inv05_it_converges_after_every_fault_of_the_file_system() {
    let phases = [Phase::Reload, Phase::FirstLoad];
    let stages: Vec<Stage> = phases.into_iter().flat_map(worlds).collect();
    let rows = at_once(&stages, |stage| {
        let phase = stage.scenario.phase;
        let mut rows = Rows::new();
        for verb in Verb::ALL {
            for (wrong, for_good) in WRONGS.iter().flat_map(|wrong| [(*wrong, false), (*wrong, true)]) {
                if !wrong.is_of(verb) {
                    continue;
                }
                let row = rows.entry(format!("{verb:?}")).or_default();
                sweep(row, for_good, |fault| {
                    let done = run(stage, 7, fault, |sim, paths| {
                        let (world, fault) = (sim.clone(), Arc::clone(fault));
                        let hook = move |called: Verb| {
                            let fails = called == verb && fault.fires_in(&world);
                            if fails { wrong.answer() } else { Ok(usize::MAX) }
                        };
                        let fs = InterceptFs::new(sim.fs(), Arc::new(hook));
                        Shipped::load_through(sim, paths, fs, |watcher| watcher)
                    });
                    evaluate(
                        stage,
                        &done,
                        &format!("{phase:?}: {verb:?} {} {wrong:?} for good: {for_good}", fault.nth()),
                    );
                });
            }
        }
        rows
    });
    report("file system", &sum(rows));
}

/// The fault of the n-th call of a watcher.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Unwatched {
    /// No watcher can be made, because no instances are left.
    NotMade,
    /// No watches are left.
    Full,
    Gone,
    Denied,
    Silent,
    /// The watcher ends, and reports that.
    Ends,
    /// The watcher panics, and receives no event from then on.
    Panics,
}

/// The world's watcher with an injected fault.
struct FaultyWatcher {
    /// `None` once it has ended.
    watcher: Option<Box<dyn Watcher>>,
    hints: Hints,
    fails: Arc<dyn Fn() -> bool + Send + Sync>,
    how: Unwatched,
}

impl Watcher for FaultyWatcher {
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
        let Some(watcher) = &mut self.watcher else {
            return Err(Error::new(Layer::Watch, "asked after its end").at(dir));
        };
        let watched = watcher.watch(dir)?;
        if watched != Watched::Armed || !(self.fails)() {
            return Ok(watched);
        }
        match self.how {
            Unwatched::Silent => return Ok(Watched::Silent("a silent file system")),
            Unwatched::Ends => {
                self.watcher = None;
                self.hints.ended("it ended");
                return Ok(Watched::Armed);
            }
            Unwatched::Panics => {
                self.watcher = None;
                // `resume_unwind` prints no message; there would be thousands.
                std::panic::resume_unwind(Box::new("planted"));
            }
            // Events of a directory that is not watched do not arrive either.
            _ => watcher.unwatch(dir),
        }
        match self.how {
            Unwatched::Gone => Ok(Watched::Gone),
            Unwatched::Denied => Ok(Watched::Denied),
            _ => Err(Error::new(Layer::Watch, "no watches left").at(dir)),
        }
    }

    fn unwatch(&mut self, dir: &Path) {
        if let Some(watcher) = &mut self.watcher {
            watcher.unwatch(dir);
        }
    }
}

/// Returns `make` with a fault in the watcher that it makes.
fn faulty(mut make: MakeWatcher, how: Unwatched, fails: Arc<dyn Fn() -> bool + Send + Sync>) -> MakeWatcher {
    Box::new(move |hints: Hints| {
        if how == Unwatched::NotMade && fails() {
            return Err(Error::new(Layer::Watch, "no instances left"));
        }
        let (watcher, fails) = (Some(make(hints.clone())?), Arc::clone(&fails));
        let never = || false;
        let fails = if how == Unwatched::NotMade { Arc::new(never) } else { fails };
        Ok(Box::new(FaultyWatcher { watcher, hints, fails, how }))
    })
}

/// Checks: INV-01, INV-05, INV-06, INV-11, INV-12
#[test]
fn inv05_it_converges_after_every_fault_of_the_watcher() {
    use Unwatched::{Denied, Ends, Full, Gone, NotMade, Panics, Silent};
    let rows = at_once(&worlds(Phase::Reload), |stage| {
        let mut rows = Rows::new();
        for how in [NotMade, Full, Gone, Denied, Silent, Ends, Panics] {
            for for_good in [false, true] {
                let row = rows.entry(format!("{how:?}")).or_default();
                sweep(row, for_good, |fault| {
                    let done = run(stage, 7, fault, |sim, paths| {
                        let (world, fault) = (sim.clone(), Arc::clone(fault));
                        let fails = move || fault.fires_in(&world);
                        let wrap = |make| faulty(make, how, Arc::new(fails));
                        Shipped::load_through(sim, paths, sim.fs(), wrap)
                    });
                    evaluate(stage, &done, &format!("{how:?} {} for good: {for_good}", fault.nth()));
                });
            }
        }
        rows
    });
    report("watcher", &sum(rows));
}

/// Sweeps over a manual reload on the real file system. The result is a refusal with the old object
/// still served, or a reload. Once the fault is mended, the result is a reload.
///
/// Checks: INV-03, INV-11
#[test]
fn inv03_fault_at_any_call_of_a_manual_reload_keeps_serving() {
    let generations = generations(2);
    let faults = Verb::ALL.iter().flat_map(|verb| WRONGS.iter().map(|wrong| (*verb, *wrong)));
    let faults = faults.filter(|(verb, wrong)| wrong.is_of(*verb));
    let faults: Vec<_> =
        faults.flat_map(|(verb, wrong)| [(verb, wrong, false), (verb, wrong, true)]).collect();
    let rows = at_once(&faults, |&(verb, wrong, for_good)| {
        let mut row = Row::default();
        sweep(&mut row, for_good, |fault| {
            let what = format!("{verb:?} {} {wrong:?} for good: {for_good}", fault.nth());
            let mut volume = Volume::in_memory(&generations[0].files());
            let mend = Arc::clone(fault);
            let hook = move |called: Verb| {
                if called == verb && mend.fires() { wrong.answer() } else { Ok(usize::MAX) }
            };
            // Limits the time for which a torn read is retried.
            let timing = Timing { still_changing_after: Duration::from_millis(30), ..by_events_only() };
            let mut server = internal::generic(volume.server().timing(timing)).unwrap();
            let listed = tempfile::tempdir().unwrap();
            if verb == Verb::List {
                // Without client CAs the content of the directory does not matter.
                std::fs::write(listed.path().join("file"), "file").unwrap();
                server = server.directory(listed.path());
            }
            let reloader = server.load_from(InterceptFs::new(NativeFs::default(), Arc::new(hook))).unwrap();
            let old = reloader.current();
            volume.publish_in_one_tick(&generations[1].files());
            fault.arm();
            match reloader.reload_now() {
                Reload::Refused(error) => {
                    assert!(matches!(error.layer(), Layer::Read | Layer::Changing), "{what}: {error}");
                    assert!(error.path().is_some(), "{what}: {error}");
                    assert!(Arc::ptr_eq(&old, &reloader.current()), "{what}");
                }
                Reload::Reloaded => assert_eq!(reloader.current().generation, 2, "{what}"),
                other => panic!("{what}: {other:?}"),
            }
            fault.mend();
            let answer = reloader.reload_now();
            assert!(matches!(answer, Reload::Reloaded | Reload::Unchanged), "{what}: {answer:?}");
            let leaf = &common::presented_by(&reloader.current().value.config)[0];
            assert_eq!(*leaf, generations[1].server.leaf, "{what}");
        });
        Rows::from([(format!("{verb:?}"), row)])
    });
    report("reload by hand", &sum(rows));
}
