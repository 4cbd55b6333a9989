//! First loads of real files with the system's clocks, beside a publisher that writes between any
//! two calls of the loader.
//!
//! Engine: generated.

mod case;

use std::{
    io::Write,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use case::{Beside, Case, Outcome, Pace, Publisher};
use rustls_reload::Timing;

/// Short enough for a few hundred loads, and longer than the usual pauses of a thread. A publisher
/// that is held up for longer gets a longer settle time.
const SETTLE: Duration = Duration::from_millis(120);

fn timing(settle: Duration) -> Timing {
    Timing { settle, ..Timing::default() }
}

fn quiet(fresh: bool) -> Case {
    let (publisher, pace) = (Publisher::InPlace, Pace::ByTime);
    Case { publisher, fresh, at: None, slow: false, pace, beside: Beside::Nothing }
}

/// Returns a case for every call of an undisturbed load, and for several more, because a disturbed
/// load takes longer.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for fresh in [true, false] {
        let calls = quiet(fresh).run(SETTLE, timing(SETTLE)).calls;
        assert!(calls > 10, "{calls}");
        for publisher in Publisher::ALL {
            for at in 1..=calls + 2 {
                for (slow, pace) in [(false, Pace::ByCalls), (false, Pace::ByTime), (true, Pace::ByTime)] {
                    let beside = [Beside::Nothing, Beside::Before, Beside::After, Beside::Torn][at % 4];
                    cases.push(Case { publisher, fresh, at: Some(at), slow, pace, beside });
                }
            }
        }
    }
    cases
}

/// Runs all cases, many at a time, because they mostly wait.
fn each(cases: &[Case], run: impl Fn(&Case) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    run(case);
                }
            });
        }
    });
}

/// Checks: ASM-05
#[test]
fn inv01_a_first_load_takes_no_half_of_an_update() {
    let (cases, start) = (cases(), Instant::now());
    let outcomes = Mutex::new(Vec::new());
    each(&cases, |case| {
        let mut settle = SETTLE;
        let mut report = case.run(settle, timing(settle));
        for _ in 0..4 {
            if report.outcome == Outcome::Void {
                settle *= 2;
                report = case.run(settle, timing(settle));
            }
        }
        outcomes.lock().unwrap().push((*case, report.outcome));
    });
    let outcomes = outcomes.into_inner().unwrap();
    let of = |outcome| outcomes.iter().filter(|(_, other)| *other == outcome).count();
    let [old, new, refused, void] = [Outcome::Old, Outcome::New, Outcome::Refused, Outcome::Void].map(of);
    writeln!(
        std::io::stdout(),
        "{} first loads beside a publisher in {:?}: {old} old, {new} new, {refused} refused, {void} void",
        cases.len(),
        start.elapsed()
    )
    .unwrap();
    let half: Vec<_> = outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Half).collect();
    assert!(half.is_empty(), "{} halves, the first of them: {:#?}", half.len(), &half[..half.len().min(5)]);
    assert!(old > 0 && new > cases.len() / 2 && void < cases.len() / 10, "{old}, {new}, {void}");
}

/// Breaks: INV-01. A load that does not wait until the files are stable.
#[test]
fn inv01_a_first_load_that_does_not_settle_is_caught() {
    let cases: Vec<_> = cases().into_iter().filter(|case| case.pace == Pace::ByTime && !case.slow).collect();
    let halves = AtomicUsize::new(0);
    each(&cases[..100], |case| {
        let report = case.run(SETTLE, timing(Duration::ZERO));
        halves.fetch_add(usize::from(report.outcome == Outcome::Half), Ordering::SeqCst);
    });
    let halves = halves.into_inner();
    assert!(halves > 20, "{halves}");
}

/// Checks: INV-05. The requested pauses are checked, not the time that they took.
#[test]
fn inv12_a_first_load_of_quiet_files_waits_once_at_most() {
    let old = quiet(false).run(SETTLE, timing(SETTLE));
    assert_eq!((old.outcome, old.snapshots, &*old.pauses), (Outcome::Old, 1, &[][..]));
    // Longer than this machine takes from the last write to the load.
    let settle = Duration::from_secs(2);
    let fresh = quiet(true).run(settle, timing(settle));
    assert_eq!((fresh.outcome, fresh.snapshots, fresh.pauses.len()), (Outcome::Old, 2, 1), "{fresh:?}");
    assert!(fresh.pauses[0] <= settle, "{fresh:?}");
    assert!(fresh.longest_gap >= settle, "the snapshots are too near to each other: {fresh:?}");
}
