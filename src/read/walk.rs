//! Records a snapshot's walk: every name that was looked up, and in which order each path did so.
//!
//! The watch plan, the commit rule and the settle rule all read this record. Nothing is looked up a
//! second time for them.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::fs::{FileId, Kind, Stamp, Stat, nanos};

const SECOND: Duration = Duration::from_secs(1);

/// One name that was looked up in one directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The resolved path: the directory's own path and the name.
    pub path: PathBuf,
    /// The result of the lookup.
    pub seen: Lookup,
}

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// The lookup failed: there is no such name, or the system could not say.
    Nothing,
    /// A symlink and its target.
    Link(Stat, PathBuf),
    /// A directory, a file or anything else.
    Node(Stat),
}

impl Entry {
    /// Returns whether both lead to the same target, or are the same unchanged file.
    ///
    /// A directory is compared by its file id only, because its times change with its neighbours'
    /// files. A symlink is compared by its target, because recreating it has moved nothing. A file
    /// is compared by everything that a stat returns.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.path == other.path
            && match (&self.seen, &other.seen) {
                (Lookup::Nothing, Lookup::Nothing) => true,
                (Lookup::Link(_, to_a), Lookup::Link(_, to_b)) => to_a == to_b,
                (Lookup::Node(a), Lookup::Node(b)) if a.kind == Kind::Dir && b.kind == Kind::Dir => {
                    a.id == b.id
                }
                (Lookup::Node(a), Lookup::Node(b)) => a == b,
                _ => false,
            }
    }

    /// Returns whether the entry is the same and nothing shows that it was another one in between.
    /// A recreated symlink shows that, and so does a directory that moved away and back.
    ///
    /// A directory in which a neighbour came or went as well cannot show that it moved, and counts
    /// as unmoved. Other activity in a directory never postpones a reload.
    fn held_still_since(&self, earlier: &Self) -> bool {
        self.same_as(earlier)
            && match (&self.seen, &earlier.seen) {
                (Lookup::Link(now, _), Lookup::Link(was, _)) => now == was,
                (Lookup::Node(now), Lookup::Node(was)) => now.ctime == was.ctime || now.mtime != was.mtime,
                _ => true,
            }
    }

    pub(crate) fn size(&self) -> u64 {
        self.stat().map_or(0, |stat| stat.size)
    }

    fn stat(&self) -> Option<&Stat> {
        match &self.seen {
            Lookup::Nothing => None,
            Lookup::Link(stat, _) | Lookup::Node(stat) => Some(stat),
        }
    }
}

/// A step of one path: an entry, and whether a directory was wanted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// Index into [`Walk::entries`].
    pub entry: usize,
    /// Set where names were to be looked up or listed beneath this entry.
    pub as_directory: bool,
}

/// The record of one snapshot, complete up to the point where it failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Walk {
    /// Every entry looked up, each once.
    pub entries: Vec<Entry>,
    /// One trace for each resolved path: its entries, in lookup order. The traces of the file set's
    /// paths come first, then those of its directories, then those of the names found in these.
    pub traces: Vec<Vec<Step>>,
    /// The directories in which names were looked up.
    pub dirs: Vec<WalkedDir>,
}

/// A directory in which names were looked up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WalkedDir {
    /// Its path with every symlink resolved.
    pub path: PathBuf,
    /// The file id of the directory.
    pub id: FileId,
    /// The names looked up in it.
    pub names: BTreeSet<OsString>,
    /// Set where every name looked up in it was a directory. Such a directory only leads to the
    /// files and holds nothing of theirs, no symlink either.
    pub only_traversed: bool,
    /// Set where every file in the directory belongs to the file set, so that each name counts that
    /// does not begin with a dot. The value is the change time of the directory when it was listed.
    pub listed: Option<Stamp>,
}

/// How far a changed file set can be trusted to be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangeKind {
    /// Committed by one rename, and everything beneath is older: publish at once.
    Atomic,
    /// Committed by one rename, but the timestamps cannot tell the order: take another snapshot
    /// shortly.
    AmbiguousTime,
    /// Changed in place or name by name: has to be stable for the settle time.
    InPlace,
}

impl Walk {
    /// Returns the file that the path at `index` leads to.
    #[cfg(feature = "rustls")]
    pub(crate) fn file(&self, index: usize) -> Option<&Entry> {
        let entry = &self.entries[self.traces.get(index)?.last()?.entry];
        matches!(&entry.seen, Lookup::Node(stat) if stat.kind == Kind::File).then_some(entry)
    }

    /// Returns whether nothing that matters differs between two snapshots.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.traces == other.traces
            && self.entries.len() == other.entries.len()
            && self.entries.iter().zip(&other.entries).all(|(a, b)| a.same_as(b))
    }

    /// Returns whether nothing that matters shows that it was another one between two snapshots. A
    /// file that was replaced and put back is equal, but was not stable.
    pub(crate) fn unchanged_since(&self, earlier: &Self) -> bool {
        self.traces == earlier.traces
            && self.entries.len() == earlier.entries.len()
            && self.entries.iter().zip(&earlier.entries).all(|(now, was)| now.held_still_since(was))
    }

    /// Returns the latest moment at which any file or symlink, or a directory as a whole, can have
    /// changed; `None` where nothing was found.
    ///
    /// A timestamp may be earlier than its change by one tick of the file system's clock, which is
    /// at most `tick`. A timestamp of a whole second may be earlier by two seconds, since the file
    /// system may have no finer ones. FAT has steps of two seconds, ext3 and old NFS servers of
    /// one.
    ///
    /// A directory that was renamed, with all the old files in it, has a change time later than its
    /// modification time. A directory in which a neighbour came or went does not count, unless
    /// every file in it belongs to the file set.
    #[must_use]
    pub fn newest(&self, tick: Duration) -> Option<Stamp> {
        let changed = self.entries.iter().filter_map(Entry::stat);
        let changed = changed.filter(|stat| stat.kind != Kind::Dir || stat.ctime > stat.mtime);
        let stamps = changed.map(|stat| stat.ctime).chain(self.listings());
        let tick = nanos(tick);
        stamps.map(|stamp| stamp + if stamp % nanos(SECOND) == 0 { nanos(2 * SECOND) } else { tick }).max()
    }

    /// Returns the change times of the directories whose files all belong to the file set.
    fn listings(&self) -> impl Iterator<Item = Stamp> {
        self.dirs.iter().filter_map(|dir| dir.listed)
    }

    /// Classifies the change from the walk of the served file set to this one.
    ///
    /// The change is committed by one rename if all of the following hold:
    ///
    /// - Every path first differs at one and the same entry, and ends at another file than before.
    ///   A file that the rename did not move may be the next to change.
    /// - The entry is a symlink in the place of a directory, so that one rename moved everything
    ///   behind it. A symlink in the place of a file, as certbot makes them, moves only that file.
    /// - Everything beneath that entry changed strictly earlier (ASM-06).
    /// - Every directory whose files all belong to the file set has moved along. Where it has not
    ///   been replaced, another name may come next.
    ///
    /// A directory in the place of another is never a commit. No timestamp distinguishes a
    /// directory that was renamed there from one that was created there, filled in part, and given
    /// its mode.
    #[must_use]
    pub fn change_since(&self, served: &Self) -> ChangeKind {
        if self.traces.len() != served.traces.len() {
            return ChangeKind::InPlace;
        }
        let mut pivot: Option<usize> = None;
        let mut beneath: Option<Stamp> = self.listings().max();
        for (trace, was) in self.traces.iter().zip(&served.traces) {
            let differs = |(i, step): (usize, &Step)| {
                let old = was.get(i).map(|step| &served.entries[step.entry]);
                !old.is_some_and(|old| old.same_as(&self.entries[step.entry]))
            };
            let Some(first) = trace.iter().enumerate().position(differs) else { return ChangeKind::InPlace };
            let step = trace[first];
            if !step.as_directory || pivot.is_some_and(|pivot| pivot != step.entry) {
                return ChangeKind::InPlace;
            }
            // The served walk looked up the same name there: up to here both went the same way.
            let same_path = |old: &Step| served.entries[old.entry].path == self.entries[step.entry].path;
            if !was.get(first).is_some_and(same_path) {
                return ChangeKind::InPlace;
            }
            pivot = Some(step.entry);
            let was_there = |entry: &Entry| served.entries.iter().any(|old| old.same_as(entry));
            if trace.last().is_some_and(|file| was_there(&self.entries[file.entry])) {
                return ChangeKind::InPlace;
            }
            for later in &trace[first + 1..] {
                let entry = &self.entries[later.entry];
                // An entry that was there before is not part of the change. An absolute symlink
                // leads through `/` again, and through the directory that it lies in.
                if was_there(entry) {
                    continue;
                }
                match entry.stat() {
                    Some(stat) => beneath = beneath.max(Some(stat.ctime)),
                    None => return ChangeKind::InPlace,
                }
            }
        }
        let (Some(pivot), Some(beneath)) = (pivot, beneath) else { return ChangeKind::InPlace };
        let renamed = match &self.entries[pivot].seen {
            Lookup::Link(stat, _) => stat.ctime,
            Lookup::Node(_) | Lookup::Nothing => return ChangeKind::InPlace,
        };
        match beneath.cmp(&renamed) {
            std::cmp::Ordering::Less => ChangeKind::Atomic,
            std::cmp::Ordering::Equal => ChangeKind::AmbiguousTime,
            std::cmp::Ordering::Greater => ChangeKind::InPlace,
        }
    }

    /// Records the result of looking `name` up in the directory at `path`.
    pub(crate) fn note_lookup(&mut self, path: &Path, id: FileId, name: OsString, seen: &Lookup) {
        let leads = matches!(seen, Lookup::Node(stat) if stat.kind == Kind::Dir);
        match self.dirs.iter_mut().find(|dir| dir.path == path) {
            Some(dir) => {
                dir.names.insert(name);
                dir.only_traversed &= leads;
            }
            None => {
                let names = BTreeSet::from([name]);
                self.dirs.push(WalkedDir {
                    path: path.to_owned(),
                    id,
                    names,
                    only_traversed: leads,
                    listed: None,
                });
            }
        }
    }

    /// Records that every file in the directory at `path` belongs to the file set, and the
    /// directory's change time.
    pub(crate) fn note_listing(&mut self, path: &Path, id: FileId, changed: Stamp) {
        match self.dirs.iter_mut().find(|dir| dir.path == path) {
            Some(dir) => (dir.only_traversed, dir.listed) = (false, Some(changed)),
            None => {
                let names = BTreeSet::new();
                let listed = Some(changed);
                self.dirs.push(WalkedDir { path: path.to_owned(), id, names, only_traversed: false, listed });
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
