//! File events through `notify`.

use std::{
    fmt,
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};

use super::{Hints, Watched, Watcher, silent};
use crate::error::{Error, Layer};

/// `None` once it was found to have no thread: whatever is asked of it then panics.
struct Notify(Option<RecommendedWatcher>);

/// The platform's own watcher.
pub(crate) fn notify_watcher(hints: Hints) -> Result<Box<dyn Watcher>, Error> {
    let fault = |why: &dyn fmt::Display| Error::new(Layer::Watch, format!("no file events: {why}"));
    // notify does not say that it got no thread, and panics later: whether there is one to be had is tried before it, and
    // whether it got one is seen by asking it something.
    let spare = thread::Builder::new().spawn(|| {}).map_err(|error| fault(&error))?;
    let _ = spare.join();
    // The handler only filters and wakes: a call of `watch` from within it would deadlock, and a slow one would let the
    // event queue overflow.
    let made = notify::recommended_watcher(move |event| report(&hints, event));
    let mut watcher = Notify(Some(made.map_err(|error| fault(&no_instance(&error)))?));
    match watcher.ask(|watcher| drop(watcher.unwatch(Path::new("/")))) {
        Some(()) => Ok(Box::new(watcher)),
        None => Err(fault(&"no thread for the watcher")),
    }
}

impl Notify {
    /// Asks the watcher; `None` if it has no thread.
    fn ask<T>(&mut self, question: impl FnOnce(&mut RecommendedWatcher) -> T) -> Option<T> {
        let watcher = self.0.as_mut()?;
        let answer = catch_unwind(AssertUnwindSafe(|| question(watcher))).ok();
        if answer.is_none() {
            self.end();
        }
        answer
    }

    /// Drops the watcher; without a thread that panics as well, and frees the descriptors all the same.
    fn end(&mut self) {
        let watcher = self.0.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(watcher)));
    }
}

impl Drop for Notify {
    fn drop(&mut self) {
        self.end();
    }
}

fn report(hints: &Hints, event: notify::Result<Event>) {
    let Ok(event) = event else { return hints.lost() };
    if event.need_rescan() {
        return hints.lost();
    }
    let moved = match event.kind {
        // Our own opens and reads arrive as these.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => return,
        EventKind::Modify(ModifyKind::Name(_)) => true,
        EventKind::Modify(_) => false,
        _ => true,
    };
    for path in &event.paths {
        hints.touched(path, moved);
    }
}

impl Watcher for Notify {
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
        let watched = self.ask(|watcher| watcher.watch(dir, RecursiveMode::NonRecursive));
        let gone = || Error::new(Layer::Watch, "the watcher has no thread any more").at(dir);
        let Err(error) = watched.ok_or_else(gone)? else {
            return Ok(silent(dir).map_or(Watched::Armed, Watched::Silent));
        };
        match io_kind(&error) {
            Some(ErrorKind::NotFound) => Ok(Watched::Gone),
            Some(ErrorKind::PermissionDenied) => Ok(Watched::Denied),
            _ => {
                let why = format!("cannot watch the directory: {}", cause(&error));
                Err(Error::new(Layer::Watch, why).at(dir))
            }
        }
    }

    fn unwatch(&mut self, dir: &Path) {
        // Removed directories are unwatched by the system; that is no failure.
        self.ask(|watcher| drop(watcher.unwatch(dir)));
    }
}

fn io_kind(error: &notify::Error) -> Option<ErrorKind> {
    match &error.kind {
        notify::ErrorKind::PathNotFound => Some(ErrorKind::NotFound),
        notify::ErrorKind::Io(error) => Some(error.kind()),
        _ => None,
    }
}

/// Why no watcher is made: the system has one error for two limits (inotify_init(2)).
fn no_instance(error: &notify::Error) -> String {
    let hint =
        if cfg!(target_os = "linux") { " (fs.inotify.max_user_instances, or RLIMIT_NOFILE)" } else { "" };
    format!("{}{hint}", cause(error))
}

/// The cause alone: notify's own text repeats the path.
fn cause(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::Io(error) => error.to_string(),
        notify::ErrorKind::MaxFilesWatch => "no watches left (fs.inotify.max_user_watches)".to_owned(),
        kind => format!("{kind:?}"),
    }
}
