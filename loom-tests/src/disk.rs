//! A disk with one file behind one link, and the value built of it.
//!
//! The models do not check the disk, so loom sees only two of its operations: a write, and the
//! beginning of a snapshot.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
};

use rustls_reload::fs::{FileId, Fs, Kind, Stat};

/// Number of versions whose values are counted.
const VERSIONS: usize = 64;

/// A disk with `/link -> dir`, and `dir/file` holding a version. Each write replaces the link too,
/// so that it is committed.
#[derive(Clone)]
pub struct Disk(Arc<Inner>);

struct Inner {
    /// Makes loom order a write and the beginning of a snapshot, in both orders.
    #[cfg(loom)]
    order: loom::sync::Mutex<()>,
    version: AtomicU64,
    /// The version whose build panics.
    invalid: AtomicU64,
    /// Counts of values built and of values freed, by version modulo [`VERSIONS`].
    built: [AtomicUsize; VERSIONS],
    freed: [AtomicUsize; VERSIONS],
}

impl Default for Disk {
    fn default() -> Self {
        Self(Arc::new(Inner {
            #[cfg(loom)]
            order: loom::sync::Mutex::new(()),
            version: AtomicU64::new(1),
            invalid: AtomicU64::new(0),
            built: [const { AtomicUsize::new(0) }; VERSIONS],
            freed: [const { AtomicUsize::new(0) }; VERSIONS],
        }))
    }
}

impl Disk {
    /// The path of the file.
    pub const PATH: &str = "/link/file";

    /// Writes `version` unless a later one is on disk.
    pub fn write(&self, version: u64) {
        #[cfg(loom)]
        drop(self.0.order.lock().unwrap());
        self.0.version.fetch_max(version, SeqCst);
    }

    /// Begins a snapshot. The returned version stays the present one until loom switches threads.
    #[must_use]
    pub fn snapshot(&self) -> u64 {
        #[cfg(loom)]
        drop(self.0.order.lock().unwrap());
        self.version()
    }

    fn version(&self) -> u64 {
        self.0.version.load(SeqCst)
    }

    /// Makes every build of `version` panic.
    pub fn invalidate(&self, version: u64) {
        self.0.invalid.store(version, SeqCst);
    }

    /// Returns the value of `version`.
    ///
    /// # Panics
    /// If that version is invalid.
    #[must_use]
    pub fn value(&self, version: u64) -> Whole {
        crate::fallible(version, self.0.invalid.load(SeqCst));
        self.0.built[slot(version)].fetch_add(1, SeqCst);
        Whole { first: version, second: version, disk: self.clone() }
    }

    /// Returns a value of two different halves, which no disk counts.
    #[cfg(loom)]
    pub(crate) fn mixture(first: u64, second: u64) -> Whole {
        let mut value = Self::default().value(first);
        value.second = second;
        value
    }

    /// Returns how many values of `version` were built, and how many of them were freed.
    #[must_use]
    pub fn counts(&self, version: u64) -> (usize, usize) {
        (self.0.built[slot(version)].load(SeqCst), self.0.freed[slot(version)].load(SeqCst))
    }
}

fn slot(version: u64) -> usize {
    usize::try_from(version).unwrap() % VERSIONS
}

/// A value in two halves, which are equal unless the value is a mixture.
pub struct Whole {
    /// One half.
    pub first: u64,
    /// The other.
    pub second: u64,
    disk: Disk,
}

impl Whole {
    /// Returns the version. Panics for a mixture, and for a value that was freed while it is in
    /// use.
    #[must_use]
    pub fn version(&self) -> u64 {
        assert_eq!(self.first, self.second, "a mixture");
        let (built, freed) = self.disk.counts(self.first);
        assert!(freed < built, "freed while it is held");
        self.first
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        self.disk.0.freed[slot(self.second)].fetch_add(1, SeqCst);
    }
}

/// An open directory of the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dir {
    /// `/`.
    Root,
    /// `/dir`.
    Release,
}

impl Disk {
    fn entry(&self, at: Dir, name: &OsStr) -> io::Result<Stat> {
        let version = self.version();
        let stat = |kind, ino, time| Stat {
            kind,
            id: FileId { dev: 1, ino },
            size: 8,
            mtime: i128::from(time),
            ctime: i128::from(time),
        };
        match (at, name.to_str()) {
            (Dir::Root, Some("link")) => Ok(stat(Kind::Link, 3 + 2 * version, 1 + 2 * version)),
            (Dir::Root, Some("dir")) => Ok(stat(Kind::Dir, 2, 0)),
            (Dir::Release, Some("file")) => Ok(stat(Kind::File, 4 + 2 * version, 2 * version)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Fs for Disk {
    type Dir = Dir;
    type File = (u64, usize);
    const HAS_DIR_HANDLES: bool = true;

    fn root(&self, _: &Path) -> io::Result<Dir> {
        let _ = self.snapshot();
        Ok(Dir::Root)
    }

    fn open_dir(&self, at: &Dir, name: &OsStr) -> io::Result<Dir> {
        match self.entry(*at, name)?.kind {
            Kind::Dir => Ok(Dir::Release),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn stat_dir(&self, dir: &Dir) -> io::Result<Stat> {
        let stat = self.entry(Dir::Root, OsStr::new("dir"))?;
        Ok(if *dir == Dir::Root { Stat { id: FileId { dev: 1, ino: 1 }, ..stat } } else { stat })
    }

    fn stat(&self, at: &Dir, name: &OsStr) -> io::Result<Stat> {
        self.entry(*at, name)
    }

    fn read_link(&self, _: &Dir, _: &OsStr) -> io::Result<PathBuf> {
        Ok(PathBuf::from("dir"))
    }

    fn open(&self, at: &Dir, name: &OsStr) -> io::Result<(u64, usize)> {
        self.entry(*at, name).map(|_| (self.version(), 0))
    }

    fn stat_file(&self, (version, _): &(u64, usize)) -> io::Result<Stat> {
        let stat = self.entry(Dir::Release, OsStr::new("file"))?;
        let time = i128::from(2 * version);
        Ok(Stat { id: FileId { dev: 1, ino: 4 + 2 * version }, mtime: time, ctime: time, ..stat })
    }

    fn read(&self, (version, at): &mut (u64, usize), buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = version.to_be_bytes();
        let rest = &bytes[*at..];
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        *at += n;
        Ok(n)
    }

    fn list(&self, _: &Dir, _: &mut dyn FnMut(&OsStr) -> bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
