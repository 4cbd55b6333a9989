//! Tests of watches that several file sets share.

use super::*;

/// Checks: INV-05.
///
/// Another directory is now where the directory of another file set was, and its events say
/// nothing about that set.
#[test]
fn inv05_a_directory_that_has_moved_is_not_listened_to_where_it_was() {
    let (mut watch, notes) = noting();
    watch.arm(0, &[dir("/d", 2, "crt")]);
    watch.arm(0, &[dir("/d", 3, "crt")]);
    taken(&notes);
    watch.arm(1, &[dir("/e", 2, "key")]);
    assert_eq!(taken(&notes), ["watch /e"]);
    assert_eq!(hinted(&watch, "/e/key"), [1]);
    assert_eq!(hinted(&watch, "/d/key"), [0; 0]);
}

/// Checks: INV-12.
///
/// A write in one file set's directory does not concern another file set.
#[test]
fn inv12_event_wakes_only_sets_that_looked_its_name_up() {
    let (mut watch, notes) = noting();
    watch.arm(0, &[dir("/", 1, "a"), dir("/a", 2, "crt")]);
    watch.arm(1, &[dir("/", 1, "b"), dir("/b", 3, "crt")]);
    watch.arm(2, &[dir("/", 1, "a"), dir("/a", 2, "key")]);
    assert_eq!(taken(&notes), ["watch /", "watch /a", "watch /b"], "each directory once");
    assert_eq!(hinted(&watch, "/a/crt"), [0]);
    assert_eq!(hinted(&watch, "/a/key"), [2]);
    assert_eq!(hinted(&watch, "/b"), [1]);
    assert_eq!(hinted(&watch, "/a"), [0, 2]);
    assert_eq!(hinted(&watch, "/"), [0, 1, 2]);
    watch.arm(0, &[dir("/", 1, "b"), dir("/b", 3, "crt")]);
    assert_eq!(taken(&notes), [""; 0], "the other set is still in the one, and the other is watched");
    assert_eq!(hinted(&watch, "/a/crt"), [0; 0], "a name that no set looks up");
    assert_eq!(hinted(&watch, "/b/crt"), [0, 1]);
    watch.hints.lost();
    assert!(matches!(watch.take_hinted(), Hinted::All));
}

/// Checks: INV-05.
///
/// One file set may leave the path under which it shares a watch with another, which goes on
/// receiving events.
#[test]
fn inv05_watch_shared_by_two_sets_outlives_the_first() {
    let (mut watch, notes) = noting();
    watch.arm(0, &[dir("/one", 2, "crt")]);
    watch.arm(1, &[dir("/two", 2, "crt")]);
    assert_eq!(taken(&notes), ["watch /one"]);
    assert_eq!(hinted(&watch, "/one/crt"), [0, 1]);
    let armed = watch.arm(0, &[dir("/other", 3, "crt")]);
    assert_eq!(taken(&notes), ["unwatch /one", "watch /other"]);
    assert_eq!(armed.others, BTreeSet::from([1]), "who listened there has to watch it under its own path");
    assert!(watch.arm(1, &[dir("/two", 2, "crt")]).new, "and to look again");
    assert_eq!(taken(&notes), ["watch /two"]);
    assert_eq!(hinted(&watch, "/two/crt"), [1]);
    assert_eq!(hinted(&watch, "/one/crt"), [0; 0]);
}

/// Checks: INV-05.
///
/// Each file set that subscribes to a directory that was watched anew may have missed a change
/// of it.
#[test]
fn inv05_rewatched_directory_is_reread_by_all_its_sets() {
    let (mut watch, notes) = noting();
    for set in 0..3 {
        watch.arm(set, &[dir("/d", 2, "crt")]);
    }
    watch.hints.touched(Path::new("/d"), true);
    taken(&notes);
    let armed = watch.arm(1, &[dir("/d", 3, "crt")]);
    assert_eq!(taken(&notes), ["unwatch /d", "watch /d"]);
    assert!(armed.new);
    assert_eq!(armed.others, BTreeSet::from([0, 2]));
}

/// Checks: INV-05.
///
/// Inode numbers are reused, and a file set may have found another directory at a path than the
/// last set that leaves it.
#[test]
fn inv05_a_directory_is_never_listened_to_where_another_is_watched() {
    let (mut watch, notes) = noting();
    watch.arm(0, &[dir("/p", 2, "crt")]);
    watch.arm(1, &[dir("/p", 2, "key")]);
    watch.arm(1, &[dir("/p", 3, "key")]);
    watch.arm(1, &[]);
    watch.arm(0, &[]);
    watch.arm(0, &[dir("/p", 4, "crt")]);
    taken(&notes);
    watch.arm(1, &[dir("/x", 3, "key")]);
    assert_eq!(taken(&notes), ["watch /x"]);
    assert_eq!(hinted(&watch, "/x/key"), [1]);
}
