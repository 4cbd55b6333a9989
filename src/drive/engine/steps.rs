//! Describes how snapshots and checks ended, for `tracing`.

use std::path::Path;

use crate::{
    decide::{
        file_set::Cause,
        machine::{ReadOutcome, Verdict},
    },
    read::walk::ChangeKind,
    report::{event::Timestamp, steps::emit},
};

/// Reports how a snapshot of the file set with this first path ended.
pub(super) fn snapshot(set: &Path, outcome: &ReadOutcome<Cause>) {
    emit(|| {
        let outcome = match outcome {
            ReadOutcome::Served => "the files hold the served bytes".to_owned(),
            ReadOutcome::Changed { shrinks: true, .. } => {
                "the files only lack an end of the served bytes, so they may still be written: they have to \
                 stay unchanged for the longer settle time"
                    .to_owned()
            }
            ReadOutcome::Changed { kind: ChangeKind::Atomic, .. } => {
                "one rename committed a change".to_owned()
            }
            ReadOutcome::Changed { kind: ChangeKind::AmbiguousTime, .. } => {
                "one rename committed a change, and the times cannot show that no write came after it: the \
                 files are read again"
                    .to_owned()
            }
            ReadOutcome::Changed { kind: ChangeKind::InPlace, .. } => {
                "the files changed, not by one rename: they have to stay unchanged for the settle time"
                    .to_owned()
            }
            ReadOutcome::Torn { cause, .. } => {
                format!("the files changed while they were read: {}", cause.error)
            }
            ReadOutcome::Failed(cause) => format!("a file cannot be read: {}", cause.error),
        };
        format!("snapshot of {}: {outcome}", set.display())
    });
}

/// Reports how the checks of the file set with this first path ended.
pub(super) fn built(set: &Path, verdict: &Verdict<Cause>) {
    emit(|| {
        let verdict = match verdict {
            Verdict::Valid => "passed".to_owned(),
            Verdict::NotYet(date) => format!("passed, not valid before {}", Timestamp(*date)),
            Verdict::Refused(cause) => format!("rejected: {}", cause.error),
        };
        format!("checks of {}: {verdict}", set.display())
    });
}
