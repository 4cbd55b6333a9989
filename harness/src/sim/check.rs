//! The invariants as functions of one recorded history.
//!
//! A checker reads only the history, never the design, so the same checkers apply to the shipped
//! reloader and to the wrong designs. Checkers of a prefix (INV-01 to INV-04, INV-08) hold at every
//! moment, so they apply to runs that ended early too. Checkers of the end (INV-05, INV-06,
//! INV-11's status) apply to complete runs.
//!
//! The checkers stay in one file, so that a reader sees each invariant once and next to the others.

use std::{fmt, time::Duration};

use super::{
    Contents, Events, OwnerAct, Phase, Record, Run, Scenario, Stage,
    by_path::BY_PATH,
    scenario::{Renewal, is_valid},
};
use rustls_reload::{Event, Layer, Timing};

mod settled;
use settled::settled;
pub use settled::was_seen_to_settle;

/// A violated invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The id of the invariant.
    pub invariant: &'static str,
    /// The observation that violates it.
    pub why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.why)
    }
}

type Verdict = Result<(), Violation>;

fn broken<T>(invariant: &'static str, why: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { invariant, why: why.into() })
}

/// Returns whether one generation is required: the publisher did not die half-way and kept the
/// assumption that it commits by.
///
/// For a run that ended early it is unknown whether its rest keeps that assumption. Complete runs
/// with that rest, and with the same reports and publications before it, were checked.
#[must_use]
pub fn is_bound_to_one_generation(scenario: &Scenario, run: &Run) -> bool {
    let keeps = scenario.publisher.commits_by_rename() || (run.complete && !run.breached);
    scenario.crash.is_none() && !run.crashed && keeps
}

/// Checks every invariant.
///
/// # Errors
/// The first violation.
pub fn all(stage: &Stage, run: &Run) -> Verdict {
    let scenario = &stage.scenario;
    is_alive(run)?;
    whole(run)?;
    if is_bound_to_one_generation(scenario, run) {
        one_generation(stage, run)?;
        if !scenario.renewals.contains(&Renewal::Broken) {
            nothing_unfinished_is_evaluated(run)?;
        }
    }
    valid(run)?;
    keeps(run)?;
    ordered(run)?;
    still(run)?;
    reported_once(run)?;
    owner_is_served(run)?;
    if is_by_path(run) {
        settled(stage, run)?;
    }
    if run.complete {
        converges(scenario, run)?;
        status(run)?;
    }
    Ok(())
}

/// Checks the invariants that hold at every moment of any run, for every writer and whatever else
/// happens: INV-01 (a) and (c), INV-02, INV-03, INV-04, INV-08, INV-11, INV-12.
///
/// # Errors
/// The first violation.
pub fn at_every_moment(run: &Run) -> Verdict {
    is_alive(run)?;
    whole(run)?;
    valid(run)?;
    keeps(run)?;
    ordered(run)?;
    still(run)?;
    reported_once(run)
}

/// INV-12: the reader neither spins nor waits without a reason.
fn is_alive(run: &Run) -> Verdict {
    for at in &run.history {
        if let Record::StopTimeout(why) = at.record {
            return broken("INV-12", why);
        }
    }
    Ok(())
}

/// INV-01 (a) and (c): the published bytes were on disk together at one instant, and they are the
/// bytes that were validated.
fn whole(run: &Run) -> Verdict {
    let mut on_disk: Vec<&Contents> = Vec::new();
    let mut evaluated = None;
    for at in &run.history {
        match &at.record {
            Record::Disk(contents) => on_disk.push(contents),
            Record::Evaluated { files, .. } => evaluated = Some(files),
            Record::Published { files, .. } => {
                if !on_disk.contains(&files) {
                    return broken("INV-01 (a)", format!("never on disk together: {}", show(files)));
                }
                if evaluated != Some(files) {
                    return broken("INV-01 (c)", format!("not what was validated: {}", show(files)));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// INV-01 (b): the published bytes are one generation, volume by volume.
///
/// # Errors
/// The first set that is a mixture.
pub fn one_generation(stage: &Stage, run: &Run) -> Verdict {
    let sets = &stage.sets;
    if sets.is_empty() {
        return before_or_after(stage, run);
    }
    let volumes = stage.scenario.publisher.volumes();
    for at in &run.history {
        let Record::Published { files, .. } = &at.record else { continue };
        for volume in &volumes {
            let is = |index: &usize, set: &super::Set| {
                files[*index].as_ref().is_some_and(|file| **file == set[*index])
            };
            if !sets.iter().any(|set| volume.iter().all(|index| is(index, set))) {
                return broken("INV-01 (b)", format!("a mixture: {}", show(files)));
            }
        }
    }
    Ok(())
}

/// Accepts only the contents before and after the update, if the sets have no names of their own.
fn before_or_after(stage: &Stage, run: &Run) -> Verdict {
    let contents = stage.script.contents();
    for at in &run.history {
        if let Record::Published { files, .. } = &at.record
            && contents.first() != Some(files)
            && contents.last() != Some(files)
        {
            return broken("INV-01 (b)", format!("a mixture: {}", show(files)));
        }
    }
    Ok(())
}

/// Returns whether the reader's port has no directory handles.
fn is_by_path(run: &Run) -> bool {
    run.history.iter().any(|at| matches!(at.record, Record::Mark(BY_PATH, _)))
}

/// INV-11, INV-01 (b): while a publisher keeps its assumption, no unfinished set is rejected.
/// Unreadable files may be reported, because they last.
fn nothing_unfinished_is_evaluated(run: &Run) -> Verdict {
    for at in &run.history {
        if let Record::Reported(Event::Refused { error, .. }) = &at.record
            && error.layer() != Layer::Read
        {
            return broken("INV-11", format!("an unfinished set was evaluated: {error}"));
        }
    }
    Ok(())
}

/// INV-02: published bytes would pass every check, and a check passed them.
fn valid(run: &Run) -> Verdict {
    let mut passed = false;
    for at in &run.history {
        match &at.record {
            Record::Evaluated { passed: now, .. } => passed = *now,
            Record::Published { files, .. } if !passed || !is_valid(files) => {
                return broken("INV-02", format!("published without passing: {}", show(files)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// INV-03: the served value changes only with a publication.
fn keeps(run: &Run) -> Verdict {
    let (mut served, mut published) = (None, false);
    for at in &run.history {
        match &at.record {
            Record::Published { .. } => published = true,
            Record::Served { object, generation, .. } => {
                let now = Some((*object, *generation));
                if served.is_some() && served != now && !published {
                    return broken("INV-03", "another value is served without a publication");
                }
                (served, published) = (now, false);
            }
            _ => {}
        }
    }
    Ok(())
}

/// INV-04: generations grow by one, and published bytes were not on disk only before the bytes that
/// they replace.
fn ordered(run: &Run) -> Verdict {
    let mut on_disk: Vec<&Contents> = Vec::new();
    let (mut last, mut from, mut seen) = (0, 0, 0);
    for at in &run.history {
        match &at.record {
            Record::Disk(contents) => on_disk.push(contents),
            Record::Published { generation, files } => {
                if *generation != last + 1 {
                    return broken("INV-04", format!("generation {generation} after {last}"));
                }
                last = *generation;
                match on_disk[from..].iter().position(|contents| *contents == files) {
                    Some(position) => from += position,
                    None => return broken("INV-04", format!("older than what it replaces: {}", show(files))),
                }
            }
            Record::Served { generation, .. } => {
                if *generation < seen {
                    return broken("INV-04", format!("a reader sees {generation} after {seen}"));
                }
                seen = *generation;
            }
            _ => {}
        }
    }
    Ok(())
}

/// INV-08: equal bytes publish nothing, and a disk that never changes causes no event.
fn still(run: &Run) -> Verdict {
    let mut served: Option<&Contents> = None;
    let mut states = 0;
    for at in &run.history {
        match &at.record {
            Record::Disk(_) => states += 1,
            Record::Published { files, .. } => {
                if served == Some(files) {
                    return broken("INV-08", "the bytes that are served were published again");
                }
                served = Some(files);
            }
            Record::Reported(Event::Started { .. } | Event::Stopped) => {}
            Record::Reported(event) if states == 1 && !run.faulted => {
                return broken("INV-08", format!("reported while nothing changed: {event}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// INV-11: each publication has one event, in order. A standing rejection is reported once. A
/// recovery is reported if and only if trouble was. A healthy watch is never reported as degraded.
fn reported_once(run: &Run) -> Verdict {
    let mut published = 1;
    let mut generations = 1;
    let mut standing: Vec<String> = Vec::new();
    let mut evaluated: Option<&Contents> = None;
    let mut trouble = false;
    for at in &run.history {
        match &at.record {
            Record::Published { generation, .. } if *generation > 1 => published = *generation,
            Record::Evaluated { files, passed: false } => evaluated = Some(files),
            Record::Reported(Event::Published { generation, recovered, .. }) => {
                if *generation != generations + 1 || *generation != published {
                    return broken("INV-11", format!("generation {generation} reported after {generations}"));
                }
                if *recovered != trouble {
                    return broken(
                        "INV-11",
                        format!("recovery reported: {recovered}, trouble reported: {trouble}"),
                    );
                }
                generations = *generation;
                (trouble, standing) = (false, Vec::new());
            }
            Record::Reported(Event::Recovered { .. }) => {
                if !trouble {
                    return broken("INV-11", "a recovery was reported and nothing was wrong before it");
                }
                (trouble, standing) = (false, Vec::new());
            }
            Record::Reported(Event::Refused { error, .. }) => {
                let bytes = if error.layer() == Layer::Read { None } else { evaluated };
                let refusal = format!("{error} {}", bytes.map(show).unwrap_or_default());
                if standing.last() == Some(&refusal) {
                    return broken("INV-11", format!("reported twice: {refusal}"));
                }
                standing.push(refusal);
                trouble = true;
            }
            // Earlier rejections are over, although the served bytes are not on disk yet.
            Record::Reported(Event::Deferred { .. }) => standing.clear(),
            Record::Reported(Event::StillChanging { .. }) => trouble = true,
            Record::Reported(Event::Degraded { error }) if !run.faulted => {
                return broken("INV-11", format!("degraded though the watcher is healthy: {error}"));
            }
            _ => {}
        }
    }
    if run.complete && generations != published {
        return broken("INV-11", format!("generation {published} was not reported"));
    }
    Ok(())
}

/// INV-11, INV-13: nothing is published while stopped, and a manual reload finds bytes that were on
/// disk after it was requested.
fn owner_is_served(run: &Run) -> Verdict {
    let (mut stopped, mut asked) = (false, false);
    let mut since_asked: Vec<&Contents> = Vec::new();
    let (mut disk, mut served) = (None, None);
    for at in &run.history {
        match &at.record {
            Record::Disk(contents) => {
                disk = Some(contents);
                since_asked.push(contents);
            }
            Record::Published { files, .. } if stopped => {
                return broken("INV-13", format!("published while stopped: {}", show(files)));
            }
            Record::Served { files, .. } => served = Some(files),
            Record::Owner(OwnerAct::Ask) => (asked, since_asked) = (!stopped, disk.into_iter().collect()),
            Record::Owner(OwnerAct::Stop) => (stopped, asked) = (true, false),
            Record::Owner(OwnerAct::Start) => stopped = false,
            Record::Answered { is_served } if asked => {
                asked = false;
                if *is_served && served.is_some_and(|files| !since_asked.contains(&files)) {
                    return broken("INV-11", "a manual reload is answered by an older snapshot");
                }
            }
            _ => {}
        }
    }
    if run.complete && asked {
        return broken("INV-11", "a manual reload is not answered");
    }
    Ok(())
}

/// Returns how long after the last step a valid disk has to be served (INV-05).
///
/// If events are lost or content was rejected on the way, the bound is settle time, back-off and
/// poll. If events work, it is the settle time alone, or almost nothing for one rename. The
/// snapshots themselves are allowed 100 ms.
#[must_use]
pub fn bound(scenario: &Scenario, run: &Run) -> Duration {
    let timing = Timing::default();
    let snapshot = Duration::from_millis(100);
    let config = &scenario.config;
    // Some snapshots of at most a hundred calls each.
    let slow = config.verb * 300;
    let crashed = scenario.crash.is_some() || run.crashed;
    let shrinks = crashed || scenario.renewals.contains(&Renewal::Shrink) || run.breached;
    let settle = if shrinks { timing.shrink_settle } else { timing.settle };
    let refused = run.history.iter().any(|at| matches!(at.record, Record::Reported(Event::Refused { .. })));
    if run.faulted || config.events == Events::Lost || refused || config.verb > Duration::ZERO {
        return settle + timing.poll + timing.poll + snapshot + slow;
    }
    // No event reaches a first load. It finds the last step when its current settle time ends, and
    // waits for another one.
    let waits = if scenario.phase == Phase::FirstLoad { 2 } else { 1 };
    settle * waits + snapshot
}

/// INV-05, INV-06: a valid disk is served within the bound, whatever happened to the events. An
/// invalid disk is reported.
fn converges(scenario: &Scenario, run: &Run) -> Verdict {
    let records = || run.history.iter().rev();
    let disk = records().find_map(|at| match &at.record {
        Record::Disk(contents) => Some(contents),
        _ => None,
    });
    let served = records().find_map(|at| match &at.record {
        Record::Published { files, .. } => Some((at.mono, files)),
        _ => None,
    });
    let (Some(disk), Some((published, files))) = (disk, served) else { return Ok(()) };
    if !is_valid(disk) {
        let refused = records().any(|at| matches!(at.record, Record::Reported(Event::Refused { .. })));
        return if refused {
            Ok(())
        } else {
            broken("INV-11", "the disk cannot be served and nothing reports it")
        };
    }
    if disk != files {
        return broken("INV-05", format!("served in the end: {}; on disk: {}", show(files), show(disk)));
    }
    let late = published.saturating_sub(run.last_step);
    let bound = bound(scenario, run);
    if late > bound {
        return broken("INV-05", format!("served {late:?} after the last step, the bound is {bound:?}"));
    }
    Ok(())
}

/// INV-11: the final status is true.
fn status(run: &Run) -> Verdict {
    let Some(status) = &run.status else { return Ok(()) };
    let records = || run.history.iter().rev();
    let disk = records().find_map(|at| match &at.record {
        Record::Disk(contents) => Some(contents),
        _ => None,
    });
    let served = records().find_map(|at| match &at.record {
        Record::Served { generation, files, .. } => Some((*generation, files)),
        _ => None,
    });
    let (Some(disk), Some((generation, files))) = (disk, served) else { return Ok(()) };
    if status.generation != generation {
        return broken("INV-11", format!("status says {}, served is {generation}", status.generation));
    }
    let same = disk == files;
    if status.differs_since.is_some() == same || status.refused.is_some() == same {
        let says = (status.differs_since.is_some(), status.refused.is_some());
        return broken("INV-11", format!("disk is served: {same}, status says differs, rejected: {says:?}"));
    }
    Ok(())
}

/// Formats the blocks of a set briefly.
fn show(files: &Contents) -> String {
    let file = |bytes: &Option<std::sync::Arc<Vec<u8>>>| match bytes {
        None => "-".to_owned(),
        Some(bytes) => String::from_utf8_lossy(bytes).trim_end().replace('\n', "."),
    };
    files.iter().map(file).collect::<Vec<_>>().join(" | ")
}
