//! Makes one attempt to read all files of a file set as they were together at one instant.
//!
//! 1. Walk every path from the root, one name at a time, through *one* cache of directory handles.
//!    Each name is looked up once, so all files of a generation are opened beneath the same
//!    directory. Directories whose files all belong to the set are listed behind all paths, and the
//!    names are looked up in the same way.
//! 2. Open the files, one directly after the other, and then read each of them whole, once. A
//!    watcher that is notified of these opens is notified of all of them at once.
//! 3. List again, then look up again. Every directory must list the same names, and every symlink
//!    must still point where it did. Every directory must be the same one, and every file the same
//!    one with the same times and length. Any difference is [`Failure::Torn`], also where a path
//!    could not be read, because the way to it may have moved. Step 3 is left out where every entry
//!    and every byte equals an earlier consistent attempt. Entries that did not change from then
//!    until this lookup were there together when this attempt began.
//!
//! Every file was read between two equal stats of it, and all first reads ended before the first of
//! the second stats. At the moment between, all bytes were on disk together (INV-01 (a)). The
//! second listing is of that moment, so there were no other files then; the first one only
//! determines the names. A stat cannot show a write within one timestamp tick: that is left to the
//! settle rule (ASM-05). So are names that come and go while one listing takes several calls (Linux
//! returns some hundred names at one instant).

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

mod failure;
mod files;
mod limits;
mod path_set;
mod resolve;
pub use failure::Failure;
pub use files::Files;
#[cfg(feature = "rustls")]
pub(crate) use limits::near_limit;
pub use limits::{
    FILE_LIMIT, HIDDEN_LIMIT, LINK_LIMIT, LIST_FILE_LIMIT, LISTED_BYTES_LIMIT, LISTING_LIMIT, LOOKUP_LIMIT,
};
pub use path_set::PathSet;
#[cfg(feature = "rustls")]
pub(crate) use path_set::absolute;
pub(crate) use path_set::is_listed;

use self::{
    failure::{EntryError, gone_or_fault, moved, not_reached},
    resolve::{Resolved, follow},
};
use crate::{
    fs::{Fs, Kind, Stat},
    read::{
        secret::Secret,
        walk::{self, Lookup, Step, Walk},
    },
};

/// Files that are open at once.
const OPEN_LIMIT: usize = 64;

/// The reason of a file, or of the files in a directory, above the limit.
const TOO_LARGE: &str = "too large";

/// One attempt and its walk, which is complete up to the point where the attempt failed.
#[derive(Debug)]
pub struct Snapshot {
    /// Every entry looked up.
    pub walk: Walk,
    /// The bytes, or the reason why there are none.
    pub files: Result<Files, Failure>,
}

impl Snapshot {
    /// Returns whether both are torn in the same way, and nothing shows that anything moved between
    /// them. A name that was missing may come and go, so it proves nothing and gives `false`.
    pub fn is_torn_as(&self, earlier: &Self) -> bool {
        if self.walk.entries.iter().any(|entry| entry.seen == Lookup::Nothing) {
            return false;
        }
        match (&self.files, &earlier.files) {
            (Err(now), Err(was)) => now.is_torn() && now == was && self.walk.unchanged_since(&earlier.walk),
            _ => false,
        }
    }
}

/// Makes exactly one attempt.
pub fn take<F: Fs>(fs: &F, set: &PathSet) -> Snapshot {
    take_since(fs, set, None)
}

/// Makes one attempt as [`take`] does, cheaper where nothing has changed since an earlier
/// consistent attempt.
pub fn take_since<F: Fs>(fs: &F, set: &PathSet, earlier: Option<(&Walk, &Files)>) -> Snapshot {
    let (nodes, entries, known, listings) = (Vec::new(), Vec::new(), HashMap::new(), Vec::new());
    let mut attempt = Attempt { fs, earlier, nodes, entries, known, listings, walk: Walk::default() };
    let files = attempt.run(set);
    Snapshot { walk: attempt.walk, files }
}

/// An open directory of the cache.
struct Node<D> {
    dir: D,
    stat: Stat,
    path: PathBuf,
    /// Reached through a magic link: only the system knows which directory `..` is there.
    jumped: bool,
}

/// The private part of an entry, besides the recorded one.
struct LookedUp {
    parent: usize,
    name: OsString,
    /// The node of the entry, where it is an open directory.
    node: Option<usize>,
    /// There was no such name when it was to be opened or read, just before it was looked up.
    missed: bool,
    /// A symlink that leads where it did before, with the times that it had then.
    assumed: bool,
    /// A magic link: the entry describes its target.
    followed: bool,
}

struct Attempt<'a, F: Fs> {
    fs: &'a F,
    /// An earlier consistent attempt.
    earlier: Option<(&'a Walk, &'a Files)>,
    nodes: Vec<Node<F::Dir>>,
    entries: Vec<LookedUp>,
    /// The indexes of the entries, by node and name.
    known: HashMap<usize, HashMap<OsString, usize>>,
    /// The directories that were listed, by node, and the names in them, in order.
    listings: Vec<(usize, Vec<OsString>)>,
    walk: Walk,
}

impl<F: Fs> Attempt<'_, F> {
    fn run(&mut self, set: &PathSet) -> Result<Files, Failure> {
        let mut found = Vec::with_capacity(set.paths.len());
        let mut failure = None;
        // 1. Where one path fails the others are walked all the same, so that they stay watched.
        for path in &set.paths {
            match self.file(path) {
                Ok(index) => found.push((path.clone(), index)),
                Err(stop) => stop.of(path).noted(&mut failure)?,
            }
        }
        let mut dirs = Vec::with_capacity(set.dirs.len());
        for dir in &set.dirs {
            match self.resolve(dir, true) {
                Ok(Resolved::Opened(node)) => dirs.push((dir, node)),
                Ok(_) => {}
                Err(stop) => stop.of(dir).noted(&mut failure)?,
            }
        }
        for (dir, node) in dirs {
            if let Err(failed) = self.listed(dir, node, &mut found) {
                failed.noted(&mut failure)?;
            }
        }
        let files = match failure {
            Some(failure) => Err(failure),
            None => self.files(&found, set.large_from),
        };
        if let Err(Failure::Torn { .. }) = files {
            return files;
        }
        // 3. Also where a path could not be read. A publisher that has moved a symlink may clear
        // the old files away, which is no fault of the set.
        let unchanged = |files: &Files| {
            self.earlier.is_some_and(|(walk, bytes)| walk.same_as(&self.walk) && bytes == files)
        };
        if !files.as_ref().is_ok_and(unchanged) {
            self.check_again()?;
            if files.is_ok() {
                self.confirm(&found)?;
            }
        }
        files
    }

    /// 2. Opens and reads the files at these entries, each of a path.
    fn files(&self, found: &[(PathBuf, usize)], large_from: usize) -> Result<Files, Failure> {
        let mut each = BTreeMap::new();
        for (place, (path, index)) in found.iter().enumerate() {
            let limit = if place < large_from { FILE_LIMIT } else { LIST_FILE_LIMIT };
            each.entry(*index).or_insert((path, limit));
        }
        let mut read = BTreeMap::new();
        for some in each.into_iter().collect::<Vec<_>>().chunks(OPEN_LIMIT) {
            let opened = some.iter().map(|(index, (path, limit))| {
                let file = self.open(*index).map_err(|stop| stop.of(path))?;
                Ok((*index, *path, *limit, file))
            });
            for (index, path, limit, file) in opened.collect::<Result<Vec<_>, _>>()? {
                let bytes = self.read(index, file, limit).map_err(|stop| stop.of(path))?;
                read.insert(index, Arc::new(bytes));
            }
        }
        let bytes = |index: &usize| read.get(index).map(Arc::clone);
        Ok(Files(found.iter().filter_map(|(path, index)| Some((path.clone(), bytes(index)?))).collect()))
    }

    /// Lists a directory and walks to each file in it.
    fn listed(&mut self, dir: &Path, node: usize, found: &mut Vec<(PathBuf, usize)>) -> Result<(), Failure> {
        let Node { path, stat, .. } = &self.nodes[node];
        // Recorded also if the listing fails, so that the directory stays watched.
        self.walk.note_listing(path, stat.id, stat.ctime);
        let fault = |why: String| EntryError::fault(path, why).of(dir);
        let names = self.names(node).map_err(|error| EntryError::failed(path, "list", error).of(dir))?;
        let too_many = (names.len() > LISTING_LIMIT)
            .then(|| fault(format!("there are more than {LISTING_LIMIT} names in it")));
        let nothing = fault("there is no file in it".to_owned());
        self.listings.push((node, names.clone()));
        if let Some(failure) = too_many {
            return Err(failure);
        }
        let (before, mut bytes, mut failed) = (found.len(), 0, None);
        for path in names.into_iter().map(|name| dir.join(name)) {
            match self.resolve(&path, false) {
                Ok(Resolved::File(index)) => {
                    // Saturating: three sparse files of the largest length overflow the number.
                    bytes = self.walk.entries[index].size().saturating_add(bytes);
                    found.push((path, index));
                }
                Ok(_) => {}
                Err(stop) => stop.of(&path).noted(&mut failed)?,
            }
        }
        let why = format!("{bytes} bytes in it are more than the limit of {LISTED_BYTES_LIMIT}");
        match failed {
            Some(failure) => Err(failure),
            None if found.len() == before => Err(nothing),
            None if bytes > LISTED_BYTES_LIMIT => Err(EntryError::missized(dir, TOO_LARGE, why).of(dir)),
            None => Ok(()),
        }
    }

    /// Returns the names in a directory that count, in order; one more than the limit where there
    /// are more.
    fn names(&self, node: usize) -> io::Result<Vec<OsString>> {
        let (mut names, mut hidden) = (Vec::new(), 0);
        self.fs.list(&self.nodes[node].dir, &mut |name| {
            if is_listed(name) {
                names.push(name.to_owned());
            } else {
                hidden += 1;
            }
            names.len() <= LISTING_LIMIT && hidden <= HIDDEN_LIMIT
        })?;
        if hidden > HIDDEN_LIMIT {
            let why = format!("more than {HIDDEN_LIMIT} names in it begin with a dot");
            return Err(io::Error::other(why));
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, index: usize) -> Result<F::File, EntryError> {
        let looked = &self.entries[index];
        let dir = &self.nodes[looked.parent].dir;
        let opened = if looked.followed {
            self.fs.open_followed(dir, &looked.name)
        } else {
            self.fs.open(dir, &looked.name)
        };
        opened.map_err(|error| gone_or_fault(&self.walk.entries[index].path, "open", error))
    }

    fn read(&self, index: usize, mut file: F::File, limit: u64) -> Result<Secret, EntryError> {
        let walk::Entry { path, seen } = &self.walk.entries[index];
        let fault = |verb, error| EntryError::failed(path, verb, error);
        let stat = self.fs.stat_file(&file).map_err(|error| fault("stat", error))?;
        if *seen != Lookup::Node(stat) {
            let why = "the file was replaced or changed between its lookup and its open";
            return Err(EntryError::torn(path, why));
        }
        if stat.size > limit {
            let why = format!("{} bytes are more than the limit of {limit}", stat.size);
            return Err(EntryError::missized(path, TOO_LARGE, why));
        }
        // The spare byte shows a file that has more than its length.
        let mut bytes = Secret::with_spare(usize::try_from(stat.size).unwrap_or(usize::MAX - 1));
        let (len, mut got) = (bytes.len(), 0);
        loop {
            got += match self.fs.read(&mut file, &mut bytes.bytes_mut()[got..]) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) => return Err(fault("read", error)),
            };
            if got >= len {
                break;
            }
        }
        if got == len {
            return Ok(bytes);
        }
        // Written meanwhile, or a file that never had that length, as on procfs.
        let now = self.fs.stat_file(&file).map_err(|error| fault("stat", error))?;
        let (reason, why) = match len.checked_sub(got) {
            Some(less) => {
                ("shorter than its length", format!("{less} bytes fewer than its length can be read"))
            }
            None => ("longer than its length", format!("more bytes than its length of {len} can be read")),
        };
        Err(EntryError::missized(path, reason, why).torn_if(now != stat))
    }

    /// 3. Lists again, and looks every entry up again.
    fn check_again(&mut self) -> Result<(), Failure> {
        for (node, names) in &self.listings {
            let Node { path, dir, .. } = &self.nodes[*node];
            if !self.names(*node).is_ok_and(|now| now == *names) {
                return Err(moved(path));
            }
            // The times alone show a name that is missing from both listings, and the times read
            // here are the ones to compare with later.
            let stat = self.fs.stat_dir(dir).map_err(|_| moved(path))?;
            self.walk.note_listing(path, stat.id, stat.ctime);
        }
        for (looked, entry) in self.entries.iter().zip(&mut self.walk.entries) {
            let dir = &self.nodes[looked.parent].dir;
            if looked.missed && entry.seen != Lookup::Nothing {
                return Err(moved(&entry.path));
            }
            if let (Lookup::Link(stat, _), true) = (&mut entry.seen, looked.assumed) {
                // The times alone show whether it was another symlink in between, and the times
                // read here are the ones to compare with later.
                *stat = self.fs.stat(dir, &looked.name).map_err(|_| moved(&entry.path))?;
            }
            let still = match &entry.seen {
                Lookup::Link(_, target) => {
                    self.fs.read_link(dir, &looked.name).is_ok_and(|now| now == *target)
                }
                Lookup::Node(was) => if looked.followed {
                    follow(self.fs, dir, &looked.name).map(|(now, _)| now)
                } else {
                    self.fs.stat(dir, &looked.name)
                }
                .is_ok_and(|now| {
                    if was.kind == Kind::Dir { now.id == was.id && now.kind == was.kind } else { now == *was }
                }),
                Lookup::Nothing => self.fs.stat(dir, &looked.name).is_err(),
            };
            if !still {
                return Err(moved(&entry.path));
            }
        }
        Ok(())
    }

    /// Asks the system where each path leads. The system may refuse symlinks that this walk
    /// follows, and may follow ways that this walk does not know. So the check ensures that no
    /// other file is taken than `open` would take.
    fn confirm(&self, found: &[(PathBuf, usize)]) -> Result<(), Failure> {
        for (path, index) in found {
            let Lookup::Node(stat) = &self.walk.entries[*index].seen else { continue };
            let stop = match self.fs.reached(path) {
                Ok(None) => continue,
                Ok(Some(id)) if id == stat.id => continue,
                Ok(Some(_)) => {
                    let why = "the system resolves this path to another file than this walk did";
                    EntryError::torn(path, why)
                }
                // The path was short enough until the working directory came before it.
                Err(error) if error.kind() == io::ErrorKind::InvalidFilename => {
                    if !self.has_link(*index) {
                        continue;
                    }
                    let why = "the path leads through a link and is longer than the system accepts, so its \
                               target cannot be verified: use a shorter path";
                    EntryError::fault(path, why)
                }
                Err(error) => not_reached(path, error),
            };
            return Err(stop.of(path));
        }
        Ok(())
    }

    /// Returns whether a path that ends at this entry leads through a symlink.
    fn has_link(&self, index: usize) -> bool {
        let ends = |trace: &&Vec<Step>| trace.last().is_some_and(|step| step.entry == index);
        let is_link = |step: &Step| {
            let seen = &self.walk.entries[step.entry].seen;
            matches!(seen, Lookup::Link(..)) || self.entries[step.entry].followed
        };
        self.walk.traces.iter().filter(ends).flatten().any(is_link)
    }
}
