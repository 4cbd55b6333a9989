//! Wrong designs on a port without directory handles, where every change has to settle.

use std::time::Duration;

use rustls_reload_harness::sim::{Events, Publisher, Renewal, Scenario, SimPathFs};

use super::{
    design::{Rebuilt, Wrong},
    show, shown,
};

type Design<const W: u8> = Rebuilt<W, SimPathFs>;

/// Worlds with a release that is committed by its link, and with a chain that is equal at two
/// snapshots a settle time apart and was different in between.
fn worlds() -> Vec<Scenario> {
    let mut release = Scenario::new(Publisher::Release(false), Renewal::LeafOnly);
    (release.config.pause, release.config.waits) = (Duration::from_millis(5), 1);
    let mut twice = Scenario::new(Publisher::StepRenew, Renewal::LeafOnly);
    twice.renewals.push(Renewal::Nothing);
    (twice.config.pause, twice.config.waits) = (Duration::from_millis(166), 2);
    twice.config.events = Events::Lost;
    vec![release, twice]
}

#[test]
fn inv01_each_wrong_design_without_handles_is_caught() {
    const COMMITS: u8 = Wrong::CommitsWithoutHandles as u8;
    const NEVER: u8 = Wrong::NeverSettles as u8;
    const KNOWS: u8 = Wrong::KnowsByPath as u8;
    let of = ["INV-01 (b)"];
    let rows = [
        shown::<Design<COMMITS>>("CommitsWithoutHandles", &of, worlds()),
        shown::<Design<NEVER>>("NeverSettles, by path", &of, worlds()),
        shown::<Design<KNOWS>>("KnowsByPath", &of, worlds()),
    ];
    let missed: Vec<_> = rows.into_iter().filter_map(Result::err).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

/// The right design passes in these worlds, and so does a commit by a link where directories are
/// held open.
#[test]
fn inv01_the_right_design_without_handles_passes() {
    assert_eq!(show::<Design<{ Wrong::Nothing as u8 }>>(worlds()).1, Ok(()));
    let held = worlds().into_iter().take(1).collect();
    assert_eq!(show::<Rebuilt<{ Wrong::CommitsWithoutHandles as u8 }>>(held).1, Ok(()));
}
