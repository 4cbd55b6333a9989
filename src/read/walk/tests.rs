//! Compares walks that are written down here.

use super::*;

fn stat(kind: Kind, ino: u64, mtime: Stamp, ctime: Stamp) -> Stat {
    Stat { kind, id: FileId { dev: 1, ino }, size: 7, mtime, ctime }
}

fn entry(path: &str, seen: Lookup) -> Entry {
    Entry { path: path.into(), seen }
}

/// A file that was changed at `ctime`.
fn file(path: &str, ino: u64, ctime: Stamp) -> Entry {
    entry(path, Lookup::Node(stat(Kind::File, ino, 1, ctime)))
}

fn dir(path: &str, ino: u64, mtime: Stamp, ctime: Stamp) -> Entry {
    entry(path, Lookup::Node(stat(Kind::Dir, ino, mtime, ctime)))
}

/// A symlink that was created at `ctime`.
fn link(path: &str, target: &str, ctime: Stamp) -> Entry {
    entry(path, Lookup::Link(stat(Kind::Link, 99, ctime, ctime), target.into()))
}

/// A walk of paths through these entries. Each path ends at its last index; all entries before that
/// are wanted as directories.
fn walk(entries: &[Entry], ways: &[&[usize]]) -> Walk {
    let traces = ways.iter().map(|way| {
        let steps = way.iter().enumerate();
        steps.map(|(i, entry)| Step { entry: *entry, as_directory: i + 1 < way.len() }).collect()
    });
    Walk { entries: entries.to_vec(), traces: traces.collect(), dirs: Vec::new() }
}

/// Checks: INV-01, INV-08. Defines when entries differ, and when they are equal although they were
/// created anew.
#[test]
fn inv01_files_compare_by_stat_links_by_target_dirs_by_inode() {
    let node = |kind| entry("/a", Lookup::Node(stat(kind, 1, 1, 2)));
    let nothing = || entry("/a", Lookup::Nothing);
    for (one, other) in [
        (file("/a", 1, 2), file("/a", 1, 2)),
        (dir("/a", 1, 1, 2), dir("/a", 1, 3, 4)),
        (link("/a", "b", 1), link("/a", "b", 2)),
        (nothing(), nothing()),
    ] {
        assert!(one.same_as(&other) && other.same_as(&one), "{one:?} {other:?}");
        assert!(walk(&[one], &[]).same_as(&walk(&[other], &[])));
    }
    for (one, other) in [
        (file("/a", 1, 2), file("/b", 1, 2)),
        (file("/a", 1, 2), file("/a", 1, 3)),
        (file("/a", 1, 2), file("/a", 2, 2)),
        (dir("/a", 1, 1, 2), dir("/a", 2, 1, 2)),
        (link("/a", "b", 1), link("/a", "c", 1)),
        (node(Kind::File), node(Kind::Dir)),
        (nothing(), node(Kind::File)),
        (nothing(), link("/a", "b", 1)),
        (node(Kind::Link), link("/a", "b", 1)),
    ] {
        assert!(!one.same_as(&other) && !other.same_as(&one), "{one:?} {other:?}");
        assert!(!one.held_still_since(&other));
        assert!(!walk(&[one], &[]).same_as(&walk(&[other], &[])));
    }
}

/// Checks: INV-01 (b), ASM-05. An entry that was taken away and put back is equal, but a publisher
/// is at work on it.
#[test]
fn inv01_equal_content_with_moved_times_is_not_stable() {
    for (now, was, still) in [
        (file("/a", 1, 2), file("/a", 1, 2), true),
        (link("/a", "b", 1), link("/a", "b", 1), true),
        (link("/a", "b", 2), link("/a", "b", 1), false),
        (dir("/a", 1, 1, 2), dir("/a", 1, 1, 2), true),
        (dir("/a", 1, 1, 3), dir("/a", 1, 1, 2), false),
        // A neighbour came or went, and hides whether the directory itself moved.
        (dir("/a", 1, 3, 3), dir("/a", 1, 1, 2), true),
        (entry("/a", Lookup::Nothing), entry("/a", Lookup::Nothing), true),
    ] {
        assert!(now.same_as(&was));
        assert_eq!(now.held_still_since(&was), still, "{now:?} {was:?}");
        assert_eq!(walk(&[now], &[]).unchanged_since(&walk(&[was], &[])), still);
    }
}

#[test]
fn two_walks_are_the_same_where_every_entry_and_every_way_is() {
    let [a, b] = ["/a", "/b"].map(|path| file(path, 1, 1));
    let all = walk(&[a.clone(), b.clone()], &[&[0], &[1]]);
    for (other, same) in [
        (walk(&[a.clone(), b.clone()], &[&[0], &[1]]), true),
        (walk(&[a.clone(), b.clone()], &[&[1], &[0]]), false),
        (walk(&[a.clone(), b.clone(), b.clone()], &[&[0], &[1]]), false),
        (walk(&[a.clone(), a], &[&[0], &[1]]), false),
    ] {
        assert_eq!((all.same_as(&other), other.same_as(&all)), (same, same), "{other:?}");
        assert_eq!((all.unchanged_since(&other), other.unchanged_since(&all)), (same, same));
    }
}

/// Checks: INV-01 (b), INV-05. Only a directory's own move counts, not the changes of others in it.
#[test]
fn inv01_newest_change_is_of_a_moved_file_link_or_directory() {
    let newest = |entries: &[Entry]| walk(entries, &[]).newest(Duration::ZERO);
    assert_eq!(newest(&[entry("/a", Lookup::Nothing)]), None);
    let both = [link("/a", "b", 5), file("/b", 1, 8)];
    assert_eq!(newest(&both), Some(8));
    assert_eq!(newest(&[both[0].clone(), file("/b", 1, 3)]), Some(5));
    for (mtime, ctime, counts) in [(9, 10, true), (10, 10, false), (11, 10, false)] {
        let all = [&both[..], &[dir("/d", 2, mtime, ctime)]].concat();
        assert_eq!(newest(&all), Some(if counts { 10 } else { 8 }), "{mtime} {ctime}");
    }
    let mut listed = walk(&both, &[]);
    listed.note_listing(Path::new("/d"), FileId { dev: 1, ino: 2 }, 12);
    assert_eq!(listed.newest(Duration::ZERO), Some(12));
    assert_eq!(both[1].size(), 7);
    assert_eq!(entry("/a", Lookup::Nothing).size(), 0);
}

/// Checks: INV-01 (b), ASM-05. A change can be later than its timestamp: by a tick, or by two
/// seconds where the timestamp is in seconds.
#[test]
fn inv01_the_newest_change_can_be_later_than_every_timestamp() {
    let tick = Duration::from_nanos(30);
    let newest = |stamps: &[Stamp]| {
        let files: Vec<_> = stamps.iter().map(|stamp| file(&format!("/{stamp}"), 1, *stamp)).collect();
        walk(&files, &[]).newest(tick)
    };
    let second = 1_000_000_000;
    assert_eq!(newest(&[5 * second + 8, 4 * second + 1]), Some(5 * second + 38));
    assert_eq!(newest(&[5 * second]), Some(7 * second));
    assert_eq!(newest(&[5 * second + 8, 4 * second]), Some(6 * second), "the older one can be the later");
}

/// Two files in a directory that a symlink leads to. The symlink was created at `since`, the files
/// were last changed at `changed`.
fn release(number: u64, since: Stamp, changed: Stamp) -> Walk {
    let at = |name: &str| format!("/{number}{name}");
    let entries = [
        link("/current", &number.to_string(), since),
        dir(&at(""), number, 1, 1),
        file(&at("/crt"), 10 * number, changed),
        file(&at("/key"), 10 * number + 1, changed - 1),
    ];
    walk(&entries, &[&[0, 1, 2], &[0, 1, 3]])
}

/// Checks: INV-01 (a), ASM-06. One rename moved everything, and nothing of it has changed since.
#[test]
fn inv01_directory_link_commits_older_content_of_other_files() {
    let served = release(1, 10, 5);
    let next = |since| release(2, since, 15).change_since(&served);
    assert_eq!(
        [next(16), next(15), next(14)],
        [ChangeKind::Atomic, ChangeKind::AmbiguousTime, ChangeKind::InPlace]
    );
    let swapped = || release(2, 16, 15);
    let loose = |change: fn(&mut Walk)| {
        let mut now = swapped();
        change(&mut now);
        assert_eq!(now.change_since(&served), ChangeKind::InPlace, "{now:?}");
    };
    loose(|now| now.traces.truncate(1));
    loose(|now| now.traces.push(Vec::new()));
    // A file that was there before, and one that is not there any more.
    loose(|now| now.entries[3] = file("/1/key", 11, 4));
    loose(|now| now.entries[3].seen = Lookup::Nothing);
    // A directory in the place of another proves nothing.
    loose(|now| now.entries[0] = dir("/current", 2, 16, 16));
    // The key is reached through a symlink of its own.
    loose(|now| {
        now.entries.push(link("/current", "3", 16));
        now.traces[1][0].entry = 4;
    });
    // A symlink in the place of a file moves that file alone.
    loose(|now| now.traces.iter_mut().for_each(|trace| trace[0].as_directory = false));
    assert_eq!(served.change_since(&served), ChangeKind::InPlace, "nothing was moved");
    // Every file in the directory counts: the directory is as old as its files.
    for (changed, kind) in
        [(15, ChangeKind::Atomic), (16, ChangeKind::AmbiguousTime), (17, ChangeKind::InPlace)]
    {
        let mut now = swapped();
        now.note_listing(Path::new("/2"), FileId { dev: 1, ino: 2 }, changed);
        assert_eq!(now.change_since(&served), kind, "{changed}");
    }
}

/// Checks: INV-01 (a). A symlink may lead through an entry that has changed and is no part of the
/// change.
#[test]
fn inv01_unchanged_files_may_be_newer_than_a_committing_rename() {
    let through = |walk: Walk, changed| {
        let mut walk = walk;
        walk.entries.push(dir("/top", 50, 1, changed));
        walk.traces.iter_mut().for_each(|trace| {
            trace.insert(0, Step { entry: 4, as_directory: true });
            trace.insert(2, Step { entry: 4, as_directory: true });
        });
        walk
    };
    let now = through(release(2, 16, 15), 30);
    assert_eq!(now.change_since(&through(release(1, 10, 5), 2)), ChangeKind::Atomic);
}

/// Checks: INV-11, INV-12. A directory in which only directories were looked up holds no file and
/// no symlink of the set.
#[test]
fn inv11_directory_is_only_traversed_while_it_yields_only_dirs() {
    let id = |ino| FileId { dev: 1, ino };
    let mut walk = Walk::default();
    let mut note = |path: &str, ino, name: &str, seen: Lookup| {
        walk.note_lookup(Path::new(path), id(ino), name.into(), &seen);
    };
    note("/", 1, "a", dir("/a", 2, 1, 1).seen);
    note("/a", 2, "file", file("/a/file", 3, 1).seen);
    note("/", 1, "b", dir("/b", 4, 1, 1).seen);
    note("/b", 4, "c", dir("/b/c", 5, 1, 1).seen);
    note("/b", 4, "link", link("/b/link", "c", 1).seen);
    note("/e", 6, "none", Lookup::Nothing);
    walk.note_listing(Path::new("/b/c"), id(5), 9);
    walk.note_listing(Path::new("/"), id(1), 8);
    let dir = |path: &str, ino, names: &[&str], leads, listed| {
        let names = names.iter().map(Into::into).collect();
        WalkedDir { path: path.into(), id: id(ino), names, only_traversed: leads, listed }
    };
    let dirs = [
        dir("/", 1, &["a", "b"], false, Some(8)),
        dir("/a", 2, &["file"], false, None),
        dir("/b", 4, &["c", "link"], false, None),
        dir("/e", 6, &["none"], false, None),
        dir("/b/c", 5, &[], false, Some(9)),
    ];
    assert_eq!(walk.dirs, dirs);
    let mut walk = Walk::default();
    walk.note_lookup(Path::new("/"), id(1), "a".into(), &Lookup::Node(stat(Kind::Dir, 2, 1, 1)));
    assert!(walk.dirs[0].only_traversed);
}
