//! Tests of the system's watcher, and of what its events count for.

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
        let next = events.next_within(Duration::from_secs(20)).expect("all that is waited for is reported");
        wanted.retain(|is| !is(&next.event));
    }
}

/// Checks: INV-05, INV-11.
///
/// notify calls the handler on its own thread, which a panic in the handler ends.
#[test]
fn inv05_panic_of_a_watcher_thread_is_reported_and_it_is_made_anew() {
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
fn inv11_watcher_without_its_thread_reports_it_and_drops_quietly() {
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
        receiver.recv_timeout(Duration::from_secs(20)).expect("the end of the thread is reported");
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
fn inv06_each_change_wakes_and_of_accesses_only_closed_writes() {
    let woken = Arc::new(AtomicBool::new(false));
    let wake = Arc::clone(&woken);
    let hints = Hints::new(move || wake.store(true, Ordering::SeqCst));
    let names = [("file".into(), SetIndices::default())].into();
    hints.subscriptions().places.insert(PathBuf::from("/d"), Subscribers { names, ..Subscribers::default() });
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
    for kind in [AccessKind::Open(AccessMode::Any), AccessKind::Read, AccessKind::Close(AccessMode::Read)] {
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
fn inv11_unwatchable_directory_is_reported_with_its_cause() {
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
fn inv05_no_notify_path_is_a_prefix_of_another_or_its_event() {
    let dirs = ["/", "/a", "/a/b", "/a/b/c", "/a/b/c/d", "/b", "/proc/1/cwd/..", "/proc/1/cwd/../b"];
    for dir in dirs.map(Path::new) {
        let path = notify_path(dir);
        assert_eq!(real_path(&path), dir);
        assert_eq!(real_path(&path.join("name")), dir.join("name"));
        assert_eq!(fs::metadata(&path).ok().map(|a| number(&a)), fs::metadata(dir).ok().map(|b| number(&b)));
        for other in dirs.map(Path::new).into_iter().filter(|other| *other != dir && dir.parent().is_some()) {
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
fn inv12_unwatched_directory_sends_no_event() {
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
fn inv12_rewatched_directory_sends_no_event_of_its_old_place() {
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
    let info = all().find(|info| !others.contains(info)).expect("the watch is reported");
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
fn inv05_link_in_place_of_a_directory_removes_no_other_watch() {
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
