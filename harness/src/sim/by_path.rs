//! A port of the simulated world without directory handles: the simulated counterpart of
//! [`PathFs`](rustls_reload::fs::PathFs).
//!
//! Every call resolves its whole path anew, on the disk as it is at that instant. There are no
//! inode numbers, and the change times are the modification times.

use std::{
    cell::Cell,
    ffi::OsStr,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{Design, Record, Shipped, Sim, SimFs, Value, disk::Disk, hash, port::SimFile};
use rustls_reload::{
    Published, Status,
    fs::{FileId, Fs, Kind, Stat},
};

/// The mark in the history of a reader without directory handles. The checkers require only what
/// such a port promises.
pub const BY_PATH: &str = "by path";

/// The simulated disk behind a port without directory handles.
#[derive(Clone)]
pub struct SimPathFs(SimFs);

impl SimPathFs {
    /// Makes the port, and marks the history of the world as one of a reader without directory
    /// handles.
    #[must_use]
    pub fn new(sim: &Sim) -> Self {
        sim.note(Record::Mark(BY_PATH, 0));
        sim.world().records_observations = true;
        Self(sim.fs())
    }

    fn stat_path(&self, path: &Path) -> io::Result<Stat> {
        let stat = |disk: &Disk| disk.node(path, false).map(|ino| by_path(disk.stat(ino)));
        let peek = |disk: &Disk| stat(disk).map(|stat| hash(&stat));
        self.0.verb(("stat", path), peek, |world| stat(&world.disk))?
    }
}

/// Returns a stat as such a port reports it, without inode number and change time.
fn by_path(stat: Stat) -> Stat {
    Stat { id: FileId { dev: 0, ino: 0 }, ctime: stat.mtime, ..stat }
}

impl Fs for SimPathFs {
    type Dir = PathBuf;
    type File = SimFile;

    const HAS_DIR_HANDLES: bool = false;

    fn root(&self, anchor: &Path) -> io::Result<PathBuf> {
        Ok(anchor.to_owned())
    }

    fn open_dir(&self, at: &PathBuf, name: &OsStr) -> io::Result<PathBuf> {
        match self.stat(at, name)?.kind {
            Kind::Dir => Ok(at.join(name)),
            _ => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn stat_dir(&self, dir: &PathBuf) -> io::Result<Stat> {
        self.stat_path(dir)
    }

    fn stat(&self, at: &PathBuf, name: &OsStr) -> io::Result<Stat> {
        self.stat_path(&at.join(name))
    }

    fn read_link(&self, at: &PathBuf, name: &OsStr) -> io::Result<PathBuf> {
        let path = at.join(name);
        let target = |disk: &Disk| disk.target(disk.node(&path, false)?);
        let peek = |disk: &Disk| target(disk).map(|target| hash(&target));
        self.0.verb(("read_link", &path), peek, |world| target(&world.disk))?
    }

    fn open(&self, at: &PathBuf, name: &OsStr) -> io::Result<SimFile> {
        if !matches!(self.stat(at, name)?.kind, Kind::File | Kind::Dir) {
            return Err(ErrorKind::NotADirectory.into());
        }
        let path = at.join(name);
        let ino = Cell::new(0);
        let peek = |disk: &Disk| {
            ino.set(disk.node(&path, true)?);
            disk.content(ino.get()).map(|_| ino.get() as u64)
        };
        self.0.verb(("open", &path), peek, |world| self.0.file(world, ino.get()))
    }

    fn stat_file(&self, file: &SimFile) -> io::Result<Stat> {
        let ino = file.pin.ino;
        let stat = |disk: &Disk| by_path(disk.stat(ino));
        self.0.verb(("stat_file", ino), |disk| Ok(hash(&stat(disk))), |world| stat(&world.disk))
    }

    fn read(&self, file: &mut SimFile, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(file, buffer)
    }

    fn list(&self, dir: &PathBuf, each: &mut dyn FnMut(&OsStr) -> bool) -> io::Result<()> {
        let names = |disk: &Disk| disk.names(disk.dir(dir)?);
        let peek = |disk: &Disk| names(disk).map(|names| hash(&names));
        let names = self.0.verb(("list", dir), peek, |world| names(&world.disk))??;
        names.iter().try_for_each(|name| each(name).then_some(()));
        Ok(())
    }
}

/// The shipped reloader on a port without directory handles.
pub struct ByPath(Shipped);

impl Design for ByPath {
    fn load(sim: &Sim, paths: &[PathBuf]) -> Result<Self, String> {
        Shipped::load_through(sim, paths, SimPathFs::new(sim), |watcher| watcher).map(Self)
    }

    fn begin(&mut self) {
        self.0.begin();
    }

    fn turn(&mut self) -> Result<(), Option<Duration>> {
        self.0.turn()
    }

    fn end(&mut self) {
        self.0.end();
    }

    fn ask(&mut self) {
        self.0.ask();
    }

    fn is_answered(&mut self) -> bool {
        self.0.is_answered()
    }

    fn digest(&self) -> u64 {
        self.0.digest()
    }

    fn current(&self) -> Arc<Published<Value>> {
        self.0.current()
    }

    fn status(&self) -> Option<Status> {
        self.0.status()
    }
}
