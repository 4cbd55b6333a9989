//! A port that calls a hook before each of its calls, to inject faults or to act between two calls.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls_reload::fs::{FileId, Fs, Stat};

/// The calls of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// [`Fs::root`].
    Root,
    /// [`Fs::open_dir`].
    OpenDir,
    /// [`Fs::stat_dir`].
    StatDir,
    /// [`Fs::stat`].
    Stat,
    /// [`Fs::read_link`].
    ReadLink,
    /// [`Fs::open`].
    Open,
    /// [`Fs::stat_file`].
    StatFile,
    /// [`Fs::read`].
    Read,
    /// [`Fs::list`].
    List,
}

impl Verb {
    /// All calls.
    pub const ALL: [Self; 9] = [
        Self::Root,
        Self::OpenDir,
        Self::StatDir,
        Self::Stat,
        Self::ReadLink,
        Self::Open,
        Self::StatFile,
        Self::Read,
        Self::List,
    ];
}

/// Runs before each call of [`InterceptFs`]. Returns how many bytes a read may return at most (other
/// calls ignore it), or the error by which the call fails.
pub type Hook = Arc<dyn Fn(Verb) -> io::Result<usize> + Send + Sync>;

/// Wraps another port, and calls a hook before each of its nine operations. The operations for
/// magic links are passed on without it.
#[derive(Clone)]
pub struct InterceptFs<F> {
    fs: F,
    hook: Hook,
}

impl<F: Fs> InterceptFs<F> {
    /// Wraps `fs`, which is called whenever `hook` succeeds.
    pub fn new(fs: F, hook: Hook) -> Self {
        Self { fs, hook }
    }
}

impl<F: Fs> Fs for InterceptFs<F> {
    type Dir = F::Dir;
    type File = F::File;

    const HAS_DIR_HANDLES: bool = F::HAS_DIR_HANDLES;

    fn root(&self, anchor: &Path) -> io::Result<F::Dir> {
        (self.hook)(Verb::Root)?;
        self.fs.root(anchor)
    }

    fn open_dir(&self, at: &F::Dir, name: &OsStr) -> io::Result<F::Dir> {
        (self.hook)(Verb::OpenDir)?;
        self.fs.open_dir(at, name)
    }

    fn stat_dir(&self, dir: &F::Dir) -> io::Result<Stat> {
        (self.hook)(Verb::StatDir)?;
        self.fs.stat_dir(dir)
    }

    fn stat(&self, at: &F::Dir, name: &OsStr) -> io::Result<Stat> {
        (self.hook)(Verb::Stat)?;
        self.fs.stat(at, name)
    }

    fn read_link(&self, at: &F::Dir, name: &OsStr) -> io::Result<PathBuf> {
        (self.hook)(Verb::ReadLink)?;
        self.fs.read_link(at, name)
    }

    fn open(&self, at: &F::Dir, name: &OsStr) -> io::Result<F::File> {
        (self.hook)(Verb::Open)?;
        self.fs.open(at, name)
    }

    fn stat_file(&self, file: &F::File) -> io::Result<Stat> {
        (self.hook)(Verb::StatFile)?;
        self.fs.stat_file(file)
    }

    fn read(&self, file: &mut F::File, buffer: &mut [u8]) -> io::Result<usize> {
        let most = (self.hook)(Verb::Read)?.min(buffer.len());
        self.fs.read(file, &mut buffer[..most])
    }

    fn has_magic_links(&self, dir: &F::Dir) -> bool {
        self.fs.has_magic_links(dir)
    }

    fn follow(&self, at: &F::Dir, name: &OsStr) -> io::Result<F::Dir> {
        self.fs.follow(at, name)
    }

    fn open_followed(&self, at: &F::Dir, name: &OsStr) -> io::Result<F::File> {
        self.fs.open_followed(at, name)
    }

    fn reached(&self, path: &Path) -> io::Result<Option<FileId>> {
        self.fs.reached(path)
    }

    fn list(&self, dir: &F::Dir, each: &mut dyn FnMut(&OsStr) -> bool) -> io::Result<()> {
        (self.hook)(Verb::List)?;
        self.fs.list(dir, each)
    }
}
