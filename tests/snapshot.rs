//! Makes one attempt, while a publisher acts between two of its calls.
#![cfg(all(not(loom), unix))]
#![allow(clippy::expect_used, missing_docs)] // reason: a test

use std::{
    fs, io,
    os::unix::fs::{FileExt as _, symlink},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use rustls_reload::{
    Files, PathSet,
    fs::NativeFs,
    internal::{
        snapshot::{FILE_LIMIT, Failure, HIDDEN_LIMIT, LISTING_LIMIT, Snapshot, take, take_since},
        ways,
    },
};
use rustls_reload_testkit::{InterceptFs, Verb};

/// A directory, at a path without symlinks.
struct Disk {
    _dir: tempfile::TempDir,
    root: PathBuf,
}

impl Disk {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("its path");
        Self { _dir: dir, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn write(&self, name: &str, bytes: &str) {
        fs::write(self.path(name), bytes).expect("written");
    }

    fn mkdir(&self, name: &str) {
        fs::create_dir(self.path(name)).expect("made");
    }

    fn link(&self, target: &str, name: &str) {
        symlink(target, self.path(name)).expect("linked");
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).expect("renamed");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("removed");
    }

    fn set(&self, names: &[&str]) -> PathSet {
        PathSet::new(names.iter().map(|name| self.path(name))).expect("a set")
    }

    fn snapshot(&self, names: &[&str]) -> Snapshot {
        take(&NativeFs::default(), &self.set(names))
    }

    /// Takes a snapshot with `before` called before each verb. Its result makes the verb fail, or
    /// limits the bytes of a read.
    fn snapshot_while(
        &self,
        names: &[&str],
        earlier: Option<&Snapshot>,
        before: impl FnMut(Verb) -> io::Result<usize> + Send + 'static,
    ) -> Snapshot {
        let before = Mutex::new(before);
        let hook = move |verb| (before.lock().expect("no panic"))(verb);
        let earlier = earlier.map(|snapshot| (&snapshot.walk, snapshot.files.as_ref().expect("read")));
        take_since(&InterceptFs::new(NativeFs::default(), Arc::new(hook)), &self.set(names), earlier)
    }

    /// Takes a snapshot during which `happens` runs before the n-th call of a verb.
    fn snapshot_before(
        &self,
        names: &[&str],
        earlier: Option<&Snapshot>,
        (verb, mut nth): (Verb, usize),
        happens: impl Fn() + Send + 'static,
    ) -> Snapshot {
        self.snapshot_while(names, earlier, move |called| {
            if called == verb {
                nth = nth.wrapping_sub(1);
                if nth == 0 {
                    happens();
                }
            }
            Ok(usize::MAX)
        })
    }

    /// Waits until the file system's clock has ticked: a change before this call and one after it
    /// have different times.
    fn wait_for_tick(&self) {
        let stamp = || {
            self.write("tick", "tock");
            fs::metadata(self.path("tick")).and_then(|stat| stat.modified()).expect("a time")
        };
        let first = stamp();
        while stamp() == first {
            std::thread::yield_now();
        }
    }
}

/// Returns the bytes that were read, as text.
fn texts(snapshot: &Snapshot) -> Vec<String> {
    let files = snapshot.files.as_ref().expect("read");
    files.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect()
}

/// Returns where an attempt failed, whether it was torn, and why.
fn failed(snapshot: &Snapshot) -> (PathBuf, bool, String) {
    match snapshot.files.as_ref().expect_err("it failed") {
        Failure::Torn { at, why } => (at.clone(), true, why.clone()),
        Failure::Unreadable { at, why, .. } => (at.clone(), false, why.clone()),
        other => panic!("{other}"),
    }
}

#[test]
fn a_set_is_read_in_the_order_of_its_paths_whatever_leads_to_them() {
    let disk = Disk::new();
    for dir in ["a", "a/b", "c"] {
        disk.mkdir(dir);
    }
    disk.write("a/b/one", "1");
    disk.write("c/one", "2");
    disk.write("c/two", "3");
    disk.link("../c", "a/relative");
    disk.link(disk.path("a/b").to_str().expect("text"), "c/absolute");
    let up = format!("{}{}", "../".repeat(40), disk.path("c/two").display());
    let names = ["c/two", "a/b/one", "c/one", "a/relative/two", "c/absolute/../../c/./one", &up, "c/two"];
    let snapshot = disk.snapshot(&names);
    assert_eq!(texts(&snapshot), ["3", "1", "2", "3", "2", "3", "3"]);
    let set = disk.set(&names);
    let paths: Vec<_> = names.iter().map(|name| disk.path(name)).collect();
    let files = snapshot.files.as_ref().expect("read");
    assert_eq!(files.iter().map(|(path, _)| path).collect::<Vec<_>>(), set.paths());
    assert_eq!(set.paths().len(), paths.len());
    assert_eq!(files.get(1), Some((set.paths()[1].as_path(), &b"1"[..])));
    assert_eq!(files.get(7), None);
}

#[test]
fn inv12_a_file_is_read_up_to_its_limit_and_refused_beyond() {
    let disk = Disk::new();
    let file = fs::File::create(disk.path("file")).expect("made");
    file.set_len(FILE_LIMIT).expect("as long");
    file.write_at(b"!", FILE_LIMIT - 1).expect("written");
    let snapshot = disk.snapshot(&["file"]);
    let bytes = snapshot.files.as_ref().expect("read").get(0).expect("one").1;
    assert_eq!((bytes.len() as u64, bytes.last()), (4 << 20, Some(&b'!')));
    file.set_len(FILE_LIMIT + 1).expect("longer");
    let why = "4194305 bytes are more than the limit of 4194304".to_owned();
    assert_eq!(failed(&disk.snapshot(&["file"])), (disk.path("file"), false, why));
}

#[test]
fn inv12_links_and_names_over_their_limits_are_rejected() {
    let disk = Disk::new();
    disk.write("link0", "end");
    for i in 0..41 {
        disk.link(&format!("link{i}"), &format!("link{}", i + 1));
    }
    assert_eq!(texts(&disk.snapshot(&["link40"])), ["end"]);
    let why = "more than 40 links to follow: perhaps a link loop".to_owned();
    assert_eq!(failed(&disk.snapshot(&["link41"])), (disk.path("link1"), false, why));
    disk.mkdir("a");
    let on_the_way = disk.root.components().count() - 1;
    let names = |count: usize| "a/../".repeat(count - on_the_way - 1) + "link0";
    assert_eq!(texts(&disk.snapshot(&[&names(512)])), ["end"]);
    let why = "more than 512 names to look up: perhaps a link loop".to_owned();
    assert_eq!(failed(&disk.snapshot(&[&names(513)])), (disk.path("link0"), false, why));
}

/// Checks: INV-11. A failure names the obstacle where it lies, and the kind of entry that was
/// wanted there.
#[test]
fn inv11_what_is_no_file_or_no_directory_is_named_where_it_lies() {
    let disk = Disk::new();
    disk.mkdir("dir");
    disk.write("file", "");
    disk.link("dir", "to_dir");
    disk.link("file", "to_file");
    disk.link("fifo", "to_fifo");
    mknodat(CWD, disk.path("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
    for (name, at, why) in [
        ("to_dir", "dir", "a directory where a regular file is expected"),
        ("dir/.", "dir/.", "a directory where a regular file is expected"),
        ("dir/..", "dir/..", "a directory where a regular file is expected"),
        ("to_file/name", "file", "a regular file where a directory is expected"),
        (
            "to_fifo",
            "fifo",
            "a pipe where a regular file is expected: each reload reads the file again, so write the \
             content to a regular file",
        ),
        ("to_fifo/name", "fifo", "a pipe where a directory is expected"),
        ("to_dir/none", "dir/none", "cannot find: No such file or directory (os error 2)"),
        ("none/name", "none", "cannot find: No such file or directory (os error 2)"),
    ] {
        assert_eq!(failed(&disk.snapshot(&[name])), (disk.path(at), false, why.to_owned()), "{name}");
    }
    // The text names the path of the set and the entry on the way to it, unless both are equal.
    let reported = |name: &str| disk.snapshot(&[name]).files.expect_err("it failed").to_string();
    let missing = "cannot find: No such file or directory (os error 2)";
    assert_eq!(reported("none"), format!("read: {}: {missing}", disk.path("none").display()));
    let (path, at) = (disk.path("to_dir/none"), disk.path("dir/none"));
    assert_eq!(reported("to_dir/none"), format!("read: {}: {missing} (at {})", path.display(), at.display()));
}

/// Checks: INV-05. Where one path fails the others are walked all the same: they stay watched.
#[test]
fn inv05_a_path_that_cannot_be_read_hides_no_other_path() {
    let disk = Disk::new();
    disk.mkdir("dir");
    disk.write("dir/file", "text");
    // The entry that ended one path is then a directory on the way of another.
    let snapshot = disk.snapshot(&["none", "dir", "dir/file"]);
    assert_eq!(failed(&snapshot).0, disk.path("none"));
    let dir = snapshot.walk.dirs.iter().find(|dir| dir.path == disk.path("dir")).expect("walked");
    assert_eq!(dir.names, ["file".into()].into());
    assert_eq!(snapshot.walk.traces.len(), 3);
    assert_eq!(snapshot.walk.entries.last().map(|entry| &entry.path), Some(&disk.path("dir/file")));
}

/// Checks: INV-01 (a). If any entry differs at its second lookup, the bytes were not together.
#[test]
fn inv01_file_moved_between_two_lookups_tears_the_attempt() {
    type Happens = fn(&Disk);
    let moves: [(&str, Happens); 7] = [
        ("link", |disk| {
            disk.link("other", "next");
            disk.rename("next", "link");
        }),
        ("file", |disk| disk.write("file", "longer text")),
        ("file", |disk| {
            disk.write("next", "text");
            disk.rename("next", "file");
        }),
        ("file", |disk| {
            // Neither the inode nor the length changes.
            disk.wait_for_tick();
            disk.write("file", "TEXT");
        }),
        ("file", |disk| disk.remove("file")),
        ("dir", |disk| {
            disk.mkdir("next");
            disk.write("next/inner", "text");
            disk.rename("dir", "old");
            disk.rename("next", "dir");
        }),
        ("dir", |disk| {
            disk.rename("dir", "old");
            disk.write("dir", "");
        }),
    ];
    for (at, happens) in moves {
        let disk = Arc::new(Disk::new());
        for dir in ["dir", "other"] {
            disk.mkdir(dir);
            disk.write(&format!("{dir}/inner"), "text");
        }
        disk.write("file", "text");
        disk.link("dir", "link");
        let names = ["link/inner", "file"];
        let before = disk.snapshot(&names);
        assert_eq!(texts(&before), ["text", "text"]);
        let there = Arc::clone(&disk);
        // All files are open, and the last is about to be read.
        let snapshot = disk.snapshot_before(&names, None, (Verb::Read, 2), move || happens(&there));
        let why = "replaced between two lookups".to_owned();
        assert_eq!(failed(&snapshot), (disk.path(at), true, why), "{at}");
        assert!(snapshot.files.is_err_and(|failure| failure.is_torn()));
    }
}

/// Checks: INV-05, INV-08. Other activity in a directory never postpones a reload.
#[test]
fn inv05_a_neighbour_that_comes_or_goes_tears_nothing() {
    let disk = Arc::new(Disk::new());
    disk.mkdir("dir");
    disk.write("dir/file", "text");
    let there = Arc::clone(&disk);
    let snapshot =
        disk.snapshot_before(&["dir/file"], None, (Verb::Read, 1), move || there.write("dir/neighbour", ""));
    assert_eq!(texts(&snapshot), ["text"]);
}

/// Checks: INV-01 (a), INV-11. A name that a publisher removes or creates while the rest is read is
/// no fault of the set.
#[test]
fn inv11_a_name_that_is_found_after_all_tears_the_attempt() {
    let disk = Arc::new(Disk::new());
    disk.link("none", "link");
    let there = Arc::clone(&disk);
    // The symlink is about to be looked up again.
    let snapshot =
        disk.snapshot_before(&["link"], None, (Verb::ReadLink, 2), move || there.write("none", ""));
    assert_eq!(failed(&snapshot), (disk.path("none"), true, "replaced between two lookups".to_owned()));
    assert!(!failed(&disk.snapshot(&["none/more"])).1, "it is a file, and stays one");
}

/// Checks: INV-01 (a), INV-11. A name that was there a moment ago and cannot be opened has moved;
/// any other error is a fault.
#[test]
fn inv11_file_found_but_not_opened_moves_unless_it_is_forbidden() {
    use io::ErrorKind::{InvalidInput, NotADirectory, NotFound, PermissionDenied, StaleNetworkFileHandle};
    let disk = Disk::new();
    disk.write("file", "text");
    for (kind, is_torn) in [
        (NotFound, true),
        (NotADirectory, true),
        (InvalidInput, true),
        (StaleNetworkFileHandle, true),
        (PermissionDenied, false),
    ] {
        let snapshot = disk.snapshot_while(&["file"], None, move |verb| {
            if verb == Verb::Open { Err(kind.into()) } else { Ok(usize::MAX) }
        });
        let found = if is_torn { "found, but " } else { "" };
        let why = format!("{found}cannot open: {}", io::Error::from(kind));
        assert_eq!(failed(&snapshot), (disk.path("file"), is_torn, why), "{kind}");
    }
}

#[test]
fn inv01_a_file_that_is_another_once_it_is_open_is_not_read() {
    let disk = Arc::new(Disk::new());
    disk.write("file", "text");
    let there = Arc::clone(&disk);
    let snapshot =
        disk.snapshot_before(&["file"], None, (Verb::Open, 1), move || there.write("file", "longer text"));
    let why = "the file was replaced or changed between its lookup and its open".to_owned();
    assert_eq!(failed(&snapshot), (disk.path("file"), true, why));
}

/// Checks: INV-01 (a), INV-11. A file that never had the length it claims is a fault; a file that
/// was cut off has moved.
#[test]
fn inv11_a_file_that_ends_early_was_cut_off_or_lies() {
    let disk = Arc::new(Disk::new());
    disk.write("file", "text");
    let bytes_of = |most: usize| {
        let mut brought = 0;
        move |verb| {
            let rest: usize = if verb == Verb::Read { most - brought } else { 0 };
            brought += rest.min(1);
            Ok(rest.min(1))
        }
    };
    assert_eq!(texts(&disk.snapshot_while(&["file"], None, bytes_of(4))), ["text"], "a byte at a time");
    let why = "1 bytes fewer than its length can be read".to_owned();
    let snapshot = disk.snapshot_while(&["file"], None, bytes_of(3));
    assert_eq!(failed(&snapshot), (disk.path("file"), false, why));
    let there = Arc::clone(&disk);
    let snapshot = disk.snapshot_before(&["file"], None, (Verb::Read, 1), move || there.write("file", "te"));
    let why = "2 bytes fewer than its length can be read".to_owned();
    assert_eq!(failed(&snapshot), (disk.path("file"), true, why));
}

/// Returns the calls of a snapshot, in order, without those on the way to the disk.
fn calls(disk: &Disk, names: &[&str], earlier: Option<&Snapshot>) -> (Snapshot, Vec<Verb>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&calls);
    let snapshot = disk.snapshot_while(names, earlier, move |verb| {
        noted.lock().expect("no panic").push(verb);
        Ok(usize::MAX)
    });
    let calls = calls.lock().expect("no panic").split_off(2 * disk.root.components().count());
    (snapshot, calls)
}

/// Checks: INV-12. An idle server looks nothing up twice, and reads of a symlink only its target.
#[test]
fn inv12_snapshot_of_unchanged_files_looks_nothing_up_again() {
    use Verb::{Open, OpenDir, Read, ReadLink, Stat, StatDir, StatFile};
    let disk = Disk::new();
    disk.mkdir("dir");
    disk.write("dir/file", "text");
    disk.link("dir", "link");
    let (first, _) = calls(&disk, &["link/file"], None);
    let short = [ReadLink, OpenDir, StatDir, Stat, Open, StatFile, Read];
    let (snapshot, made) = calls(&disk, &["link/file"], Some(&first));
    // Except the times of the directory above, in which other tests are at work.
    let own = |snapshot: &Snapshot| {
        let entries = snapshot.walk.entries.iter().filter(|entry| entry.path.starts_with(&disk.root));
        entries.cloned().collect::<Vec<_>>()
    };
    assert!(snapshot.walk.same_as(&first.walk), "{:?} for {:?}", snapshot.walk, first.walk);
    assert_eq!(own(&snapshot), own(&first));
    assert_eq!((&snapshot.walk.dirs, snapshot.files.as_ref()), (&first.walk.dirs, first.files.as_ref()));
    assert_eq!(made, short);
    // Other bytes that no stat shows, and another way to the same bytes: both cause a second
    // lookup.
    let files = Files::new([(disk.path("link/file"), b"TEXT")]);
    let lied = Snapshot { walk: first.walk.clone(), files: Ok(files) };
    let (snapshot, made) = calls(&disk, &["link/file"], Some(&lied));
    assert_eq!((texts(&snapshot), &made[..7]), (vec!["text".to_owned()], &short[..]));
    assert!(made.len() > 7, "{made:?}");
    disk.mkdir("next");
    disk.write("next/file", "text");
    disk.remove("link");
    disk.link("next", "link");
    let (snapshot, made) = calls(&disk, &["link/file"], Some(&first));
    assert_eq!(texts(&snapshot), ["text"]);
    assert!(!snapshot.walk.same_as(&first.walk));
    assert_eq!(made[..9], [ReadLink, Stat, ReadLink, OpenDir, StatDir, Stat, Open, StatFile, Read]);
    assert!(made.len() > 9, "{made:?}");
}

/// Checks: INV-01, INV-04. An entry that was a symlink may lead elsewhere now, or be a directory.
#[test]
fn inv01_what_was_a_link_is_read_as_what_it_is_now() {
    let disk = Arc::new(Disk::new());
    for dir in ["one", "two", "three"] {
        disk.mkdir(dir);
        disk.write(&format!("{dir}/file"), dir);
    }
    disk.link("one", "link");
    let names = ["link/file"];
    let first = disk.snapshot(&names);
    disk.remove("link");
    disk.link("two", "link");
    assert_eq!(texts(&disk.snapshot_while(&names, Some(&first), |_| Ok(usize::MAX))), ["two"]);
    disk.remove("link");
    disk.rename("three", "link");
    let snapshot = disk.snapshot_while(&names, Some(&first), |_| Ok(usize::MAX));
    assert_eq!(texts(&snapshot), ["three"]);
    let last = snapshot.walk.dirs.last().expect("walked");
    assert_eq!((&last.path, &last.names), (&disk.path("link"), &["file".into()].into()));
    // The directory is replaced between its stat and its opening, which is the last.
    let there = Arc::clone(&disk);
    let last = disk.root.components().count();
    let snapshot = disk.snapshot_before(&names, Some(&first), (Verb::OpenDir, last), move || {
        there.rename("link", "three");
        there.rename("two", "link");
    });
    let why = "the directory was replaced between its lookup and its open".to_owned();
    assert_eq!(failed(&snapshot), (disk.path("link"), true, why));
}

/// Checks: INV-11. No publisher is at work where snapshot after snapshot is torn in the same way
/// and nothing has moved.
#[test]
fn inv11_two_attempts_are_torn_alike_only_where_nothing_has_moved() {
    let disk = Disk::new();
    disk.write("file", "text");
    disk.link("file", "link");
    let failing = |kind: io::ErrorKind| {
        disk.snapshot_while(&["link"], None, move |verb| {
            if verb == Verb::Open { Err(kind.into()) } else { Ok(usize::MAX) }
        })
    };
    use io::ErrorKind::{NotFound, PermissionDenied, StaleNetworkFileHandle};
    let first = failing(NotFound);
    assert!(failing(NotFound).is_torn_as(&first));
    assert!(!failing(StaleNetworkFileHandle).is_torn_as(&first), "torn in another way");
    let denied = failing(PermissionDenied);
    assert!(!failing(PermissionDenied).is_torn_as(&denied), "not torn");
    assert!(!first.is_torn_as(&denied) && !denied.is_torn_as(&first));
    let read = disk.snapshot(&["link"]);
    assert!(!read.is_torn_as(&first) && !first.is_torn_as(&read));
    let missing = || Snapshot {
        walk: disk.snapshot(&["none"]).walk,
        files: Err(Failure::Torn { at: disk.path("none"), why: String::new() }),
    };
    assert!(!missing().is_torn_as(&missing()), "what comes and goes shows nothing");
    // The symlink was recreated, and leads where it did.
    disk.remove("link");
    disk.wait_for_tick();
    disk.link("file", "link");
    assert!(!failing(NotFound).is_torn_as(&first), "somebody is at work");
    let reported = |failure: Failure| (failure.clone().for_good().to_string(), failure.to_string());
    let path = disk.path("file").display().to_string();
    let why = "found, but cannot open: entity not found";
    let changing = format!("changing: {path}: the files changed while they were read");
    assert_eq!(reported(first.files.expect_err("torn")), (format!("read: {path}: {why}"), changing));
}

/// Takes a snapshot of these paths and of every file in `d`.
fn snapshot_in_d(
    disk: &Disk,
    names: &[&str],
    before: impl FnMut(Verb) + Send + 'static,
) -> (PathSet, Snapshot) {
    let before = Mutex::new(before);
    let hook = move |verb| {
        (before.lock().expect("no panic"))(verb);
        Ok(usize::MAX)
    };
    let set = disk.set(names).directory(disk.path("d")).expect("a set");
    let snapshot = take(&InterceptFs::new(NativeFs::default(), Arc::new(hook)), &set);
    (set, snapshot)
}

#[test]
fn directory_files_follow_all_paths_in_order_of_names() {
    let disk = Arc::new(Disk::new());
    for dir in ["d", "d/sub", "e"] {
        disk.mkdir(dir);
    }
    for (name, text) in [("d/b", "2"), ("d/.c", "hidden"), ("e/d", "3"), ("d/a", "1"), ("f", "0")] {
        disk.write(name, text);
    }
    disk.link("../e/d", "d/d");
    disk.link("sub", "d/to_sub");
    let (set, snapshot) = snapshot_in_d(&disk, &["f", "d/b"], |_| {});
    assert_eq!(texts(&snapshot), ["0", "2", "1", "2", "3"]);
    let all = ["f", "d/b", "d", "d/a", "d/b", "d/d", "d/sub", "d/to_sub"];
    assert_eq!(ways(&set, &snapshot.walk), all.map(|name| disk.path(name)));
    // The name comes while the others are read: they were never there without it.
    let (there, mut reads) = (Arc::clone(&disk), 0);
    let (_, snapshot) = snapshot_in_d(&disk, &["f"], move |verb| {
        reads += usize::from(verb == Verb::Read);
        if verb == Verb::Read && reads == 4 {
            there.write("d/late", "4");
        }
    });
    assert_eq!(failed(&snapshot), (disk.path("d"), true, "replaced between two lookups".to_owned()));
    // A file that cannot be read fails the attempt, and is named by its path.
    disk.link("none", "d/nowhere");
    let reported = snapshot_in_d(&disk, &["f"], |_| {}).1.files.expect_err("it failed").to_string();
    let (path, at) = (disk.path("d/nowhere"), disk.path("d/none"));
    let why = "cannot find: No such file or directory (os error 2)";
    assert_eq!(reported, format!("read: {}: {why} (at {})", path.display(), at.display()));
}

#[test]
fn inv12_a_directory_is_read_up_to_its_limits_and_refused_beyond() {
    let disk = Disk::new();
    disk.mkdir("d");
    for i in 0..LISTING_LIMIT {
        disk.write(&format!("d/{i}"), "text");
    }
    disk.write("d/.hidden", "");
    let opened = Arc::new(Mutex::new((0, 0)));
    let count = Arc::clone(&opened);
    let (_, snapshot) = snapshot_in_d(&disk, &["d/0"], move |verb| {
        let (open, most) = &mut *count.lock().expect("no panic");
        match verb {
            Verb::Open => *open += 1,
            // Each file is whole after one read, and closed before the next.
            Verb::Read => *open -= 1,
            _ => {}
        }
        *most = (*open).max(*most);
    });
    assert_eq!(texts(&snapshot), vec!["text"; 1 + LISTING_LIMIT]);
    assert_eq!(*opened.lock().expect("no panic"), (0, 64), "files that are open at once");
    disk.write("d/more", "text");
    let why = "there are more than 1024 names in it".to_owned();
    assert_eq!(failed(&snapshot_in_d(&disk, &["d/0"], |_| {}).1), (disk.path("d"), false, why));

    let disk = Disk::new();
    disk.write("f", "");
    disk.mkdir("d");
    for i in 0..16 {
        let file = fs::File::create(disk.path(&format!("d/{i}"))).expect("made");
        file.set_len(FILE_LIMIT).expect("as long");
    }
    let snapshot = snapshot_in_d(&disk, &["f"], |_| {}).1;
    let bytes: usize = snapshot.files.expect("read").iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(bytes, 64 << 20);
    disk.write("d/more", "!");
    let why = "67108865 bytes in it are more than the limit of 67108864".to_owned();
    assert_eq!(failed(&snapshot_in_d(&disk, &["f"], |_| {}).1), (disk.path("d"), false, why));
}

/// Checks: INV-12. Holds for any disk: a file system may name entries without end.
#[test]
fn inv12_names_that_do_not_count_are_passed_over_up_to_a_limit_too() {
    let disk = Disk::new();
    disk.write("f", "");
    disk.mkdir("d");
    disk.write("d/a", "text");
    for i in 0..HIDDEN_LIMIT {
        disk.write(&format!("d/.{i}"), "");
    }
    assert_eq!(texts(&snapshot_in_d(&disk, &["f"], |_| {}).1), ["", "text"]);
    disk.write("d/.more", "");
    let why = "cannot list: more than 16384 names in it begin with a dot".to_owned();
    assert_eq!(failed(&snapshot_in_d(&disk, &["f"], |_| {}).1), (disk.path("d"), false, why));
}

#[test]
fn directory_within_another_is_reported_with_the_names_in_it() {
    let disk = Disk::new();
    for dir in ["d", "d/e"] {
        disk.mkdir(dir);
    }
    for name in ["f", "d/a", "d/e/b"] {
        disk.write(name, "");
    }
    let set = disk.set(&["f"]).directory(disk.path("d")).and_then(|set| set.directory(disk.path("d/e")));
    let set = set.expect("a set");
    let snapshot = take(&NativeFs::default(), &set);
    let all = ["f", "d", "d/e", "d/a", "d/e", "d/e/b"];
    assert_eq!(ways(&set, &snapshot.walk), all.map(|name| disk.path(name)));
}
