//! Resolves each path of a file set, name by name, through one cache of directory handles.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    io,
    path::{Component, Path, PathBuf},
};

use super::{
    Attempt, LINK_LIMIT, LOOKUP_LIMIT, LookedUp, Node,
    failure::{EntryError, gone_or_fault, not_followed},
};
use crate::{
    fs::{self, Fs, Kind, Stat},
    read::walk::{self, Lookup, Step},
};

/// The lookup of one name.
struct EntryLookup {
    seen: Lookup,
    node: Option<usize>,
    assumed: bool,
    followed: bool,
    stop: Option<EntryError>,
}

impl EntryLookup {
    fn new(seen: Lookup, stop: Option<EntryError>) -> Self {
        Self { seen, node: None, assumed: false, followed: false, stop }
    }
}

/// The end of a resolved path.
pub(super) enum Resolved {
    /// The entry of a regular file.
    File(usize),
    /// The node of a directory, where one is wanted.
    Opened(usize),
    /// A directory where a regular file is expected.
    Dir(PathBuf),
}

impl<F: Fs> Attempt<'_, F> {
    /// Walks one path to the entry of its file.
    pub(super) fn file(&mut self, path: &Path) -> Result<usize, EntryError> {
        let wanted = "a directory where a regular file is expected";
        match self.resolve(path, false)? {
            Resolved::File(index) => Ok(index),
            Resolved::Dir(at) => Err(EntryError::fault(at, wanted)),
            Resolved::Opened(_) => Err(EntryError::fault(path, wanted)),
        }
    }

    /// Walks one path to its end.
    pub(super) fn resolve(&mut self, path: &Path, wants_dir: bool) -> Result<Resolved, EntryError> {
        self.walk.traces.push(Vec::new());
        let anchor: PathBuf = path
            .components()
            .take_while(|part| matches!(part, Component::Prefix(_) | Component::RootDir))
            .collect();
        let mut stack = vec![self.root(&anchor)?];
        let mut rest: VecDeque<Part> = parts(path).collect();
        let (mut links, mut lookups) = (0, 0);
        while let Some(part) = rest.pop_front() {
            let Some(name) = self.name_of(part, &mut stack)? else { continue };
            lookups += 1;
            let as_directory = wants_dir || !rest.is_empty();
            let index = self.look_up(stack[stack.len() - 1], &name, as_directory)?;
            let at = || self.walk.entries[index].path.clone();
            if lookups > LOOKUP_LIMIT {
                return Err(too_many(at(), LOOKUP_LIMIT, "names to look up"));
            }
            if let Some(trace) = self.walk.traces.last_mut() {
                trace.push(Step { entry: index, as_directory });
            }
            let seen = &self.walk.entries[index].seen;
            links += usize::from(matches!(seen, Lookup::Link(..)) || self.entries[index].followed);
            if links > LINK_LIMIT {
                return Err(too_many(at(), LINK_LIMIT, "links to follow"));
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
                Lookup::Node(stat) => return Err(of_another_kind(at(), stat.kind, as_directory)),
                Lookup::Nothing => return Err(EntryError::fault(at(), "cannot be looked up")),
            }
        }
        if wants_dir {
            Ok(Resolved::Opened(stack[stack.len() - 1]))
        } else {
            Ok(Resolved::Dir(path.to_owned()))
        }
    }

    /// Returns the name to look up for this part of a path; `None` for a part that only changes the
    /// directory, whose node is the last of `stack`.
    fn name_of(&mut self, part: Part, stack: &mut Vec<usize>) -> Result<Option<OsString>, EntryError> {
        match part {
            Part::Drive(anchor) => *stack = vec![self.root(&anchor)?],
            Part::Root => stack.truncate(1),
            Part::Here => {}
            Part::Up if self.nodes[stack[stack.len() - 1]].jumped => return Ok(Some("..".into())),
            // Every other symlink is resolved on the way, so the stack is the physical path.
            Part::Up if stack.len() > 1 => stack.truncate(stack.len() - 1),
            Part::Up => {}
            Part::Name(name) => return Ok(Some(name)),
        }
        Ok(None)
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
        let guessed = self.guess(parent, name, &path, was, as_directory);
        let missed = guessed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let EntryLookup { seen, node, assumed, followed, stop } = match guessed {
            Ok(Some(right)) => right,
            _ => self.entry(parent, name, &path),
        };
        let Node { path: dir, stat, .. } = &self.nodes[parent];
        self.walk.note_lookup(dir, stat.id, name.to_owned(), &seen);
        self.walk.entries.push(walk::Entry { path, seen });
        self.known.entry(parent).or_default().insert(name.to_owned(), self.entries.len());
        self.entries.push(LookedUp { parent, name: name.to_owned(), node, missed, assumed, followed });
        stop.map_or(Ok(self.entries.len() - 1), Err)
    }

    /// Looks `name` up by what it most likely is, which spares a stat: the symlink that it was, or a
    /// directory where one is expected. Returns `None` if it is neither.
    fn guess(
        &mut self,
        parent: usize,
        name: &OsStr,
        path: &Path,
        was: Option<&Lookup>,
        as_directory: bool,
    ) -> io::Result<Option<EntryLookup>> {
        let at = &self.nodes[parent].dir;
        if let Some(was @ Lookup::Link(_, target)) = was {
            // The symlink's times are read only where another entry has changed.
            let same = self.fs.read_link(at, name)? == *target;
            return Ok(same.then(|| EntryLookup { assumed: true, ..EntryLookup::new(was.clone(), None) }));
        }
        if !as_directory {
            return Ok(None);
        }
        let dir = self.fs.open_dir(at, name)?;
        // Where it is not pinned another entry may have taken its place since.
        let stat = self.fs.stat_dir(&dir)?;
        Ok((stat.kind == Kind::Dir).then(|| {
            let node = Some(self.node(dir, stat, path, name == ".."));
            EntryLookup { node, ..EntryLookup::new(Lookup::Node(stat), None) }
        }))
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
                    EntryLookup { node, followed: true, ..EntryLookup::new(Lookup::Node(stat), None) }
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
            let why = "the directory was replaced between its lookup and its open";
            return Err(EntryError::torn(path, why));
        }
        let node = self.node(dir, stat, &path, self.entries[index].name == "..");
        self.entries[index].node = Some(node);
        Ok(node)
    }
}

/// Makes the fault of a path that does not seem to end.
fn too_many(at: PathBuf, limit: usize, steps: &str) -> EntryError {
    EntryError::fault(at, format!("more than {limit} {steps}: perhaps a link loop"))
}

/// Makes the fault of an entry of another kind than its place in a path demands.
fn of_another_kind(at: PathBuf, kind: Kind, as_directory: bool) -> EntryError {
    let wanted = if as_directory { "a directory" } else { "a regular file" };
    let why = format!("{} where {wanted} is expected", kind.name());
    // A pipe or device may never return the same bytes twice, or may wait for a writer.
    let hint = match kind {
        Kind::Other(_) if !as_directory => {
            ": each reload reads the file again, so write the content to a regular file"
        }
        _ => "",
    };
    EntryError::fault(at, why + hint)
}

/// Opens and stats the target of the magic link `name`.
pub(super) fn follow<F: Fs>(fs: &F, dir: &F::Dir, name: &OsStr) -> io::Result<(Stat, F::Dir)> {
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
