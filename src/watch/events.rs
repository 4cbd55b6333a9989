//! File events through `notify`.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    thread,
};

#[cfg(not(windows))]
use std::fs;

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};

use super::{Hints, Watched, Watcher, lacks_remote_events, port::guarded};
use crate::{
    fs::plain,
    report::error::{Error, Layer},
};

struct Notify {
    /// `None` once its thread is known to have ended: every call would panic.
    watcher: Option<RecommendedWatcher>,
    hints: Hints,
    /// The watched directories, by path.
    watched: HashMap<PathBuf, Id>,
}

/// Identifies a directory by device and inode.
type Id = (u64, u64);

/// Whether watching a directory again finds the watch in place. On other systems a second watch
/// reports events twice, or not at all.
const REWATCH_IS_IDEMPOTENT: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Whether only Rust code calls the handler, so that a panic may unwind through it.
const UNWINDS: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Reports the end of notify's thread. The handler owns it, so it is dropped when the thread ends
/// for any reason.
struct Thread(Hints);

impl Drop for Thread {
    fn drop(&mut self) {
        // The thread may be unwinding already.
        guarded(|| self.0.ended(NO_THREAD));
    }
}

const NO_THREAD: &str = "the watcher's thread has ended";

/// The platform's own watcher.
pub(crate) fn notify_watcher(hints: Hints) -> Result<Box<dyn Watcher>, Error> {
    let fault = |why: &dyn fmt::Display| Error::new(Layer::Watch, format!("no file events: {why}"));
    // notify does not report that it got no thread, and panics later. Whether a thread is available
    // is tried first, and a call shows whether notify got one.
    let spare = thread::Builder::new().spawn(|| {}).map_err(|error| fault(&error))?;
    let _ = spare.join();
    // The handler only filters and wakes. A call of `watch` within it would deadlock, and a slow
    // handler would overflow the event queue.
    let thread = Thread(hints.clone());
    let made = notify::recommended_watcher(move |event| {
        // A panic that unwound into the system's caller would end the process.
        if UNWINDS {
            report(&thread.0, event);
        } else if guarded(|| report(&thread.0, event)).is_none() {
            guarded(|| thread.0.ended(NO_THREAD));
        }
    });
    let watcher = Some(made.map_err(|error| fault(&no_instance(&error)))?);
    let mut watcher = Notify { watcher, hints, watched: HashMap::new() };
    match watcher.ask(|watcher| drop(watcher.unwatch(Path::new("/")))) {
        Some(()) => Ok(Box::new(watcher)),
        None => Err(fault(&"no thread for the watcher")),
    }
}

impl Notify {
    /// Calls the watcher; returns `None` if it has no thread.
    fn ask<T>(&mut self, question: impl FnOnce(&mut RecommendedWatcher) -> T) -> Option<T> {
        if self.hints.subscriptions().ended.is_some() {
            self.end();
        }
        let watcher = self.watcher.as_mut()?;
        let answer = guarded(|| question(watcher));
        if answer.is_none() {
            self.hints.ended(NO_THREAD);
            self.end();
        }
        answer
    }

    /// Drops the watcher. Without a thread the drop panics too, but it frees the descriptors.
    fn end(&mut self) {
        let watcher = self.watcher.take();
        guarded(|| drop(watcher));
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
        // The reads and opens of this process cause these events.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => return,
        EventKind::Modify(ModifyKind::Name(_)) => true,
        EventKind::Modify(_) => false,
        _ => true,
    };
    for path in &event.paths {
        hints.touched(&real_path(&plain(path)), moved);
    }
}

/// Returns the path by which notify watches `dir`: with as many `..` in front as it has names,
/// which lead nowhere at `/`.
///
/// notify drops the watch of a removed directory at the event of the directory itself. It drops it
/// again at the event of the watched parent, which it recognises by the path, and logs a warning
/// because the watch is gone. Each rotation of a Kubernetes volume removes a watched directory.
/// With these paths none is another's prefix, so only a directory's own event ends its watch.
fn notify_path(dir: &Path) -> PathBuf {
    match dir.strip_prefix("/") {
        Ok(rest) if REWATCH_IS_IDEMPOTENT => {
            let mut path = PathBuf::from("/");
            path.extend(rest.iter().map(|_| ".."));
            path.push(rest);
            // Linux takes no longer path. A warning of notify does less harm than an unwatched
            // directory.
            if path.as_os_str().len() > 4095 { dir.to_owned() } else { path }
        }
        _ => watchable(dir).into_owned(),
    }
}

/// Returns the path of an event without the prefix of [`notify_path`].
fn real_path(path: &Path) -> Cow<'_, Path> {
    let Some(mut rest) = path.strip_prefix("/").ok().filter(|_| REWATCH_IS_IDEMPOTENT) else {
        return path.into();
    };
    while let Ok(less) = rest.strip_prefix("..") {
        rest = less;
    }
    Path::new("/").join(rest).into()
}

impl Watcher for Notify {
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
        // A watch would follow a symlink to a directory that may be watched under its own path, and
        // would replace that path in events.
        let id = match id(dir) {
            Ok(None) => return Ok(Watched::Gone),
            Ok(id) => id,
            // The watcher reports the reason.
            Err(_) => None,
        };
        // notify forgets the directory that was watched under this path, but keeps its watch.
        if self.watched.get(dir).is_some_and(|known| !REWATCH_IS_IDEMPOTENT || id != Some(*known)) {
            self.unwatch(dir);
        }
        let watched = self.ask(|watcher| watcher.watch(&notify_path(dir), RecursiveMode::NonRecursive));
        let gone = || Error::new(Layer::Watch, NO_THREAD).at(dir);
        let Err(error) = watched.ok_or_else(gone)? else {
            self.watched.insert(dir.to_owned(), id.unwrap_or_default());
            let now = self::id(dir).ok().flatten();
            if now.is_none() || now != id {
                // It is unknown which directory is watched, and whose watch it was before.
                self.unwatch(dir);
                self.hints.lost();
                return Ok(Watched::Gone);
            }
            return Ok(lacks_remote_events(dir).map_or(Watched::Armed, Watched::Silent));
        };
        // On Windows notify has one error for everything that keeps a directory from being opened.
        if cfg!(windows) && id.is_some() && self::id(dir).is_ok_and(|now| now == id) {
            return Ok(Watched::Denied);
        }
        unwatched(&error).ok_or_else(|| {
            let why = format!("cannot watch the directory: {}", cause(&error));
            Error::new(Layer::Watch, why).at(dir)
        })
    }

    fn unwatch(&mut self, dir: &Path) {
        self.watched.remove(dir);
        // The system unwatches removed directories, so an error is no failure.
        self.ask(|watcher| drop(watcher.unwatch(&notify_path(dir))));
    }
}

/// Identifies the directory at a path; `None` if nothing or no directory is there.
#[cfg(not(windows))]
fn id(dir: &Path) -> io::Result<Option<Id>> {
    match stat(dir) {
        Ok(found) if found.is_dir() => Ok(Some(number(&found))),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Stats `dir` without following a symlink in its place, except for a link that the walk follows
/// too: a magic link of procfs, which is no text.
#[cfg(not(windows))]
fn stat(dir: &Path) -> io::Result<fs::Metadata> {
    let found = fs::symlink_metadata(dir)?;
    let is_magic = found.is_symlink() && dir.parent().is_some_and(super::remote_fs::on_procfs);
    if is_magic { fs::metadata(dir) } else { Ok(found) }
}

#[cfg(unix)]
fn number(found: &fs::Metadata) -> Id {
    use std::os::unix::fs::MetadataExt;
    (found.dev(), found.ino())
}

/// Returns one number for all directories, because the platform has none.
#[cfg(not(any(unix, windows)))]
fn number(_: &fs::Metadata) -> Id {
    Id::default()
}

/// Identifies the directory at a path; `None` if nothing or no directory is there.
#[cfg(windows)]
fn id(dir: &Path) -> io::Result<Option<Id>> {
    match crate::fs::stat_path(&watchable(dir)) {
        Ok(found) if found.kind == crate::fs::Kind::Dir => Ok(Some((found.id.dev, found.id.ino))),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the path to pass to notify: on Windows the literal one, which may be longer than 260
/// characters.
fn watchable(dir: &Path) -> Cow<'_, Path> {
    #[cfg(windows)]
    if let Some(literal) = crate::fs::literal(dir) {
        return literal.into();
    }
    dir.into()
}

/// Returns the meaning of an error for the directory, if it is no fault of the watcher.
fn unwatched(error: &notify::Error) -> Option<Watched> {
    let kind = match &error.kind {
        notify::ErrorKind::PathNotFound => ErrorKind::NotFound,
        notify::ErrorKind::Io(error) => error.kind(),
        _ => return None,
    };
    match kind {
        ErrorKind::NotFound => Some(Watched::Gone),
        ErrorKind::PermissionDenied => Some(Watched::Denied),
        _ => None,
    }
}

/// Formats the reason why no watcher is made. The system has one error for two limits
/// (inotify_init(2)).
fn no_instance(error: &notify::Error) -> String {
    let hint =
        if cfg!(target_os = "linux") { " (fs.inotify.max_user_instances, or RLIMIT_NOFILE)" } else { "" };
    format!("{}{hint}", cause(error))
}

/// Formats the cause alone, because notify's own text repeats the path.
fn cause(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::Io(error) => error.to_string(),
        notify::ErrorKind::MaxFilesWatch => "no watches left (fs.inotify.max_user_watches)".to_owned(),
        kind => format!("{kind:?}"),
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
