//! The file system as nine operations, so that a simulated one can replace it.
//!
//! Names are looked up one at a time beneath an open directory, and no operation follows a symlink.
//! The snapshot resolves every symlink itself, and so knows the ones that it went through. Linux
//! has links whose text is not where they lead (procfs). Three more operations leave those to the
//! system, and a fourth asks it where a whole path leads.

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

/// The strongest port that this platform has.
#[cfg(unix)]
pub type NativeFs = UnixFs;
/// The strongest port that this platform has.
#[cfg(windows)]
pub type NativeFs = WindowsFs;
/// The strongest port that this platform has.
#[cfg(not(any(unix, windows)))]
pub type NativeFs = PathFs;

/// Returns the path as users write it; only Windows has another form.
#[cfg(not(windows))]
pub(crate) fn plain(path: &Path) -> Cow<'_, Path> {
    path.into()
}

/// Whether file systems of this platform take names that differ in case for one name. Events then
/// spell a name as its directory does, not as it was looked up.
pub(crate) const FOLDS_CASE: bool = cfg!(any(windows, target_vendor = "apple"));

/// Returns whether both are one name where case does not matter.
pub(crate) fn same_name(one: &OsStr, other: &OsStr) -> bool {
    let lower = |name: &OsStr| name.to_string_lossy().to_lowercase();
    one == other || lower(one) == lower(other)
}

/// The kind of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symlink.
    Link,
    /// A FIFO, socket, device or anything else that is never opened.
    Other(&'static str),
}

impl Kind {
    /// Returns the kind in words.
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

/// Identifies a file or directory by device and inode. Where a platform has neither, both are 0,
/// and two such ids never count as one inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The device.
    pub dev: u64,
    /// The inode on it.
    pub ino: u64,
}

/// Nanoseconds since the Unix epoch, as a file system reports them.
pub type Stamp = i128;

/// Converts a time since the Unix epoch to the form of a file system.
pub(crate) fn nanos(time: Duration) -> Stamp {
    Stamp::try_from(time.as_nanos()).unwrap_or(Stamp::MAX)
}

/// The result of a stat of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stat {
    /// The kind of the entry.
    pub kind: Kind,
    /// The identity of the entry.
    pub id: FileId,
    /// The length in bytes.
    pub size: u64,
    /// The time of the last modification of the content. Users can set it.
    pub mtime: Stamp,
    /// The time of the last change of the inode, which users cannot set. On Windows it is the
    /// creation time or `mtime`, whichever is later. Where a platform has neither, it equals
    /// `mtime`.
    pub ctime: Stamp,
}

/// A port to a file system.
///
/// Callers rely on three guarantees. A `Dir` keeps meaning the directory that it was opened on,
/// whatever is renamed (if [`HAS_DIR_HANDLES`](Fs::HAS_DIR_HANDLES)). A `File` keeps its inode (ASM-02). `open` never
/// blocks.
pub trait Fs: Send + 'static {
    /// A handle of an open directory.
    type Dir;
    /// A handle of an open regular file.
    type File;

    /// Whether a `Dir` is a directory handle: it keeps meaning one directory, so that a change can
    /// be attributed to one rename.
    ///
    /// Without directory handles less is promised:
    ///
    /// - A rename commits nothing. Every change, and every first load, has to be equal in two
    ///   snapshots that are a settle time apart. A set that one rename commits is served after the
    ///   settle time, not within milliseconds (INV-05).
    /// - A publication is of one generation only if its publisher pauses for less than the settle
    ///   time between two steps of one update (ASM-05). ASM-06 is neither relied on nor checked.
    /// - A file that was replaced between two snapshots by one with the same bytes, length and
    ///   modification time counts as unchanged.
    ///
    /// All other promises hold: a failed reload keeps the served configuration, and every finished
    /// update is served.
    const HAS_DIR_HANDLES: bool;

    /// Opens the directory that absolute paths with this anchor start from: `/`, or a drive.
    ///
    /// # Errors
    /// The system's own error.
    fn root(&self, anchor: &Path) -> io::Result<Self::Dir>;

    /// Opens the directory `name` beneath `at`.
    ///
    /// # Errors
    /// The system's own error; `NotADirectory` if `name` is anything else, including a symlink.
    fn open_dir(&self, at: &Self::Dir, name: &OsStr) -> io::Result<Self::Dir>;

    /// Stats an open directory.
    ///
    /// # Errors
    /// The system's own error.
    fn stat_dir(&self, dir: &Self::Dir) -> io::Result<Stat>;

    /// Stats the entry `name` itself beneath `at`, without following a symlink.
    ///
    /// # Errors
    /// The system's own error.
    fn stat(&self, at: &Self::Dir, name: &OsStr) -> io::Result<Stat>;

    /// Reads the symlink `name` beneath `at`.
    ///
    /// # Errors
    /// The system's own error; `InvalidInput` if it is not a symlink.
    fn read_link(&self, at: &Self::Dir, name: &OsStr) -> io::Result<PathBuf>;

    /// Opens the file `name` beneath `at` for reading, without blocking and without following a
    /// symlink.
    ///
    /// # Errors
    /// The system's own error; `NotADirectory` if `name` is a symlink.
    fn open(&self, at: &Self::Dir, name: &OsStr) -> io::Result<Self::File>;

    /// Stats an open file.
    ///
    /// # Errors
    /// The system's own error.
    fn stat_file(&self, file: &Self::File) -> io::Result<Stat>;

    /// Reads on from where the last read ended; returns 0 at the end of the file.
    ///
    /// # Errors
    /// The system's own error.
    fn read(&self, file: &mut Self::File, buffer: &mut [u8]) -> io::Result<usize>;

    /// Returns whether a symlink in this directory may lead to something other than its text says,
    /// so that only the system can follow it. Such links are "magic links" in symlink(7).
    fn has_magic_links(&self, _dir: &Self::Dir) -> bool {
        false
    }

    /// Opens the target of the magic link `name` beneath `at`, only to stat it, and to look names
    /// up in it if it is a directory. Never blocks.
    ///
    /// # Errors
    /// The system's own error.
    fn follow(&self, at: &Self::Dir, name: &OsStr) -> io::Result<Self::Dir> {
        self.open_dir(at, name)
    }

    /// Opens the regular file that the magic link `name` beneath `at` leads to, for reading and
    /// without blocking.
    ///
    /// # Errors
    /// The system's own error.
    fn open_followed(&self, at: &Self::Dir, name: &OsStr) -> io::Result<Self::File> {
        self.open(at, name)
    }

    /// Returns the file that the system's own resolution of the whole path reaches; `None` if this
    /// port cannot find out.
    ///
    /// # Errors
    /// The system's own error.
    fn reached(&self, _path: &Path) -> io::Result<Option<FileId>> {
        Ok(None)
    }

    /// Passes the name of each entry of an open directory to `each`, except `.` and `..`, in any
    /// order, until `each` returns `false`.
    ///
    /// An entry that is added or removed meanwhile may be passed or not. Every other entry is
    /// passed once.
    ///
    /// # Errors
    /// The system's own error.
    fn list(&self, dir: &Self::Dir, each: &mut dyn FnMut(&OsStr) -> bool) -> io::Result<()>;
}
