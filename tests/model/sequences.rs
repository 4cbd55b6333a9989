//! Random sequences of all actions of publishers, neighbours, administrators and clocks.
//!
//! One `Case` is a line of text. It is turned into a plan of steps, which is played on a simulated
//! disk or on a real one, and one oracle checks the history. `scripts/sequences` plays the long
//! tiers.

mod case;
mod cert_cache;
mod client;
mod for_life;
mod oracle;
mod plan;
mod real;
mod server;
mod simulated;
mod wrong_designs;

use std::{
    io::Write,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{common, mutants::design};
use case::Case;
use oracle::Violation;
use plan::Plan;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use rustls_reload::{ClientTls, ServerTls};
use rustls_reload_harness::{
    settings::{self, number},
    sim::{ByPath, Design, Events, Publisher, Shipped},
};
use server::Port;

/// Prints a line past the capture of `cargo test`.
fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Number of simulated cases that are drawn from one seed.
const PIECE: u64 = 500;

/// Plays a case in a simulated world.
fn simulate<D: Design>(case: &Case) -> Result<(), Violation> {
    let plan = Plan::new(case);
    oracle::evaluate(&plan, &simulated::play::<D>(&plan))
}

/// The result of a search: the number of cases tried, and the smallest failing one.
struct Found {
    tried: u64,
    failing: Option<(Case, Violation)>,
}

/// Plays a case on real files, with a server or a client.
fn really<T: real::Side>(
    case: &Case,
    wrong: server::Wrong,
    port: Port,
    tally: &real::Tally,
) -> Result<(), Violation> {
    let plan = Plan::new(case);
    oracle::evaluate(&plan, &real::play::<T>(&plan, wrong, port, tally)?)
}

/// The limits within which a failing case is shortened.
#[derive(Clone, Copy)]
struct Shrinks {
    runs: u32,
    /// The longest time that this may take.
    limit: Duration,
}

impl Shrinks {
    /// The limits in simulated worlds.
    const SIMULATED: Self = Self { runs: 4_000, limit: Duration::MAX };
    /// The limits on real files, where a case takes seconds.
    const REAL: Self = Self { runs: 400, limit: Duration::from_secs(120) };
}

/// Tries up to `count` cases from `seed` on, and shortens the first failing one as far as possible.
fn search(
    seed: u64,
    count: u32,
    cases: &impl proptest::strategy::Strategy<Value = Case>,
    shrinks: Shrinks,
    play: impl Fn(&Case) -> Result<(), Violation>,
) -> Found {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    // Failing cases are kept as lines in regressions.txt instead.
    let config = Config {
        cases: count,
        failure_persistence: None,
        max_shrink_iters: shrinks.runs,
        max_shrink_time: u32::try_from(shrinks.limit.as_millis()).unwrap_or(0),
        ..Config::default()
    };
    let tried = std::cell::Cell::new(0);
    let outcome = TestRunner::new_with_rng(config, rng).run(cases, |case| {
        tried.set(tried.get() + 1);
        play(&case).map_err(|violation| TestCaseError::fail(violation.to_string()))
    });
    let failing = match outcome {
        Ok(()) => None,
        // On real files a case may fail only sometimes.
        Err(TestError::Fail(why, case)) => Some((case, Violation(why.message().to_owned()))),
        Err(TestError::Abort(why)) => panic!("{why}"),
    };
    Found { tried: tried.get(), failing }
}

/// Engine: generated. Checks: INV-01, INV-02, INV-03, INV-04, INV-05, INV-08, INV-11, INV-13.
#[test]
fn random_sequences_hold_in_simulated_worlds() {
    let (count, seed) = (number("SEQUENCES_SIMULATED", 3_000), number::<u64>("SEQUENCES_SEED", 1));
    let (start, next) = (Instant::now(), AtomicU64::new(0));
    let by_path = AtomicU64::new(0);
    // Each piece has its own seed, so that the cases do not depend on the number of cores.
    let pieces = || {
        let cases = case::cases(Publisher::all(true), Events::ALL.to_vec(), 1..=case::OPS, u32::MAX);
        loop {
            let first = next.fetch_add(PIECE, Ordering::Relaxed);
            if first >= count {
                return;
            }
            let seed = seed.wrapping_mul(1_000_003).wrapping_add(first);
            let size = u32::try_from(PIECE.min(count - first)).unwrap();
            // Every fourth piece uses a port without directory handles.
            let is_by_path = first / PIECE % 4 == 3;
            let simulate = if is_by_path { simulate::<ByPath> } else { simulate::<Shipped> };
            let found = search(seed, size, &cases, Shrinks::SIMULATED, simulate);
            if let Some((case, violation)) = found.failing {
                let port = if is_by_path { "PORT=path " } else { "" };
                panic!("{violation}\n{port}REPLAY='{case}' cargo test --test model sequences::replay");
            }
            by_path.fetch_add(u64::from(size) * u64::from(is_by_path), Ordering::Relaxed);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    common::at_once(&vec![(); cores], |()| pieces());
    say(&format!(
        "sequences: {count} simulated cases, {} without directory handles, in {:.1?}, 0 violations",
        by_path.into_inner(),
        start.elapsed()
    ));
}

/// Engine: generated. Checks: INV-01, INV-02, INV-03, INV-04, INV-05, INV-08, INV-11, INV-13.
#[test]
fn random_sequences_hold_on_real_files() {
    hold_on_real_files::<ServerTls>("", number("SEQUENCES_REAL", 64), &Publisher::all(true));
}

/// Engine: generated. The servers of each root keep sessions, which outlive no root.
/// Checks: INV-01, INV-02, INV-03, INV-04, INV-05, INV-08, INV-09, INV-11, INV-13.
#[test]
fn random_sequences_hold_on_real_files_of_clients() {
    // Roots of another directory than the identity are a file set of their own.
    let one_set = |publisher: &Publisher| {
        let paths = publisher.paths();
        paths.iter().all(|path| path.parent() == paths[0].parent())
    };
    let publishers: Vec<_> = Publisher::all(true).into_iter().filter(one_set).collect();
    hold_on_real_files::<ClientTls>("SIDE=client ", number("SEQUENCES_CLIENTS", 24), &publishers);
}

/// Plays random cases on real files, and prints how many. `side` belongs to the line that replays
/// one.
fn hold_on_real_files<T: real::Side>(side: &str, count: u64, publishers: &[Publisher]) {
    let seed = number::<u64>("SEQUENCES_SEED", 1).wrapping_mul(1_000_003);
    // Every fault that the longest waits would show, shorter waits show as well with these delays.
    let cases = || case::cases(publishers.to_vec(), Events::ALL.to_vec(), 1..=case::OPS, 130);
    let (next, tally, found) = (AtomicU64::new(0), real::Tally::default(), Mutex::new(Vec::new()));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..number("SEQUENCES_THREADS", 24) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    // Every fourth case uses the port without directory handles.
                    let port = if index % 4 == 3 { Port::ByPath } else { Port::Handles };
                    let play = |case: &Case| really::<T>(case, server::Wrong::Nothing, port, &tally);
                    let failing = search(seed.wrapping_add(index), 1, &cases(), Shrinks::REAL, play).failing;
                    if let Some((case, violation)) = failing {
                        say(&format!(
                            "{violation}\nWORLD=real {side}{}REPLAY='{case}' cargo test --test model sequences::replay",
                            if port == Port::ByPath { "PORT=path " } else { "" }
                        ));
                        found.lock().unwrap().push(violation);
                    }
                }
            });
        }
    });
    say(&format!("sequences: {side}{count} cases on real files in {:.1?}: {tally}", start.elapsed()));
    assert!(found.lock().unwrap().is_empty(), "{:#?}", found.lock().unwrap());
}

/// A case in which two files end in halves of certificates that differ only in their signatures.
#[test]
fn what_stands_for_two_marked_files_is_never_one() {
    let case = "kubelet:chain-key-ca/Delivered/4/false write:chain:Half@0#1 publish:ChainOnly:100:1@0#2 \
                write:chain:Half@0#3 publish:ChainOnly:100:1@0#4 write:chain:Half@0#5";
    let plan = Plan::new(&Case::parse(case).unwrap());
    // A signature is sometimes one or two bytes shorter, which could hide the fault.
    for _ in 0..20 {
        assert!(cert_cache::CertCache::default().fill(&plan).meanings.len() > 8);
    }
}

/// Returns the cases that once broke an invariant, in either world.
fn regressions() -> Vec<Case> {
    let lines = include_str!("sequences/regressions.txt").lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let cases: Vec<_> = lines
        .map(|line| {
            let case = Case::parse(line).unwrap_or_else(|| panic!("not a case: {line}"));
            assert_eq!(case.to_string(), line, "a line is the case and nothing else");
            case
        })
        .collect();
    assert!(cases.len() > 1, "{}", cases.len());
    cases
}

/// Checks: INV-01, INV-11, INV-13
#[test]
fn inv01_inv11_inv13_cases_that_once_broke_an_invariant_hold() {
    for case in regressions() {
        simulate::<Shipped>(&case).unwrap_or_else(|violation| panic!("{violation}\n{case}"));
        simulate::<ByPath>(&case).unwrap_or_else(|violation| panic!("by path: {violation}\n{case}"));
    }
}

/// Checks: INV-01, INV-11, INV-13
#[test]
fn inv01_inv11_inv13_past_failures_hold_on_real_files() {
    let tally = real::Tally::default();
    std::thread::scope(|scope| {
        for (case, port) in regressions()
            .into_iter()
            .flat_map(|case| [Port::Handles, Port::ByPath].map(|port| (case.clone(), port)))
        {
            let tally = &tally;
            scope.spawn(move || {
                let verdict = really::<ServerTls>(&case, server::Wrong::Nothing, port, tally);
                verdict.unwrap_or_else(|violation| panic!("{port:?}: {violation}\n{case}"));
            });
        }
    });
}

/// A line contains the whole case: each replay fails with the violation of the case.
#[test]
fn a_replayed_line_is_the_same_run() {
    type NeverSettles = design::Rebuilt<{ design::Wrong::NeverSettles as u8 }>;
    let cases = case::cases(Publisher::all(true), Events::ALL.to_vec(), 1..=case::OPS, u32::MAX);
    let mut failed = 0;
    for seed in 0..20 {
        let Some((case, violation)) =
            search(seed, 50, &cases, Shrinks::SIMULATED, simulate::<NeverSettles>).failing
        else {
            continue;
        };
        failed += 1;
        let again = Case::parse(&case.to_string()).unwrap();
        assert_eq!(again, case);
        assert_eq!(simulate::<NeverSettles>(&again), Err(violation));
    }
    assert!(failed > 5, "{failed}");
}

/// Replays a line from the variable `REPLAY` and prints its history; on real files if `WORLD` is
/// `real`.
#[test]
fn replay() {
    let Ok(line) = std::env::var("REPLAY") else { return };
    let plan = Plan::new(&Case::parse(&line).expect("a case"));
    let real = settings::is("WORLD", "real");
    let by_path = settings::is("PORT", "path");
    let played = if real {
        let port = if by_path { Port::ByPath } else { Port::Handles };
        let play =
            if settings::is("SIDE", "client") { real::play::<ClientTls> } else { real::play::<ServerTls> };
        play(&plan, server::Wrong::Nothing, port, &real::Tally::default())
            .unwrap_or_else(|violation| panic!("{violation}"))
    } else if by_path {
        simulated::play::<ByPath>(&plan)
    } else {
        simulated::play::<Shipped>(&plan)
    };
    for at in &played.history {
        let text = match &at.record {
            rustls_reload_harness::sim::Record::Step(index) => {
                format!("step {index}: {:?} (finished: {})", plan.steps[*index], plan.finished[index + 1])
            }
            rustls_reload_harness::sim::Record::Disk(contents) => {
                format!("disk: {}", oracle::show(contents))
            }
            rustls_reload_harness::sim::Record::Mark("taken", index) => format!("step {index}: taken"),
            rustls_reload_harness::sim::Record::Mark(what, number) => {
                format!("{what}: {}", plan.parts[*number].op)
            }
            record => format!("{record:?}"),
        };
        println!("{:?} {text}", at.mono);
    }
    oracle::evaluate(&plan, &played).unwrap_or_else(|violation| panic!("{violation}"));
}
