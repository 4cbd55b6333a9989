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
mod tests {
    use std::{
        collections::BTreeSet,
        panic::resume_unwind,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use notify::event::{CreateKind, DataChange, Flag, MetadataKind, RemoveKind, RenameMode};

    use super::*;
    use crate::{
        Build, Builder, Built, Context, Event as Told, Events, Timing,
        read::snapshot::Files,
        watch::hints::{Hinted, SetIndices, Subscribers},
    };

    /// Builds the length of the file.
    struct Length;

    impl Build for Length {
        type Value = usize;

        fn build(&mut self, files: &Files, _: &Context<'_, usize>) -> Result<Built<usize>, Error> {
            Ok(Built::new(files.iter().map(|(_, bytes)| bytes.len()).sum()))
        }
    }

    /// Waits until all of these events are reported, in any order.
    fn await_events(events: &mut Events<usize>, mut wanted: Vec<fn(&Told) -> bool>) {
        while !wanted.is_empty() {
            let next = events.next_within(Duration::from_secs(20)).expect("all that is waited for is told");
            wanted.retain(|is| !is(&next.event));
        }
    }

    /// Checks: INV-05, INV-11.
    ///
    /// notify calls the handler on its own thread, which a panic in the handler ends.
    #[test]
    fn inv05_a_watcher_whose_thread_panics_is_told_and_made_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let write = |bytes: &str| {
            std::fs::write(dir.path().join("new"), bytes).expect("written");
            std::fs::rename(dir.path().join("new"), &path).expect("renamed");
        };
        write("1");
        let kills = Arc::new(AtomicBool::new(false));
        let kill = Arc::clone(&kills);
        let make = move |hints: Hints| {
            let (kill, wake) = (Arc::clone(&kill), Arc::clone(&hints.wake));
            let wake = move || {
                if kill.swap(false, Ordering::SeqCst) {
                    resume_unwind(Box::new("planted"));
                }
                wake();
            };
            notify_watcher(Hints { wake: Arc::new(wake), ..hints })
        };
        let timing = Timing {
            settle: Duration::from_millis(50),
            poll: Duration::from_secs(3600),
            degraded_poll: Duration::from_millis(100),
            ..Timing::default()
        };
        let builder = Builder::new([&path], Length).timing(timing).watcher(Some(Box::new(make)));
        let reloader = builder.load().expect("loaded");
        let mut events = reloader.events();
        reloader.start().expect("started");
        await_events(&mut events, vec![|event| matches!(event, Told::Started { .. })]);
        let is_watched = || reloader.status().watched.contains(&dir.path().to_owned());
        assert!(is_watched());
        let degraded: fn(&Told) -> bool = |event| match event {
            Told::Degraded { error } => error.to_string() == format!("watch: {NO_THREAD}"),
            _ => false,
        };
        let published: fn(&Told) -> bool = |event| matches!(event, Told::Published { recovered: false, .. });
        for round in 1..4 {
            kills.store(true, Ordering::SeqCst);
            write(&"2".repeat(2 * round));
            await_events(&mut events, vec![degraded, |event| *event == Told::Restored, published]);
            assert!(!kills.load(Ordering::SeqCst) && is_watched());
            // The next poll is an hour away.
            write(&"3".repeat(2 * round + 1));
            await_events(&mut events, vec![published]);
            assert_eq!(reloader.current().value, 2 * round + 1);
        }
        reloader.stop().expect("stopped");
    }

    /// Checks: INV-11.
    ///
    /// No call of a watcher whose thread has ended panics, and neither does its drop.
    #[test]
    fn inv11_a_watcher_without_its_thread_says_so_and_is_dropped_in_silence() {
        for asked in [false, true] {
            let dir = tempfile::tempdir().expect("a directory");
            let killed = AtomicBool::new(false);
            let (sender, receiver) = mpsc::channel();
            let hints = Hints::new(move || {
                if !killed.swap(true, Ordering::SeqCst) {
                    resume_unwind(Box::new("planted"));
                }
                let _ = sender.send(());
            });
            let names = [("file".into(), SetIndices::default())].into();
            let subscribers = Subscribers { names, ..Subscribers::default() };
            hints.subscriptions().places.insert(dir.path().to_owned(), subscribers);
            let mut watcher = notify_watcher(hints.clone()).expect("a watcher");
            assert_eq!(watcher.watch(dir.path()), Ok(Watched::Armed));
            std::fs::write(dir.path().join("file"), "text").expect("written");
            receiver.recv_timeout(Duration::from_secs(20)).expect("the end of the thread is told");
            assert_eq!(hints.subscriptions().ended, Some(NO_THREAD));
            if asked {
                let fault = Error::new(Layer::Watch, NO_THREAD).at(dir.path());
                assert_eq!(watcher.watch(dir.path()), Err(fault));
                watcher.unwatch(dir.path());
            }
        }
    }

    /// Checks: INV-05, INV-06, INV-12.
    ///
    /// Only its own event reports a corrected mode. This process's own accesses do not count.
    #[test]
    fn inv06_every_kind_of_change_wakes_and_no_access_but_the_end_of_a_write_does() {
        let woken = Arc::new(AtomicBool::new(false));
        let wake = Arc::clone(&woken);
        let hints = Hints::new(move || wake.store(true, Ordering::SeqCst));
        let names = [("file".into(), SetIndices::default())].into();
        hints
            .subscriptions()
            .places
            .insert(PathBuf::from("/d"), Subscribers { names, ..Subscribers::default() });
        let of = |kind| Event::new(kind).add_path("/d/file".into());
        let wakes = |event: notify::Result<Event>| {
            report(&hints, event);
            woken.swap(false, Ordering::SeqCst)
        };
        for kind in [
            EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)),
            EventKind::Modify(ModifyKind::Data(DataChange::Any)),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)),
            EventKind::Create(CreateKind::File),
            EventKind::Remove(RemoveKind::File),
            EventKind::Access(AccessKind::Close(AccessMode::Write)),
            EventKind::Any,
            EventKind::Other,
        ] {
            assert!(wakes(Ok(of(kind))), "{kind:?}");
        }
        for kind in [AccessKind::Open(AccessMode::Any), AccessKind::Read, AccessKind::Close(AccessMode::Read)]
        {
            assert!(!wakes(Ok(of(EventKind::Access(kind)))), "{kind:?}");
        }
        assert!(wakes(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan))));
        assert!(wakes(Err(notify::Error::generic("a fault"))));
    }

    /// Checks: INV-05.
    ///
    /// The watch of a directory that was removed, moved or replaced is dead or elsewhere. No other
    /// change of the directory means that.
    #[test]
    fn inv05_a_watched_directory_that_moves_is_to_be_watched_anew() {
        for (kind, moves) in [
            (EventKind::Modify(ModifyKind::Name(RenameMode::From)), true),
            (EventKind::Remove(RemoveKind::Folder), true),
            (EventKind::Create(CreateKind::Folder), true),
            (EventKind::Any, true),
            (EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), false),
            (EventKind::Modify(ModifyKind::Data(DataChange::Any)), false),
            (EventKind::Access(AccessKind::Close(AccessMode::Write)), false),
        ] {
            let hints = Hints::new(|| {});
            hints.subscriptions().places.insert(PathBuf::from("/d"), Subscribers::default());
            report(&hints, Ok(Event::new(kind).add_path("/d".into())));
            assert_eq!(hints.subscriptions().stale.contains(Path::new("/d")), moves, "{kind:?}");
        }
    }

    /// Checks: INV-11.
    ///
    /// A report that there are no events says what to do about it.
    #[test]
    fn inv11_what_cannot_be_watched_is_told_by_its_cause() {
        let of = |kind: ErrorKind| notify::Error::io(kind.into());
        assert_eq!(unwatched(&notify::Error::path_not_found()), Some(Watched::Gone));
        assert_eq!(unwatched(&of(ErrorKind::NotFound)), Some(Watched::Gone));
        assert_eq!(unwatched(&of(ErrorKind::PermissionDenied)), Some(Watched::Denied));
        assert_eq!(unwatched(&of(ErrorKind::StorageFull)), None);
        let full = notify::Error::new(notify::ErrorKind::MaxFilesWatch).add_path("/d".into());
        assert_eq!(unwatched(&full), None);
        assert_eq!(cause(&full), "no watches left (fs.inotify.max_user_watches)");
        assert_eq!(cause(&of(ErrorKind::StorageFull)), "no storage space");
        assert_eq!(cause(&notify::Error::generic("odd")), "Generic(\"odd\")");
        let hint = " (fs.inotify.max_user_instances, or RLIMIT_NOFILE)";
        let hint = if cfg!(target_os = "linux") { hint } else { "" };
        assert_eq!(no_instance(&of(ErrorKind::StorageFull)), format!("no storage space{hint}"));
    }

    /// Checks: INV-05.
    ///
    /// notify must not take an event of one directory for the end of another's watch.
    #[cfg(target_os = "linux")]
    #[test]
    fn inv05_no_notify_path_is_the_beginning_of_another_or_an_event_of_it() {
        let dirs = ["/", "/a", "/a/b", "/a/b/c", "/a/b/c/d", "/b", "/proc/1/cwd/..", "/proc/1/cwd/../b"];
        for dir in dirs.map(Path::new) {
            let path = notify_path(dir);
            assert_eq!(real_path(&path), dir);
            assert_eq!(real_path(&path.join("name")), dir.join("name"));
            assert_eq!(
                fs::metadata(&path).ok().map(|a| number(&a)),
                fs::metadata(dir).ok().map(|b| number(&b))
            );
            for other in
                dirs.map(Path::new).into_iter().filter(|other| *other != dir && dir.parent().is_some())
            {
                assert!(!notify_path(other).starts_with(&path), "{} {}", dir.display(), other.display());
                let name = other.file_name().unwrap_or_default();
                assert_ne!(path.join(name), notify_path(other));
            }
        }
    }

    /// Checks: INV-12.
    ///
    /// An unwatched directory wakes nothing. The events of one watcher arrive in order.
    #[test]
    fn inv12_a_directory_that_is_unwatched_is_heard_no_more() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path().canonicalize().expect("its path");
        let root = plain(&root);
        let (heard, events) = std::sync::mpsc::channel();
        let hints = Hints::new(move || {
            let _ = heard.send(());
        });
        let dirs = ["one", "two"].map(|name| root.join(name));
        for (set, dir) in dirs.iter().enumerate() {
            std::fs::create_dir(dir).expect("made");
            std::fs::write(dir.join("file"), "text").expect("written");
            let mut sets = SetIndices::default();
            sets.insert(set);
            let names = [("file".into(), sets)].into();
            hints.subscriptions().places.insert(dir.clone(), Subscribers { names, ..Subscribers::default() });
        }
        let mut watcher = notify_watcher(hints.clone()).expect("a watcher");
        assert_eq!(watcher.watch(&root.join("none")), Ok(Watched::Gone));
        for dir in &dirs {
            assert_eq!(watcher.watch(dir), Ok(Watched::Armed));
        }
        // Removes the file of this set, and returns all sets reported until this one is. No other
        // event reports it.
        let removed = |set: usize| {
            std::fs::remove_file(dirs[set].join("file")).expect("removed");
            let mut hinted = BTreeSet::new();
            while !hinted.contains(&set) {
                events.recv_timeout(Duration::from_secs(20)).expect("an event");
                match hints.take() {
                    Hinted::All => panic!("nothing was lost"),
                    Hinted::Some(sets) => hinted.extend(sets),
                }
            }
            hinted
        };
        assert_eq!(removed(0), [0].into());
        watcher.unwatch(&dirs[0]);
        // Only Linux waits for the end of a watch. This call returns after it.
        assert_eq!(watcher.watch(&dirs[1]), Ok(Watched::Armed));
        std::fs::write(dirs[0].join("file"), "text").expect("written");
        assert_eq!(removed(1), [1].into());
    }

    /// Returns the platform's watcher, its hints and their wakes. `file0` and `file1` in this
    /// directory belong to one file set each.
    #[cfg(target_os = "linux")]
    fn heard(dir: &Path) -> (Box<dyn Watcher>, Hints, mpsc::Receiver<()>) {
        let (woken, wakes) = mpsc::channel();
        let hints = Hints::new(move || {
            // The receiver is gone at the end of the test.
            let _ = woken.send(());
        });
        let mut names = HashMap::new();
        for set in 0..2 {
            let mut sets = SetIndices::default();
            sets.insert(set);
            names.insert(format!("file{set}").into(), sets);
        }
        let subscribers = Subscribers { names, ..Subscribers::default() };
        hints.subscriptions().places.insert(dir.to_owned(), subscribers);
        (notify_watcher(hints.clone()).expect("a watcher"), hints, wakes)
    }

    /// Checks: INV-12, INV-06.
    ///
    /// A directory that is watched again is watched where it is now and nowhere else: events were
    /// lost.
    #[cfg(target_os = "linux")]
    #[test]
    fn inv12_a_directory_that_is_watched_again_after_it_was_replaced_is_not_heard_of_where_it_was() {
        let root = tempfile::tempdir().expect("a directory");
        let (dir, aside) = (root.path().join("dir"), root.path().join("aside"));
        std::fs::create_dir(&dir).expect("made");
        let (mut watcher, hints, wakes) = heard(&dir);
        assert_eq!(watcher.watch(&dir), Ok(Watched::Armed));
        std::fs::rename(&dir, &aside).expect("moved");
        std::fs::create_dir(&dir).expect("made");
        assert_eq!(watcher.watch(&dir), Ok(Watched::Armed));
        // This call returns after the events of the move itself have been reported.
        watcher.unwatch(root.path());
        hints.take();
        std::fs::write(aside.join("file0"), "1").expect("written");
        std::fs::write(dir.join("file1"), "1").expect("written");
        let hinted = || match hints.take() {
            Hinted::All => panic!("nothing was lost"),
            Hinted::Some(sets) => sets,
        };
        let mut sets = hinted();
        while !sets.contains(&1) {
            wakes.recv_timeout(Duration::from_secs(20)).expect("the new directory is heard of");
            sets.extend(hinted());
        }
        assert!(!sets.contains(&0), "the old directory is heard of under the name of the new one");
    }

    /// Checks: INV-12.
    ///
    /// After lost events every directory is watched again. A watch in place stays, because each end
    /// of a watch takes 10 ms and loses events.
    #[cfg(target_os = "linux")]
    #[test]
    fn inv12_a_directory_that_is_watched_again_keeps_its_watch() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().expect("a directory");
        let inode = fs::metadata(dir.path()).expect("its number").ino();
        // Each watch has a number, and none is used twice (proc_pid_fdinfo(5)).
        let number = |info: &Path| {
            let text = fs::read_to_string(info).ok()?;
            let watch = text.lines().find(|line| line.contains(&format!(" ino:{inode:x} ")))?;
            watch.split(' ').find(|word| word.starts_with("wd:")).map(String::from)
        };
        // Another file system may have the same inode number, and another test may watch that.
        let all = || {
            let infos = fs::read_dir("/proc/self/fdinfo").expect("descriptors");
            infos.filter_map(|info| Some(info.ok()?.path())).filter(|info| number(info).is_some())
        };
        let (mut watcher, _, _) = heard(dir.path());
        let others: Vec<_> = all().collect();
        assert_eq!(watcher.watch(dir.path()), Ok(Watched::Armed));
        let info = all().find(|info| !others.contains(info)).expect("the watch is told");
        let first = number(&info);
        assert!(first.is_some());
        assert_eq!(watcher.watch(dir.path()), Ok(Watched::Armed));
        assert_eq!(number(&info), first);
        watcher.unwatch(dir.path());
        assert_eq!(number(&info), None);
        assert_eq!(watcher.watch(dir.path()), Ok(Watched::Armed));
        assert_ne!(number(&info), first, "another watch is another number");
    }

    /// Checks: INV-05.
    ///
    /// A watch follows symlinks: ending the watch of a symlink would end the watch of its target.
    #[cfg(target_os = "linux")]
    #[test]
    fn inv05_a_link_in_the_place_of_a_directory_takes_no_other_watch_along() {
        let root = tempfile::tempdir().expect("a directory");
        let (dir, link) = (root.path().join("dir"), root.path().join("link"));
        std::fs::create_dir(&dir).expect("made");
        std::os::unix::fs::symlink(&dir, &link).expect("linked");
        let (mut watcher, _, wakes) = heard(&dir);
        assert_eq!(watcher.watch(&dir), Ok(Watched::Armed));
        assert_eq!(watcher.watch(&link), Ok(Watched::Gone), "no directory is at that path");
        watcher.unwatch(&link);
        while wakes.try_recv().is_ok() {}
        std::fs::write(dir.join("file0"), "1").expect("written");
        assert_eq!(wakes.recv_timeout(Duration::from_secs(20)), Ok(()));
    }
}
