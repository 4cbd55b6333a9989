//! The file system as nine verbs, so that a simulated one can stand in for it.
//!
//! Names are looked up one at a time beneath an open directory, and no verb follows a symbolic link: the snapshot
//! resolves every link itself and so knows which ones it went through. Linux has links whose text is not where they
//! lead (procfs); three further verbs leave those to the system, and a fourth asks it where a whole path leads.

#[cfg(not(windows))]
use std::borrow::Cow;
use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

mod by_path;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

pub use by_path::PathFs;
#[cfg(unix)]
pub use unix::UnixFs;
#[cfg(windows)]
pub use windows::WindowsFs;
#[cfg(windows)]
pub(crate) use windows::plain;
#[cfg(all(windows, feature = "notify"))]
pub(crate) use windows::{literal, stat_path};

/// The strongest port this platform has.
#[cfg(unix)]
pub type NativeFs = UnixFs;
/// The strongest port this platform has.
#[cfg(windows)]
pub type NativeFs = WindowsFs;
/// The strongest port this platform has.
#[cfg(not(any(unix, windows)))]
pub type NativeFs = PathFs;

/// The path as people write it; only Windows has another way to write it.
#[cfg(not(windows))]
pub(crate) fn plain(path: &Path) -> Cow<'_, Path> {
    path.into()
}

/// Whether file systems of this platform take names that differ in case for one: events then name the file as its
/// directory does, and not as it was asked for.
pub(crate) const FOLDS_CASE: bool = cfg!(any(windows, target_vendor = "apple"));

/// Whether both are one name where case is no difference.
pub(crate) fn same_name(one: &OsStr, other: &OsStr) -> bool {
    let lower = |name: &OsStr| name.to_string_lossy().to_lowercase();
    one == other || lower(one) == lower(other)
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// A FIFO, socket, device or anything else that is never opened.
    Other(&'static str),
}

impl Kind {
    /// The kind in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "a regular file",
            Self::Dir => "a directory",
            Self::Link => "a symbolic link",
            Self::Other(what) => what,
        }
    }
}

/// Device and inode. Where a platform has none, both are 0 and nothing is ever "the same inode".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The device.
    pub dev: u64,
    /// The inode on it.
    pub ino: u64,
}

/// Nanoseconds since the Unix epoch, as a file system reports them.
pub type Stamp = i128;

/// A time as a file system's.
pub(crate) fn nanos(time: Duration) -> Stamp {
    Stamp::try_from(time.as_nanos()).unwrap_or(Stamp::MAX)
}

/// What a stat of an entry tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Which it is.
    pub id: FileId,
    /// Its length in bytes.
    pub size: u64,
    /// When its content was last modified, or what somebody set that to.
    pub mtime: Stamp,
    /// When its inode last changed; nobody can set it. Where a platform has none, it equals `mtime`.
    pub ctime: Stamp,
}

/// Access to a file system.
///
/// What callers rely on: a `Dir` keeps meaning the directory it was opened on, whatever is renamed (where
/// [`PINS`](Fs::PINS)); a `File` keeps its inode (ASM-02); `open` never blocks.
pub trait Fs: Send + 'static {
    /// An open directory.
    type Dir;
    /// An open regular file.
    type File;

    /// Whether a `Dir` is pinned: the handle keeps meaning one directory, so that a change can be pinned to one rename.
    ///
    /// Where it is not, less is promised:
    /// - A rename commits nothing. Every change, and every first load, has to be the same at two snapshots a settle time
    ///   apart, so that a rename-committed set is served after the settle time and not within milliseconds (INV-05).
    /// - A publication is of one generation as far as its publisher pauses for less than the settle time between two steps
    ///   of one update (ASM-05). ASM-06 is neither relied on nor checked.
    /// - A file that was replaced between two snapshots by one of the same bytes, length and modification time counts as
    ///   unchanged.
    ///
    /// Everything else stays: a failed reload keeps what is served, and every finished update is served.
    const PINS: bool;

    /// Opens the directory that absolute paths with this anchor start from: `/`, or a drive.
    ///
    /// # Errors
    /// The system's own error.
    fn root(&self, anchor: &Path) -> io::Result<Self::Dir>;

    /// Opens the directory `name` beneath `at`.
    ///
    /// # Errors
    /// What the system says; `NotADirectory` where `name` is something else, a link included.
    fn open_dir(&self, at: &Self::Dir, name: &OsStr) -> io::Result<Self::Dir>;

    /// Stats an open directory.
    ///
    /// # Errors
    /// The system's own error.
    fn stat_dir(&self, dir: &Self::Dir) -> io::Result<Stat>;

    /// Stats the entry `name` itself beneath `at`, not what it points at.
    ///
    /// # Errors
    /// The system's own error.
    fn stat(&self, at: &Self::Dir, name: &OsStr) -> io::Result<Stat>;

    /// Reads the link `name` beneath `at`.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` where it is no link.
    fn read_link(&self, at: &Self::Dir, name: &OsStr) -> io::Result<PathBuf>;

    /// Opens the file `name` beneath `at` for reading, without blocking and without following a link.
    ///
    /// # Errors
    /// What the system says; `NotADirectory` where `name` is a link.
    fn open(&self, at: &Self::Dir, name: &OsStr) -> io::Result<Self::File>;

    /// Stats an open file.
    ///
    /// # Errors
    /// The system's own error.
    fn stat_file(&self, file: &Self::File) -> io::Result<Stat>;

    /// Reads on from where the last read ended; 0 is the end.
    ///
    /// # Errors
    /// The system's own error.
    fn read(&self, file: &mut Self::File, buffer: &mut [u8]) -> io::Result<usize>;

    /// The reader keeps what this hashes, and nothing else of what it knew or has read. Nothing has to be done: a simulated
    /// world takes two readers that keep the same for one.
    #[cfg(feature = "testkit")]
    fn forget(&self, _kept: &dyn Fn(&mut dyn std::hash::Hasher)) {}

    /// Whether a link in this directory leads to something other than its text says, so that only the system can
    /// follow it. Such links are "magic links" in symlink(7).
    fn has_magic_links(&self, _dir: &Self::Dir) -> bool {
        false
    }

    /// Opens whatever the magic link `name` beneath `at` leads to: only to stat it, and to look names up in it where it
    /// is a directory. Never blocks.
    ///
    /// # Errors
    /// The system's own error.
    fn follow(&self, at: &Self::Dir, name: &OsStr) -> io::Result<Self::Dir> {
        self.open_dir(at, name)
    }

    /// Opens the regular file that the magic link `name` beneath `at` leads to for reading, without blocking.
    ///
    /// # Errors
    /// The system's own error.
    fn open_followed(&self, at: &Self::Dir, name: &OsStr) -> io::Result<Self::File> {
        self.open(at, name)
    }

    /// The file that the system's own resolution of the whole path reaches; `None` where this port cannot say.
    ///
    /// # Errors
    /// The system's own error.
    fn reached(&self, _path: &Path) -> io::Result<Option<FileId>> {
        Ok(None)
    }

    /// Names the entries of an open directory, `.` and `..` left out, in any order, until `each` answers `false`.
    ///
    /// What comes or goes meanwhile may be named or not; everything else is named once.
    ///
    /// # Errors
    /// The system's own error.
    fn list(&self, dir: &Self::Dir, each: &mut dyn FnMut(&OsStr) -> bool) -> io::Result<()>;
}
