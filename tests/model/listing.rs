//! A directory in which every file counts, in the simulated world: every interleaving of its
//! publisher with the reader's calls, each checked by the invariants.
//!
//! Checks: INV-01, INV-02, INV-03, INV-04, INV-05, INV-06, INV-08, INV-11.
//!
//! Engine: generated.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls_reload::{
    Clock, PathSet,
    fs::Fs,
    internal::{
        ChangeKind,
        snapshot::{self, Failure, HIDDEN_LIMIT, LISTING_LIMIT, Snapshot},
    },
};
use rustls_reload_harness::sim::{
    self, At, Contents, DirectoryPublisher, Events, Exhaustive, Phase, Record, Replay, Run, Sampled,
    Schedule, Shipped, Sim, SimFs, Stage, Violation, WorldConfig,
};
use rustls_reload_testkit::{InterceptFs, Op, Verb};

use crate::common::forward_fs;

type Caught = (Violation, String);

/// Runs every schedule up to `limit`, and as many random ones if that does not complete the search.
fn search(
    stage: &Stage,
    limit: u64,
    load: impl Fn(&Sim, &[PathBuf]) -> Result<Shipped, String>,
) -> Result<(u64, bool), Caught> {
    let evaluated =
        |run: &Run| sim::check(stage, run).map_err(|violation| (violation, Replay::line(&run.choices)));
    let schedule = Arc::new(Mutex::new(Exhaustive::default()));
    let lock = || schedule.lock().unwrap();
    while lock().next_run() {
        let run = sim::run_loaded(stage, schedule.clone() as Arc<Mutex<dyn Schedule>>, &load);
        lock().end_run(run.breached);
        evaluated(&run)?;
        if lock().runs == limit {
            break;
        }
    }
    let whole = lock().is_done();
    let runs = lock().runs;
    let samples = if whole { 0 } else { limit };
    for seed in 0..samples {
        evaluated(&sim::run_loaded(stage, Arc::new(Mutex::new(Sampled::new(seed))), &load))?;
    }
    Ok((runs + samples, whole))
}

/// Prepares a world that is searched completely: without a pause or a wait.
fn small(publisher: DirectoryPublisher, phase: Phase) -> Stage {
    publisher.prepare(|scenario| {
        scenario.phase = phase;
        (scenario.config.pause, scenario.config.waits) = (Duration::ZERO, 0);
    })
}

/// Prepares other worlds of this publisher, which are cut off and sampled.
fn large(publisher: DirectoryPublisher) -> Vec<Stage> {
    let mut stages = Vec::new();
    for events in [Events::Delivered, Events::Lost, Events::Late] {
        for pause in [5, 499] {
            stages.push(publisher.prepare(|scenario| {
                scenario.config.events = events;
                (scenario.config.pause, scenario.config.waits) = (Duration::from_millis(pause), 1);
            }));
        }
    }
    stages
}

fn shipped(sim: &Sim, paths: &[PathBuf]) -> Result<Shipped, String> {
    Shipped::load_through(sim, paths, sim.fs(), |watcher| watcher)
}

#[test]
fn inv01_to_inv11_hold_over_every_interleaving_with_a_directory() {
    std::thread::scope(|scope| {
        for publisher in DirectoryPublisher::ALL {
            scope.spawn(move || hold_with(publisher));
        }
    });
}

fn hold_with(publisher: DirectoryPublisher) {
    for phase in [Phase::FirstLoad, Phase::Reload] {
        let found = search(&small(publisher, phase), u64::MAX, shipped);
        let (runs, _) =
            found.unwrap_or_else(|(violation, line)| panic!("{violation}\n{publisher:?} {phase:?} {line}"));
        println!("{publisher:?}, {phase:?}: {runs} runs, nothing cut off, 0 violations");
    }
    for stage in large(publisher) {
        let config = stage.scenario.config;
        if let Err((violation, line)) = search(&stage, 60, shipped) {
            panic!("{violation}\n{publisher:?} {config:?} {line}");
        }
    }
}

type Dir = <SimFs as Fs>::Dir;
type List = dyn Fn(&SimFs, &Dir, &mut dyn FnMut(&OsStr) -> bool) -> io::Result<()> + Send;

/// A port that lists directories in another way.
struct Lists {
    fs: SimFs,
    list: Box<List>,
}

impl Fs for Lists {
    type Dir = Dir;
    type File = <SimFs as Fs>::File;

    const HAS_DIR_HANDLES: bool = SimFs::HAS_DIR_HANDLES;

    forward_fs!(fs);

    fn open(&self, at: &Self::Dir, name: &OsStr) -> io::Result<Self::File> {
        self.fs.open(at, name)
    }

    fn list(&self, dir: &Self::Dir, each: &mut dyn FnMut(&OsStr) -> bool) -> io::Result<()> {
        (self.list)(&self.fs, dir, each)
    }
}

/// Lists a directory once per snapshot, and repeats that listing later. Breaks: INV-01
fn lists_once(fs: SimFs) -> Lists {
    let listed: Mutex<Option<Vec<OsString>>> = Mutex::default();
    let list: Box<List> = Box::new(move |fs, dir, each| {
        let mut listed = listed.lock().unwrap();
        if listed.is_none() {
            let mut names = Vec::new();
            fs.list(dir, &mut |name| {
                names.push(name.to_owned());
                true
            })?;
            *listed = Some(names);
        }
        listed.iter().flatten().try_for_each(|name| each(name).then_some(()));
        Ok(())
    });
    Lists { fs, list }
}

/// Takes a snapshot in each interleaving with the update. Returns how many were complete, and
/// whether one of these was never on disk.
fn snapshots<F: Fs>(publisher: DirectoryPublisher, port: impl Fn(SimFs) -> F) -> (usize, bool) {
    let config = WorldConfig::default();
    let (dirs, files): (Vec<_>, Vec<_>) =
        publisher.paths().into_iter().partition(|path| path.to_str().unwrap().ends_with('/'));
    let set = dirs.iter().try_fold(PathSet::new(files).unwrap(), PathSet::directory).unwrap();
    let script =
        sim::Script::new(&publisher.paths(), &publisher.base(), publisher.update(), &[0], None, &config);
    let schedule = Arc::new(Mutex::new(Exhaustive::default()));
    let (mut whole, mut wrong) = (0, false);
    while schedule.lock().unwrap().next_run() {
        let sim = Sim::new(&script, Duration::from_secs(1), config, schedule.clone());
        sim.release();
        let snapshot = snapshot::take(&port(sim.fs()), &set);
        schedule.lock().unwrap().end_run(false);
        let Ok(files) = snapshot.files else { continue };
        let read: Contents = files.iter().map(|(_, bytes)| Some(Arc::new(bytes.to_vec()))).collect();
        let history = sim.history();
        let on_disk = |at: &At| matches!(&at.record, Record::Disk(contents) if *contents == read);
        whole += 1;
        wrong |= !history.iter().any(on_disk);
    }
    (whole, wrong)
}

/// Checks: INV-01. The content of a snapshot was on disk together, including the names in the
/// directory.
#[test]
fn inv01_snapshot_of_a_directory_has_files_of_one_moment() {
    let mut caught = Vec::new();
    for publisher in DirectoryPublisher::ALL {
        let (whole, wrong) = snapshots(publisher, |fs| fs);
        assert!(whole > 0 && !wrong, "{publisher:?}: a mixture");
        let (_, wrong) = snapshots(publisher, lists_once);
        println!("{publisher:?}: {whole} whole snapshots; listed once only, a mixture: {wrong}");
        if wrong {
            caught.push(publisher);
        }
    }
    assert!(
        caught.contains(&DirectoryPublisher::Adds),
        "a directory that is not listed again is not caught: {caught:?}"
    );
}

fn world(base: &[Op]) -> Sim {
    let config = WorldConfig::default();
    let script = sim::Script::new(&[], base, Vec::new(), &[], None, &config);
    Sim::new(&script, Duration::from_secs(1), config, Arc::new(Mutex::new(Replay::new(Vec::new()))))
}

fn file(path: &str) -> [Op; 2] {
    [Op::Create(path.into()), Op::Append(path.into(), path.into())]
}

/// Takes a snapshot of `/f` and of every file in `/d`.
fn snapshot(base: impl IntoIterator<Item = Op>) -> Snapshot {
    let all: Vec<_> = file("f").into_iter().chain([Op::Mkdir("d".into())]).chain(base).collect();
    snapshot::take(&world(&all).fs(), &PathSet::new(["/f"]).unwrap().directory("/d").unwrap())
}

fn link(target: &str, path: &str) -> Op {
    Op::Symlink(target.into(), path.into())
}

/// Checks: INV-01.
#[test]
fn inv01_undotted_files_and_links_are_read_in_order_of_names() {
    let mut base: Vec<_> = ["d/b", "d/.b.tmp", "d/a"].into_iter().flat_map(file).collect();
    base.extend([Op::Mkdir("d/..data".into()), Op::Mkdir("d/lost+found".into())]);
    base.extend(file("d/..data/c"));
    base.extend([link("..data/c", "d/c"), link("..data", "d/data")]);
    let snapshot = snapshot(base);
    let files = snapshot.files.unwrap();
    let read: Vec<_> = files.iter().map(|(path, bytes)| (path.to_str().unwrap(), bytes)).collect();
    let wanted: [(&str, &[u8]); 4] =
        [("/f", b"f"), ("/d/a", b"d/a"), ("/d/b", b"d/b"), ("/d/c", b"d/..data/c")];
    assert_eq!(read, wanted);
    let dir = snapshot.walk.dirs.iter().find(|dir| dir.path == Path::new("/d")).unwrap();
    assert!(dir.listed.is_some() && !dir.only_traversed, "{dir:?}");
}

/// Checks: INV-03. An unreadable directory is never treated as an empty one.
#[test]
fn inv03_directory_that_cannot_be_read_whole_fails_the_attempt() {
    let many = |count: usize| (0..count).flat_map(|n| file(&format!("d/{n}"))).collect::<Vec<_>>();
    let cases: Vec<(Vec<Op>, &str, &str)> = vec![
        (vec![], "/d", "there is no file in it"),
        (file("d/.hidden").to_vec(), "/d", "there is no file in it"),
        (vec![Op::Mkdir("d/sub".into())], "/d", "there is no file in it"),
        (vec![Op::Rmdir("d".into())], "/d", "cannot find"),
        ([vec![Op::Rmdir("d".into())], file("d").to_vec()].concat(), "/d", "where a directory is expected"),
        ([file("d/a").to_vec(), vec![link("nowhere", "d/b")]].concat(), "/d/b", "cannot find"),
        ([file("d/a").to_vec(), vec![Op::Mkfifo("d/b".into())]].concat(), "/d/b", "a pipe where"),
        (many(LISTING_LIMIT + 1), "/d", "more than 1024 names"),
    ];
    for (base, blamed, why) in cases {
        let failure = snapshot(base).files.unwrap_err();
        let Failure::Unreadable { path, why: said, .. } = &failure else { panic!("{why}: {failure:?}") };
        assert!(path == Path::new(blamed) && said.contains(why), "{blamed}, {why}: {failure:?}");
    }
    assert_eq!(snapshot(many(LISTING_LIMIT)).files.unwrap().iter().count(), LISTING_LIMIT + 1);
}

/// Checks: INV-12. A file system may list entries without end. The reader stops at the first entry
/// beyond its limit.
#[test]
fn inv12_a_listing_ends_with_the_first_name_too_many() {
    for (dot, limit) in [("", LISTING_LIMIT), (".", HIDDEN_LIMIT)] {
        let listings = Arc::new(Mutex::new(Vec::new()));
        let each_listing = Arc::clone(&listings);
        let list: Box<List> = Box::new(move |_, _, each| {
            let mut names = (1..=2 * limit).map(|n| (n, format!("{dot}{n}")));
            let last = names.find(|(_, name)| !each(name.as_ref()));
            each_listing.lock().unwrap().push(last.map(|(n, _)| n));
            Ok(())
        });
        let fs = world(&[&file("f")[..], &[Op::Mkdir("d".into())]].concat()).fs();
        let set = PathSet::new(["/f"]).unwrap().directory("/d").unwrap();
        let failure = snapshot::take(&Lists { fs, list }, &set).files.unwrap_err();
        assert!(!failure.is_torn() && failure.to_string().contains("more than"), "{failure}");
        let listings = listings.lock().unwrap();
        assert!(!listings.is_empty() && listings.iter().all(|last| *last == Some(limit + 1)), "{listings:?}");
    }
}

/// Returns the kind of change that these steps make to a release with a directory in it. If `late`,
/// the last step happens once the snapshot has reached the directory.
fn change_kind(steps: &[Op], late: bool) -> ChangeKind {
    let publisher = DirectoryPublisher::Release;
    let base: Vec<_> = publisher.base().into_iter().chain(file("srv/2/crl.d/c")).collect();
    let sim = world(&base);
    let paths = ["tls.crt", "tls.key", "ca.crt"].map(|name| Path::new("/srv/current").join(name));
    let set = PathSet::new(paths).unwrap().directory("/srv/current/crl.d").unwrap();
    let served = snapshot::take(&sim.fs(), &set).walk;
    let mut steps: Vec<_> = steps.to_vec();
    let last = Mutex::new(if late { steps.pop() } else { None });
    let world = sim.clone();
    let take = move |step: &Op| {
        world.clock().sleep(Duration::from_secs(1));
        world.apply(step).unwrap();
    };
    steps.iter().for_each(&take);
    let hook = move |verb| {
        let step = (verb == Verb::List).then(|| last.lock().unwrap().take());
        step.flatten().iter().for_each(&take);
        Ok(usize::MAX)
    };
    let now = snapshot::take(&InterceptFs::new(sim.fs(), Arc::new(hook)), &set);
    assert!(now.files.is_ok(), "{:?}", now.files);
    now.walk.change_since(&served)
}

/// Checks: INV-01. Where the directory moved together with everything else, the change is complete.
/// Where it has other names, or was changed later, further changes may follow.
#[test]
fn inv01_directory_change_is_complete_only_if_all_else_moved() {
    let unlink = |path: &str| Op::Unlink(path.into());
    let swap = || Op::Rename("srv/next".into(), "srv/current".into());
    let [b, c, old] = ["srv/2/crl.d/b", "srv/2/crl.d/c", "srv/1/crl.d/a"].map(unlink);
    let moved = [b.clone(), c.clone(), swap()];
    assert_eq!(change_kind(&moved, false), ChangeKind::Atomic, "as many names, and older than the link");
    assert_eq!(change_kind(&[b.clone(), swap()], false), ChangeKind::InPlace, "a name more");
    for late in [false, true] {
        let since = [b.clone(), swap(), c.clone()];
        assert_eq!(change_kind(&since, late), ChangeKind::InPlace, "a name less since the link");
    }
    let beside = [file("srv/1/crl.d/b").to_vec(), vec![old]].concat();
    assert_eq!(change_kind(&beside, false), ChangeKind::InPlace, "in the very directory");
}
