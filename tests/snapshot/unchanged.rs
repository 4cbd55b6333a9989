//! Snapshots that are compared with an earlier one of the same files.

use std::{
    fs, io,
    sync::{Arc, Mutex},
};

use rustls_reload::{
    Files,
    internal::snapshot::{Failure, Snapshot},
};
use rustls_reload_testkit::Verb;

use crate::{Disk, failed, texts};

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
        files: Err(Failure::Torn { at: disk.path("none"), why: String::new(), reason: None, source: None }),
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

/// Checks: INV-11. A file that is never read whole is rejected once, whatever its length and the
/// system's words are.
#[test]
fn inv11_errors_of_torn_reads_are_equal_whatever_their_figures() {
    let disk = Disk::new();
    let refused = |text: &str, fails: Option<(io::ErrorKind, &'static str)>| {
        disk.write("file", text);
        let path = disk.path("file");
        let snapshot = disk.snapshot_while(&["file"], None, move |verb| match (verb, fails) {
            (Verb::Open, Some((kind, words))) => Err(io::Error::new(kind, words)),
            (Verb::Read, None) => {
                let length = fs::metadata(&path)?.len();
                fs::File::options().write(true).open(&path)?.set_len(length + 1)?;
                Ok(0)
            }
            _ => Ok(usize::MAX),
        });
        let failure = snapshot.files.expect_err("torn");
        assert!(failure.is_torn(), "{failure}");
        failure.for_good()
    };
    use io::ErrorKind::{NotFound, StaleNetworkFileHandle};
    let (short, long) = (refused("12", None), refused("12345", None));
    assert_eq!(short, long);
    assert!(short.why().starts_with("2 bytes") && long.why().starts_with("5 bytes"), "{short}; {long}");
    let gone = refused("12", Some((NotFound, "gone")));
    assert_eq!((gone.io_kind(), gone.why()), (Some(NotFound), "found, but cannot open: gone"));
    assert_eq!(gone, refused("12", Some((NotFound, "no longer there"))));
    assert_ne!(gone, short);
    assert_ne!(gone, refused("12", Some((StaleNetworkFileHandle, "gone"))));
}
