//! Makes one attempt, while a publisher acts between two of its calls.
#![cfg(all(not(loom), unix))]
#![allow(clippy::expect_used, missing_docs)] // reason: a test

mod directories;
mod unchanged;

use std::{
    fs, io,
    os::unix::fs::{FileExt as _, symlink},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use rustls_reload::{
    PathSet,
    fs::NativeFs,
    internal::snapshot::{FILE_LIMIT, Failure, Snapshot, take, take_since},
};
use rustls_reload_testkit::{InterceptFs, Verb};

/// A directory, at a path without symlinks.
struct Disk {
    _dir: tempfile::TempDir,
    root: PathBuf,
}

impl Disk {
    fn new() -> Self {
        Self::within(tempfile::tempdir())
    }

    fn within(dir: std::io::Result<tempfile::TempDir>) -> Self {
        let dir = dir.expect("a directory");
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
        Failure::Torn { at, why, .. } => (at.clone(), true, why.clone()),
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
    let moves: [(&str, Happens); 6] = [
        ("link", |disk| {
            disk.link("other", "next");
            disk.rename("next", "link");
        }),
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

/// Checks: INV-01 (a), INV-16. Otherwise its first bytes would count as all of it.
#[cfg(target_os = "linux")]
#[test]
fn inv01_a_file_with_more_than_its_length_is_not_read_in_part() {
    // procfs gives its files the length 0.
    let path = PathBuf::from("/proc/version");
    let snapshot = take(&NativeFs::default(), &PathSet::new([&path]).expect("a set"));
    let why = "more bytes than its length of 0 can be read".to_owned();
    assert_eq!(failed(&snapshot), (path, false, why));
    let disk = Arc::new(Disk::new());
    disk.write("file", "text");
    let there = Arc::clone(&disk);
    let snapshot =
        disk.snapshot_before(&["file"], None, (Verb::Read, 1), move || there.write("file", "texts"));
    let why = "more bytes than its length of 4 can be read".to_owned();
    assert_eq!(failed(&snapshot), (disk.path("file"), true, why));
    disk.write("file", "");
    assert_eq!(texts(&disk.snapshot(&["file"])), [""]);
}
