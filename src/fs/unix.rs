//! The port on Unix: system calls on directory handles.

use std::{
    borrow::Cow,
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, readlinkat, stat, statat};

use super::{FileId, Fs, Kind, Stat};

/// Accesses files beneath directory handles, through `openat(2)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnixFs;

// A search-only handle needs no read permission on the directory. Systems other than Linux need it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const DIR: OFlags = OFlags::PATH;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const DIR: OFlags = OFlags::RDONLY;

/// A handle of an open directory.
#[derive(Debug)]
pub struct UnixDir(At);

#[derive(Debug)]
enum At {
    /// `/`, by its path: nothing replaces it, so it is not held open.
    Root(PathBuf),
    Open(OwnedFd),
}

impl UnixDir {
    /// Returns the directory handle and the name there by which to look `name` up.
    fn at<'a>(&'a self, name: &'a OsStr) -> (BorrowedFd<'a>, Cow<'a, Path>) {
        match &self.0 {
            At::Root(root) => (CWD, root.join(name).into()),
            At::Open(dir) => (dir.as_fd(), Path::new(name).into()),
        }
    }
}

impl Fs for UnixFs {
    type Dir = UnixDir;
    type File = OwnedFd;

    const HAS_DIR_HANDLES: bool = true;

    fn root(&self, anchor: &Path) -> io::Result<UnixDir> {
        Ok(UnixDir(At::Root(anchor.to_owned())))
    }

    fn open_dir(&self, at: &UnixDir, name: &OsStr) -> io::Result<UnixDir> {
        let flags = DIR | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (at, name) = at.at(name);
        let dir = openat(at, &*name, flags, Mode::empty()).map_err(link_is_no_directory)?;
        Ok(UnixDir(At::Open(dir)))
    }

    fn stat_dir(&self, dir: &UnixDir) -> io::Result<Stat> {
        Ok(stat_of(&match &dir.0 {
            At::Root(root) => stat(root)?,
            At::Open(dir) => fstat(dir)?,
        }))
    }

    fn stat(&self, at: &UnixDir, name: &OsStr) -> io::Result<Stat> {
        let (at, name) = at.at(name);
        Ok(stat_of(&statat(at, &*name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    fn read_link(&self, at: &UnixDir, name: &OsStr) -> io::Result<PathBuf> {
        let (at, name) = at.at(name);
        let target = readlinkat(at, &*name, Vec::with_capacity(256))?;
        Ok(std::ffi::OsString::from_vec(target.into_bytes()).into())
    }

    fn open(&self, at: &UnixDir, name: &OsStr) -> io::Result<OwnedFd> {
        // NONBLOCK: a FIFO that took the file's place after the stat must not hang the reader.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let (at, name) = at.at(name);
        openat(at, &*name, flags, Mode::empty()).map_err(link_is_no_directory)
    }

    fn stat_file(&self, file: &OwnedFd) -> io::Result<Stat> {
        Ok(stat_of(&fstat(file)?))
    }

    fn read(&self, file: &mut OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(&*file, &mut *buffer) {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn has_magic_links(&self, dir: &UnixDir) -> bool {
        use rustix::fs::{PROC_SUPER_MAGIC, fstatfs};
        // The system follows `/proc/self` and the other text links of procfs to the targets in
        // their text.
        matches!(&dir.0, At::Open(dir) if fstatfs(dir).is_ok_and(|found| found.f_type == PROC_SUPER_MAGIC))
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn follow(&self, at: &UnixDir, name: &OsStr) -> io::Result<UnixDir> {
        let (at, name) = at.at(name);
        Ok(UnixDir(At::Open(openat(at, &*name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)))
    }

    fn open_followed(&self, at: &UnixDir, name: &OsStr) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let (at, name) = at.at(name);
        Ok(openat(at, &*name, flags, Mode::empty())?)
    }

    fn reached(&self, path: &Path) -> io::Result<Option<FileId>> {
        Ok(Some(stat_of(&stat(path)?).id))
    }

    fn list(&self, dir: &UnixDir, each: &mut dyn FnMut(&OsStr) -> bool) -> io::Result<()> {
        // A search-only handle cannot be read.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let (at, name) = dir.at(OsStr::new("."));
        for entry in Dir::new(openat(at, &*name, flags, Mode::empty())?)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." && !each(name) {
                break;
            }
        }
        Ok(())
    }
}

/// Maps the error of a symlink: `O_NOFOLLOW` makes it `ELOOP` (`EMLINK` on FreeBSD), for which std
/// has no stable kind.
fn link_is_no_directory(error: rustix::io::Errno) -> io::Error {
    use rustix::io::Errno;
    if matches!(error, Errno::LOOP | Errno::MLINK) { Errno::NOTDIR.into() } else { error.into() }
}

/// Returns whether a character device is a terminal, by its number in the kernel's
/// `admin-guide/devices.txt`.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_terminal(stat: &rustix::fs::Stat) -> bool {
    matches!(rustix::fs::major(stat.st_rdev), 4 | 5 | 136..=143)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_terminal(_: &rustix::fs::Stat) -> bool {
    false
}

// The field types differ between platforms: a conversion that is useless on one is needed on
// another.
#[allow(clippy::useless_conversion, clippy::unnecessary_cast)] // reason: see above
fn stat_of(stat: &rustix::fs::Stat) -> Stat {
    const SECOND: i128 = 1_000_000_000;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Link,
        FileType::Fifo => Kind::Other("a pipe"),
        FileType::Socket => Kind::Other("a socket"),
        FileType::CharacterDevice if is_terminal(stat) => Kind::Other("a terminal"),
        FileType::CharacterDevice => Kind::Other("a character device"),
        FileType::BlockDevice => Kind::Other("a block device"),
        _ => Kind::Other("not a regular file"),
    };
    Stat {
        kind,
        id: FileId { dev: stat.st_dev as u64, ino: stat.st_ino as u64 },
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: i128::from(stat.st_mtime) * SECOND + i128::from(stat.st_mtime_nsec),
        ctime: i128::from(stat.st_ctime) * SECOND + i128::from(stat.st_ctime_nsec),
    }
}
