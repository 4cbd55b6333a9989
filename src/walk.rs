//! What a snapshot went through: every entry that was looked up, and in which order each path did so.
//!
//! The watch plan, the commit rule and the settle rule all read this record; nothing is looked up a second time for them.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::fs::{FileId, Kind, Stamp, Stat, nanos};

const SECOND: Duration = Duration::from_secs(1);

/// One name looked up in one directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Where it is, with every link resolved: the directory's own path and the name.
    pub path: PathBuf,
    /// What was there.
    pub seen: Seen,
}

/// What a look-up found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// The look-up failed: nothing there, or it could not be told.
    Nothing,
    /// A link and its target.
    Link(Stat, PathBuf),
    /// A directory, a file or anything else.
    Node(Stat),
}

impl Entry {
    /// Whether both lead to the same, or are the same unchanged file.
    ///
    /// A directory is compared by inode only (its times move with its neighbours' files), a link by its target (who put it
    /// there anew has moved nothing), a file by everything a stat tells.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.path == other.path
            && match (&self.seen, &other.seen) {
                (Seen::Nothing, Seen::Nothing) => true,
                (Seen::Link(_, to_a), Seen::Link(_, to_b)) => to_a == to_b,
                (Seen::Node(a), Seen::Node(b)) if a.kind == Kind::Dir && b.kind == Kind::Dir => a.id == b.id,
                (Seen::Node(a), Seen::Node(b)) => a == b,
                _ => false,
            }
    }

    /// Whether it is the same and nothing shows that it was another in between: no link was put there anew, no directory
    /// moved away and back.
    ///
    /// Of a directory in which a neighbour came or went as well, that cannot be told, and is not asked: whatever else
    /// goes on in it never postpones anything.
    fn held_still_since(&self, earlier: &Self) -> bool {
        self.same_as(earlier)
            && match (&self.seen, &earlier.seen) {
                (Seen::Link(now, _), Seen::Link(was, _)) => now == was,
                (Seen::Node(now), Seen::Node(was)) => now.ctime == was.ctime || now.mtime != was.mtime,
                _ => true,
            }
    }

    pub(crate) fn size(&self) -> u64 {
        self.stat().map_or(0, |stat| stat.size)
    }

    fn stat(&self) -> Option<&Stat> {
        match &self.seen {
            Seen::Nothing => None,
            Seen::Link(stat, _) | Seen::Node(stat) => Some(stat),
        }
    }
}

/// A step of one path: which entry, and whether a directory was wanted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// Index into [`Walk::entries`].
    pub entry: usize,
    /// More of the path was to be looked up beneath what this resolves to.
    pub as_directory: bool,
}

/// The record of one snapshot, complete up to where it failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Walk {
    /// Every entry looked up, each once.
    pub entries: Vec<Entry>,
    /// Per path of the set, then per directory of it, then per name found in these, the entries in the order they were
    /// looked up.
    pub traces: Vec<Vec<Step>>,
    /// The directories in which names were looked up.
    pub dirs: Vec<WalkedDir>,
}

/// A directory in which names were looked up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WalkedDir {
    /// Its path with every link resolved.
    pub path: PathBuf,
    /// Which directory that was.
    pub id: FileId,
    /// The names looked up in it.
    pub names: BTreeSet<OsString>,
    /// Every name looked up in it was a directory: it leads to the files and holds nothing of theirs, no link either.
    pub leads: bool,
    /// Set where every file in it is one of the set, so that each name counts that does not begin with a dot: when the
    /// directory had last changed once that was told.
    pub listed: Option<Stamp>,
}

/// How far a changed set can be trusted to be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Motion {
    /// Committed by one rename, and everything beneath is older: publish at once.
    Committed,
    /// As committed, but the timestamps cannot tell the order: look again shortly.
    Tied,
    /// Changed in place or name by name: must hold still.
    Loose,
}

impl Walk {
    /// Whether nothing that matters differs between two snapshots.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.traces == other.traces
            && self.entries.len() == other.entries.len()
            && self.entries.iter().zip(&other.entries).all(|(a, b)| a.same_as(b))
    }

    /// Whether nothing shows that anything that matters was another between two snapshots: what was replaced and put back
    /// is the same, and did not hold still.
    pub(crate) fn held_still_since(&self, earlier: &Self) -> bool {
        self.traces == earlier.traces
            && self.entries.len() == earlier.entries.len()
            && self.entries.iter().zip(&earlier.entries).all(|(now, was)| now.held_still_since(was))
    }

    /// The latest moment at which any file or link, or a directory as a whole, can have changed; `None` where nothing was found.
    ///
    /// A timestamp is up to one tick of its clock earlier than the change: up to `tick`, and two seconds where it is a whole
    /// second, for then it may be of a file system that knows no less (FAT; ext3 and old NFS servers know seconds).
    ///
    /// A directory that was renamed, with all the old files in it, has a change time later than its modification time;
    /// one in which a neighbour of the set came or went does not count, unless every file in it is one of the set.
    #[must_use]
    pub fn newest(&self, tick: Duration) -> Option<Stamp> {
        let changed = self.entries.iter().filter_map(Entry::stat);
        let changed = changed.filter(|stat| stat.kind != Kind::Dir || stat.ctime > stat.mtime);
        let stamps = changed.map(|stat| stat.ctime).chain(self.listings());
        let tick = nanos(tick);
        stamps.map(|stamp| stamp + if stamp % nanos(SECOND) == 0 { nanos(2 * SECOND) } else { tick }).max()
    }

    /// When the directories were last changed whose files are all of the set.
    fn listings(&self) -> impl Iterator<Item = Stamp> {
        self.dirs.iter().filter_map(|dir| dir.listed)
    }

    /// Tells how this walk differs from the one of the served set.
    ///
    /// Committed means: every path first differs at one and the same entry and ends at another file than before, for what
    /// one rename did not move may be the next to change; that entry is a link in the place of a directory, so that one
    /// rename moved everything behind it (a link in the place of a file, as certbot makes them, moves only that file); and
    /// everything beneath it changed strictly earlier (ASM-06). A directory in the place of another is never a commit: no
    /// timestamp tells one that was renamed there from one that was made there, filled in part, and given its mode.
    ///
    /// A directory whose files are all of the set has moved with them or it is no commit: where it is still the same one,
    /// another name may come next.
    #[must_use]
    pub fn motion_since(&self, served: &Self) -> Motion {
        if self.traces.len() != served.traces.len() {
            return Motion::Loose;
        }
        let mut pivot: Option<usize> = None;
        let mut beneath: Option<Stamp> = self.listings().max();
        for (trace, was) in self.traces.iter().zip(&served.traces) {
            let differs = |(i, step): (usize, &Step)| {
                let old = was.get(i).map(|step| &served.entries[step.entry]);
                !old.is_some_and(|old| old.same_as(&self.entries[step.entry]))
            };
            let Some(first) = trace.iter().enumerate().position(differs) else { return Motion::Loose };
            let step = trace[first];
            if !step.as_directory || pivot.is_some_and(|pivot| pivot != step.entry) {
                return Motion::Loose;
            }
            // The served walk looked up the same name there: up to here both went the same way.
            let same_path = |old: &Step| served.entries[old.entry].path == self.entries[step.entry].path;
            if !was.get(first).is_some_and(same_path) {
                return Motion::Loose;
            }
            pivot = Some(step.entry);
            let was_there = |entry: &Entry| served.entries.iter().any(|old| old.same_as(entry));
            if trace.last().is_some_and(|file| was_there(&self.entries[file.entry])) {
                return Motion::Loose;
            }
            for later in &trace[first + 1..] {
                let entry = &self.entries[later.entry];
                // What was there before is not part of the change: an absolute link leads through `/` again, and through
                // the directory that it lies in itself.
                if was_there(entry) {
                    continue;
                }
                match entry.stat() {
                    Some(stat) => beneath = beneath.max(Some(stat.ctime)),
                    None => return Motion::Loose,
                }
            }
        }
        let (Some(pivot), Some(beneath)) = (pivot, beneath) else { return Motion::Loose };
        let renamed = match &self.entries[pivot].seen {
            Seen::Link(stat, _) => stat.ctime,
            Seen::Node(_) | Seen::Nothing => return Motion::Loose,
        };
        match beneath.cmp(&renamed) {
            std::cmp::Ordering::Less => Motion::Committed,
            std::cmp::Ordering::Equal => Motion::Tied,
            std::cmp::Ordering::Greater => Motion::Loose,
        }
    }

    /// Notes what was `seen` when `name` was looked up in the directory at `path`.
    pub(crate) fn note_lookup(&mut self, path: &Path, id: FileId, name: OsString, seen: &Seen) {
        let leads = matches!(seen, Seen::Node(stat) if stat.kind == Kind::Dir);
        match self.dirs.iter_mut().find(|dir| dir.path == path) {
            Some(dir) => {
                dir.names.insert(name);
                dir.leads &= leads;
            }
            None => {
                let names = BTreeSet::from([name]);
                self.dirs.push(WalkedDir { path: path.to_owned(), id, names, leads, listed: None });
            }
        }
    }

    /// Notes that every file in the directory at `path` is one of the set, and when that had changed last.
    pub(crate) fn note_listing(&mut self, path: &Path, id: FileId, changed: Stamp) {
        match self.dirs.iter_mut().find(|dir| dir.path == path) {
            Some(dir) => (dir.leads, dir.listed) = (false, Some(changed)),
            None => {
                let names = BTreeSet::new();
                let listed = Some(changed);
                self.dirs.push(WalkedDir { path: path.to_owned(), id, names, leads: false, listed });
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
