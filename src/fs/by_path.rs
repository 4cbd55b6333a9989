//! The port for platforms without directory handles, which has weaker guarantees.

use std::{
    ffi::OsStr,
    fs, io,
    io::Read,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use super::{FileId, Fs, Kind, Stat};

/// Accesses files by their paths, through `std::fs`.
///
/// Every call resolves its whole path anew. There are no inode numbers and no change times here. A
/// directory or file that is replaced between two calls is noticed by another length or
/// modification time. Otherwise it is noticed only if the second snapshot of the settle rule
/// differs. Every change therefore has to settle: see [`Fs::HAS_DIR_HANDLES`].
///
/// `open` refuses symlinks and everything that is neither a file nor a directory. If such an entry
/// takes the place of a file during the call, it is followed or opened: a FIFO then blocks until
/// another process writes to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PathFs;

impl Fs for PathFs {
    type Dir = PathBuf;
    type File = fs::File;

    const HAS_DIR_HANDLES: bool = false;

    fn root(&self, anchor: &Path) -> io::Result<PathBuf> {
        Ok(anchor.to_owned())
    }

    fn open_dir(&self, at: &PathBuf, name: &OsStr) -> io::Result<PathBuf> {
        match self.stat(at, name)?.kind {
            Kind::Dir => Ok(at.join(name)),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn stat_dir(&self, dir: &PathBuf) -> io::Result<Stat> {
        fs::symlink_metadata(dir).map(|meta| stat_of(&meta))
    }

    fn stat(&self, at: &PathBuf, name: &OsStr) -> io::Result<Stat> {
        self.stat_dir(&at.join(name))
    }

    fn read_link(&self, at: &PathBuf, name: &OsStr) -> io::Result<PathBuf> {
        fs::read_link(at.join(name))
    }

    fn open(&self, at: &PathBuf, name: &OsStr) -> io::Result<fs::File> {
        match self.stat(at, name)?.kind {
            Kind::File | Kind::Dir => fs::File::open(at.join(name)),
            Kind::Link => Err(io::ErrorKind::NotADirectory.into()),
            Kind::Other(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn stat_file(&self, file: &fs::File) -> io::Result<Stat> {
        file.metadata().map(|meta| stat_of(&meta))
    }

    fn read(&self, file: &mut fs::File, buffer: &mut [u8]) -> io::Result<usize> {
        file.read(buffer)
    }

    fn list(&self, dir: &PathBuf, each: &mut dyn FnMut(&OsStr) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            if !each(&entry?.file_name()) {
                break;
            }
        }
        Ok(())
    }
}

fn stat_of(meta: &fs::Metadata) -> Stat {
    let file_type = meta.file_type();
    let kind = if file_type.is_file() {
        Kind::File
    } else if file_type.is_dir() {
        Kind::Dir
    } else if file_type.is_symlink() {
        Kind::Link
    } else {
        Kind::Other("not a regular file")
    };
    let mtime = meta.modified().map_or(0, |time| match time.duration_since(UNIX_EPOCH) {
        Ok(since) => super::nanos(since),
        Err(before) => -super::nanos(before.duration()),
    });
    Stat { kind, id: FileId { dev: 0, ino: 0 }, size: meta.len(), mtime, ctime: mtime }
}
