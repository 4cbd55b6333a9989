//! The ports of the simulated world: file system, clock, watcher. Every verb first lets the publisher go on.

use std::{
    ffi::OsStr,
    hash::Hash,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Ear, Sim, What, World, disk::ROOT, hash, over};
use crate::{
    clock::{Clock, Now},
    error::{Error, Layer},
    fs::{Fs, Kind, Stat},
    watch::{Hints, Watched, Watcher},
};

/// The simulated disk behind the port.
#[derive(Clone)]
pub struct SimFs(pub(super) Sim);

/// An open directory.
pub struct SimDir(Pin);

/// An open file.
pub struct SimFile {
    pin: Pin,
    read: usize,
}

/// Keeps an inode alive (ASM-02).
struct Pin {
    sim: Sim,
    ino: usize,
}

impl Pin {
    fn new(sim: &Sim, world: &mut World, ino: usize) -> Self {
        world.disk.opened(ino);
        Self { sim: sim.clone(), ino }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.sim.world().disk.closed(self.ino);
    }
}

impl SimFs {
    /// One verb: the publisher goes on, then this happens at one instant and is remembered.
    fn verb<R>(
        &self,
        asked: impl Hash,
        verb: impl FnOnce(&mut World) -> io::Result<R>,
        seen: impl FnOnce(&R) -> u64,
    ) -> io::Result<R> {
        let mut world = self.0.world();
        world.yield_to_publisher();
        if world.ended {
            return Err(over());
        }
        let result = verb(&mut world);
        let seen = result.as_ref().map(seen).map_err(io::Error::kind);
        world.log = hash(&(world.log, world.now.mono, asked, seen));
        result
    }
}

impl Fs for SimFs {
    type Dir = SimDir;
    type File = SimFile;

    const PINS: bool = true;

    fn root(&self, _: &Path) -> io::Result<SimDir> {
        self.verb("root", |world| Ok(SimDir(Pin::new(&self.0, world, ROOT))), |_| 0)
    }

    fn open_dir(&self, at: &SimDir, name: &OsStr) -> io::Result<SimDir> {
        let open = |world: &mut World| {
            let ino = world.disk.entry(at.0.ino, name)?;
            match world.disk.kind(ino) {
                Kind::Dir => Ok(SimDir(Pin::new(&self.0, world, ino))),
                _ => Err(io::ErrorKind::NotADirectory.into()),
            }
        };
        self.verb(("open_dir", at.0.ino, name), open, |dir| dir.0.ino as u64)
    }

    fn stat_dir(&self, dir: &SimDir) -> io::Result<Stat> {
        self.verb(("stat_dir", dir.0.ino), |world| Ok(world.disk.stat(dir.0.ino)), hash)
    }

    fn stat(&self, at: &SimDir, name: &OsStr) -> io::Result<Stat> {
        let stat = |world: &mut World| world.disk.entry(at.0.ino, name).map(|ino| world.disk.stat(ino));
        self.verb(("stat", at.0.ino, name), stat, hash)
    }

    fn read_link(&self, at: &SimDir, name: &OsStr) -> io::Result<PathBuf> {
        let read = |world: &mut World| world.disk.target(world.disk.entry(at.0.ino, name)?);
        self.verb(("read_link", at.0.ino, name), read, hash)
    }

    fn open(&self, at: &SimDir, name: &OsStr) -> io::Result<SimFile> {
        let open = |world: &mut World| {
            let ino = world.disk.entry(at.0.ino, name)?;
            world.disk.content(ino)?;
            Ok(SimFile { pin: Pin::new(&self.0, world, ino), read: 0 })
        };
        self.verb(("open", at.0.ino, name), open, |file| file.pin.ino as u64)
    }

    fn stat_file(&self, file: &SimFile) -> io::Result<Stat> {
        self.verb(("stat_file", file.pin.ino), |world| Ok(world.disk.stat(file.pin.ino)), hash)
    }

    fn read(&self, file: &mut SimFile, buffer: &mut [u8]) -> io::Result<usize> {
        let (ino, from) = (file.pin.ino, file.read);
        let read = |world: &mut World| {
            let bytes = world.disk.bytes(ino);
            let rest = bytes.get(from..).unwrap_or_default();
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok((len, hash(&&rest[..len])))
        };
        let (len, _) = self.verb(("read", ino, from), read, |(_, bytes)| *bytes)?;
        file.read += len;
        Ok(len)
    }
}

/// Virtual time. Waiting lets the publisher go on.
#[derive(Clone)]
pub struct SimClock(pub(super) Sim);

impl Clock for SimClock {
    fn now(&self) -> Now {
        self.0.now()
    }

    fn sleep(&self, pause: Duration) {
        self.0.sleep(pause);
    }
}

/// A watcher as inotify is one: it watches directories by inode and names them by the path they were watched under.
pub struct SimWatcher(Sim);

impl SimWatcher {
    /// The watcher of this world, reporting to `hints`.
    #[must_use]
    pub fn new(sim: &Sim, hints: Hints) -> Self {
        sim.world().ear = Some(Ear::Hints(hints));
        Self(sim.clone())
    }

    /// The same, reporting all that happens to what is watched, and `None` where events were lost.
    #[must_use]
    pub fn unfiltered(sim: &Sim, listener: impl Fn(Option<What>) + Send + Sync + 'static) -> Self {
        sim.world().ear = Some(Ear::All(std::sync::Arc::new(listener)));
        Self(sim.clone())
    }

    /// Watches the file that `path` leads to now, whatever is renamed or re-pointed later; whether one is watched that was
    /// not before.
    pub fn watch_file(&mut self, path: &Path) -> bool {
        let mut world = self.0.world();
        world.yield_to_publisher();
        let found = world.disk.file(path);
        world.log = hash(&(world.log, "watch_file", path, found));
        let new = found.filter(|ino| !world.watched_files.contains(ino));
        world.watched_files.extend(new);
        new.is_some()
    }
}

impl Watcher for SimWatcher {
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
        let mut world = self.0.world();
        world.yield_to_publisher();
        let found = world.disk.dir(dir);
        world.log = hash(&(world.log, "watch", dir, found.as_ref().ok()));
        let ino = match found {
            Ok(ino) => ino,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Watched::Gone),
            Err(error) => return Err(Error::new(Layer::Watch, error.to_string()).at(dir)),
        };
        world.watches.retain(|(watched, _)| *watched != ino);
        world.watches.push((ino, dir.to_owned()));
        Ok(Watched::Armed)
    }

    fn unwatch(&mut self, dir: &Path) {
        self.0.world().watches.retain(|(_, path)| path != dir);
    }
}

impl Drop for SimWatcher {
    fn drop(&mut self) {
        let mut world = self.0.world();
        world.watches.clear();
        world.watched_files.clear();
        world.ear = None;
    }
}

/// What a design gets to watch with: the world's own watcher.
#[must_use]
pub(crate) fn make_watcher(sim: &Sim) -> crate::watch::MakeWatcher {
    let sim = sim.clone();
    Box::new(move |hints| Ok(Box::new(SimWatcher::new(&sim, hints)) as Box<dyn Watcher>))
}
