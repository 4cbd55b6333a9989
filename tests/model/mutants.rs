//! Wrong designs, each caught by the checkers that the right design passes.
//!
//! The wrong designs that were seen in the field, and the mutants that implement them. A test
//! checks the names:
//!
//! | wrong way | breaks | mutants | file |
//! |---|---|---|---|
//! | read each file by its path, then only compare key and leaf | INV-01 | ReadsByPath | tests/model/mutants/design.rs |
//! | validate, then read again to build | INV-01 | ReadsAgain | tests/model/mutants/design.rs |
//! | publish at once whenever a directory is new | INV-01 | TrustsNewDirectories | tests/model/mutants/design.rs |
//! | publish at once, or after a moment, whatever passes | INV-01 | NeverSettles, SettlesBriefly, StartsByHand | tests/model/mutants/design.rs |
//! | without directory handles: take a re-pointed link for a commit, settle nowhere, know a file by its path and bytes alone | INV-01 | CommitsWithoutHandles, NeverSettles, KnowsByPath | tests/model/mutants/design.rs |
//! | certificate and client CAs in two separate cells | INV-01, INV-04 | TwoCells | tests/model/mutants/design.rs, loom-tests/src/wrong/fault.rs |
//! | swap first, validate afterwards | INV-02, INV-03 | SwapsFirst | tests/model/mutants/design.rs |
//! | build the certified key without the key-match check | INV-02 | NoKeyMatch | tests/model/mutants/design.rs |
//! | rehearse against the live session store or key log | INV-02, INV-08 | against_the_live_store, with_the_live_key_log | tests/model/mutants/rehearsing.rs |
//! | share ticket keys and session store over every reload; find them by what is trusted instead of counting | INV-09 | SharesAlways, Hashes | tests/common/sessions.rs |
//! | a fresh session store at every reload | INV-08, INV-09 | FreshAlways | tests/common/sessions.rs |
//! | drop the value when a re-read fails; treat an unreadable CA as an empty one | INV-03 | DropsValue, EmptyCa | tests/model/mutants/design.rs |
//! | unserialised reloads that store whatever they loaded | INV-04 | Unserialised | tests/model/mutants/design.rs, loom-tests/src/wrong/fault.rs |
//! | compare only the leaf, or only the modification time | INV-05, INV-08 | ComparesLeaf, ComparesTimes | tests/model/mutants/design.rs |
//! | watch the file; watch only its parent directory; never poll | INV-05 | WatchesFiles, WatchesParents, NeverPolls | tests/model/mutants/design.rs |
//! | load first, arm the watch afterwards, take no snapshot afterwards | INV-05 | ArmsAfterwards | tests/model/mutants/design.rs |
//! | act on event kinds: ignore removal, rename, rescan | INV-06 | IgnoresRemoval, IgnoresRename, IgnoresRescan | tests/model/mutants/design.rs |
//! | restart the quiet period at every event, without a ceiling | INV-05 | QuietPeriod | tests/model/mutants/deciding.rs |
//! | hold a lock over the read, the build or the callback | INV-07 | Locked | tests/model/mutants/waiting.rs |
//! | publish on every event, changed or not | INV-08 | PublishesUnchanged | tests/model/mutants/design.rs |
//! | print the material in a parse error | INV-10 | a_message_that_repeats_a_line_of_the_key_is_found | tests/secret/secret.rs |
//! | report a refusal at every retry; report success before the swap | INV-11 | ReportsRetries, ReportsFirst | tests/model/mutants/design.rs |
//! | report that trust shrank at each publication; report it while it is built | INV-08, INV-11 | AtEachPublication, WhileBuilding | tests/sessions/drain.rs |
//! | let storage or verifier follow what is served, within a handshake | INV-09 | StorageFollows, VerifierFollows | loom-tests/src/wrong_trust.rs |
//! | wake for less trust late, before it is served, or at every publication | INV-08, INV-11 | RegistersLate, ReportsFirst, WakesAlways | loom-tests/src/wrong_trust.rs |
//! | read to the end of whatever is there | INV-12 | to_the_end | tests/model/mutants/reading.rs |
//! | take a snapshot at every event | INV-12 | EveryEvent | tests/model/mutants/deciding.rs |
//! | store the generation before the pointer, or without its lock | INV-11 | GenerationFirst, GenerationLate | loom-tests/src/wrong/fault.rs |
//! | of several sets: one bad set blocks all, falls to another's files, takes what was seen last or another's last good | INV-01, INV-02, INV-03, INV-05 | BlocksAll, FallsToTheFirst, TakesTheLastSeen, MixesUp | tests/model/sets.rs |
//! | wake without the lock; never reset the start guard | INV-05, INV-11, INV-13 | HintWithoutLock, RegisterLate, GuardNeverReset | loom-tests/src/wrong/fault.rs |

use std::{io::Write, thread, time::Duration};

use rustls_reload_harness::sim::{self, Design, Events, ORDERS, Publisher, Renewal, Report, Scenario};

mod by_path;
mod deciding;
pub(crate) mod design;
mod disk;
mod reading;
mod rehearsing;
mod waiting;

use design::{Rebuilt, Wrong};

/// Returns the worlds that every design runs in, the right ones included. Events arrive in all but
/// the last world, so a design that also never polls is caught for another fault before that.
fn worlds() -> Vec<Scenario> {
    let mut worlds = Vec::new();
    let mut world = |publisher, renewals: &[Renewal], crash, pause: u64, events, waits| {
        let mut scenario = Scenario::new(publisher, renewals[0]);
        (scenario.renewals, scenario.crash) = (renewals.to_vec(), crash);
        scenario.config.pause = Duration::from_millis(pause);
        (scenario.config.events, scenario.config.waits) = (events, waits);
        worlds.push(scenario);
    };
    use Events::{Delivered, Lost, Overflowed};
    use Renewal::{Broken, CaOnly, LeafOnly, NewKey, Nothing, SameKey};
    let order = ORDERS[0];
    world(Publisher::StepRenew, &[LeafOnly], None, 0, Delivered, 1);
    world(Publisher::StepRenew, &[Nothing], None, 0, Overflowed, 1);
    world(Publisher::RenamePerFile(order), &[SameKey], None, 5, Delivered, 0);
    world(Publisher::RenamePerFile(order), &[NewKey], None, 5, Overflowed, 0);
    world(Publisher::RenamePerFile(order), &[Broken], None, 5, Delivered, 0);
    world(Publisher::RenameWithBackup, &[SameKey], None, 5, Delivered, 1);
    world(Publisher::InPlaceOldTimes, &[LeafOnly, LeafOnly], None, 5, Overflowed, 0);
    world(Publisher::DirSwapped, &[SameKey], None, 5, Delivered, 1);
    world(Publisher::DirRemade, &[SameKey], None, 5, Overflowed, 0);
    world(Publisher::LinkedVolume, &[SameKey], None, 5, Delivered, 0);
    world(Publisher::Kubelet(order), &[SameKey], None, 5, Overflowed, 0);
    world(Publisher::Release(false), &[LeafOnly, LeafOnly], None, 5, Delivered, 1);
    // The publisher removes all files, and then dies.
    world(Publisher::DirRemade, &[SameKey], Some(3), 5, Delivered, 0);
    // The publisher moves the client CAs to their backup name, and then dies.
    world(Publisher::RenameWithBackup, &[SameKey], Some(11), 0, Overflowed, 2);
    world(Publisher::RenamePerFile(order), &[CaOnly], None, 5, Lost, 0);
    worlds
}

fn where_events_arrive() -> Vec<Scenario> {
    worlds().into_iter().filter(|world| world.config.events != Events::Lost).collect()
}

/// The number of runs before a checker found a violation.
#[derive(Clone, Copy, Default)]
struct Tried {
    runs: u64,
    /// Schedules that the searches cover, each counted once, including those known to end like
    /// another.
    searched: u128,
    /// Random schedules, one per run.
    drawn: u64,
}

impl Tried {
    /// Counts the runs of an engine with one schedule per run.
    fn runs(runs: u64) -> Self {
        Self { runs, searched: runs.into(), drawn: 0 }
    }
}

/// Prints a line past the capture of `cargo test`, in one write.
fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Prints the header of the columns of [`caught`].
fn head() {
    let by = "may be caught by";
    say("searched: schedules covered by the search, each once; drawn: schedules drawn at random, a run each");
    say(&format!(
        "{:20} {by:24} {:10} {:>6} {:>9} {:>6} caught by",
        "mutant", "engine", "runs", "searched", "drawn"
    ));
}

/// Prints the row of a mutant. Returns an error unless a checker of one of `invariants` found a
/// violation.
fn caught(
    (name, engine): (&str, &str),
    invariants: &[&str],
    tried: Tried,
    verdict: Result<(), String>,
) -> Result<(), String> {
    let why = verdict.err().unwrap_or_default();
    let (short, by) = (why.chars().take(90).collect::<String>(), invariants.join(", "));
    let Tried { runs, searched, drawn } = tried;
    say(&format!("{name:20} {by:24} {engine:10} {runs:>6} {searched:>9} {drawn:>6} {short}"));
    if invariants.iter().any(|invariant| why.starts_with(invariant)) {
        return Ok(());
    }
    Err(format!("{name}: not caught, or for another reason: {why}"))
}

/// Runs `D` in these worlds until a checker finds a violation.
fn show<D: Design>(worlds: Vec<Scenario>) -> (Tried, Result<(), String>) {
    let mut tried = Tried::default();
    for scenario in worlds {
        let stage = scenario.prepare();
        let verdict = |report: &Report| match &report.violation {
            Some((violation, line)) => Err(format!("{violation} {} {line}", stage.scenario.name())),
            None => Ok(()),
        };
        let searched = sim::explore::<D>(&stage, 400);
        tried.runs += searched.runs;
        tried.searched += searched.schedules;
        let mut found = verdict(&searched);
        if found.is_ok() && !searched.whole {
            let sampled = sim::sample::<D>(&stage, 1, 1_000);
            tried.runs += sampled.runs;
            tried.drawn += sampled.runs;
            found = verdict(&sampled);
        }
        if found.is_err() {
            return (tried, found);
        }
    }
    (tried, Ok(()))
}

/// Runs `D` in these worlds and prints its row.
fn shown<D: Design>(name: &str, invariants: &[&str], worlds: Vec<Scenario>) -> Result<(), String> {
    let (tried, verdict) = show::<D>(worlds);
    caught((name, "interleave"), invariants, tried, verdict)
}

/// Defines the wrong designs with the invariants by which each may be caught.
macro_rules! wrong_designs {
    ($($wrong:ident: $($invariant:literal),+;)*) => {
        #[test]
        fn each_wrong_design_is_caught() {
            head();
            // Side by side, because one after another they end last and leave a core idle.
            let missed: Vec<_> = thread::scope(|scope| {
                let mut rows = vec![$(scope.spawn(|| shown::<Rebuilt<{ Wrong::$wrong as u8 }>>(
                    stringify!($wrong), &[$($invariant),+], where_events_arrive(),
                ))),*];
                rows.push(scope.spawn(|| {
                    shown::<Rebuilt<{ Wrong::NeverPolls as u8 }>>("NeverPolls", &["INV-05"], worlds())
                }));
                rows.into_iter().filter_map(|row| row.join().unwrap().err()).collect()
            });
            assert!(missed.is_empty(), "{missed:#?}");
        }
    };
}

wrong_designs! {
    ReadsByPath: "INV-01";
    ReadsAgain: "INV-01 (c)";
    TrustsNewDirectories: "INV-01 (b)", "INV-11";
    NeverSettles: "INV-01 (b)", "INV-11";
    SettlesBriefly: "INV-01 (b)", "INV-11";
    TwoCells: "INV-01", "INV-04";
    SwapsFirst: "INV-02", "INV-01 (c)";
    NoKeyMatch: "INV-02";
    DropsValue: "INV-03";
    EmptyCa: "INV-01 (a)";
    Unserialised: "INV-04", "INV-01 (c)";
    ComparesLeaf: "INV-05";
    ComparesTimes: "INV-05", "INV-08";
    WatchesParents: "INV-05";
    WatchesFiles: "INV-05";
    ArmsAfterwards: "INV-05";
    IgnoresRemoval: "INV-05", "INV-11: the disk";
    IgnoresRename: "INV-05";
    IgnoresRescan: "INV-05";
    StartsByHand: "INV-01 (b)", "INV-11";
    PublishesUnchanged: "INV-08";
    ReportsRetries: "INV-11";
    ReportsFirst: "INV-11";
}

/// The right designs pass in these worlds, so that the checkers report only faults.
#[test]
fn the_right_designs_pass() {
    assert_eq!(show::<Rebuilt<{ Wrong::Nothing as u8 }>>(worlds()).1, Ok(()));
    assert_eq!(show::<sim::Shipped>(worlds()).1, Ok(()));
}

/// A design that never polls passes where events arrive. Designs that watch wrongly, ignore some
/// events or arm too late never poll either, so another fault is what catches them.
#[test]
fn a_design_that_never_polls_passes_where_events_arrive() {
    assert_eq!(show::<Rebuilt<{ Wrong::NeverPolls as u8 }>>(where_events_arrive()).1, Ok(()));
}

/// Every name in the table above is a mutant in each file of its row, and the table names every
/// wrong design here.
#[test]
fn the_table_names_every_mutant() {
    let text = include_str!("mutants.rs");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | ")).skip(1);
    let mut named = Vec::new();
    for row in rows {
        let [_, _, mutants, files] = row.split('|').map(str::trim).take(4).collect::<Vec<_>>()[..] else {
            panic!("not a row: {row}")
        };
        for file in files.split(", ") {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let text = std::fs::read_to_string(path).unwrap();
            for mutant in mutants.split(", ") {
                let marked = text.split("Breaks: ").skip(1).any(|after| {
                    let is_code = |line: &&str| !line.trim_start().starts_with(['/', '#']);
                    after.lines().skip(1).find(is_code).is_some_and(|line| line.contains(mutant))
                });
                assert!(marked, "{file} has no mutant {mutant}");
                named.push(mutant);
            }
        }
    }
    assert!(named.len() > 30, "only {named:?}");
    let design = include_str!("mutants/design.rs");
    let variants = design.split("enum Wrong {").nth(1).unwrap().split('}').next().unwrap();
    let variants = variants.lines().map(|line| line.trim().trim_end_matches(','));
    for variant in variants.filter(|line| !line.is_empty() && !line.starts_with("///")).skip(1) {
        assert!(named.contains(&variant), "{variant} is not in the table");
    }
}

/// A repaired mutant counts as missed, whatever it is expected to break, so that this file fails.
#[test]
fn a_repaired_mutant_is_missed() {
    let any = ["INV-01", "INV-05", "INV-11"];
    // Another test searches all worlds with this design.
    let world = worlds().into_iter().take(1).collect();
    let missed = shown::<Rebuilt<{ Wrong::Nothing as u8 }>>("(repaired)", &any, world);
    assert!(missed.is_err_and(|why| why.starts_with("(repaired): not caught")));
}
