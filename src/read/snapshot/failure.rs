//! The reasons why an attempt reads nothing.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::report::error::{Error, Layer, SystemError};

/// The reason why an attempt read nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// The files changed while they were read; another attempt may succeed.
    Torn {
        /// The path that changed.
        at: PathBuf,
        /// The observation that shows the change, in words.
        why: String,
        /// As in `Unreadable`.
        reason: Option<&'static str>,
        /// The system's error, where there is one.
        source: Option<SystemError>,
    },
    /// The path cannot be read as it is.
    Unreadable {
        /// The path of the set.
        path: PathBuf,
        /// The entry on the way there that could not be read.
        at: PathBuf,
        /// The reason, in words.
        why: String,
        /// The reason without the figures and the system's words in `why`, which may differ each
        /// time; `None` where `why` has neither.
        reason: Option<&'static str>,
        /// The system's error, where there is one.
        source: Option<SystemError>,
    },
}

impl Failure {
    /// Returns whether trying again at once makes sense.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        matches!(self, Self::Torn { .. })
    }

    /// Keeps the first failure until the other paths are walked; a torn attempt ends at once.
    pub(super) fn noted(self, first: &mut Option<Self>) -> Result<(), Self> {
        if self.is_torn() {
            return Err(self);
        }
        first.get_or_insert(self);
        Ok(())
    }

    /// Makes the error for files that do not move, so that they cannot be read as they are.
    pub fn for_good(self) -> Error {
        match self {
            Self::Torn { at, why, reason, source } => {
                let error = Error::new(Layer::Read, why).at(&at).with_source(source);
                error.known_by(reason.map(|reason| (reason, at)))
            }
            Self::Unreadable { .. } => self.into(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Torn { at, .. } => {
                Self::new(Layer::Changing, "the files changed while they were read").at(at)
            }
            Failure::Unreadable { path, at, why, reason, source } => {
                let way = if path == at { String::new() } else { format!(" (at {})", at.display()) };
                let reason = reason.map(|reason| (reason, at));
                Self::new(Layer::Read, why + &way).at(path).with_source(source).known_by(reason)
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Error::from(self.clone()).fmt(f)
    }
}

/// A failure at one entry, before it is known which path of the set was being resolved.
pub(super) struct EntryError {
    at: PathBuf,
    why: String,
    reason: Option<&'static str>,
    source: Option<SystemError>,
    /// Whether the entry changed while it was looked up or read.
    is_torn: bool,
}

impl EntryError {
    /// Makes the fault of an entry that is not as it should be.
    pub(super) fn fault(at: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self { at: at.into(), why: why.into(), reason: None, source: None, is_torn: false }
    }

    /// Makes the failure of an entry that changed, as `why` says.
    pub(super) fn torn(at: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self { is_torn: true, ..Self::fault(at, why) }
    }

    /// Makes the fault of an entry whose size is not as it should be. `why` says the size, and
    /// `reason` does not.
    pub(super) fn missized(at: impl Into<PathBuf>, reason: &'static str, why: String) -> Self {
        Self { reason: Some(reason), ..Self::fault(at, why) }
    }

    /// Makes the fault of an entry at which a call failed.
    pub(super) fn failed(at: impl Into<PathBuf>, verb: &'static str, error: io::Error) -> Self {
        let why = format!("cannot {verb}: {error}");
        Self { reason: Some(verb), source: Some(error.into()), ..Self::fault(at, why) }
    }

    /// Sets whether the entry changed, so that another attempt may succeed.
    pub(super) fn torn_if(self, is_torn: bool) -> Self {
        Self { is_torn, ..self }
    }

    /// Adds a guess at the cause, unless the entry changed, which is cause enough.
    fn hint(self, hint: &str) -> Self {
        let why = if self.is_torn { self.why } else { format!("{}: {hint}", self.why) };
        Self { why, ..self }
    }

    /// Makes the failure of this path.
    pub(super) fn of(self, path: &Path) -> Failure {
        let Self { at, why, reason, source, is_torn } = self;
        if is_torn {
            Failure::Torn { at, why, reason, source }
        } else {
            Failure::Unreadable { path: path.to_owned(), at, why, reason, source }
        }
    }
}

/// Makes the failure of an entry that differs at its second lookup.
pub(super) fn moved(at: &Path) -> Failure {
    EntryError::torn(at, "replaced between two lookups").of(at)
}

/// Makes the failure of a name that was there a moment ago. If it is gone or of another kind now,
/// the set is moving.
pub(super) fn gone_or_fault(path: &Path, verb: &'static str, error: io::Error) -> EntryError {
    use io::ErrorKind::{
        InvalidInput, NotADirectory, NotFound, ResourceBusy, StaleNetworkFileHandle, WouldBlock,
    };
    // Windows reports a file that its publisher keeps to itself meanwhile as busy. A file with a
    // lease (fcntl(2)) would block until its holder, which this open has notified, has given the
    // lease back.
    let is_torn = matches!(
        error.kind(),
        NotFound | NotADirectory | InvalidInput | ResourceBusy | StaleNetworkFileHandle | WouldBlock
    );
    let mut failed = EntryError::failed(path, verb, error).torn_if(is_torn);
    if is_torn {
        failed.why.insert_str(0, "found, but ");
    }
    failed
}

/// Makes the failure of a magic link that the system does not follow.
pub(super) fn not_followed(path: &Path, error: io::Error) -> EntryError {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    let failed = gone_or_fault(path, "follow the link", error);
    if denied {
        return failed.hint("links of another process take the rights of its user, or CAP_SYS_PTRACE");
    }
    failed
}

/// Makes the failure of a path that this walk has followed to its end, and that the system does not
/// follow.
pub(super) fn not_reached(path: &Path, error: io::Error) -> EntryError {
    let hint = "perhaps it leads through a link of another user in a sticky directory \
                (fs.protected_symlinks), or through a link on a mount with nosymfollow";
    gone_or_fault(path, "follow the path as the system does", error).hint(hint)
}
