//! The simulated disk: inodes, symlinks, directories and timestamps with ticks. It models the
//! effects of the publishers' steps, independently of any reader.
//!
//! Every call is a method of the one `Disk`, so they stay in one file.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    hash::{Hash, Hasher},
    io::{self, ErrorKind},
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls_reload::fs::{FileId, Kind, Stamp, Stat};
use rustls_reload_testkit::Op;

/// The inode number of the root directory.
pub(super) const ROOT: usize = 0;
/// Limit of symlinks that are followed in a publisher's own path.
const LINK_LIMIT: usize = 40;

/// The content of an inode.
#[derive(Clone, Debug, Hash)]
enum Node {
    Dir { entries: BTreeMap<OsString, usize>, parent: usize },
    File(Arc<Vec<u8>>),
    Link(PathBuf),
    Fifo,
}

#[derive(Clone, Debug, Hash)]
struct Inode {
    node: Node,
    links: usize,
    /// The number of open descriptors, which keep the inode (ASM-02).
    open: usize,
    mode: u32,
    mtime: Stamp,
    ctime: Stamp,
}

/// The kind of a file event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// A name was made.
    Made,
    /// A file was written to, or its mode or times set.
    Written,
    /// A name was renamed, or something was renamed to it.
    Renamed,
    /// A name was removed.
    Removed,
}

/// A change that a watcher of directory `dir` receives.
#[derive(Clone, Debug)]
pub(super) struct Happened {
    pub(super) dir: usize,
    /// The changed name; `None` if the directory itself is gone or moved.
    pub(super) name: Option<OsString>,
    /// The inode that had the name before.
    pub(super) node: Option<usize>,
    pub(super) what: What,
    /// Whether the inode is gone, with every watch on it.
    pub(super) gone: bool,
}

/// The disk at one instant.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    /// `None` for a free number.
    inodes: Vec<Option<Inode>>,
    /// Every timestamp is a multiple of this.
    tick: Duration,
    /// Whether numbers of removed inodes are reused, as on ext4.
    reuse: bool,
}

impl Hash for Disk {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inodes.hash(state);
    }
}

/// The place that a publisher's path leads to.
struct Place {
    dir: usize,
    name: OsString,
    node: Option<usize>,
}

/// Returns the parts of a path, the last one first. There is one drive, which an absolute path may
/// name on Windows.
fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().rev().filter_map(|part| match part {
        Component::Prefix(_) => None,
        Component::RootDir => Some("/".into()),
        part => Some(part.as_os_str().to_owned()),
    })
}

impl Disk {
    /// Makes an empty disk.
    pub(super) fn new(tick: Duration, reuse: bool) -> Self {
        let root = Inode {
            node: Node::Dir { entries: BTreeMap::new(), parent: ROOT },
            links: 1,
            open: 0,
            mode: 0o755,
            mtime: 0,
            ctime: 0,
        };
        Self { inodes: vec![Some(root)], tick, reuse }
    }

    /// Performs a step of a publisher at `wall`.
    pub(super) fn apply(&mut self, op: &Op, wall: Duration) -> io::Result<Vec<Happened>> {
        let now = self.stamp(wall);
        let mut seen = Vec::new();
        match op {
            Op::Mkdir(path) => {
                let place = self.vacant(path)?;
                let node = Node::Dir { entries: BTreeMap::new(), parent: place.dir };
                self.make(place, node, now, &mut seen);
            }
            Op::Create(path) => self.create(path, now, &mut seen)?,
            Op::Append(path, bytes) => {
                let (place, ino) = self.present(path, true)?;
                Arc::make_mut(self.file_mut(ino)?).extend_from_slice(bytes);
                self.write(&place, ino, now, &mut seen).mtime = now;
            }
            Op::Chmod(path, mode) => {
                let (place, ino) = self.present(path, true)?;
                self.write(&place, ino, now, &mut seen).mode = *mode;
            }
            Op::Modified(path, mtime) => {
                let (place, ino) = self.present(path, true)?;
                let mtime = Stamp::try_from(mtime.as_nanos()).unwrap_or(Stamp::MAX);
                self.write(&place, ino, now, &mut seen).mtime = mtime;
            }
            Op::Symlink(target, path) => {
                let place = self.vacant(path)?;
                self.make(place, Node::Link(target.clone()), now, &mut seen);
            }
            Op::Rename(from, to) => self.rename(from, to, now, &mut seen)?,
            Op::Unlink(path) => match self.present(path, false)? {
                (_, ino) if self.kind(ino) == Kind::Dir => return Err(ErrorKind::IsADirectory.into()),
                (place, ino) => self.remove(&place, ino, now, &mut seen),
            },
            Op::Rmdir(path) => match self.present(path, false)? {
                (_, ino) if !self.entries(ino)?.is_empty() => {
                    return Err(ErrorKind::DirectoryNotEmpty.into());
                }
                (place, ino) => self.remove(&place, ino, now, &mut seen),
            },
            Op::Mkfifo(path) => {
                let place = self.vacant(path)?;
                self.make(place, Node::Fifo, now, &mut seen);
            }
        }
        Ok(seen)
    }

    /// Empties the file, or makes it.
    fn create(&mut self, path: &Path, now: Stamp, seen: &mut Vec<Happened>) -> io::Result<()> {
        let place = self.place(path, true)?;
        match place.node {
            Some(ino) => {
                *self.file_mut(ino)? = Arc::default();
                self.write(&place, ino, now, seen).mtime = now;
            }
            None => self.make(place, Node::File(Arc::default()), now, seen),
        }
        Ok(())
    }

    /// Notes that an inode is written, and returns it.
    fn write(&mut self, place: &Place, ino: usize, now: Stamp, seen: &mut Vec<Happened>) -> &mut Inode {
        seen.push(Happened::to(place, What::Written));
        let inode = self.inode_mut(ino);
        inode.ctime = now;
        inode
    }

    fn rename(&mut self, from: &Path, to: &Path, now: Stamp, seen: &mut Vec<Happened>) -> io::Result<()> {
        let (old, ino) = self.present(from, false)?;
        let new = self.place(to, false)?;
        if let Some(replaced) = new.node {
            match (self.kind(ino), self.kind(replaced)) {
                (Kind::Dir, Kind::Dir) if self.entries(replaced)?.is_empty() => {}
                (Kind::Dir, _) | (_, Kind::Dir) => return Err(ErrorKind::AlreadyExists.into()),
                _ => {}
            }
            self.remove(&new, replaced, now, &mut Vec::new());
        }
        self.entries_mut(old.dir).remove(&old.name);
        self.entries_mut(new.dir).insert(new.name.clone(), ino);
        for dir in [old.dir, new.dir] {
            let inode = self.inode_mut(dir);
            (inode.mtime, inode.ctime) = (now, now);
        }
        let inode = self.inode_mut(ino);
        inode.ctime = now;
        if let Node::Dir { parent, .. } = &mut inode.node {
            *parent = new.dir;
            seen.push(Happened { dir: ino, name: None, node: None, what: What::Renamed, gone: false });
        }
        seen.push(Happened::to(&old, What::Renamed));
        seen.push(Happened::to(&new, What::Renamed));
        Ok(())
    }

    fn make(&mut self, place: Place, node: Node, now: Stamp, seen: &mut Vec<Happened>) {
        let inode = Inode { node, links: 1, open: 0, mode: 0o755, mtime: now, ctime: now };
        let free = self.inodes.iter().position(Option::is_none).filter(|_| self.reuse);
        let ino = free.unwrap_or_else(|| {
            self.inodes.push(None);
            self.inodes.len() - 1
        });
        self.inodes[ino] = Some(inode);
        seen.push(Happened::to(&place, What::Made));
        self.entries_mut(place.dir).insert(place.name, ino);
        let dir = self.inode_mut(place.dir);
        (dir.mtime, dir.ctime) = (now, now);
    }

    fn remove(&mut self, place: &Place, ino: usize, now: Stamp, seen: &mut Vec<Happened>) {
        self.entries_mut(place.dir).remove(&place.name);
        let dir = self.inode_mut(place.dir);
        (dir.mtime, dir.ctime) = (now, now);
        let inode = self.inode_mut(ino);
        inode.links -= 1;
        inode.ctime = now;
        if matches!(inode.node, Node::Dir { .. }) {
            seen.push(Happened { dir: ino, name: None, node: None, what: What::Removed, gone: true });
        }
        seen.push(Happened::to(place, What::Removed));
        self.forget(ino);
    }

    /// Frees an inode without references.
    fn forget(&mut self, ino: usize) {
        if self.inodes[ino].as_ref().is_some_and(|inode| inode.links == 0 && inode.open == 0) {
            self.inodes[ino] = None;
        }
    }

    pub(super) fn opened(&mut self, ino: usize) {
        self.inode_mut(ino).open += 1;
    }

    pub(super) fn closed(&mut self, ino: usize) {
        self.inode_mut(ino).open -= 1;
        self.forget(ino);
    }

    pub(super) fn stat(&self, ino: usize) -> Stat {
        let inode = self.inode(ino);
        let size = match &inode.node {
            Node::File(bytes) => bytes.len() as u64,
            Node::Link(target) => target.as_os_str().len() as u64,
            Node::Dir { .. } => 4096,
            Node::Fifo => 0,
        };
        let id = FileId { dev: 1, ino: ino as u64 + 2 };
        Stat { kind: self.kind(ino), id, size, mtime: inode.mtime, ctime: inode.ctime }
    }

    /// Returns the entry `name` of the directory `dir`, without following a symlink.
    pub(super) fn entry(&self, dir: usize, name: &OsStr) -> io::Result<usize> {
        self.entries(dir)?.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Returns the entry at `path`. Follows every symlink on the way, and the last one if `follow`
    /// is set.
    pub(super) fn node(&self, path: &Path, follow: bool) -> io::Result<usize> {
        if path.parent().is_none() {
            return Ok(ROOT);
        }
        self.place(path, follow)?.node.ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Returns the names in the directory `dir`.
    pub(super) fn names(&self, dir: usize) -> io::Result<Vec<OsString>> {
        Ok(self.entries(dir)?.keys().cloned().collect())
    }

    pub(super) fn target(&self, ino: usize) -> io::Result<PathBuf> {
        match &self.inode(ino).node {
            Node::Link(target) => Ok(target.clone()),
            _ => Err(ErrorKind::InvalidInput.into()),
        }
    }

    /// Returns the content of a file that may be read.
    pub(super) fn content(&self, ino: usize) -> io::Result<Arc<Vec<u8>>> {
        match &self.inode(ino).node {
            Node::File(_) if self.inode(ino).mode & 0o444 == 0 => Err(ErrorKind::PermissionDenied.into()),
            Node::File(bytes) => Ok(Arc::clone(bytes)),
            Node::Dir { .. } => Err(ErrorKind::IsADirectory.into()),
            Node::Link(_) => Err(ErrorKind::NotADirectory.into()),
            Node::Fifo => Err(ErrorKind::InvalidInput.into()),
        }
    }

    /// Returns the content of an open file, whose mode does not matter any more.
    pub(super) fn bytes(&self, ino: usize) -> Arc<Vec<u8>> {
        match &self.inode(ino).node {
            Node::File(bytes) => Arc::clone(bytes),
            _ => Arc::default(),
        }
    }

    /// Returns the bytes that opening and reading `path` gives if nothing happens meanwhile.
    pub(super) fn read(&self, path: &Path) -> Option<Arc<Vec<u8>>> {
        self.place(path, true).ok()?.node.and_then(|ino| self.content(ino).ok())
    }

    /// Returns the bytes of each file in the directory whose name does not begin with a dot, in the
    /// order of the names; one `None` if there is no such file.
    pub(super) fn read_all(&self, dir: &Path) -> Vec<Option<Arc<Vec<u8>>>> {
        let names = self.dir(dir).and_then(|ino| self.names(ino)).unwrap_or_default();
        let shown = names.iter().filter(|name| !name.as_encoded_bytes().starts_with(b"."));
        let paths = shown.map(|name| dir.join(name)).filter(|path| self.dir(path).is_err());
        let files: Vec<_> = paths.map(|path| self.read(&path)).collect();
        if files.is_empty() { vec![None] } else { files }
    }

    /// Returns the file that `path` leads to.
    pub(super) fn file(&self, path: &Path) -> Option<usize> {
        self.place(path, true).ok()?.node.filter(|ino| self.kind(*ino) == Kind::File)
    }

    /// Returns the change time of the entry at `path` itself.
    pub(super) fn changed(&self, path: &Path) -> io::Result<Stamp> {
        self.present(path, false).map(|(_, ino)| self.inode(ino).ctime)
    }

    /// Returns the directory that `path` leads to.
    pub(super) fn dir(&self, path: &Path) -> io::Result<usize> {
        if path.parent().is_none() {
            return Ok(ROOT);
        }
        let ino = self.place(path, true)?.node.ok_or(ErrorKind::NotFound)?;
        self.entries(ino).map(|_| ino)
    }

    pub(super) fn kind(&self, ino: usize) -> Kind {
        match self.inode(ino).node {
            Node::Dir { .. } => Kind::Dir,
            Node::File(_) => Kind::File,
            Node::Link(_) => Kind::Link,
            Node::Fifo => Kind::Other("a pipe"),
        }
    }

    /// Follows every symlink on the way, and the last one if `follow` is set.
    fn place(&self, path: &Path, follow: bool) -> io::Result<Place> {
        let mut dir = ROOT;
        let mut links = 0;
        let mut names: Vec<OsString> = parts(path).collect();
        while let Some(name) = names.pop() {
            match name.to_str() {
                Some("/") => dir = ROOT,
                Some(".") => {}
                Some("..") => dir = self.parent(dir),
                _ => {
                    let node = self.entries(dir)?.get(&name).copied();
                    let last = names.is_empty();
                    match node {
                        Some(ino) if self.kind(ino) == Kind::Link && (follow || !last) => {
                            links += 1;
                            if links > LINK_LIMIT {
                                return Err(io::Error::other("a link loop"));
                            }
                            let target = self.target(ino)?;
                            names.extend(parts(&target));
                        }
                        _ if last => return Ok(Place { dir, name, node }),
                        Some(ino) => dir = ino,
                        None => return Err(ErrorKind::NotFound.into()),
                    }
                }
            }
        }
        Err(ErrorKind::IsADirectory.into())
    }

    fn present(&self, path: &Path, follow: bool) -> io::Result<(Place, usize)> {
        let place = self.place(path, follow)?;
        let ino = place.node.ok_or(ErrorKind::NotFound)?;
        Ok((place, ino))
    }

    fn vacant(&self, path: &Path) -> io::Result<Place> {
        let place = self.place(path, false)?;
        if place.node.is_some() { Err(ErrorKind::AlreadyExists.into()) } else { Ok(place) }
    }

    fn parent(&self, dir: usize) -> usize {
        match self.inode(dir).node {
            Node::Dir { parent, .. } => parent,
            _ => ROOT,
        }
    }

    fn entries(&self, dir: usize) -> io::Result<&BTreeMap<OsString, usize>> {
        match &self.inode(dir).node {
            Node::Dir { entries, .. } => Ok(entries),
            _ => Err(ErrorKind::NotADirectory.into()),
        }
    }

    #[allow(clippy::panic)] // reason: the callers have looked the directory up
    fn entries_mut(&mut self, dir: usize) -> &mut BTreeMap<OsString, usize> {
        match &mut self.inode_mut(dir).node {
            Node::Dir { entries, .. } => entries,
            _ => panic!("not a directory"),
        }
    }

    fn file_mut(&mut self, ino: usize) -> io::Result<&mut Arc<Vec<u8>>> {
        match &mut self.inode_mut(ino).node {
            Node::File(bytes) => Ok(bytes),
            _ => Err(ErrorKind::IsADirectory.into()),
        }
    }

    #[allow(clippy::expect_used)] // reason: entries and descriptors keep their inode
    fn inode(&self, ino: usize) -> &Inode {
        self.inodes[ino].as_ref().expect("a live inode")
    }

    #[allow(clippy::expect_used)] // reason: as above
    fn inode_mut(&mut self, ino: usize) -> &mut Inode {
        self.inodes[ino].as_mut().expect("a live inode")
    }

    /// Returns the steps that remove everything, the deepest entries first.
    pub(super) fn removal(&self) -> Vec<Op> {
        let mut steps = Vec::new();
        self.remove_all(ROOT, Path::new(""), &mut steps);
        steps
    }

    fn remove_all(&self, dir: usize, at: &Path, steps: &mut Vec<Op>) {
        for (name, ino) in self.entries(dir).into_iter().flatten() {
            let path = at.join(name);
            if self.kind(*ino) == Kind::Dir {
                self.remove_all(*ino, &path, steps);
                steps.push(Op::Rmdir(path));
            } else {
                steps.push(Op::Unlink(path));
            }
        }
    }

    pub(super) fn stamp(&self, wall: Duration) -> Stamp {
        let tick = self.tick.as_nanos().max(1);
        Stamp::try_from(wall.as_nanos() / tick * tick).unwrap_or(Stamp::MAX)
    }
}

impl Happened {
    fn to(place: &Place, what: What) -> Self {
        Self { dir: place.dir, name: Some(place.name.clone()), node: place.node, what, gone: false }
    }
}
