//! One file set in the first load, until it is stable.

use std::time::Duration;

use super::ConsistentRead;
use crate::{
    clock::{Clock, Now},
    decide::machine::Timing,
    fs::{Fs, nanos},
    read::{
        snapshot::{self, Failure, PathSet, Snapshot},
        walk::Walk,
    },
    report::error::{Error, Layer},
};

/// A file set on its way through the first load.
pub(crate) enum InitialSettle {
    /// Not stable yet, with the previous snapshot.
    Unstable(Option<PreviousRead>),
    Stable(ConsistentRead),
}

/// The previous snapshot of the first load.
pub(crate) enum PreviousRead {
    /// A consistent snapshot, and since when nothing has moved.
    Consistent(ConsistentRead, Duration),
    /// A torn snapshot, since when it has been torn in the same way, and the pause before the next
    /// one.
    Torn(Snapshot, Duration, Duration),
}

impl InitialSettle {
    /// Takes one snapshot, and returns the pause before the next one; `None` once the file set is
    /// stable.
    ///
    /// Where changes can be pinned ([`Fs::HAS_DIR_HANDLES`]), files that have not changed for the settle time
    /// count as stable. Otherwise two equal snapshots that far apart are needed. A torn read is
    /// retried for the patience and the settle time together, or until nothing has moved for the
    /// settle time. Any other failure is an error at once. A file set that is not stable within the
    /// patience and the settle time is an error too.
    ///
    /// # Errors
    /// The cause of the failure, with its path.
    pub(crate) fn take_snapshot<F: Fs>(
        &mut self,
        fs: &F,
        paths: &PathSet,
        clock: &dyn Clock,
        timing: &Timing,
        start: Duration,
    ) -> Result<Option<Duration>, Error> {
        let Self::Unstable(before) = self else { return Ok(None) };
        let now = clock.now();
        let snapshot = snapshot::take(fs, paths);
        let late = now.mono >= start + timing.still_changing_after + timing.settle;
        let files = match snapshot.files {
            Err(ref failure) if failure.is_torn() && !late => {
                let failure = failure.clone();
                return retry_torn(before, snapshot, failure, (clock, now), timing).map(Some);
            }
            Err(failure) => return Err(failure.into()),
            Ok(files) => files,
        };
        let set = ConsistentRead { files, walk: snapshot.walk };
        // Without change times a file that was copied or renamed here just now may show the time of
        // its original. Only two snapshots then show that no publisher is at work.
        if F::HAS_DIR_HANDLES && is_old(&set.walk, now, timing) {
            *self = Self::Stable(set);
            return Ok(None);
        }
        let since = match &before {
            Some(PreviousRead::Consistent(old, since)) if set.is_unchanged_since(old) => *since,
            _ if late => {
                let why = "the files keep changing";
                return Err(Error::new(Layer::Changing, why).at(paths.name()));
            }
            // Counted from the end of this snapshot to the begin of the next: either may be slow
            // (ASM-05).
            _ => clock.now().mono,
        };
        if now.mono >= since + timing.settle {
            *self = Self::Stable(set);
            return Ok(None);
        }
        *before = Some(PreviousRead::Consistent(set, since));
        Ok(Some((since + timing.settle).saturating_sub(clock.now().mono)))
    }
}

/// Keeps a torn snapshot, and returns the pause before the next one.
///
/// # Errors
/// The failure, where nothing has moved for the settle time.
fn retry_torn(
    before: &mut Option<PreviousRead>,
    snapshot: Snapshot,
    failure: Failure,
    (clock, now): (&dyn Clock, Now),
    timing: &Timing,
) -> Result<Duration, Error> {
    let (old, pause) = match before.take() {
        Some(PreviousRead::Torn(old, since, pause)) => (Some((old, since)), timing.torn_pause(pause)),
        _ => (None, timing.min_interval),
    };
    let same = old.filter(|(old, _)| snapshot.is_torn_as(old)).map(|(_, since)| since);
    if same.is_some_and(|since| since + timing.settle <= now.mono) {
        return Err(failure.for_good());
    }
    let since = same.unwrap_or_else(|| clock.now().mono);
    *before = Some(PreviousRead::Torn(snapshot, since, pause));
    Ok(pause)
}

/// Returns whether nothing of the file set can have changed within the settle time.
fn is_old(walk: &Walk, now: Now, timing: &Timing) -> bool {
    walk.newest(timing.tie_recheck).is_none_or(|newest| newest + nanos(timing.settle) <= nanos(now.wall))
}
