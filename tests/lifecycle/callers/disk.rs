//! Two files in memory. Their readers and watchers report each operation to the world.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls_reload::{
    Error,
    fs::{FileId, Fs, Kind, Stat},
    watch::{Hints, Watched, Watcher},
};

use super::{history::Record, plan::Hook, world::World};

pub const NAMES: [&str; 2] = ["a", "b"];

/// The content of one inode, and the time of its last write.
struct Inode {
    number: u64,
    content: Mutex<(i128, String)>,
}

struct State {
    files: [Arc<Inode>; 2],
    /// The time of the last change to a name, and the number of the last inode.
    changed: i128,
    stamp: i128,
    inodes: u64,
}

pub struct Disk {
    state: Mutex<State>,
    /// The present watchers.
    watchers: Mutex<Vec<(usize, Hints)>>,
    made: AtomicUsize,
}

impl Disk {
    pub fn new(text: &str) -> Self {
        let file = |number| Arc::new(Inode { number, content: Mutex::new((1, text.to_owned())) });
        let state = State { files: [file(2), file(3)], changed: 1, stamp: 1, inodes: 3 };
        Self { state: Mutex::new(state), watchers: Mutex::default(), made: AtomicUsize::new(0) }
    }

    pub fn write(&self, file: usize, text: &str, in_place: bool) {
        {
            let mut state = self.state.lock().unwrap();
            state.stamp += 1;
            let content = (state.stamp, text.to_owned());
            if in_place {
                *state.files[file].content.lock().unwrap() = content;
            } else {
                state.inodes += 1;
                state.changed = state.stamp;
                state.files[file] = Arc::new(Inode { number: state.inodes, content: Mutex::new(content) });
            }
        }
        let watchers = self.watchers.lock().unwrap().clone();
        let path = Path::new("/").join(NAMES[file]);
        watchers.iter().for_each(|(_, hints)| hints.touched(&path, !in_place));
    }

    pub fn watchers(&self) -> usize {
        self.watchers.lock().unwrap().len()
    }
}

/// The file system of one reloader.
pub struct Port {
    pub world: Arc<World>,
    pub reloader: usize,
}

pub struct File {
    inode: Arc<Inode>,
    index: usize,
    read: bool,
}

impl Port {
    fn disk(&self) -> &Disk {
        &self.world.sites[self.reloader].disk
    }

    fn file(&self, name: &OsStr) -> io::Result<(usize, Arc<Inode>)> {
        let index = NAMES.iter().position(|known| name == *known).ok_or(io::ErrorKind::NotFound)?;
        Ok((index, Arc::clone(&self.disk().state.lock().unwrap().files[index])))
    }
}

fn stat(inode: &Inode) -> Stat {
    let (stamp, text) = &*inode.content.lock().unwrap();
    let id = FileId { dev: 1, ino: inode.number };
    Stat { kind: Kind::File, id, size: text.len() as u64, mtime: *stamp, ctime: *stamp }
}

impl Fs for Port {
    type Dir = ();
    type File = File;

    const HAS_DIR_HANDLES: bool = true;

    fn root(&self, _: &Path) -> io::Result<()> {
        self.world.attempt(self.reloader);
        self.world.hook(self.reloader, Hook::Snapshot);
        Ok(())
    }

    fn open_dir(&self, (): &(), _: &OsStr) -> io::Result<()> {
        Err(io::ErrorKind::NotADirectory.into())
    }

    fn stat_dir(&self, (): &()) -> io::Result<Stat> {
        let changed = self.disk().state.lock().unwrap().changed;
        Ok(Stat { kind: Kind::Dir, id: FileId { dev: 1, ino: 1 }, size: 0, mtime: changed, ctime: changed })
    }

    fn stat(&self, (): &(), name: &OsStr) -> io::Result<Stat> {
        self.file(name).map(|(_, inode)| stat(&inode))
    }

    fn read_link(&self, (): &(), _: &OsStr) -> io::Result<PathBuf> {
        Err(io::ErrorKind::InvalidInput.into())
    }

    fn open(&self, (): &(), name: &OsStr) -> io::Result<File> {
        let (index, inode) = self.file(name)?;
        Ok(File { inode, index, read: false })
    }

    fn stat_file(&self, file: &File) -> io::Result<Stat> {
        Ok(stat(&file.inode))
    }

    /// After the last read no file is read again, so that a write by this hook comes too late for
    /// the attempt.
    fn read(&self, file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
        if std::mem::replace(&mut file.read, true) {
            return Ok(0);
        }
        let text = file.inode.content.lock().unwrap().1.clone();
        let length = text.len().min(buffer.len());
        buffer[..length].copy_from_slice(&text.as_bytes()[..length]);
        let (reloader, attempt) = (self.reloader, self.world.sites[self.reloader].last_attempt());
        self.world.history.note(Record::Read { reloader, attempt, file: file.index, text });
        if file.index == 1 {
            self.world.hook(self.reloader, Hook::Snapshot);
        }
        Ok(length)
    }

    fn list(&self, (): &(), _: &mut dyn FnMut(&OsStr) -> bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A watcher that receives every write from its making to its drop.
struct Listener {
    world: Arc<World>,
    reloader: usize,
    number: usize,
}

pub fn watch(
    world: &Arc<World>,
    reloader: usize,
) -> impl FnMut(Hints) -> Result<Box<dyn Watcher>, Error> + Send + use<> {
    let world = Arc::clone(world);
    move |hints| {
        let disk = &world.sites[reloader].disk;
        let number = disk.made.fetch_add(1, Ordering::Relaxed);
        disk.watchers.lock().unwrap().push((number, hints));
        Ok(Box::new(Listener { world: Arc::clone(&world), reloader, number }))
    }
}

impl Watcher for Listener {
    fn watch(&mut self, _: &Path) -> Result<Watched, Error> {
        Ok(Watched::Armed)
    }

    fn unwatch(&mut self, _: &Path) {}
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.world.hook(self.reloader, Hook::Ending);
        let watchers = &self.world.sites[self.reloader].disk.watchers;
        let gone = {
            let mut watchers = watchers.lock().unwrap();
            let place = watchers.iter().position(|(number, _)| *number == self.number);
            place.map(|place| watchers.swap_remove(place))
        };
        drop(gone);
    }
}
