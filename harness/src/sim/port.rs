//! The ports of the simulated world: file system, clock, watcher. Every call first lets the
//! publisher go on.

use std::{
    ffi::OsStr,
    hash::{Hash, Hasher},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    EventSink, Sim, StateHasher, What, World,
    disk::{Disk, ROOT},
    hash, over,
    partial_order_reduction::Asks,
};
use rustls_reload::{
    Clock, Error, Layer, Now,
    fs::{Fs, Kind, Stat},
    internal::Probe,
    watch::{Hints, Watched, Watcher},
};

/// A port to the simulated disk.
#[derive(Clone)]
pub struct SimFs(pub(super) Sim);

/// A handle of an open directory.
pub struct SimDir(Pin);

/// A handle of an open file.
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
    /// Performs one call: the publisher goes on, then the call happens at one instant and is
    /// hashed. `peek` returns everything that the reader learns from it.
    pub(super) fn verb<R>(
        &self,
        asked: impl Hash,
        peek: impl Fn(&Disk) -> io::Result<u64>,
        act: impl FnOnce(&mut World) -> R,
    ) -> io::Result<R> {
        let mut world = self.0.world();
        let seen = |disk: &Disk| peek(disk).map_err(|error| error.kind());
        world.give_way(Asks::Disk(&|disk| hash(&seen(disk))));
        world.pass_verb();
        if world.ended {
            return Err(over());
        }
        let seen = seen(&world.disk);
        world.log = hash(&(world.log, asked, seen));
        Ok(seen.map(|_| act(&mut world))?)
    }

    /// Opens an inode, to be read from its beginning.
    pub(super) fn file(&self, world: &mut World, ino: usize) -> SimFile {
        SimFile { pin: Pin::new(&self.0, world, ino), read: 0 }
    }
}

impl Fs for SimFs {
    type Dir = SimDir;
    type File = SimFile;

    const HAS_DIR_HANDLES: bool = true;

    fn root(&self, _: &Path) -> io::Result<SimDir> {
        self.verb("root", |_| Ok(0), |world| SimDir(Pin::new(&self.0, world, ROOT)))
    }

    fn open_dir(&self, at: &SimDir, name: &OsStr) -> io::Result<SimDir> {
        let ino = std::cell::Cell::new(0);
        let peek = |disk: &Disk| {
            ino.set(disk.entry(at.0.ino, name)?);
            match disk.kind(ino.get()) {
                Kind::Dir => Ok(ino.get() as u64),
                _ => Err(io::ErrorKind::NotADirectory.into()),
            }
        };
        let open = |world: &mut World| SimDir(Pin::new(&self.0, world, ino.get()));
        self.verb(("open_dir", at.0.ino, name), peek, open)
    }

    fn stat_dir(&self, dir: &SimDir) -> io::Result<Stat> {
        let ino = dir.0.ino;
        self.verb(("stat_dir", ino), |disk| Ok(hash(&disk.stat(ino))), |world| world.disk.stat(ino))
    }

    fn stat(&self, at: &SimDir, name: &OsStr) -> io::Result<Stat> {
        let stat = |disk: &Disk| disk.entry(at.0.ino, name).map(|ino| disk.stat(ino));
        let peek = |disk: &Disk| stat(disk).map(|stat| hash(&stat));
        self.verb(("stat", at.0.ino, name), peek, |world| stat(&world.disk))?
    }

    fn read_link(&self, at: &SimDir, name: &OsStr) -> io::Result<PathBuf> {
        let target = |disk: &Disk| disk.target(disk.entry(at.0.ino, name)?);
        let peek = |disk: &Disk| target(disk).map(|target| hash(&target));
        self.verb(("read_link", at.0.ino, name), peek, |world| target(&world.disk))?
    }

    fn open(&self, at: &SimDir, name: &OsStr) -> io::Result<SimFile> {
        let ino = std::cell::Cell::new(0);
        let peek = |disk: &Disk| {
            ino.set(disk.entry(at.0.ino, name)?);
            disk.content(ino.get()).map(|_| ino.get() as u64)
        };
        self.verb(("open", at.0.ino, name), peek, |world| self.file(world, ino.get()))
    }

    fn stat_file(&self, file: &SimFile) -> io::Result<Stat> {
        let ino = file.pin.ino;
        self.verb(("stat_file", ino), |disk| Ok(hash(&disk.stat(ino))), |world| world.disk.stat(ino))
    }

    fn read(&self, file: &mut SimFile, buffer: &mut [u8]) -> io::Result<usize> {
        let (ino, from, room) = (file.pin.ino, file.read, buffer.len());
        let read = |disk: &Disk, buffer: Option<&mut [u8]>| {
            let bytes = disk.bytes(ino);
            let rest = bytes.get(from..).unwrap_or_default();
            let rest = &rest[..rest.len().min(room)];
            if let Some(buffer) = buffer {
                buffer[..rest.len()].copy_from_slice(rest);
            }
            (rest.len(), hash(&rest))
        };
        let peek = |disk: &Disk| Ok(read(disk, None).1);
        let len = self.verb(("read", ino, from), peek, |world| read(&world.disk, Some(buffer)).0)?;
        file.read += len;
        Ok(len)
    }

    fn list(&self, dir: &SimDir, each: &mut dyn FnMut(&OsStr) -> bool) -> io::Result<()> {
        let ino = dir.0.ino;
        let names = |disk: &Disk| disk.names(ino);
        let peek = |disk: &Disk| names(disk).map(|names| hash(&names));
        let names = self.verb(("list", ino), peek, |world| names(&world.disk))??;
        names.iter().try_for_each(|name| each(name).then_some(()));
        Ok(())
    }
}

/// Tells the world what its reader keeps.
pub struct SimProbe(pub(super) Sim);

impl Probe for SimProbe {
    fn keeps(&self, hash: &dyn Fn(&mut dyn Hasher)) {
        let kept = self.0.keep(&|| {
            let mut hasher = StateHasher::default();
            hash(&mut hasher);
            hasher.finish()
        });
        self.0.world().forget(kept);
    }
}

/// The virtual clock, whose waits let the publisher go on.
#[derive(Clone)]
pub struct SimClock(pub(super) Sim);

impl Clock for SimClock {
    fn now(&self) -> Now {
        let mut world = self.0.world();
        world.give_way(Asks::Time);
        world.log = hash(&(world.log, world.now.mono));
        world.now
    }

    fn sleep(&self, pause: Duration) {
        self.0.sleep(pause);
    }
}

/// A watcher like inotify: it watches directories by inode, and names them by the path that they
/// were watched under.
pub struct SimWatcher(Sim);

impl SimWatcher {
    /// Makes the watcher of this world, which reports to `hints`.
    #[must_use]
    pub fn new(sim: &Sim, hints: Hints) -> Self {
        sim.world().sink = Some(EventSink::Hints(hints));
        Self(sim.clone())
    }

    /// Makes a watcher that reports every event of watched directories, and `None` if events were
    /// lost.
    #[must_use]
    pub fn unfiltered(sim: &Sim, listener: impl Fn(Option<What>) + Send + Sync + 'static) -> Self {
        sim.world().sink = Some(EventSink::All(std::sync::Arc::new(listener)));
        Self(sim.clone())
    }

    /// Watches the file that `path` leads to now, whatever is renamed or re-pointed later. Returns
    /// whether the file was not watched before.
    pub fn watch_file(&mut self, path: &Path) -> bool {
        let mut world = self.0.world();
        world.give_way(Asks::All);
        world.pass_verb();
        let found = world.disk.file(path);
        world.log = hash(&(world.log, "watch_file", path, found));
        let new = found.filter(|ino| !world.watched_files.contains(ino));
        world.watched_files.extend(new);
        new.is_some()
    }
}

impl Watcher for SimWatcher {
    fn begin_update(&mut self) {
        let mut world = self.0.world();
        world.give_way(Asks::Plan);
        world.plans += 1;
        world.taken = hash(&(world.taken, world.pending()));
    }

    fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
        let mut world = self.0.world();
        world.give_way(Asks::All);
        world.pass_verb();
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
        world.sink = None;
    }
}

/// Returns the watcher that a design uses: the world's own.
#[must_use]
pub(crate) fn make_watcher(sim: &Sim) -> rustls_reload::watch::MakeWatcher {
    let sim = sim.clone();
    Box::new(move |hints| Ok(Box::new(SimWatcher::new(&sim, hints)) as Box<dyn Watcher>))
}
