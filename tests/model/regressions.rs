//! Faults that the interleavings found, each in a small test.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls_reload::{
    Clock, Now, Timing,
    internal::{
        ChangeKind,
        machine::{Effect, Input, Machine, Notice, ReadOutcome, Verdict},
    },
};
use rustls_reload_harness::sim::{
    self, CA, CHAIN, InteractiveWorld, KEY, Replay, Scenario, Shipped, WorldConfig,
};
use rustls_reload_testkit::Op;

fn at(ms: u64) -> Now {
    let time = Duration::from_millis(1_000_000 + ms);
    Now { mono: time, wall: time }
}

fn changed(content: u64) -> Input<&'static str> {
    Input::SnapshotTaken(ReadOutcome::Changed { content, kind: ChangeKind::InPlace, shrinks: false })
}

fn machine() -> Machine<&'static str> {
    Machine::new(Timing::default())
}

/// Checks: INV-01 (b), ASM-05. The first snapshot of a worker does not say that the writing is
/// over.
#[test]
fn inv01_what_a_start_finds_has_to_settle() {
    let mut machine = machine();
    assert_eq!(machine.step(at(0), Input::Tick), [Effect::TakeSnapshot]);
    assert_eq!(machine.step(at(1), changed(1)), []);
    assert_eq!(machine.step(at(501), Input::Tick), [Effect::TakeSnapshot]);
    assert_eq!(machine.step(at(502), changed(1)), [Effect::Build(1)]);
}

/// Checks: INV-01 (b), ASM-05. A snapshot that began early and ended late shows nothing about the
/// time in between.
#[test]
fn inv01_slow_snapshot_does_not_replace_the_settle_time() {
    let mut machine = machine();
    assert_eq!(machine.step(at(10), Input::Hint), [Effect::TakeSnapshot]);
    assert_eq!(machine.step(at(11), changed(1)), []);
    assert_eq!(machine.step(at(20), Input::Hint), [Effect::TakeSnapshot]);
    assert_eq!(machine.step(at(900), changed(1)), []);
    assert_eq!(machine.step(at(905), Input::Tick), [Effect::TakeSnapshot]);
    assert_eq!(machine.step(at(906), changed(1)), [Effect::Build(1)]);
}

/// Checks: INV-11. A refusal stands while an unsettled set, or another short failure, comes in
/// between.
#[test]
fn inv11_rejection_is_not_repeated_after_an_unreported_change() {
    let mut machine = machine();
    let reports =
        |effects: &[Effect<&'static str>]| effects.contains(&Effect::Report(Notice::Refused("gone")));
    let mut reported = 0;
    let mut snapshot = |ms, seen| {
        assert_eq!(machine.step(at(ms), Input::Hint), [Effect::TakeSnapshot]);
        reported += usize::from(reports(&machine.step(at(ms), Input::SnapshotTaken(seen))));
    };
    // The failure is reported once it has lasted for the settle time.
    snapshot(10, ReadOutcome::Failed("gone"));
    snapshot(600, ReadOutcome::Failed("gone"));
    snapshot(700, ReadOutcome::Changed { content: 1, kind: ChangeKind::InPlace, shrinks: false });
    snapshot(800, ReadOutcome::Failed("gone"));
    snapshot(1400, ReadOutcome::Failed("other"));
    snapshot(1500, ReadOutcome::Failed("gone"));
    snapshot(2100, ReadOutcome::Failed("gone"));
    assert_eq!(reported, 1);
}

/// Checks: INV-11. A short failure to read replaces no refusal: the refused content is known, does
/// not settle again, is not reported again, and stays the refusal in between.
#[test]
fn inv11_momentary_read_failure_leaves_the_standing_rejection() {
    let mut machine = machine();
    let shrunk = || {
        Input::SnapshotTaken(ReadOutcome::Changed { content: 1, kind: ChangeKind::InPlace, shrinks: true })
    };
    machine.step(at(0), Input::Hint);
    machine.step(at(0), shrunk());
    machine.step(at(5_000), Input::Tick);
    assert_eq!(machine.step(at(5_000), shrunk()), [Effect::Build(1)]);
    let refused = Input::Built(Verdict::Refused("bad"));
    assert_eq!(machine.step(at(5_000), refused.clone()), [Effect::Report(Notice::Refused("bad"))]);
    assert_eq!(machine.step(at(5_050), Input::Tick), [Effect::TakeSnapshot]);
    assert_eq!(machine.step(at(5_050), Input::SnapshotTaken(ReadOutcome::Failed("a blip"))), []);
    assert_eq!(machine.refusal(), Some((&"bad", 1)));
    assert_eq!(machine.step(at(5_100), Input::Tick), [Effect::TakeSnapshot]);
    assert_eq!(machine.step(at(5_100), shrunk()), [Effect::Build(1)], "it has held still for long");
    assert_eq!(machine.step(at(5_100), refused), []);
    assert_eq!(machine.refusal(), Some((&"bad", 2)));
    // A failure that lasts is reported, and then is the standing refusal.
    for (ms, reported) in [(5_200, false), (5_250, false), (5_700, true)] {
        assert_eq!(machine.step(at(ms), Input::Tick), [Effect::TakeSnapshot], "{ms}");
        let effects = machine.step(at(ms), Input::SnapshotTaken(ReadOutcome::Failed("gone")));
        assert_eq!(effects, [Effect::Report(Notice::Refused("gone"))][..usize::from(reported)], "{ms}");
    }
    assert_eq!(machine.refusal(), Some((&"gone", 3)));
}

/// Checks: INV-11, ASM-05. A snapshot that began early and ended late shows nothing about the time
/// in between, in which the name was missing only for a moment.
#[test]
fn inv11_slow_snapshot_is_no_lasting_failure() {
    let mut machine = machine();
    assert_eq!(machine.step(at(10), Input::Hint), [Effect::TakeSnapshot]);
    assert_eq!(machine.step(at(11), Input::SnapshotTaken(ReadOutcome::Failed("gone"))), []);
    assert_eq!(machine.step(at(20), Input::Hint), [Effect::TakeSnapshot]);
    assert_eq!(machine.step(at(900), Input::SnapshotTaken(ReadOutcome::Failed("gone"))), []);
    assert_eq!(machine.step(at(905), Input::Tick), [Effect::TakeSnapshot]);
    let reported = machine.step(at(906), Input::SnapshotTaken(ReadOutcome::Failed("gone")));
    assert_eq!(reported, [Effect::Report(Notice::Refused("gone"))]);
}

/// Checks: INV-11. A publisher that removes a file before each write still counts as changing the
/// set without a pause.
#[test]
fn inv11_changing_set_is_reported_though_a_file_misses_at_times() {
    let mut machine = machine();
    let mut reported = Vec::new();
    for round in 0..200 {
        assert_eq!(machine.step(at(100 * round), Input::Hint), [Effect::TakeSnapshot]);
        let missing = round % 2 == 1;
        let seen = if missing { Input::SnapshotTaken(ReadOutcome::Failed("gone")) } else { changed(round) };
        reported.extend(machine.step(at(100 * round), seen).into_iter().map(|effect| (round, effect)));
    }
    assert_eq!(reported, [(50, Effect::Report(Notice::StillChanging))]);
}

/// The schedules in which faults first appeared, as the violations printed them. The commit that
/// fixed each fault describes it.
const LINES: [&str; 7] = [
    // A directory removed between snapshot and watch was reported as degraded watching (INV-11).
    "dir-swapped/NewKey/Reload/-/Delivered/false/2/4,0,0,600,26000 r219pr26",
    // A directory removed between snapshot and watch and made again with the same inode number was
    // reported as degraded watching (INV-11).
    "dir-remade/NewKey/Reload/-/Delivered/true/1/4,5,0,600,26000 p2r5p2r5pr5pr5pr2pr6prpr5prpr3pr2p",
    // Events of names that counted only since the last snapshot were ignored until the poll
    // (INV-05).
    "certbot/SameKey/Reload/10/Delivered/false/0/4,5,0,600,26000 r119p2",
    // A first load counted the settle time from the begin of a slow snapshot (INV-01 (b)).
    "certbot/NewKey/FirstLoad/-/Delivered/false/1/4,499,0,600,26000 r209pr47p2",
    // A failure was reported twice (INV-11).
    "dir-remade/NewKey+NewKey/Reload/-/Delivered/false/0/4,499,0,600,26000 \
     rpr2pr23prpr36pr2pr15pr23pr52pr2pr16pr20pr19pr56pr8pr3pr41p",
    // A directory that was swapped twice before it was watched was reported as degraded watching
    // (INV-11).
    "dir-swapped/NewKey+NewKey/Reload/-/Delivered/false/0/4,0,0,600,26000 r43p8r4pr19p8r",
    "dir-swapped/Broken+Nothing/Reload/-/Delivered/false/2/4,0,0,600,26000 r87p7r4pr19p8r",
];

/// Runs the lines as they are, and with every length of the reader's longest run, because a change
/// in the reader's calls shifts the schedule.
#[test]
fn schedules_that_once_broke_an_invariant_hold() {
    let mut runs = 0;
    for line in LINES {
        let (name, line) = line.split_once(' ').unwrap();
        let stage = Scenario::parse(name).unwrap().prepare();
        for line in std::iter::once(line.to_owned()).chain(neighbours(line)) {
            let run = sim::run::<Shipped>(&stage, Arc::new(Mutex::new(Replay::parse(&line).unwrap())));
            assert!(run.complete);
            assert_eq!(sim::check(&stage, &run), Ok(()), "{name} {line}");
            runs += 1;
        }
    }
    assert!(runs > 500, "{runs}");
}

/// Checks: INV-01 (b), ASM-05. A first load decides by timestamps whether files are stable, and
/// these can be a tick earlier than the changes. A publisher that paused for slightly less than the
/// settle time counted as finished.
#[test]
fn inv01_first_load_distrusts_coarse_timestamps() {
    let ms = Duration::from_millis;
    let names = [CHAIN, KEY, CA].map(|index| PathBuf::from(["/tls.crt", "/tls.key", "/ca.crt"][index]));
    let write =
        |path: &PathBuf, bytes: &[u8]| [Op::Create(path.clone()), Op::Append(path.clone(), bytes.to_vec())];
    let [old, new] = [sim::full(1, 1), sim::full(2, 2)];
    let mut base: Vec<_> = names.iter().zip(&old).flat_map(|(name, bytes)| write(name, bytes)).collect();
    base.extend(write(&"/new".into(), &new[CA]));
    let timing = Timing::default();
    let (mut loads, mut at_once) = (0, 0);
    for tick in [1, 4, 10, 1000, 2000] {
        for (since, age) in (1..20).flat_map(|since| (0..25).map(move |age| (101 * since, 31 * age))) {
            let mut live = InteractiveWorld::new(
                &names,
                &base,
                timing,
                WorldConfig { tick: ms(tick), ..WorldConfig::default() },
            );
            live.sim().clock().sleep(ms(since));
            let changed = live.sim().now().mono;
            live.sim().apply(&Op::Rename("/new".into(), names[CA].clone())).unwrap();
            live.sim().clock().sleep(ms(age));
            live.load(None).unwrap();
            let held = live.sim().now().mono - changed;
            assert!(held >= timing.settle, "{tick} ms a tick: loaded {held:?} after a change at {since} ms");
            loads += 1;
            at_once += usize::from(held == ms(age));
        }
    }
    // The load does not wait for files that are older than the settle time and a tick.
    assert!(at_once * 10 > loads, "{at_once} of {loads}");
}

fn neighbours(line: &str) -> Vec<String> {
    let ways = line.split_inclusive('p').flat_map(|part| part.split('r').skip(1));
    let longest = ways.filter_map(|way| way.trim_end_matches('p').parse().ok()).max().unwrap_or(1_usize);
    (1..longest + 10).map(|length| line.replacen(&format!("r{longest}"), &format!("r{length}"), 1)).collect()
}

/// Checks: INV-12. A refused content is built again at the pace of the retries, whatever happens in
/// between.
#[test]
fn inv12_no_change_in_between_hastens_a_retry() {
    let snapshots = |content| ReadOutcome::Changed { content, kind: ChangeKind::InPlace, shrinks: false };
    let torn = ReadOutcome::Torn { cause: "torn", still: false };
    for between in [torn, snapshots(2), ReadOutcome::Failed("gone")] {
        let mut machine = machine();
        machine.step(at(0), Input::Reload);
        machine.step(at(0), Input::SnapshotTaken(snapshots(1)));
        machine.step(at(0), Input::Built(Verdict::Refused("bad")));
        let mut builds = 0;
        for round in 1..500 {
            let now = at(20 * round);
            if machine.step(now, Input::Hint) != [Effect::TakeSnapshot] {
                continue;
            }
            let seen = if round % 2 == 1 { between.clone() } else { snapshots(1) };
            if machine.step(now, Input::SnapshotTaken(seen)) == [Effect::Build(1)] {
                builds += 1;
                machine.step(now, Input::Built(Verdict::Refused("bad")));
            }
        }
        // The pauses begin at 50 ms and double, within 10 s.
        assert!((5..=8).contains(&builds), "{builds} builds with {between:?}");
    }
}

/// Checks: INV-12. A build of unchanged files may fail for another reason each time.
#[test]
fn inv12_rejection_for_changing_reasons_keeps_the_retry_pace() {
    let mut machine = machine();
    let snapshots = ReadOutcome::Changed { content: 1, kind: ChangeKind::InPlace, shrinks: false };
    machine.step(at(0), Input::Reload);
    machine.step(at(0), Input::SnapshotTaken(snapshots.clone()));
    machine.step(at(0), Input::Built(Verdict::Refused("one")));
    let mut builds = 0;
    for round in 1..10_000 {
        let now = at(round);
        if machine.step(now, Input::Tick) == [Effect::TakeSnapshot]
            && machine.step(now, Input::SnapshotTaken(snapshots.clone())) == [Effect::Build(1)]
        {
            builds += 1;
            let cause = if builds % 2 == 0 { "one" } else { "other" };
            machine.step(now, Input::Built(Verdict::Refused(cause)));
        }
    }
    assert!((5..=8).contains(&builds), "{builds} builds of what did not change within 10 s");
}

/// Checks: INV-11. A refused content that is on disk again is stable. Only later changes count as
/// changing.
#[test]
fn inv11_rejected_stable_set_is_not_reported_as_changing() {
    let mut machine = machine();
    machine.step(at(0), Input::Reload);
    machine.step(at(0), changed(1));
    machine.step(at(0), Input::Built(Verdict::Refused("bad")));
    // Retries until the next one is ten seconds away.
    let mut now = 0;
    while now < 20_000 {
        now = u64::try_from(machine.wake(at(now)).unwrap().as_millis()).unwrap() - 1_000_000;
        machine.step(at(now), Input::Tick);
        if machine.step(at(now), changed(1)) == [Effect::Build(1)] {
            machine.step(at(now), Input::Built(Verdict::Refused("bad")));
        }
    }
    let mut snapshot = |ms, content| {
        assert_eq!(machine.step(at(now + ms), Input::Hint), [Effect::TakeSnapshot]);
        machine.step(at(now + ms), changed(content))
    };
    assert_eq!(snapshot(100, 2), []);
    assert_eq!(snapshot(200, 1), []);
    assert_eq!(snapshot(6_000, 3), [], "it has been changing for no time at all");
}
