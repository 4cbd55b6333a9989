//! Reports steps of a reload to `tracing` at the level DEBUG: file events, watches, and the outcome
//! of snapshots and checks. The events of the reloader say what came of them.
//!
//! Without the feature `tracing`, or where no subscriber wants the level, a step is not even
//! formatted.

use std::{ffi::OsString, path::Path};

/// The target of these lines.
#[cfg(feature = "tracing")]
const TARGET: &str = "rustls_reload::steps";

/// Reports that the watcher reported a change of a name that a path leads through.
pub(crate) fn hint(path: &Path) {
    emit(|| format!("file event: {}", path.display()));
}

/// Reports that the watcher may have missed events.
pub(crate) fn lost() {
    emit(|| "file events were lost, or the watcher ended: every file set is read".to_owned());
}

/// Reports that a directory is watched, and for which names.
pub(crate) fn watched<'a>(dir: &Path, names: impl Iterator<Item = &'a OsString>, listed: bool) {
    emit(|| {
        let mut names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
        if listed {
            names.push("every file in it".into());
        }
        format!("watch {}, for {}", dir.display(), names.join(", "))
    });
}

/// Reports that a directory is not watched any more.
pub(crate) fn unwatched(dir: &Path) {
    emit(|| {
        let why = "no path leads through it any more, another directory is there, or it cannot be watched";
        format!("unwatch {}: {why}", dir.display())
    });
}

/// Emits a step. A subscriber that panics ends neither the driver nor the watcher.
#[cfg(feature = "tracing")]
pub(crate) fn emit(step: impl FnOnce() -> String) {
    use crate::report::line::{LINE_LIMIT, one_line, shortened};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let emit = || {
        if tracing::enabled!(target: TARGET, tracing::Level::DEBUG) {
            tracing::debug!(target: TARGET, "{}", shortened(one_line(step()), LINE_LIMIT));
        }
    };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(emit)) {
        crate::report::error::drop_payload(payload);
    }
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn emit(_: impl FnOnce() -> String) {}
