//! Snapshots of directories in which every file counts.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use rustls_reload::{
    PathSet,
    fs::NativeFs,
    internal::{
        snapshot::{FILE_LIMIT, HIDDEN_LIMIT, LISTING_LIMIT, Snapshot, take},
        ways,
    },
};
use rustls_reload_testkit::{InterceptFs, Verb};

use crate::{Disk, failed, texts};

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
    // On ext4 so many new files take seconds.
    let disk = Disk::within(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()));
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
