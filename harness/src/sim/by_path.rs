//! A port of the simulated world without directory handles: the simulated counterpart of
//! [`PathFs`](rustls_reload::fs::PathFs).
//!
//! Every call resolves its whole path anew, on the disk as it is at that instant. There are no
//! inode numbers, and the change times are the modification times. The answers are recorded for the
//! checker.

use std::{
    cell::Cell,
    ffi::OsStr,
    hash::Hash,
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

/// An open file, its path, and the bytes that were read. They are recorded once it is closed.
pub struct SimPathFile {
    file: SimFile,
    path: PathBuf,
    bytes: Vec<u8>,
    fs: SimPathFs,
}

impl Drop for SimPathFile {
    fn drop(&mut self) {
        let _ = self.fs.seen(("read", &self.path), Ok(()), |()| &self.bytes);
    }
}

impl SimPathFs {
    /// Makes the port, and marks the history of the world as one of a reader without directory
    /// handles.
    #[must_use]
    pub fn new(sim: &Sim) -> Self {
        sim.note(Record::Mark(BY_PATH, 0));
        Self(sim.fs())
    }

    fn stat_path(&self, path: &Path) -> io::Result<Stat> {
        let stat = |disk: &Disk| disk.node(path, false).map(|ino| by_path(disk.stat(ino)));
        let peek = |disk: &Disk| stat(disk).map(|stat| hash(&stat));
        self.0.verb(("stat", path), peek, |world| stat(&world.disk))?
    }

    /// Records an answer, and returns it.
    fn seen<'r, R, S: Hash + 'r>(
        &self,
        asked: impl Hash,
        answer: io::Result<R>,
        seen: impl FnOnce(&R) -> S,
    ) -> io::Result<R> {
        let seen = answer.as_ref().map(seen).map_err(io::Error::kind);
        self.0.0.note(Record::Observed { asked: hash(&asked), seen: hash(&seen) });
        answer
    }
}

/// Returns a stat as such a port reports it, without inode number and change time.
fn by_path(stat: Stat) -> Stat {
    Stat { id: FileId { dev: 0, ino: 0 }, ctime: stat.mtime, ..stat }
}

/// Returns what a reader goes by: length and modification time show a change of a file only.
fn reduced(stat: &Stat) -> impl Hash + use<> {
    let of_file = (stat.kind == Kind::File).then_some((stat.size, stat.mtime));
    (stat.kind, of_file)
}

impl Fs for SimPathFs {
    type Dir = PathBuf;
    type File = SimPathFile;

    const HAS_DIR_HANDLES: bool = false;

    fn root(&self, anchor: &Path) -> io::Result<PathBuf> {
        self.0.0.note(Record::Snapshot);
        Ok(anchor.to_owned())
    }

    fn open_dir(&self, at: &PathBuf, name: &OsStr) -> io::Result<PathBuf> {
        let path = at.join(name);
        let opened = self.stat_path(&path).and_then(|stat| match stat.kind {
            Kind::Dir => Ok(path.clone()),
            _ => Err(ErrorKind::NotADirectory.into()),
        });
        self.seen(("open_dir", &path), opened, |_| ())
    }

    fn stat_dir(&self, dir: &PathBuf) -> io::Result<Stat> {
        self.seen(("stat", dir), self.stat_path(dir), reduced)
    }

    fn stat(&self, at: &PathBuf, name: &OsStr) -> io::Result<Stat> {
        let path = at.join(name);
        self.seen(("stat", &path), self.stat_path(&path), reduced)
    }

    fn read_link(&self, at: &PathBuf, name: &OsStr) -> io::Result<PathBuf> {
        let path = at.join(name);
        let target = |disk: &Disk| disk.target(disk.node(&path, false)?);
        let peek = |disk: &Disk| target(disk).map(|target| hash(&target));
        let target =
            self.0.verb(("read_link", &path), peek, |world| target(&world.disk)).and_then(|target| target);
        if target.as_ref().is_err_and(|error| error.kind() == ErrorKind::InvalidInput) {
            // No symlink: the reader looks it up next. It asks for the link only where it knew one,
            // so that this is not asked in every snapshot.
            return target;
        }
        self.seen(("read_link", &path), target, PathBuf::clone)
    }

    fn open(&self, at: &PathBuf, name: &OsStr) -> io::Result<SimPathFile> {
        let path = at.join(name);
        let open = || {
            if !matches!(self.stat_path(&path)?.kind, Kind::File | Kind::Dir) {
                return Err(ErrorKind::NotADirectory.into());
            }
            let ino = Cell::new(0);
            let peek = |disk: &Disk| {
                ino.set(disk.node(&path, true)?);
                disk.content(ino.get()).map(|_| ino.get() as u64)
            };
            self.0.verb(("open", &path), peek, |world| self.0.file(world, ino.get()))
        };
        let file = self.seen(("open", &path), open(), |_| ())?;
        Ok(SimPathFile { file, path, bytes: Vec::new(), fs: self.clone() })
    }

    fn stat_file(&self, file: &SimPathFile) -> io::Result<Stat> {
        self.seen(("stat", &file.path), self.0.stat_file(&file.file).map(by_path), reduced)
    }

    fn read(&self, file: &mut SimPathFile, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.0.read(&mut file.file, buffer)?;
        file.bytes.extend(&buffer[..len]);
        Ok(len)
    }

    fn list(&self, dir: &PathBuf, each: &mut dyn FnMut(&OsStr) -> bool) -> io::Result<()> {
        let names = |disk: &Disk| disk.names(disk.dir(dir)?);
        let peek = |disk: &Disk| names(disk).map(|names| hash(&names));
        let names = self.0.verb(("list", dir), peek, |world| names(&world.disk)).and_then(|names| names);
        self.seen(("list", dir), names, Clone::clone)?.iter().try_for_each(|name| each(name).then_some(()));
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
