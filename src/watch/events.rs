//! File events through `notify`.

use std::{io::ErrorKind, path::Path};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};

use super::{Hints, Watched, Watcher, silent};
use crate::error::{Error, Layer};

struct Notify(RecommendedWatcher);

/// The platform's own watcher.
pub(crate) fn notify_watcher(hints: Hints) -> Result<Box<dyn Watcher>, Error> {
    // The handler only filters and wakes: a call of `watch` from within it would deadlock, and a slow one would let the
    // event queue overflow.
    notify::recommended_watcher(move |event| report(&hints, event))
        .map(|watcher| Box::new(Notify(watcher)) as Box<dyn Watcher>)
        .map_err(|error| Error::new(Layer::Watch, format!("no file events: {error}")))
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
        let Err(error) = self.0.watch(dir, RecursiveMode::NonRecursive) else {
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
        let _ = self.0.unwatch(dir);
    }
}

fn io_kind(error: &notify::Error) -> Option<ErrorKind> {
    match &error.kind {
        notify::ErrorKind::PathNotFound => Some(ErrorKind::NotFound),
        notify::ErrorKind::Io(error) => Some(error.kind()),
        _ => None,
    }
}

/// The cause alone: notify's own text repeats the path.
fn cause(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::Io(error) => error.to_string(),
        notify::ErrorKind::MaxFilesWatch => "no watches left (fs.inotify.max_user_watches)".to_owned(),
        kind => format!("{kind:?}"),
    }
}
