//! A disk with one file, whose kind and content the test determines.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls_reload::fs::{FileId, Fs, Kind, Stat};

/// Performs a read at this offset into this buffer.
pub(crate) type Read = Box<dyn Fn(u64, &mut [u8]) -> io::Result<usize> + Send>;

/// The disk. Its file is every name in its only directory.
pub(crate) struct OneFile {
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    /// A counter that increases with each write of the file.
    pub(crate) written: Arc<AtomicU64>,
    pub(crate) read: Read,
    /// How often the file was opened.
    pub(crate) opened: AtomicU64,
}

impl OneFile {
    pub(crate) fn new(
        kind: Kind,
        size: u64,
        read: impl Fn(u64, &mut [u8]) -> io::Result<usize> + Send + 'static,
    ) -> Self {
        Self { kind, size, written: Arc::default(), read: Box::new(read), opened: AtomicU64::new(0) }
    }

    fn node(&self, kind: Kind, ino: u64) -> Stat {
        let time = self.written.load(Ordering::SeqCst).into();
        Stat { kind, id: FileId { dev: 1, ino }, size: self.size, mtime: time, ctime: time }
    }
}

impl Fs for OneFile {
    type Dir = ();
    type File = u64;

    const HAS_DIR_HANDLES: bool = true;

    fn root(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open_dir(&self, (): &(), _: &OsStr) -> io::Result<()> {
        Err(io::ErrorKind::NotADirectory.into())
    }

    fn stat_dir(&self, (): &()) -> io::Result<Stat> {
        Ok(Stat { mtime: 0, ctime: 0, ..self.node(Kind::Dir, 1) })
    }

    fn stat(&self, (): &(), _: &OsStr) -> io::Result<Stat> {
        Ok(self.node(self.kind, 2))
    }

    fn read_link(&self, (): &(), _: &OsStr) -> io::Result<PathBuf> {
        Err(io::ErrorKind::InvalidInput.into())
    }

    fn open(&self, (): &(), _: &OsStr) -> io::Result<u64> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        Ok(0)
    }

    fn stat_file(&self, _: &u64) -> io::Result<Stat> {
        Ok(self.node(self.kind, 2))
    }

    fn read(&self, file: &mut u64, buffer: &mut [u8]) -> io::Result<usize> {
        let len = (self.read)(*file, buffer)?;
        *file += len as u64;
        Ok(len)
    }

    fn list(&self, (): &(), each: &mut dyn FnMut(&OsStr) -> bool) -> io::Result<()> {
        each(OsStr::new("file"));
        Ok(())
    }
}
