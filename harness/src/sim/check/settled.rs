//! The checker of a reader without directory handles.

use std::{collections::HashMap, time::Duration};

use rustls_reload::Timing;

use super::{Verdict, broken, show};
use crate::sim::{At, Contents, Phase, Record, Run, Stage};

/// INV-01 (b) as it is promised without directory handles. A rename commits nothing. The reader saw
/// every published set in its last snapshot and a settle time before that, and nothing else in
/// between. The set was also on disk, unchanged, for that time.
///
/// A set may have been gone unnoticed where its bytes return with their length and modification
/// time: such a port has no change time that would show it
/// ([`Fs::HAS_DIR_HANDLES`](rustls_reload::fs::Fs::HAS_DIR_HANDLES)). They do where the publisher
/// restores the times, or writes twice within one tick.
pub(super) fn settled(stage: &Stage, run: &Run) -> Verdict {
    let (settle, config) = (Timing::default().settle, &stage.scenario.config);
    let may_return = stage.scenario.publisher.restores_times() || config.pause < config.tick;
    for (index, at) in run.history.iter().enumerate() {
        let Record::Published { generation, files } = &at.record else { continue };
        if *generation == 1 && stage.scenario.phase == Phase::Reload {
            // Loaded while the world was prepared.
            continue;
        }
        let before = &run.history[..index];
        let last = last_snapshot(before);
        let begin = before[last].mono;
        if !was_seen_to_settle(before, settle) {
            return broken("INV-01 (b)", format!("published without two equal snapshots: {}", show(files)));
        }
        // A timestamp is up to one tick earlier than its change.
        let is_settled = |since| may_return || since + settle <= begin + config.tick;
        if !stood(before, last, files).is_some_and(is_settled) {
            return broken("INV-01 (b)", format!("published before it had settled: {}", show(files)));
        }
    }
    Ok(())
}

/// Returns the index of the record with which the last snapshot begins.
fn last_snapshot(history: &[At]) -> usize {
    history.iter().rposition(|at| matches!(at.record, Record::Snapshot)).unwrap_or_default()
}

/// Returns whether each answer in the last snapshot of a reader without directory handles was the
/// answer a settle time before that snapshot already, and no other answer came in between.
#[must_use]
pub fn was_seen_to_settle(history: &[At], settle: Duration) -> bool {
    let last = last_snapshot(history);
    let Some(begin) = history.get(last).map(|at| at.mono) else { return false };
    let by = begin.saturating_sub(settle);
    let mut answers = HashMap::new();
    let mut is_seen = false;
    for (index, at) in history.iter().enumerate() {
        let Record::Observed { asked, seen } = at.record else { continue };
        if at.mono <= by {
            answers.insert(asked, seen);
            continue;
        }
        match answers.get(&asked) {
            Some(answer) if *answer == seen => is_seen |= index > last,
            _ => return false,
        }
    }
    is_seen
}

/// Returns since when the disk had these contents, unchanged, at some time from this record on.
fn stood(history: &[At], from: usize, files: &Contents) -> Option<Duration> {
    let mut stands: Option<Duration> = None;
    for (index, at) in history.iter().enumerate() {
        let Record::Disk(contents) = &at.record else { continue };
        // The first contents have been there for an hour.
        let since = if index == 0 { Duration::ZERO } else { at.mono };
        match stands {
            Some(since) if index > from => return Some(since),
            _ => stands = (contents == files).then_some(since),
        }
    }
    stands
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // reason: a test may panic
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sim::{Publisher, Renewal, Scenario};

    /// One record of a reader by path, at a time in milliseconds.
    enum Then {
        Disk(u8),
        Snapshot,
        /// The bytes and the time of the set that the snapshot saw.
        Saw(u8, u64),
        Published(u8),
    }
    use Then::{Disk, Published, Saw, Snapshot};

    fn set(byte: u8) -> Contents {
        vec![Some(Arc::new(vec![byte]))]
    }

    fn verdict(publisher: Publisher, records: &[(u64, Then)]) -> Verdict {
        let mut scenario = Scenario::new(publisher, Renewal::LeafOnly);
        scenario.config.pause = Duration::from_millis(250);
        let record = |(mono, then): &(u64, Then)| {
            let record = match then {
                Disk(byte) => Record::Disk(set(*byte)),
                Snapshot => Record::Snapshot,
                Saw(byte, mtime) => Record::Observed { asked: 0, seen: u64::from(*byte) << 32 | *mtime },
                Published(byte) => Record::Published { generation: 2, files: set(*byte) },
            };
            At { mono: Duration::from_millis(*mono), record }
        };
        let run = Run {
            history: records.iter().map(record).collect(),
            choices: Vec::new(),
            breached: false,
            crashed: false,
            complete: false,
            outcome: 0,
            snapshots: Vec::new(),
            last_step: Duration::ZERO,
            faulted: false,
            status: None,
        };
        settled(&scenario.prepare(), &run)
    }

    const RESTORES: Publisher = Publisher::InPlaceOldTimes;
    const WRITES: Publisher = Publisher::Certbot;

    #[test]
    fn a_set_that_two_snapshots_saw_is_settled() {
        let run = [
            (0, Disk(0)),
            (1000, Disk(1)),
            (1050, Snapshot),
            (1050, Saw(1, 1000)),
            (1550, Snapshot),
            (1550, Saw(1, 1000)),
            (1550, Published(1)),
        ];
        for publisher in [RESTORES, WRITES] {
            assert_eq!(verdict(publisher, &run), Ok(()));
        }
    }

    #[test]
    fn bytes_with_their_old_time_settle_only_where_times_are_restored() {
        let run = [
            (0, Disk(0)),
            (1000, Disk(1)),
            (1050, Snapshot),
            (1050, Saw(1, 1000)),
            (1200, Disk(2)),
            (1400, Disk(1)),
            (1550, Snapshot),
            (1550, Saw(1, 1000)),
            (1550, Published(1)),
        ];
        assert_eq!(verdict(RESTORES, &run), Ok(()));
        verdict(WRITES, &run).unwrap_err();
    }

    /// Each of these readers publishes a set that has not settled.
    #[test]
    fn sets_that_have_not_settled_are_violations() {
        let early = [
            // The set stood for long, and was gone when it was published.
            vec![
                (0, Disk(1)),
                (900, Snapshot),
                (900, Saw(1, 0)),
                (1000, Disk(2)),
                (1600, Disk(1)),
                (1650, Snapshot),
                (1650, Saw(1, 1600)),
                (1650, Published(1)),
            ],
            // The other bytes were seen in between.
            vec![
                (0, Disk(0)),
                (1000, Disk(1)),
                (1000, Snapshot),
                (1000, Saw(1, 1000)),
                (1300, Disk(2)),
                (1300, Snapshot),
                (1300, Saw(2, 1300)),
                (1400, Disk(1)),
                (1550, Snapshot),
                (1550, Saw(1, 1000)),
                (1550, Published(1)),
            ],
            // The set was seen once, and is gone for good.
            vec![
                (0, Disk(0)),
                (1000, Disk(1)),
                (1050, Snapshot),
                (1050, Saw(1, 1000)),
                (1100, Disk(2)),
                (1550, Published(1)),
            ],
            // The bytes returned, with another time.
            vec![
                (0, Disk(0)),
                (1000, Disk(1)),
                (1000, Snapshot),
                (1000, Saw(1, 1000)),
                (1300, Disk(2)),
                (1500, Disk(1)),
                (1500, Snapshot),
                (1500, Saw(1, 1500)),
                (1500, Published(1)),
            ],
            // The only snapshot is the last one.
            vec![(0, Disk(0)), (1000, Disk(1)), (1600, Snapshot), (1600, Saw(1, 1000)), (1600, Published(1))],
            // The first snapshot ended too late.
            vec![
                (0, Disk(0)),
                (1000, Disk(1)),
                (1050, Snapshot),
                (1100, Saw(1, 1000)),
                (1550, Snapshot),
                (1550, Saw(1, 1000)),
                (1550, Published(1)),
            ],
            // The first snapshot failed before it had read the set.
            vec![
                (0, Disk(0)),
                (1000, Disk(1)),
                (1000, Snapshot),
                (1550, Snapshot),
                (1550, Saw(1, 1000)),
                (1550, Published(1)),
            ],
        ];
        for (number, run) in early.iter().enumerate() {
            for publisher in [RESTORES, WRITES] {
                assert!(verdict(publisher, run).is_err(), "{publisher:?}, case {number}");
            }
        }
    }
}
