//! Tests of the watches.

use std::{collections::BTreeSet, sync::Arc};

use super::*;
use crate::{
    fs::FileId,
    sync::{Mutex, lock},
};

mod sets;
mod traced;

struct Nothing;

impl Watcher for Nothing {
    fn watch(&mut self, _: &Path) -> Result<Watched, Error> {
        Ok(Watched::Armed)
    }

    fn unwatch(&mut self, _: &Path) {}
}

fn walked(names: &[&str]) -> Vec<WalkedDir> {
    let names = names.iter().map(Into::into).collect();
    vec![WalkedDir {
        path: "/d".into(),
        id: FileId { dev: 1, ino: 2 },
        names,
        only_traversed: false,
        listed: None,
    }]
}

/// Checks: INV-05.
///
/// An event of a name that did not count yet was dropped, so that another snapshot is needed.
#[test]
fn inv05_name_that_begins_to_count_asks_for_another_snapshot() {
    let mut make: MakeWatcher = Box::new(|_| Ok(Box::new(Nothing)));
    let Ok(mut watch) = Watch::new(&mut make, || {}) else { panic!("a watcher") };
    assert!(watch.arm(0, &walked(&["link", "a"])).new);
    assert!(!watch.arm(0, &walked(&["link", "a"])).new);
    assert!(watch.arm(0, &walked(&["link", "b"])).new);
    assert!(!watch.arm(0, &walked(&["link"])).new, "fewer names are no news");
}

/// Checks: INV-12.
///
/// Writes to a neighbouring file, however many, cause no snapshot.
#[test]
fn inv12_event_of_a_name_not_looked_up_wakes_no_set() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let woken = Arc::new(AtomicUsize::new(0));
    let (count, place) = (Arc::clone(&woken), Arc::new(Mutex::new(None)));
    let keep = Arc::clone(&place);
    let mut make: MakeWatcher = Box::new(move |hints| {
        *lock(&keep) = Some(hints);
        Ok(Box::new(Nothing) as Box<dyn Watcher>)
    });
    let wake = move || {
        count.fetch_add(1, Ordering::SeqCst);
    };
    let mut watch = Watch::new(&mut make, wake).expect("a watch");
    watch.arm(0, &walked(&["tls.crt"]));
    let hints = lock(&place).clone().expect("the hints of the watcher");
    for (path, wakes) in
        [("/d/neighbour", 0), ("/d/tls.crt.tmp", 0), ("/e/tls.crt", 0), ("/d/tls.crt", 1), ("/d", 2)]
    {
        hints.touched(Path::new(path), true);
        assert_eq!(woken.load(Ordering::SeqCst), wakes, "{path}");
    }
}

/// Records its calls; `/gone` does not exist.
struct Noting(Arc<Mutex<Vec<String>>>);

impl Watcher for Noting {
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
        lock(&self.0).push(format!("watch {}", dir.display()));
        Ok(if dir == Path::new("/gone") { Watched::Gone } else { Watched::Armed })
    }

    fn unwatch(&mut self, dir: &Path) {
        lock(&self.0).push(format!("unwatch {}", dir.display()));
    }
}

fn noting() -> (Watch, Arc<Mutex<Vec<String>>>) {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&notes);
    let mut make: MakeWatcher = Box::new(move |_| Ok(Box::new(Noting(Arc::clone(&keep)))));
    (Watch::new(&mut make, || {}).expect("a watch"), notes)
}

fn dir(path: &str, ino: u64, name: &str) -> WalkedDir {
    let names = BTreeSet::from([name.into()]);
    WalkedDir { path: path.into(), id: FileId { dev: 1, ino }, names, only_traversed: false, listed: None }
}

fn taken(notes: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut *lock(notes))
}

/// Checks: INV-05.
///
/// A change of the directory between the end of the old watch and the new one is missed.
#[test]
fn inv05_rewatched_directory_asks_for_another_snapshot() {
    let (mut watch, notes) = noting();
    let walked = [dir("/d", 2, "a")];
    assert!(watch.arm(0, &walked).new);
    assert!(!watch.arm(0, &walked).new);
    taken(&notes);
    watch.hints.touched(Path::new("/d"), true);
    assert!(watch.arm(0, &walked).new, "the same names, after the directory moved");
    assert_eq!(taken(&notes), ["unwatch /d", "watch /d"]);
    watch.hints.lost();
    assert!(watch.arm(0, &walked).new, "the same names, after events were lost");
    assert_eq!(taken(&notes), ["watch /d"]);
    assert!(!watch.arm(0, &walked).new, "it is certain now");
    // A directory that is not walked any more is unwatched, also after events were lost.
    watch.hints.lost();
    watch.arm(0, &[dir("/e", 3, "link")]);
    assert_eq!(taken(&notes), ["unwatch /d", "watch /e"]);
}

/// Reports an end of the watch on `/d`, and a change in it, at each call about a plan update.
struct Restless(Hints, Arc<Mutex<Vec<String>>>);

impl Watcher for Restless {
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
        lock(&self.1).push(format!("watch {}", dir.display()));
        Ok(Watched::Armed)
    }

    fn unwatch(&mut self, dir: &Path) {
        lock(&self.1).push(format!("unwatch {}", dir.display()));
    }

    fn begin_update(&mut self) {
        lock(&self.1).push("plans".to_owned());
        self.0.touched(Path::new("/d"), true);
    }
}

/// Checks: INV-05.
///
/// A watch may end between the last operation of a snapshot and the arming. An end that is
/// reported before dead watches are dropped is handled at once, and a later end in the next
/// update.
#[test]
fn inv05_watch_that_ends_when_armed_is_rearmed_or_reread() {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&notes);
    let mut make: MakeWatcher =
        Box::new(move |hints| Ok(Box::new(Restless(hints, Arc::clone(&keep))) as Box<dyn Watcher>));
    let mut watch = Watch::new(&mut make, || {}).expect("a watch");
    let walked = [dir("/d", 2, "a")];
    watch.arm(0, &walked);
    assert_eq!(taken(&notes), ["plans", "plans", "watch /d"]);
    assert!(watch.arm(0, &walked).new, "it ended before the first was buried");
    assert_eq!(taken(&notes), ["plans", "unwatch /d", "plans", "watch /d"]);
    assert!(watch.hints.subscriptions().stale.contains(Path::new("/d")), "and once more after that");
}

/// Checks: INV-05.
///
/// A second watch of one inode replaces the first one's path, and ending it ends both.
#[test]
fn inv05_directory_under_two_paths_is_watched_once() {
    let (mut watch, notes) = noting();
    watch.arm(0, &[dir("/one", 2, "crt"), dir("/two", 2, "key")]);
    assert_eq!(taken(&notes), ["watch /one"]);
    assert_eq!(hinted(&watch, "/one/crt"), [0], "events name the path that is watched");
    assert_eq!(hinted(&watch, "/one/key"), [0], "events name the path that is watched");
    assert_eq!(hinted(&watch, "/two/key"), [0; 0]);
}

/// Checks: INV-12.
///
/// A directory that moved away still exists, and so would its watch.
#[test]
fn inv12_a_directory_that_is_left_is_watched_no_longer() {
    let (mut watch, notes) = noting();
    watch.arm(0, &[dir("/v", 2, "link"), dir("/v/1", 3, "crt")]);
    taken(&notes);
    let armed = watch.arm(0, &[dir("/v", 2, "link"), dir("/v/2", 4, "crt")]);
    assert_eq!(taken(&notes), ["unwatch /v/1", "watch /v/2"]);
    assert!(armed.new);
    assert_eq!((armed.watched, armed.unwatched), (vec!["/v/2".into()], vec!["/v/1".into()]));
}

/// Checks: INV-05, INV-11.
///
/// A directory that is gone when it is to be watched is reported, so that another snapshot is
/// taken.
#[test]
fn inv05_a_directory_that_is_gone_when_it_is_to_be_watched_is_named() {
    let (mut watch, _) = noting();
    let armed = watch.arm(0, &[dir("/gone", 2, "crt")]);
    assert_eq!(armed.gone.as_deref(), Some(Path::new("/gone")));
    assert!(armed.fault.is_none() && armed.watched.is_empty());
}

/// Arms a watch whose watcher returns this result for `/d`; returns the watch and the fault.
fn answered(answer: Watched, walked: &[WalkedDir]) -> (Watch, Option<String>) {
    struct Answering(Watched);

    impl Watcher for Answering {
        fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
            Ok(if dir == Path::new("/d") { self.0 } else { Watched::Armed })
        }

        fn unwatch(&mut self, _: &Path) {}
    }

    let mut make: MakeWatcher = Box::new(move |_| Ok(Box::new(Answering(answer))));
    let mut watch = Watch::new(&mut make, || {}).expect("a watch");
    let fault = watch.arm(0, walked).fault.map(|fault| fault.to_string());
    (watch, fault)
}

/// Checks: INV-11.
///
/// A directory on the way that may only be searched is no fault. A directory that holds the
/// files and has no events is one, even if another path only traverses it.
#[test]
fn inv11_directory_without_events_is_a_fault_if_not_traversed_only() {
    let only_traversed = |dir| WalkedDir { only_traversed: true, ..dir };
    let on_the_way = [only_traversed(dir("/d", 2, "link"))];
    let holds = [dir("/d", 2, "crt")];
    let both = [only_traversed(dir("/d", 2, "link")), dir("/two", 2, "crt")];
    let (watch, fault) = answered(Watched::Denied, &on_the_way);
    assert_eq!((watch.denied(), fault), (&BTreeSet::from(["/d".into()]), None));
    for walked in [&holds[..], &both] {
        let (watch, fault) = answered(Watched::Denied, walked);
        let why = "watch: /d: the directory may be searched but not read, so it cannot be watched";
        assert_eq!((watch.denied(), fault.as_deref()), (&BTreeSet::new(), Some(why)));
    }
    assert_eq!(answered(Watched::Silent("NFS"), &on_the_way).1, None);
    for walked in [&holds[..], &both] {
        let (watch, fault) = answered(Watched::Silent("NFS"), walked);
        let why = "watch: /d: NFS does not report changes made elsewhere";
        assert_eq!((watch.denied(), fault.as_deref()), (&BTreeSet::new(), Some(why)));
    }
}

/// Checks: INV-11.
///
/// One fault is reported. A directory without events is worse than one that may miss some.
#[test]
fn inv11_unwatchable_directory_is_reported_before_a_remote_one() {
    struct Faulty;

    impl Watcher for Faulty {
        fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
            Ok(if dir == Path::new("/silent") { Watched::Silent("NFS") } else { Watched::Denied })
        }

        fn unwatch(&mut self, _: &Path) {}
    }

    let [denied, silent] = [dir("/denied", 2, "crt"), dir("/silent", 3, "key")];
    for walked in [[denied.clone(), silent.clone()], [silent, denied]] {
        let mut make: MakeWatcher = Box::new(|_| Ok(Box::new(Faulty)));
        let mut watch = Watch::new(&mut make, || {}).expect("a watch");
        let fault = watch.arm(0, &walked).fault.expect("a fault");
        assert_eq!(fault.path(), Some(Path::new("/denied")), "{fault}");
    }
}

/// Checks: INV-12.
///
/// Each rotation of a Kubernetes volume has a directory of its own, and each rename into place
/// has another inode number.
#[test]
fn inv12_nothing_is_kept_of_the_directories_of_earlier_rotations() {
    let (mut watch, _) = noting();
    for round in 0..100 {
        let payload = dir(&format!("/v/..{round}"), 1_000 + round, "crt");
        watch.arm(0, &[dir("/v", 1, "link"), payload, dir("/renamed", 2_000 + round, "ca")]);
    }
    let heard = watch.hints.subscriptions().places.len();
    assert_eq!((watch.places.len(), watch.by_id.len(), heard), (3, 3, 3));
    watch.arm(0, &[]);
    let heard = watch.hints.subscriptions().places.len();
    assert_eq!((watch.places.len(), watch.by_id.len(), heard), (0, 0, 0));
}

/// Checks: INV-05, INV-12.
///
/// Where every file counts, an added name is a change, under whichever path the directory is
/// walked. Names that begin with a dot, which writers and Kubernetes use for themselves, are
/// not.
#[test]
fn inv05_every_name_without_a_dot_wakes_where_every_file_counts() {
    let (mut watch, _) = noting();
    let listed = |dir| WalkedDir { listed: Some(1), ..dir };
    watch.arm(0, &[dir("/d", 2, "a")]);
    watch.arm(1, &[dir("/d", 2, "a")]);
    assert_eq!(hinted(&watch, "/d/new"), [0; 0]);
    assert!(watch.arm(0, &[listed(dir("/d", 2, "a"))]).new, "an event of another name was dropped");
    assert!(!watch.arm(0, &[listed(dir("/d", 2, "a"))]).new);
    assert_eq!(hinted(&watch, "/d/new"), [0]);
    assert_eq!(hinted(&watch, "/d/.new"), [0; 0]);
    watch.arm(0, &[dir("/d", 2, "a")]);
    assert_eq!(hinted(&watch, "/d/new"), [0; 0], "not any more");
    let [one, two] = [dir("/one", 3, "a"), dir("/two", 3, "b")];
    for walked in [[one.clone(), listed(two.clone())], [listed(one), two]] {
        watch.arm(0, &walked);
        assert_eq!(hinted(&watch, "/one/new"), [0]);
    }
}

/// The search of interleavings merges states with equal digests.
#[test]
fn watches_that_act_differently_have_different_digests() {
    use std::hash::{DefaultHasher, Hasher};

    use crate::probe::StateHash;
    let digest = |watch: &Watch| {
        let mut state = DefaultHasher::new();
        watch.hash_state(&mut state);
        state.finish()
    };
    let (mut watch, _) = noting();
    let mut seen = vec![digest(&watch)];
    watch.arm(0, &[dir("/d", 2, "a")]);
    seen.push(digest(&watch));
    watch.hints.lost();
    seen.push(digest(&watch));
    watch.arm(0, &[dir("/d", 2, "b")]);
    seen.push(digest(&watch));
    let (mut other, _) = noting();
    other.arm(0, &[dir("/d", 2, "a")]);
    assert_eq!(digest(&other), seen[1], "of one history, one digest");
    let each: BTreeSet<_> = seen.iter().collect();
    assert_eq!(each.len(), seen.len(), "{seen:?}");
}

/// Checks: INV-05.
///
/// Where directories have no inode number (`PathFs`), each path is a directory of its own.
#[test]
fn inv05_indistinguishable_directories_are_each_watched() {
    let (mut watch, notes) = noting();
    watch.arm(0, &[dir("/one", 0, "crt"), dir("/two", 0, "key")]);
    watch.arm(1, &[dir("/three", 0, "crt")]);
    assert_eq!(taken(&notes), ["watch /one", "watch /two", "watch /three"]);
}

/// Returns the file sets that an event of this path wakes.
fn hinted(watch: &Watch, path: &str) -> Vec<usize> {
    watch.hints.touched(Path::new(path), false);
    match watch.take_hinted() {
        Hinted::All => panic!("nothing was lost"),
        Hinted::Some(sets) => sets.into_iter().collect(),
    }
}

/// Checks: INV-05.
///
/// A directory that moved keeps its watch. Ending the watch of its old path, at which another
/// directory is now, would end it.
#[test]
fn inv05_moved_directory_is_unwatched_before_it_is_rewatched() {
    let (mut watch, notes) = noting();
    watch.arm(0, &[dir("/d", 2, "crt")]);
    taken(&notes);
    watch.arm(0, &[dir("/e", 2, "crt"), dir("/d", 3, "key")]);
    assert_eq!(taken(&notes), ["unwatch /d", "watch /e", "watch /d"]);
}
