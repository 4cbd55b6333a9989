//! The watcher as a trait, so that a test can bring another one.

use std::path::Path;

use super::Hints;
use crate::report::error::Error;

/// The result of watching a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Watched {
    /// Events of the directory are reported.
    Armed,
    /// Events are reported, but a file system of this kind is known not to report changes that are
    /// made elsewhere.
    Silent(&'static str),
    /// The directory may be searched but not read, so that this user cannot watch it.
    Denied,
    /// The directory does not exist any more.
    Gone,
}

/// Watches directories, not their subdirectories, and reports events to the [`Hints`] that it was
/// made with.
pub trait Watcher: Send {
    /// Watches `dir`.
    ///
    /// A `dir` that is watched already has to be watched at the directory that is there now, and
    /// not at one that was there before. If both are the same, keep the watch: inotify takes 10 ms
    /// to end and begin it, and microseconds to find it in place. A symlink at `dir` is not
    /// followed: the result is [`Watched::Gone`].
    ///
    /// # Errors
    /// [`Layer::Watch`](crate::Layer::Watch), with the directory.
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error>;

    /// Stops watching `dir`. A directory that is not watched any more is no error.
    fn unwatch(&mut self, dir: &Path);

    /// Called at the start of each plan update, once before and once after dead watches are
    /// dropped. Does nothing by default.
    ///
    /// Ends of watches that were reported before the first call returns are handled in this update.
    /// Events that are reported after the second call returns count by the names of the new walk.
    fn begin_update(&mut self) {}
}

/// Makes a watcher that reports to the given hints.
///
/// It is called at each start, so that a stop frees the watcher's thread and descriptors, and again
/// some time after a watcher has ended by itself.
pub type MakeWatcher = Box<dyn FnMut(Hints) -> Result<Box<dyn Watcher>, Error> + Send>;
