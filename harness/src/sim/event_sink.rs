//! The receiver of file events.

use std::{hash::Hasher, path::Path, sync::Arc};

use rustls_reload::{internal, watch::Hints};

use super::{StateHasher, What};

/// The receiver of file events.
pub(super) enum EventSink {
    /// The shipped filter.
    Hints(Hints),
    /// A listener that receives all events, and `None` if some were lost.
    All(Arc<dyn Fn(Option<What>) + Send + Sync>),
}

impl EventSink {
    pub(super) fn receives(&self, path: &Path, what: What) {
        match self {
            Self::Hints(hints) => hints.touched(path, what != What::Written),
            Self::All(listener) => listener(Some(what)),
        }
    }

    pub(super) fn lost(&self) {
        match self {
            Self::Hints(hints) => hints.lost(),
            Self::All(listener) => listener(None),
        }
    }

    /// Returns the hash of the reports that are pending in the filter; `None` for a listener, which
    /// keeps its own.
    pub(super) fn pending(&self) -> Option<u64> {
        let Self::Hints(hints) = self else { return None };
        let mut hasher = StateHasher::default();
        internal::hash_pending(hints, &mut hasher);
        Some(hasher.finish())
    }
}
