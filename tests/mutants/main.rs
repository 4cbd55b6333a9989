//! A museum of wrong designs: each is caught by the checkers that pass the right one.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)]
// reason: tests stop at the first surprise, and print what they caught

use std::{io::Write, time::Duration};

use rustls_reload::testkit::sim::{self, Design, Events, ORDERS, Publisher, Renewal, Report, Scenario};

mod deciding;
mod design;
mod waiting;

use design::{Rebuilt, Wrong};

/// The worlds that every design is shown, the right ones too. Instead of each event the watcher says that it lost some: a
/// design without the shipped filter can hear that.
fn worlds() -> Vec<Scenario> {
    let mut worlds = Vec::new();
    let mut world = |publisher, renewals: &[Renewal], pause: u64, events, waits| {
        let mut scenario = Scenario::new(publisher, renewals[0]);
        scenario.renewals = renewals.to_vec();
        scenario.weather.pause = Duration::from_millis(pause);
        (scenario.weather.events, scenario.weather.waits) = (events, waits);
        worlds.push(scenario);
    };
    use Renewal::{Broken, CaOnly, LeafOnly, NewKey, Nothing, SameKey};
    let order = ORDERS[0];
    world(Publisher::StepRenew, &[LeafOnly], 0, Events::Overflowed, 1);
    world(Publisher::StepRenew, &[Nothing], 0, Events::Overflowed, 1);
    world(Publisher::RenamePerFile(order), &[SameKey], 5, Events::Overflowed, 0);
    world(Publisher::RenamePerFile(order), &[NewKey], 5, Events::Overflowed, 0);
    world(Publisher::RenamePerFile(order), &[CaOnly], 5, Events::Lost, 0);
    world(Publisher::RenamePerFile(order), &[Broken], 5, Events::Overflowed, 0);
    world(Publisher::RenameWithBackup, &[SameKey], 5, Events::Overflowed, 1);
    world(Publisher::InPlaceOldTimes, &[LeafOnly, LeafOnly], 5, Events::Overflowed, 0);
    world(Publisher::DirSwapped, &[SameKey], 5, Events::Overflowed, 1);
    world(Publisher::DirRemade, &[SameKey], 5, Events::Overflowed, 0);
    world(Publisher::LinkedVolume, &[SameKey], 5, Events::Overflowed, 0);
    world(Publisher::Kubelet(order), &[SameKey], 5, Events::Overflowed, 0);
    world(Publisher::Release(false), &[LeafOnly, LeafOnly], 5, Events::Overflowed, 1);
    // The client CAs are moved to their backup name, and the publisher dies.
    let mut died = Scenario::new(Publisher::RenameWithBackup, SameKey);
    died.crash = Some(11);
    died.weather.events = Events::Overflowed;
    worlds.push(died);
    worlds
}

/// Prints a line past the capture of `cargo test`.
macro_rules! say {
    ($($what:tt)*) => {
        writeln!(std::io::stdout().lock(), $($what)*).unwrap()
    };
}

/// Shows `D` every world until a checker speaks up.
fn show<D: Design>() -> (u64, u128, Option<(String, String)>) {
    let (mut runs, mut schedules) = (0, 0);
    for scenario in worlds() {
        let stage = scenario.prepare();
        let searched = sim::explore::<D>(&stage, 400);
        let violation = |report: &Report| {
            let (violation, line) = report.violation.clone()?;
            Some((violation.to_string(), format!("{} {line}", stage.scenario.name())))
        };
        runs += searched.runs;
        schedules += searched.schedules.max(u128::from(searched.runs));
        if let Some(caught) = violation(&searched) {
            return (runs, schedules, Some(caught));
        }
        if !searched.whole {
            let sampled = sim::sample::<D>(&stage, 1, 1_000);
            runs += sampled.runs;
            schedules += sampled.schedules;
            if let Some(caught) = violation(&sampled) {
                return (runs, schedules, Some(caught));
            }
        }
    }
    (runs, schedules, None)
}

/// Shows `D` every world and prints its row; an error unless a checker of one of `invariants` speaks up.
fn caught<D: Design>(name: &str, invariants: &[&str]) -> Result<(), String> {
    let (runs, schedules, violation) = show::<D>();
    let (why, line) = violation.unwrap_or_default();
    let (short, by) = (why.chars().take(90).collect::<String>(), invariants.join(" or "));
    say!("{name:22} {by:18} interleave {runs:>8} {schedules:>12} {short}");
    if invariants.iter().any(|invariant| why.starts_with(invariant)) {
        return Ok(());
    }
    Err(format!("{name}: not caught, or for another reason: {why} {line}"))
}

/// Each wrong design, and the invariants by which it may be caught.
macro_rules! museum {
    ($($wrong:ident: $($invariant:literal),+;)*) => {
        #[test]
        fn each_wrong_design_is_caught() {
            say!("{:22} {:18} engine     {:>8} {:>12} caught by", "mutant", "invariant", "runs", "schedules");
            let rows = [$(caught::<Rebuilt<{ Wrong::$wrong as u8 }>>(stringify!($wrong), &[$($invariant),+])),*];
            let missed: Vec<_> = rows.into_iter().filter_map(Result::err).collect();
            assert!(missed.is_empty(), "{missed:#?}");
        }
    };
}

museum! {
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
    NeverPolls: "INV-05";
    ArmsAfterwards: "INV-05";
    StartsByHand: "INV-01 (b)", "INV-11";
    PublishesUnchanged: "INV-08";
    TellsRetries: "INV-11";
    TellsFirst: "INV-11";
}

/// The same worlds and checkers pass the right design: they do not catch what is not wrong.
#[test]
fn the_right_designs_pass() {
    assert_eq!(show::<Rebuilt<{ Wrong::Nothing as u8 }>>().2, None);
    assert_eq!(show::<sim::Shipped>().2, None);
}

/// A mutant that somebody repairs is missed, whatever it is expected to break: the museum then fails.
#[test]
fn a_repaired_mutant_is_missed() {
    let missed = caught::<Rebuilt<{ Wrong::Nothing as u8 }>>("Nothing", &["INV-01", "INV-05", "INV-11"]);
    assert!(missed.is_err_and(|why| why.starts_with("Nothing: not caught")));
}
