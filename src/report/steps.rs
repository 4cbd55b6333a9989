//! Reports steps of a reload to `tracing` at the level DEBUG: file events, watches, and the outcome
//! of snapshots and checks. The events of the reloader say what came of them. Spans of the same level
//! say how long the stages took.
//!
//! Without the feature `tracing`, or where no subscriber wants the level, a step is not even
//! formatted.

use std::{ffi::OsString, path::Path};

#[cfg(feature = "tracing")]
use {
    crate::report::{
        error::drop_payload,
        line::{TEXT_LIMIT, one_line, shortened},
    },
    std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    tracing::{Level, Span},
};

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

/// Emits a step.
#[cfg(feature = "tracing")]
pub(crate) fn emit(step: impl FnOnce() -> String) {
    guarded(|| {
        if tracing::enabled!(target: TARGET, Level::DEBUG) {
            tracing::debug!(target: TARGET, "{}", shortened(one_line(step()), TEXT_LIMIT));
        }
    });
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn emit(_: impl FnOnce() -> String) {}

/// Returns whether a subscriber gets the steps and the spans. Its calls take time.
pub(crate) fn are_traced() -> bool {
    #[cfg(feature = "tracing")]
    return guarded(|| tracing::enabled!(target: TARGET, Level::DEBUG)).unwrap_or_default();
    #[cfg(not(feature = "tracing"))]
    false
}

/// The span of a reload of one file set, which has those of its stages.
pub(crate) struct Reload(#[cfg(feature = "tracing")] Span);

impl Reload {
    /// Makes the span of the file set with this first path.
    #[cfg_attr(not(feature = "tracing"), allow(unused_variables))] // reason: the span is absent
    pub(crate) fn of(set: &Path) -> Self {
        Self(
            #[cfg(feature = "tracing")]
            span(
                || tracing::debug_span!(target: TARGET, "reload", set = shortened(one_line(set.display()), TEXT_LIMIT)),
            ),
        )
    }

    /// Runs the stages in it.
    pub(crate) fn run<R>(self, stages: impl FnOnce() -> R) -> R {
        #[cfg(feature = "tracing")]
        return within(self.0, stages);
        #[cfg(not(feature = "tracing"))]
        stages()
    }
}

macro_rules! stages {
    ($($name:ident: $what:literal)*) => {$(
        #[doc = concat!("Runs the stage that ", $what, " in a span.")]
        pub(crate) fn $name<R>(stage: impl FnOnce() -> R) -> R {
            #[cfg(feature = "tracing")]
            return within(span(|| tracing::debug_span!(target: TARGET, stringify!($name))), stage);
            #[cfg(not(feature = "tracing"))]
            stage()
        }
    )*};
}

stages! {
    read: "takes a snapshot"
    build: "runs the checks and makes the value"
    parse: "parses files"
    rehearse: "makes a handshake in memory"
    publish: "publishes, calls of callbacks included,"
}

#[cfg(feature = "tracing")]
fn span(make: impl FnOnce() -> Span) -> Span {
    guarded(make).unwrap_or_else(Span::none)
}

/// Runs a stage in a span.
#[cfg(feature = "tracing")]
fn within<R>(span: Span, stage: impl FnOnce() -> R) -> R {
    // By hand, because the guard of `Span::enter` would leave a span open whose subscriber panics
    // half-way through.
    guarded(|| span.with_subscriber(|(id, subscriber)| subscriber.enter(id)));
    let outcome = catch_unwind(AssertUnwindSafe(stage));
    guarded(|| span.with_subscriber(|(id, subscriber)| subscriber.exit(id)));
    guarded(|| drop(span));
    outcome.unwrap_or_else(|payload| resume_unwind(payload))
}

/// Calls a subscriber. If it panics, that ends neither the driver nor the watcher.
#[cfg(feature = "tracing")]
fn guarded<R>(call: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(call)).map_err(drop_payload).ok()
}
