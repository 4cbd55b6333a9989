//! The wrong designs of `mutants`, tested by this engine: each is caught, or the reason is given
//! why it cannot be.

use std::{cell::Cell, collections::BTreeSet, time::Duration};

use proptest::strategy::Strategy;
use rustls_reload::{ClientTls, ServerTls};
use rustls_reload_harness::sim::{Design, Events, ORDERS, Publisher};

use super::{
    Found, Shrinks,
    case::{self, Case},
    design::{Rebuilt, Wrong},
    oracle::Violation,
    real, really, say, search, server, simulate,
};

/// Number of cases after which a wrong design counts as not caught.
const LIMIT: u32 = 20_000;
/// Number of cases for a right design.
const REPAIRED: u32 = 3_000;

/// The mutants that this engine does not catch, with the reason. It plays the reader's whole way
/// from the files to the served value, on one thread, with marked files instead of certificates.
const NOT_CAUGHT: &[(&str, &str)] = &[
    ("CommitsWithoutHandles", "a fault without directory handles; tests/model/mutants/by_path.rs"),
    ("KnowsByPath", "a fault without directory handles; tests/model/mutants/by_path.rs"),
    ("against_the_live_store", "marked files are not rehearsed; tests/model/mutants/rehearsing.rs"),
    ("with_the_live_key_log", "marked files are not rehearsed; tests/model/mutants/rehearsing.rs"),
    ("SharesAlways", "marked files have no sessions; tests/common/sessions.rs"),
    ("Hashes", "marked files have no sessions; tests/common/sessions.rs"),
    ("FreshAlways", "marked files have no sessions; tests/common/sessions.rs"),
    ("QuietPeriod", "decides alone and has no files; tests/model/mutants/deciding.rs"),
    ("EveryEvent", "decides alone and has no files; tests/model/mutants/deciding.rs"),
    ("Locked", "on one thread nobody waits for another; tests/model/mutants/waiting.rs"),
    (
        "a_message_that_repeats_a_line_of_the_key_is_found",
        "a pattern for secrets, no design; tests/secret/secret.rs",
    ),
    ("to_the_end", "files of a simulated disk end; tests/model/mutants/reading.rs"),
    ("GenerationFirst", "a race of threads; loom-tests"),
    ("GenerationLate", "a race of threads; loom-tests"),
    ("HintWithoutLock", "a race of threads; loom-tests"),
    ("RegisterLate", "a race of threads; loom-tests"),
    ("GuardNeverReset", "a race of threads; loom-tests"),
    ("VerifierFollows", "a race of threads; loom-tests"),
    ("StorageFollows", "a race of threads; loom-tests"),
    ("RegistersLate", "a race of threads; loom-tests"),
    ("WakesAlways", "a race of threads; loom-tests"),
    ("AtEachPublication", "marked files have no trust; tests/sessions/drain.rs"),
    ("WhileBuilding", "marked files have no trust; tests/sessions/drain.rs"),
    ("BlocksAll", "a world of this engine has one set; tests/model/sets.rs"),
    ("FallsToTheFirst", "a world of this engine has one set; tests/model/sets.rs"),
    ("TakesTheLastSeen", "a world of this engine has one set; tests/model/sets.rs"),
    ("MixesUp", "a world of this engine has one set; tests/model/sets.rs"),
];

/// Returns cases without dates, which the driver of the wrong designs ignores.
fn cases(events: Vec<Events>) -> impl Strategy<Value = Case> {
    case::cases(Publisher::all(false), events, 1..=12, u32::MAX).prop_map(|mut case| {
        case.ops.retain(|op| !op.act.is_about_dates());
        case
    })
}

fn arriving() -> Vec<Events> {
    vec![Events::Delivered, Events::Overflowed]
}

/// Prints the row of a design. Returns an error unless one of `invariants` catches it; it may break
/// others as well.
fn shown<D: Design>(
    name: &str,
    invariants: &[&str],
    events: Vec<Events>,
    limit: u32,
) -> Result<Case, String> {
    let play = |case: &Case| match simulate::<D>(case) {
        Err(other) if !invariants.iter().any(|invariant| other.0.starts_with(invariant)) => Ok(()),
        verdict => verdict,
    };
    row(name, search(1, limit, &cases(events), Shrinks::SIMULATED, play))
}

fn row(name: &str, found: Found) -> Result<Case, String> {
    let Found { tried, failing } = found;
    let Some((case, violation)) = failing else {
        return Err(format!("{name}: not caught by {tried} cases"));
    };
    let ops = case.ops.len();
    say(&format!("{name:20} {tried:>6} cases, {ops} operations: {violation}\n    {case}"));
    Ok(case)
}

/// The designs that are wrong on real files, and the violations that catch them. The other wrong
/// designs replace shipped stages by stages for a simulated disk.
const ON_REAL_FILES: [(server::Wrong, &str, Plays); 7] = [
    (server::Wrong::NeverSettles, "INV-01 (b)", really::<ServerTls>),
    (server::Wrong::NeverPolls, "INV-", really::<ServerTls>),
    (server::Wrong::LateCa, "INV-01: a client is shown", really::<ServerTls>),
    (server::Wrong::PassesAll, "INV-02", really::<ServerTls>),
    (server::Wrong::KeepsSessions, "INV-09", really::<ClientTls>),
    (server::Wrong::ResumesForLife, "INV-09", really::<ServerTls>),
    (server::Wrong::ResumesForLife, "INV-09", really::<ClientTls>),
];

/// Plays a case with a wrong design of a server or of a client.
type Plays = fn(&Case, server::Wrong, server::Port, &real::Tally) -> Result<(), Violation>;

/// From this seed each design is caught by its fourth case within three seconds, even on a busy
/// machine. Another seed may take a minute: the time between two steps without a pause is hit by
/// chance, and this seed soon has pauses.
const SEED: u64 = 19;

#[test]
fn wrong_design_on_real_files_shrinks_to_at_most_six_operations() {
    // A publisher that commits by one rename leaves nothing unfinished.
    let publishers = [Publisher::InPlace(ORDERS[0]), Publisher::Certbot, Publisher::RenamePerFile(ORDERS[0])];
    let cases = || case::cases(publishers.to_vec(), arriving(), 1..=12, 60);
    let cases = &cases;
    let rows: Vec<_> = std::thread::scope(|scope| {
        let threads = ON_REAL_FILES.map(|(wrong, invariant, really)| {
            scope.spawn(move || {
                // A case takes seconds, so a small one is not shortened further.
                let small = Cell::new(false);
                let play = |case: &Case| {
                    if small.get() {
                        Ok(())
                    } else {
                        match really(case, wrong, server::Port::Handles, &real::Tally::default()) {
                            Err(other) if !other.0.starts_with(invariant) => Ok(()),
                            verdict => {
                                small.set(verdict.is_err() && case.ops.len() <= SMALL);
                                verdict
                            }
                        }
                    }
                };
                let shrinks = Shrinks { runs: 200, limit: Duration::from_secs(120) };
                let name = format!("{wrong:?} (real)");
                let row = row(&name, search(SEED, 300, &cases(), shrinks, play));
                (name, row)
            })
        });
        threads.map(|thread| thread.join().unwrap()).into()
    });
    for (name, row) in rows {
        let case = row.unwrap_or_else(|why| panic!("{why}"));
        assert!(case.ops.len() <= SMALL, "{name} shrinks to {} operations only", case.ops.len());
    }
}

/// Defines the wrong designs with the invariants by which each may be caught.
macro_rules! wrong_designs {
    ($($wrong:ident: $($invariant:literal),+;)*) => {
        fn rows() -> Vec<(&'static str, Result<Case, String>)> {
            vec![$((
                stringify!($wrong),
                shown::<Rebuilt<{ Wrong::$wrong as u8 }>>(
                    stringify!($wrong),
                    &[$($invariant),+],
                    if Wrong::$wrong == Wrong::NeverPolls { vec![Events::Lost] } else { arriving() },
                    LIMIT,
                ),
            )),*]
        }
    };
}

wrong_designs! {
    ReadsByPath: "INV-01";
    ReadsAgain: "INV-01 (c)", "INV-01 (a)";
    TrustsNewDirectories: "INV-01 (b)";
    NeverSettles: "INV-01 (b)";
    SettlesBriefly: "INV-01 (b)";
    StartsByHand: "INV-01 (b)";
    TwoCells: "INV-01", "INV-04";
    SwapsFirst: "INV-02", "INV-01 (c)";
    NoKeyMatch: "INV-02";
    DropsValue: "INV-03";
    EmptyCa: "INV-01 (a)", "INV-01 (b)";
    Unserialised: "INV-04", "INV-01 (c)";
    ComparesLeaf: "INV-05", "INV-11";
    ComparesTimes: "INV-05", "INV-08";
    WatchesFiles: "INV-05", "INV-11: the disk";
    WatchesParents: "INV-05", "INV-11: the disk";
    NeverPolls: "INV-05", "INV-11: the disk";
    ArmsAfterwards: "INV-05", "INV-11: the disk";
    IgnoresRemoval: "INV-05", "INV-11: the disk";
    IgnoresRename: "INV-05", "INV-11: the disk";
    IgnoresRescan: "INV-05", "INV-11: the disk";
    PublishesUnchanged: "INV-08";
    ReportsRetries: "INV-11";
    ReportsFirst: "INV-11";
}

/// Limit of operations: a longer failure is hard to understand.
const SMALL: usize = 6;

#[test]
fn wrong_design_is_caught_and_shrinks_to_at_most_six_operations() {
    let rows = rows();
    let wrong: Vec<_> = rows
        .iter()
        .filter_map(|(name, row)| match row {
            Ok(case) if case.ops.len() > SMALL => {
                Some(format!("{name} shrinks to {} operations only", case.ops.len()))
            }
            Ok(_) => None,
            Err(why) => Some(why.clone()),
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    NOT_CAUGHT.iter().for_each(|(name, why)| say(&format!("{name:20} not this engine's: {why}")));
    let mut here: BTreeSet<&str> = rows.iter().map(|(name, _)| *name).collect();
    for (name, _) in NOT_CAUGHT {
        assert!(here.insert(name), "{name} is caught");
    }
    let table = include_str!("../mutants.rs").lines().filter_map(|line| line.strip_prefix("//! | ")).skip(1);
    let named: BTreeSet<&str> =
        table.flat_map(|row| row.split('|').nth(2).unwrap().trim().split(", ")).collect();
    assert_eq!(here, named, "the table and the designs that are shown here");
}

/// A repaired mutant counts as missed, and a right design is not caught.
#[test]
fn a_repaired_design_is_not_caught() {
    let repaired = shown::<Rebuilt<{ Wrong::Nothing as u8 }>>("(repaired)", &["INV"], arriving(), REPAIRED);
    assert!(repaired.as_ref().is_err_and(|why| why.starts_with("(repaired): not caught")), "{repaired:?}");
}
