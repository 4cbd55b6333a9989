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
    collections::{BTreeMap, HashMap, VecDeque},
    ffi::{OsStr, OsString},
    fmt, io,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use crate::{
    fs::{self, Fs, Kind, Stat},
    read::{
        secret::Secret,
        walk::{self, Lookup, Step, Walk},
    },
    report::error::{Error, Layer, SystemError},
};

/// The largest file read, in bytes (4 MiB). A Kubernetes Secret holds at most 1 MiB; Debian's whole
/// CA bundle is 220 kB.
pub const FILE_LIMIT: u64 = 4 << 20;
/// The largest file of revocation lists read, in bytes (64 MiB). Public authorities publish lists
/// of up to 100 MB in all, and of 10 to 20 MB each.
pub const LIST_FILE_LIMIT: u64 = LISTED_BYTES_LIMIT;
/// Symlinks followed on one path; Linux stops at the same number (path_resolution(7)).
pub const LINK_LIMIT: usize = 40;
/// Names looked up on one path, so that a symlink loop through directories ends as well.
pub const LOOKUP_LIMIT: usize = 512;

/// Names that are looked up in one directory whose files all belong to the set.
pub const LISTING_LIMIT: usize = 1024;
/// Names in such a directory that begin with a dot and are skipped: there may be no end of them.
pub const HIDDEN_LIMIT: usize = 16 * LISTING_LIMIT;
/// Bytes of all files in such a directory together (64 MiB).
pub const LISTED_BYTES_LIMIT: u64 = 64 << 20;
/// Files that are open at once.
const OPEN_LIMIT: usize = 64;

/// The paths of a file set, absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathSet {
    paths: Vec<PathBuf>,
    /// Directories whose files all belong to the set.
    dirs: Vec<PathBuf>,
    /// The files from this index on may be as large as [`LIST_FILE_LIMIT`].
    large_from: usize,
}

impl PathSet {
    /// Makes a file set of these paths, in this order. Resolves them against the working directory,
    /// once; later changes of that directory are not followed.
    ///
    /// # Errors
    /// [`Layer::Settings`] if there is no path, a path is empty or the working directory is
    /// unknown.
    pub fn new<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self, Error> {
        Self::of(paths, [] as [&Path; 0])
    }

    /// Makes a file set of every file in this directory, as [`directory`](Self::directory) reads
    /// it, and of no other file.
    ///
    /// # Errors
    /// Fails as [`new`](Self::new) does.
    pub fn of_directory(dir: impl AsRef<Path>) -> Result<Self, Error> {
        Self::of([] as [&Path; 0], [dir])
    }

    /// Makes a file set of these files, and of every file in these directories.
    pub(crate) fn of<P: AsRef<Path>, D: AsRef<Path>>(
        paths: impl IntoIterator<Item = P>,
        dirs: impl IntoIterator<Item = D>,
    ) -> Result<Self, Error> {
        let paths = paths.into_iter().map(absolute).collect::<Result<Vec<_>, _>>()?;
        let dirs = dirs.into_iter().map(absolute).collect::<Result<Vec<_>, _>>()?;
        if paths.is_empty() && dirs.is_empty() {
            return Err(Error::new(Layer::Settings, "no paths: there is nothing to load"));
        }
        Ok(Self { paths, dirs, large_from: usize::MAX })
    }

    /// Adds every file in this directory to the file set, behind all other files, in the order of
    /// the names.
    ///
    /// A file is a regular file or a symlink to one, under a name that does not begin with a dot:
    /// Kubernetes has its `..data` there, and writers their temporary files. Directories in it are
    /// skipped. Each of the following fails the attempt, like a file that is missing:
    ///
    /// - any other entry that cannot be read as a file;
    /// - more than [`LISTING_LIMIT`] names, [`HIDDEN_LIMIT`] names that begin with a dot, or
    ///   [`LISTED_BYTES_LIMIT`] bytes;
    /// - no file at all.
    ///
    /// # Errors
    /// Fails as [`new`](Self::new) does.
    pub fn directory(mut self, dir: impl AsRef<Path>) -> Result<Self, Error> {
        self.dirs.push(absolute(dir)?);
        Ok(self)
    }

    /// Reads the files from index `first` on up to [`LIST_FILE_LIMIT`] instead of [`FILE_LIMIT`],
    /// files of directories included.
    #[must_use]
    pub fn large_from(mut self, first: usize) -> Self {
        self.large_from = first;
        self
    }

    /// Returns the paths, in the order given.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Returns the path that events and the status name the set by: its first, or the first
    /// directory of a set without paths.
    #[must_use]
    pub fn name(&self) -> &Path {
        // Unreachable: a set has at least one path or directory.
        self.paths.first().or(self.dirs.first()).map_or(Path::new(""), PathBuf::as_path)
    }

    /// Returns the path that each trace of a walk resolves: the paths, the directories, and the
    /// files found in these.
    pub(crate) fn ways(&self, walk: &Walk) -> Vec<PathBuf> {
        let mut ways: Vec<_> = self.paths.iter().chain(&self.dirs).cloned().collect();
        let dirs = || self.dirs.iter().zip(walk.traces.iter().skip(self.paths.len()));
        for trace in walk.traces.iter().skip(ways.len()) {
            let within = |(dir, way): (&PathBuf, &Vec<Step>)| {
                let name =
                    walk.entries[trace.strip_prefix(way.as_slice())?.first()?.entry].path.file_name()?;
                Some((way.len(), dir.join(name)))
            };
            // Of two directories one in the other, the name belongs to the inner one.
            ways.extend(dirs().filter_map(within).max().map(|(_, path)| path));
        }
        ways
    }
}

pub(crate) fn absolute(path: impl AsRef<Path>) -> Result<PathBuf, Error> {
    let path = path.as_ref();
    let fault = |error| Error::new(Layer::Settings, format!("not a usable path: {error}")).at(path);
    let mut absolute = std::path::absolute(path).map(|path| fs::plain(&path).into_owned()).map_err(fault)?;
    if cfg!(unix) && path.as_os_str().as_encoded_bytes().ends_with(b"/.") {
        // Only a directory has such a path, and the dot is left out.
        absolute.push("");
    }
    Ok(absolute)
}

/// Returns the warning about a file whose length has reached 80 % of its limit: beyond the limit,
/// each update is rejected.
pub(crate) fn near_limit(limit: u64, length: usize) -> Option<String> {
    (length as u64 >= limit / 5 * 4)
        .then(|| format!("{length} bytes are close to the limit of {limit}: above it, updates are rejected"))
}

/// Returns whether an entry of this name belongs to the set where all files of its directory do.
pub(crate) fn is_listed(name: &OsStr) -> bool {
    !name.as_encoded_bytes().starts_with(b".")
}

/// The bytes of every file of a set, in the order of its paths; the files of directories follow, in
/// the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files(Vec<(PathBuf, Arc<Secret>)>);

impl Files {
    /// Copies the files of a set from memory, for tests of a build step.
    pub fn new<P: Into<PathBuf>, B: AsRef<[u8]>>(files: impl IntoIterator<Item = (P, B)>) -> Self {
        let file = |(path, bytes): (P, B)| (path.into(), Arc::new(Secret::from(bytes.as_ref())));
        Self(files.into_iter().map(file).collect())
    }

    /// Makes a set without files.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// Returns the path and bytes of the file at `index` of the path set.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<(&Path, &[u8])> {
        self.0.get(index).map(|(path, bytes)| (path.as_path(), &***bytes))
    }

    /// Returns the files from `first` on.
    pub(crate) fn from(&self, first: usize) -> Self {
        Self(self.0.iter().skip(first).cloned().collect())
    }

    /// Iterates over path and bytes of all files, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.0.iter().map(|(path, bytes)| (path.as_path(), &***bytes))
    }
}

/// The reason why an attempt read nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// The files changed while they were read; another attempt may succeed.
    Torn {
        /// The path that changed.
        at: PathBuf,
        /// The observation that shows the change, in words.
        why: String,
    },
    /// The path cannot be read as it is.
    Unreadable {
        /// The path of the set.
        path: PathBuf,
        /// The entry on the way there that could not be read.
        at: PathBuf,
        /// The reason, in words.
        why: String,
        /// The system's error, where there is one.
        source: Option<SystemError>,
    },
}

impl Failure {
    /// Returns whether trying again at once makes sense.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        matches!(self, Self::Torn { .. })
    }

    /// Keeps the first failure until the other paths are walked; a torn attempt ends at once.
    fn noted(self, first: &mut Option<Self>) -> Result<(), Self> {
        if self.is_torn() {
            return Err(self);
        }
        first.get_or_insert(self);
        Ok(())
    }

    /// Makes the error for files that do not move, so that they cannot be read as they are.
    pub fn for_good(self) -> Error {
        match self {
            Self::Torn { at, why } => Error::new(Layer::Read, why).at(at),
            Self::Unreadable { .. } => self.into(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Torn { at, .. } => {
                Self::new(Layer::Changing, "the files changed while they were read").at(at)
            }
            Failure::Unreadable { path, at, why, source } => {
                let way = if path == at { String::new() } else { format!(" (at {})", at.display()) };
                Self::new(Layer::Read, why + &way).at(path).with_source(source)
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Error::from(self.clone()).fmt(f)
    }
}

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
    /// A symlink that leads where it did before, with the times that it had then.
    assumed: bool,
    /// A magic link: the entry describes its target.
    followed: bool,
}

/// An entry whose name is not opened as a directory at once.
struct EntryLookup {
    seen: Lookup,
    node: Option<usize>,
    followed: bool,
    stop: Option<EntryError>,
}

impl EntryLookup {
    fn new(seen: Lookup, stop: Option<EntryError>) -> Self {
        Self { seen, node: None, followed: false, stop }
    }
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

/// The end of a resolved path.
enum Resolved {
    /// The entry of a regular file.
    File(usize),
    /// The node of a directory, where one is wanted.
    Opened(usize),
    /// A directory where a regular file is expected.
    Dir(PathBuf),
}

/// A failure at one entry, before it is known which path of the set was being resolved.
enum EntryError {
    Torn(PathBuf, String),
    Fault(PathBuf, String, Option<SystemError>),
}

impl EntryError {
    /// Makes the fault of an entry that is not as it should be.
    fn fault(at: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self::Fault(at.into(), why.into(), None)
    }

    /// Makes the fault of an entry at which a call failed.
    fn failed(at: impl Into<PathBuf>, verb: &str, error: io::Error) -> Self {
        Self::Fault(at.into(), describe(verb, &error), Some(error.into()))
    }

    /// Makes the failure of this path.
    fn of(self, path: &Path) -> Failure {
        match self {
            Self::Torn(at, why) => Failure::Torn { at, why },
            Self::Fault(at, why, source) => Failure::Unreadable { path: path.to_owned(), at, why, source },
        }
    }
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
            None if bytes > LISTED_BYTES_LIMIT => Err(EntryError::fault(dir, why).of(dir)),
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

    /// Walks one path to the entry of its file.
    fn file(&mut self, path: &Path) -> Result<usize, EntryError> {
        let wanted = "a directory where a regular file is expected";
        match self.resolve(path, false)? {
            Resolved::File(index) => Ok(index),
            Resolved::Dir(at) => Err(EntryError::fault(at, wanted)),
            Resolved::Opened(_) => Err(EntryError::fault(path, wanted)),
        }
    }

    /// Walks one path to its end.
    fn resolve(&mut self, path: &Path, wants_dir: bool) -> Result<Resolved, EntryError> {
        self.walk.traces.push(Vec::new());
        let anchor: PathBuf = path
            .components()
            .take_while(|part| matches!(part, Component::Prefix(_) | Component::RootDir))
            .collect();
        let root = self.root(&anchor)?;
        let mut stack = vec![root];
        let mut rest: VecDeque<Part> = parts(path).collect();
        let (mut links, mut lookups) = (0, 0);
        while let Some(part) = rest.pop_front() {
            let parent = stack[stack.len() - 1];
            let name = match part {
                Part::Drive(anchor) => {
                    stack = vec![self.root(&anchor)?];
                    continue;
                }
                Part::Root => {
                    stack.truncate(1);
                    continue;
                }
                Part::Here => continue,
                Part::Up if self.nodes[parent].jumped => "..".into(),
                Part::Up => {
                    // Every other symlink is resolved on the way, so the stack is the physical
                    // path.
                    if stack.len() > 1 {
                        stack.pop();
                    }
                    continue;
                }
                Part::Name(name) => name,
            };
            lookups += 1;
            let as_directory = wants_dir || !rest.is_empty();
            let index = self.look_up(parent, &name, as_directory)?;
            let at = || self.walk.entries[index].path.clone();
            if lookups > LOOKUP_LIMIT {
                let why = format!("more than {LOOKUP_LIMIT} names to look up: perhaps a link loop");
                return Err(EntryError::fault(at(), why));
            }
            if let Some(trace) = self.walk.traces.last_mut() {
                trace.push(Step { entry: index, as_directory });
            }
            let seen = &self.walk.entries[index].seen;
            links += usize::from(matches!(seen, Lookup::Link(..)) || self.entries[index].followed);
            if links > LINK_LIMIT {
                let why = format!("more than {LINK_LIMIT} links to follow: perhaps a link loop");
                return Err(EntryError::fault(at(), why));
            }
            match seen {
                Lookup::Link(_, target) => {
                    for part in parts(target).collect::<Vec<_>>().into_iter().rev() {
                        rest.push_front(part);
                    }
                }
                Lookup::Node(stat) if stat.kind == Kind::File && !as_directory => {
                    return Ok(Resolved::File(index));
                }
                Lookup::Node(stat) if stat.kind == Kind::Dir && as_directory => {
                    let node = self.open_dir(index)?;
                    stack.push(node);
                }
                Lookup::Node(stat) if stat.kind == Kind::Dir => return Ok(Resolved::Dir(at())),
                Lookup::Node(stat) => {
                    let wanted = if as_directory { "a directory" } else { "a regular file" };
                    let why = format!("{} where {wanted} is expected", stat.kind.name());
                    // A pipe or device may never return the same bytes twice, or may wait for a
                    // writer.
                    let hint = match stat.kind {
                        Kind::Other(_) if !as_directory => {
                            ": each reload reads the file again, so write the content to a regular file"
                        }
                        _ => "",
                    };
                    return Err(EntryError::fault(at(), why + hint));
                }
                Lookup::Nothing => return Err(EntryError::fault(at(), "cannot be looked up")),
            }
        }
        if wants_dir {
            Ok(Resolved::Opened(stack[stack.len() - 1]))
        } else {
            Ok(Resolved::Dir(path.to_owned()))
        }
    }

    /// Returns the node of the anchor, which is opened once.
    fn root(&mut self, anchor: &Path) -> Result<usize, EntryError> {
        if let Some(index) = self.nodes.iter().position(|node| node.path == anchor) {
            return Ok(index);
        }
        let fault = |error| EntryError::failed(anchor, "open", error);
        let dir = self.fs.root(anchor).map_err(fault)?;
        let stat = self.fs.stat_dir(&dir).map_err(fault)?;
        Ok(self.node(dir, stat, anchor, false))
    }

    /// Adds an open directory to the cache.
    fn node(&mut self, dir: F::Dir, stat: Stat, path: &Path, jumped: bool) -> usize {
        self.nodes.push(Node { dir, stat, path: path.to_owned(), jumped });
        self.nodes.len() - 1
    }

    /// Looks a name up, once per directory and name.
    fn look_up(&mut self, parent: usize, name: &OsStr, as_directory: bool) -> Result<usize, EntryError> {
        if let Some(index) = self.known.get(&parent).and_then(|names| names.get(name)) {
            return Ok(*index);
        }
        let path = self.nodes[parent].path.join(name);
        // An entry that was a symlink most likely still is one.
        let earlier = self.earlier.and_then(|(walk, _)| walk.entries.get(self.entries.len()));
        let was = earlier.filter(|entry| entry.path == path).map(|entry| &entry.seen);
        let was_link = matches!(was, Some(Lookup::Link(..)));
        let mut assumed = false;
        let EntryLookup { seen, node, followed, stop } =
            if let Some((stat, opened)) = self.directory(parent, name, &path, as_directory && !was_link) {
                EntryLookup { node: Some(opened), ..EntryLookup::new(Lookup::Node(stat), None) }
            } else if let Some(link) = was.and_then(|was| self.same_link(parent, name, was)) {
                assumed = true;
                EntryLookup::new(link, None)
            } else {
                self.entry(parent, name, &path)
            };
        let Node { path: dir, stat, .. } = &self.nodes[parent];
        self.walk.note_lookup(dir, stat.id, name.to_owned(), &seen);
        self.walk.entries.push(walk::Entry { path, seen });
        self.known.entry(parent).or_default().insert(name.to_owned(), self.entries.len());
        self.entries.push(LookedUp { parent, name: name.to_owned(), node, assumed, followed });
        stop.map_or(Ok(self.entries.len() - 1), Err)
    }

    /// Opens `name` where a directory is expected. Most often it is one, and needs no stat before.
    fn directory(&mut self, parent: usize, name: &OsStr, path: &Path, wanted: bool) -> Option<(Stat, usize)> {
        let dir = wanted.then(|| self.fs.open_dir(&self.nodes[parent].dir, name).ok()).flatten()?;
        // Where it is not pinned another entry may have taken its place since.
        let stat = self.fs.stat_dir(&dir).ok().filter(|stat| stat.kind == Kind::Dir)?;
        Some((stat, self.node(dir, stat, path, name == "..")))
    }

    /// Returns the earlier symlink if it still leads where it did. Its times are read only where
    /// another entry has changed.
    fn same_link(&self, parent: usize, name: &OsStr, was: &Lookup) -> Option<Lookup> {
        let Lookup::Link(_, target) = was else { return None };
        let now = self.fs.read_link(&self.nodes[parent].dir, name).ok()?;
        (now == *target).then(|| was.clone())
    }

    /// Stats `name`, and reads or follows it if it is a symlink.
    fn entry(&mut self, parent: usize, name: &OsStr, path: &Path) -> EntryLookup {
        let dir = &self.nodes[parent].dir;
        let link = match self.fs.stat(dir, name) {
            Ok(stat) if stat.kind == Kind::Link => stat,
            Ok(stat) => return EntryLookup::new(Lookup::Node(stat), None),
            Err(error) => {
                let stop = EntryError::failed(path, "find", error);
                return EntryLookup::new(Lookup::Nothing, Some(stop));
            }
        };
        if self.fs.has_magic_links(dir) {
            return match follow(self.fs, dir, name) {
                Ok((stat, to)) => {
                    let node = (stat.kind == Kind::Dir).then(|| self.node(to, stat, path, true));
                    EntryLookup { seen: Lookup::Node(stat), node, followed: true, stop: None }
                }
                Err(error) => EntryLookup::new(Lookup::Node(link), Some(not_followed(path, error))),
            };
        }
        match self.fs.read_link(dir, name) {
            Ok(target) => EntryLookup::new(Lookup::Link(link, target), None),
            Err(error) => {
                EntryLookup::new(Lookup::Node(link), Some(gone_or_fault(path, "read the link", error)))
            }
        }
    }

    fn open_dir(&mut self, index: usize) -> Result<usize, EntryError> {
        let looked = &self.entries[index];
        if let Some(node) = looked.node {
            return Ok(node);
        }
        let path = self.walk.entries[index].path.clone();
        let dir = self
            .fs
            .open_dir(&self.nodes[looked.parent].dir, &looked.name)
            .map_err(|error| gone_or_fault(&path, "open", error))?;
        let stat = self.fs.stat_dir(&dir).map_err(|error| EntryError::failed(&path, "stat", error))?;
        let is_it = |seen: &Stat| seen.id == stat.id && stat.kind == Kind::Dir;
        if !matches!(&self.walk.entries[index].seen, Lookup::Node(seen) if is_it(seen)) {
            return Err(EntryError::Torn(
                path,
                "the directory was replaced between its lookup and its open".to_owned(),
            ));
        }
        let node = self.node(dir, stat, &path, self.entries[index].name == "..");
        self.entries[index].node = Some(node);
        Ok(node)
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
            return Err(EntryError::Torn(path.clone(), why.to_owned()));
        }
        if stat.size > limit {
            let why = format!("{} bytes are more than the limit of {limit}", stat.size);
            return Err(EntryError::fault(path, why));
        }
        // Allocated once at its final size. If the file has grown meanwhile, the second lookup
        // shows it.
        let mut bytes = Secret::zeroed(usize::try_from(stat.size).unwrap_or(usize::MAX));
        let mut rest = bytes.bytes_mut();
        while !rest.is_empty() {
            match self.fs.read(&mut file, rest) {
                Ok(0) => {
                    // Shorter than its stat says: cut off meanwhile, or a file that never had that
                    // length.
                    let now = self.fs.stat_file(&file).map_err(|error| fault("stat", error))?;
                    let why = format!("{} bytes fewer than its length can be read", rest.len());
                    let path = path.clone();
                    return Err(if now == stat {
                        EntryError::fault(path, why)
                    } else {
                        EntryError::Torn(path, why)
                    });
                }
                Ok(n) => rest = &mut rest[n..],
                Err(error) => return Err(fault("read", error)),
            }
        }
        Ok(bytes)
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
                    EntryError::Torn(path.clone(), why.to_owned())
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

/// Opens and stats the target of the magic link `name`.
fn follow<F: Fs>(fs: &F, dir: &F::Dir, name: &OsStr) -> io::Result<(Stat, F::Dir)> {
    let to = fs.follow(dir, name)?;
    Ok((fs.stat_dir(&to)?, to))
}

enum Part {
    /// The root of a drive or a share: a symlink may lead to another one.
    Drive(PathBuf),
    Root,
    /// The directory itself: the name before it has to be a directory.
    Here,
    Up,
    Name(OsString),
}

fn parts(path: &Path) -> impl Iterator<Item = Part> + '_ {
    let parts = path.components().filter_map(|component| match component {
        Component::Prefix(prefix) => {
            let mut root = prefix.as_os_str().to_owned();
            root.push(r"\");
            Some(Part::Drive(fs::plain(Path::new(&root)).into_owned()))
        }
        Component::CurDir => None,
        Component::RootDir => Some(Part::Root),
        Component::ParentDir => Some(Part::Up),
        Component::Normal(name) => Some(Part::Name(name.to_owned())),
    });
    // The components do not show that only a directory is meant (path_resolution(7), "Final
    // entry").
    let text = path.as_os_str().as_encoded_bytes();
    let wants_dir = text.ends_with(b"/") || text.ends_with(b"/.");
    parts.chain(wants_dir.then_some(Part::Here))
}

/// Makes the failure of an entry that differs at its second lookup.
fn moved(at: &Path) -> Failure {
    Failure::Torn { at: at.to_owned(), why: "replaced between two lookups".to_owned() }
}

/// Makes the failure of a name that was there a moment ago. If it is gone or of another kind now,
/// the set is moving.
fn gone_or_fault(path: &Path, verb: &str, error: io::Error) -> EntryError {
    use io::ErrorKind::{
        InvalidInput, NotADirectory, NotFound, ResourceBusy, StaleNetworkFileHandle, WouldBlock,
    };
    match error.kind() {
        // Windows reports a file that its publisher keeps to itself meanwhile as busy. A file with
        // a lease (fcntl(2)) would block until its holder, which this open has notified, has given
        // the lease back.
        NotFound | NotADirectory | InvalidInput | ResourceBusy | StaleNetworkFileHandle | WouldBlock => {
            EntryError::Torn(path.to_owned(), format!("found, but {}", describe(verb, &error)))
        }
        _ => EntryError::failed(path, verb, error),
    }
}

/// Makes the failure of a magic link that the system does not follow.
fn not_followed(path: &Path, error: io::Error) -> EntryError {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    match gone_or_fault(path, "follow the link", error) {
        EntryError::Fault(at, why, source) if denied => {
            let hint = "links of another process take the rights of its user, or CAP_SYS_PTRACE";
            EntryError::Fault(at, format!("{why}: {hint}"), source)
        }
        stop => stop,
    }
}

/// Makes the failure of a path that this walk has followed to its end, and that the system does not
/// follow.
fn not_reached(path: &Path, error: io::Error) -> EntryError {
    match gone_or_fault(path, "follow the path as the system does", error) {
        EntryError::Fault(at, why, source) => {
            let hint = "perhaps it leads through a link of another user in a sticky directory \
                        (fs.protected_symlinks), or through a link on a mount with nosymfollow";
            EntryError::Fault(at, format!("{why}: {hint}"), source)
        }
        stop => stop,
    }
}

fn describe(verb: &str, error: &io::Error) -> String {
    format!("cannot {verb}: {error}")
}
