//! Passes events, the status, durations and handshakes to the recorder of the facade `metrics`.
//!
//! The page on [embedding](crate::manual::embedding) has a table of them. The labels are few: the
//! names of the reloaders and the first paths of their file sets do not change, and results and
//! reasons are words of this crate.

use std::{
    collections::HashSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metrics::{
    SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::report::{
    event::Event,
    status::{SetStatus, Status},
};

const RELOADS: &str = "tls_reload_total";
const HANDSHAKES: &str = "tls_handshakes_total";
const GENERATION: &str = "tls_generation";
const DEGRADED: &str = "tls_watch_degraded";
const LAST_SNAPSHOT: &str = "tls_last_snapshot_timestamp_seconds";
const LAST_SUCCESS: &str = "tls_reload_last_success_timestamp_seconds";
const REFUSED: &str = "tls_reload_refused";
const MATCHES_DISK: &str = "tls_served_matches_disk";
const NOT_BEFORE: &str = "tls_certificate_not_before_timestamp_seconds";
const NOT_AFTER: &str = "tls_certificate_not_after_timestamp_seconds";
/// The time that snapshots take.
pub(crate) const SNAPSHOT: &str = "tls_snapshot_duration_seconds";
/// The time that builds take.
pub(crate) const BUILD: &str = "tls_build_duration_seconds";

/// The reason of a result that has none.
const NO_REASON: &str = "none";

/// Describes every metric to the recorder.
pub(crate) fn describe() {
    describe_counter!(
        RELOADS,
        "Reloads of a file set by result; a rejected one has its layer as the reason."
    );
    describe_counter!(HANDSHAKES, "TLS handshakes by result; a failed one has its reason.");
    describe_gauge!(GENERATION, "The served generation; 1 is the first load.");
    describe_gauge!(DEGRADED, "1 while file events are missing and the files are polled instead.");
    describe_gauge!(
        LAST_SNAPSHOT,
        Unit::Seconds,
        "When the last snapshot of the files ended, since the Unix epoch."
    );
    describe_gauge!(
        LAST_SUCCESS,
        Unit::Seconds,
        "When the served files were published, since the Unix epoch."
    );
    describe_gauge!(REFUSED, "1 while the files on disk are rejected and the previous ones stay served.");
    describe_gauge!(MATCHES_DISK, "1 if the last snapshot found the served files on disk, else 0.");
    describe_gauge!(NOT_BEFORE, Unit::Seconds, "The first second of the served leaf, since the Unix epoch.");
    describe_gauge!(NOT_AFTER, Unit::Seconds, "The last second of the served leaf, since the Unix epoch.");
    describe_histogram!(SNAPSHOT, Unit::Seconds, "The time that a snapshot of a file set took.");
    describe_histogram!(BUILD, Unit::Seconds, "The time that the checks and the build of a file set took.");
}

/// The series of a file set.
pub(crate) struct Series {
    path: Arc<Path>,
    label: SharedString,
    /// Whether the gauges for dates were set.
    is_dated: AtomicBool,
}

impl Series {
    /// Returns the series of these file sets. The label is the first path. Where another set has it,
    /// the first number is appended that makes a label of its own.
    pub(crate) fn of(sets: &[SetStatus]) -> Vec<Self> {
        let mut labels = HashSet::new();
        let mut own = |path: &str| {
            let numbered = (2..).map(|number| format!("{path}#{number}"));
            // Two paths that are no text may be equal as text.
            std::iter::once(path.to_owned()).chain(numbered).find(|label| labels.insert(label.clone()))
        };
        let series = sets.iter().map(|set| Self {
            path: Arc::clone(&set.path),
            label: own(&set.path.to_string_lossy()).unwrap_or_default().into(),
            is_dated: AtomicBool::new(false),
        });
        series.collect()
    }
}

/// Counts an event that is the result of a reload. An event of the only file set names none.
pub(crate) fn count(event: &Event, reloader: &SharedString, sets: &[Series]) {
    let (result, reason, set) = match event {
        Event::Published { set, .. } => ("reloaded", NO_REASON, set),
        Event::Refused { error, set, .. } => ("refused", error.layer().name(), set),
        Event::Deferred { set, .. } => ("deferred", NO_REASON, set),
        _ => return,
    };
    // By the allocation, because several sets may have one path.
    let own = |series: &&Series| set.as_ref().is_none_or(|set| Arc::ptr_eq(set, &series.path));
    let Some(Series { label, .. }) = sets.iter().find(own) else { return };
    counter!(RELOADS, "reloader" => reloader.clone(), "set" => label.clone(), "result" => result, "reason" => reason)
        .increment(1);
}

/// Counts a handshake, with the name of the reason if it failed.
pub(crate) fn count_handshake(reloader: &SharedString, failure: Option<&'static str>) {
    let result = if failure.is_some() { "failed" } else { "completed" };
    let reason = failure.unwrap_or(NO_REASON);
    counter!(HANDSHAKES, "reloader" => reloader.clone(), "result" => result, "reason" => reason).increment(1);
}

/// Records the time that a stage of a file set took.
pub(crate) fn took(stage: &'static str, reloader: &SharedString, set: &Series, time: Duration) {
    histogram!(stage, "reloader" => reloader.clone(), "set" => set.label.clone()).record(time);
}

/// The state of a file set and of its reloader, as gauges show it.
pub(crate) struct State {
    generation: u64,
    degraded: bool,
    last_snapshot: Duration,
    served_since: Duration,
    refused: bool,
    matches_disk: bool,
    validity: Option<[Duration; 2]>,
}

impl State {
    pub(crate) fn of(status: &Status, set: usize) -> Self {
        let own = &status.sets[set];
        Self {
            generation: status.generation,
            degraded: status.degraded.is_some(),
            last_snapshot: status.last_snapshot,
            served_since: own.served_since,
            refused: own.refused.is_some(),
            matches_disk: own.differs_since.is_none(),
            validity: own.leaf.as_ref().map(|leaf| [leaf.not_before, leaf.not_after]),
        }
    }

    /// Sets the gauges. A file set that never had a leaf has none for dates. One whose leaf is gone has
    /// NaN: no gauge can be removed, and the dates of a leaf that is not served would be untrue.
    #[allow(clippy::cast_precision_loss)] // reason: no generation reaches 2^53
    pub(crate) fn show(&self, reloader: &SharedString, set: &Series) {
        let of_reloader = |name: &'static str, value| {
            gauge!(name, "reloader" => reloader.clone()).set(value);
        };
        of_reloader(GENERATION, self.generation as f64);
        of_reloader(DEGRADED, f64::from(self.degraded));
        of_reloader(LAST_SNAPSHOT, self.last_snapshot.as_secs_f64());
        let of_set = |name: &'static str, value| {
            gauge!(name, "reloader" => reloader.clone(), "set" => set.label.clone()).set(value);
        };
        of_set(LAST_SUCCESS, self.served_since.as_secs_f64());
        of_set(REFUSED, f64::from(self.refused));
        of_set(MATCHES_DISK, f64::from(self.matches_disk));
        let was_dated = set.is_dated.fetch_or(self.validity.is_some(), Ordering::Relaxed);
        if was_dated || self.validity.is_some() {
            let [not_before, not_after] =
                self.validity.map_or([f64::NAN; 2], |dates| dates.map(|date| date.as_secs_f64()));
            of_set(NOT_BEFORE, not_before);
            of_set(NOT_AFTER, not_after);
        }
    }
}
