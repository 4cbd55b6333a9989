//! The port on Windows: literal paths, and files identified by their number on the volume.

use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    fs::{File, OpenOptions},
    io::{self, Read},
    os::windows::fs::OpenOptionsExt,
    path::{Component, Path, PathBuf, Prefix},
    time::{SystemTime, UNIX_EPOCH},
};

use winapi_util::file;

use super::{FileId, Fs, Kind, Stat, nanos};

/// Accesses files by literal paths (`\\?\C:\...`), through `std::fs`.
///
/// The file system takes a literal path as it is: `NUL` or `COM1` in it is a file of that name and
/// never a device, and 260 characters are no limit. Every handle is opened so that other processes
/// may write, rename and delete meanwhile.
///
/// There are no directory handles: an open handle beneath a directory would keep its publisher from
/// renaming it. A directory that is replaced is noticed by its number, and every change has to
/// settle.
#[derive(Clone, Copy, Debug, Default)]
pub struct WindowsFs;

// Flags of CreateFileW: the first is needed to open a directory, the second opens a symlink itself.
const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;

// System error codes for a file that another process has open, has locked or is deleting.
const ERROR_SHARING_VIOLATION: i32 = 32;
const ERROR_LOCK_VIOLATION: i32 = 33;
const ERROR_DELETE_PENDING: i32 = 303;
const ERROR_NOT_A_REPARSE_POINT: i32 = 4390;

impl Fs for WindowsFs {
    /// The literal path.
    type Dir = PathBuf;
    type File = File;

    const HAS_DIR_HANDLES: bool = false;

    fn root(&self, anchor: &Path) -> io::Result<PathBuf> {
        let why = "it names a device or a pipe; give the path of a file on a drive or a share";
        literal(anchor).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, why))
    }

    fn open_dir(&self, at: &PathBuf, name: &OsStr) -> io::Result<PathBuf> {
        match self.stat(at, name)?.kind {
            Kind::Dir => Ok(beneath(at, name)),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn stat_dir(&self, dir: &PathBuf) -> io::Result<Stat> {
        stat_path(dir)
    }

    fn stat(&self, at: &PathBuf, name: &OsStr) -> io::Result<Stat> {
        stat_path(&beneath(at, name))
    }

    fn read_link(&self, at: &PathBuf, name: &OsStr) -> io::Result<PathBuf> {
        std::fs::read_link(beneath(at, name)).map_err(|error| match error.raw_os_error() {
            Some(ERROR_NOT_A_REPARSE_POINT) => io::Error::new(io::ErrorKind::InvalidInput, error),
            _ => error,
        })
    }

    /// Follows a symlink that took the file's place after the stat: the file that is opened then
    /// has another number.
    fn open(&self, at: &PathBuf, name: &OsStr) -> io::Result<File> {
        // std shares reading, writing and deleting.
        OpenOptions::new().read(true).open(beneath(at, name)).map_err(in_use)
    }

    fn stat_file(&self, file: &File) -> io::Result<Stat> {
        stat_handle(file)
    }

    fn read(&self, file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
        file.read(buffer).map_err(in_use)
    }

    fn list(&self, dir: &PathBuf, each: &mut dyn FnMut(&OsStr) -> bool) -> io::Result<()> {
        for entry in std::fs::read_dir(dir)? {
            if !each(&entry?.file_name()) {
                break;
            }
        }
        Ok(())
    }
}

/// Appends one name unchanged; `Path::join` would take `C:` for a drive.
fn beneath(dir: &Path, name: &OsStr) -> PathBuf {
    let mut path = dir.as_os_str().to_owned();
    if !path.as_encoded_bytes().ends_with(br"\") {
        path.push(r"\");
    }
    path.push(name);
    path.into()
}

/// Stats the entry at a literal path, without following a symlink.
pub(crate) fn stat_path(path: &Path) -> io::Result<Stat> {
    let flags = FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT;
    // Without a right to read or write, no sharing mode of another handle is in the way.
    stat_handle(&OpenOptions::new().access_mode(0).custom_flags(flags).open(path).map_err(in_use)?)
}

fn stat_handle(file: &File) -> io::Result<Stat> {
    if !file::typ(file)?.is_disk() {
        let kind = Kind::Other("a device or a pipe");
        return Ok(Stat { kind, id: FileId { dev: 0, ino: 0 }, size: 0, mtime: 0, ctime: 0 });
    }
    let (info, meta) = (file::information(file)?, file.metadata()?);
    let kind = match meta.file_type() {
        found if found.is_file() => Kind::File,
        found if found.is_dir() => Kind::Dir,
        found if found.is_symlink() => Kind::Link,
        _ => Kind::Other("not a regular file"),
    };
    let stamp = |time: io::Result<SystemTime>| {
        time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, nanos)
    };
    let mtime = stamp(meta.modified());
    // CopyFile keeps the modification time: only the creation time shows that a copy is new.
    let ctime = mtime.max(stamp(meta.created()));
    let id = FileId { dev: info.volume_serial_number(), ino: info.file_index() };
    Ok(Stat { kind, id, size: meta.len(), mtime, ctime })
}

/// Maps the error of a file that another process keeps from being opened to a kind of its own,
/// because another attempt may succeed.
fn in_use(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(ERROR_SHARING_VIOLATION | ERROR_LOCK_VIOLATION | ERROR_DELETE_PENDING) => {
            io::Error::new(io::ErrorKind::ResourceBusy, error)
        }
        _ => error,
    }
}

/// Returns the literal form of an absolute path on a drive, a share or a volume; `None` for a
/// device or a pipe.
pub(crate) fn literal(path: &Path) -> Option<PathBuf> {
    let mut parts = path.components();
    let Some(Component::Prefix(prefix)) = parts.next() else { return None };
    let is_pipes = |share: &OsStr| {
        let pipes = ["pipe", "mailslot"];
        pipes.iter().any(|name| share.eq_ignore_ascii_case(name))
    };
    let root: OsString = match prefix.kind() {
        Prefix::Disk(drive) | Prefix::VerbatimDisk(drive) => format!(r"\\?\{}:", char::from(drive)).into(),
        Prefix::UNC(server, share) | Prefix::VerbatimUNC(server, share) if !is_pipes(share) => {
            [r"\\?\UNC\".as_ref(), server, r"\".as_ref(), share].into_iter().collect()
        }
        // Mount points lead to a volume by its number.
        Prefix::Verbatim(name) if name.as_encoded_bytes().starts_with(b"Volume{") => {
            prefix.as_os_str().to_owned()
        }
        _ => return None,
    };
    Some([root.as_os_str(), parts.as_path().as_os_str()].into_iter().collect::<OsString>().into())
}

/// Returns a path on a drive or a share as users write it, without `\\?\`. Any other path is
/// returned unchanged.
pub(crate) fn plain(path: &Path) -> Cow<'_, Path> {
    let mut parts = path.components();
    let Some(Component::Prefix(prefix)) = parts.next() else { return path.into() };
    let root: OsString = match prefix.kind() {
        Prefix::VerbatimDisk(drive) => format!("{}:", char::from(drive)).into(),
        Prefix::VerbatimUNC(server, share) => {
            [r"\\".as_ref(), server, r"\".as_ref(), share].into_iter().collect()
        }
        _ => return path.into(),
    };
    let plain: OsString = [root.as_os_str(), parts.as_path().as_os_str()].into_iter().collect();
    PathBuf::from(plain).into()
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)] // reason: a test
mod tests {
    use std::fs;

    use super::*;
    use crate::read::snapshot::{self, PathSet};

    #[test]
    fn a_path_has_one_literal_spelling_and_one_plain_one() {
        for (given, as_literal, as_plain) in [
            (r"C:\", r"\\?\C:\", r"C:\"),
            (r"c:\a\NUL", r"\\?\C:\a\NUL", r"c:\a\NUL"),
            (r"\\?\C:\a", r"\\?\C:\a", r"C:\a"),
            (r"\\server\share\a", r"\\?\UNC\server\share\a", r"\\server\share\a"),
            (r"\\?\UNC\server\share\a", r"\\?\UNC\server\share\a", r"\\server\share\a"),
            (r"\\?\Volume{0-1}\a", r"\\?\Volume{0-1}\a", r"\\?\Volume{0-1}\a"),
        ] {
            let given = Path::new(given);
            assert_eq!(literal(given).as_deref().map(Path::as_os_str), Some(as_literal.as_ref()));
            assert_eq!(plain(given).as_os_str(), as_plain);
        }
        for device in [r"\\.\NUL", r"\\.\C:\a", r"\\?\pipe\a", r"\\s\pipe\a", r"\\s\MailSlot\a", r"\a", "a"] {
            assert_eq!(literal(Path::new(device)), None, "{device}");
        }
    }

    /// Checks: INV-01.
    ///
    /// Neither lengths nor times need to differ.
    #[test]
    fn inv01_a_replaced_directory_or_file_has_another_number() {
        let root = tempfile::tempdir().unwrap();
        let (at, time) = (literal(root.path()).unwrap(), SystemTime::UNIX_EPOCH);
        let make = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("file"), "text").unwrap();
            File::options().write(true).open(path.join("file")).unwrap().set_modified(time).unwrap();
        };
        let stats = || {
            let dir = WindowsFs.open_dir(&at, "dir".as_ref()).unwrap();
            let file = WindowsFs.open(&dir, "file".as_ref()).unwrap();
            let stat = WindowsFs.stat(&dir, "file".as_ref()).unwrap();
            assert_eq!(WindowsFs.stat_file(&file).unwrap(), stat);
            [WindowsFs.stat_dir(&dir).unwrap().id, stat.id]
        };
        make("dir");
        let before = stats();
        assert_eq!(stats(), before);
        assert!(before.iter().all(|id| id.ino != 0));
        make("next");
        fs::rename(root.path().join("dir"), root.path().join("old")).unwrap();
        fs::rename(root.path().join("next"), root.path().join("dir")).unwrap();
        let after = stats();
        assert!(after.iter().all(|id| !before.contains(id)), "{before:?}, {after:?}");
    }

    /// Checks: INV-05.
    ///
    /// A system that does not rename as POSIX does may refuse only the replacement of the file
    /// meanwhile.
    #[test]
    fn inv05_an_open_file_can_be_written_renamed_and_deleted() {
        let root = tempfile::tempdir().unwrap();
        let (at, path) = (literal(root.path()).unwrap(), |name: &str| root.path().join(name));
        fs::write(path("file"), "old").unwrap();
        let mut open = WindowsFs.open(&at, "file".as_ref()).unwrap();
        fs::OpenOptions::new().append(true).open(path("file")).unwrap();
        fs::rename(path("file"), path("aside")).unwrap();
        fs::remove_file(path("aside")).unwrap();
        let mut text = [0; 3];
        assert_eq!(WindowsFs.read(&mut open, &mut text).unwrap(), 3);
        assert_eq!(&text, b"old");
    }

    /// Checks: INV-12.
    ///
    /// An entry that is no file is never read.
    #[test]
    fn inv12_a_device_is_no_file() {
        let stat = stat_path(Path::new(r"\\.\NUL")).unwrap();
        assert_eq!(stat.kind, Kind::Other("a device or a pipe"));
    }

    /// Reports every `link` as a symlink to a directory elsewhere, because making symlinks needs a
    /// right.
    struct Linked(PathBuf);

    impl Fs for Linked {
        type Dir = PathBuf;
        type File = File;

        const HAS_DIR_HANDLES: bool = false;

        fn root(&self, anchor: &Path) -> io::Result<PathBuf> {
            WindowsFs.root(anchor)
        }

        fn open_dir(&self, at: &PathBuf, name: &OsStr) -> io::Result<PathBuf> {
            if name == "link" {
                Err(io::ErrorKind::NotADirectory.into())
            } else {
                WindowsFs.open_dir(at, name)
            }
        }

        fn stat_dir(&self, dir: &PathBuf) -> io::Result<Stat> {
            WindowsFs.stat_dir(dir)
        }

        fn stat(&self, at: &PathBuf, name: &OsStr) -> io::Result<Stat> {
            let stat = WindowsFs.stat(at, name)?;
            Ok(if name == "link" { Stat { kind: Kind::Link, ..stat } } else { stat })
        }

        fn read_link(&self, _: &PathBuf, _: &OsStr) -> io::Result<PathBuf> {
            Ok(self.0.clone())
        }

        fn open(&self, at: &PathBuf, name: &OsStr) -> io::Result<File> {
            WindowsFs.open(at, name)
        }

        fn stat_file(&self, file: &File) -> io::Result<Stat> {
            WindowsFs.stat_file(file)
        }

        fn read(&self, file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
            WindowsFs.read(file, buffer)
        }

        fn list(&self, dir: &PathBuf, each: &mut dyn FnMut(&OsStr) -> bool) -> io::Result<()> {
            WindowsFs.list(dir, each)
        }
    }

    /// Checks: INV-01.
    ///
    /// A symlink names the drive that it leads to, in the system's own spelling.
    #[test]
    fn inv01_a_link_to_another_drive_is_followed_there() {
        let root = tempfile::tempdir().unwrap();
        let (link, store) = (root.path().join("link"), root.path().join("store"));
        for (dir, text) in [(&link, "wrong"), (&store, "right")] {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("file"), text).unwrap();
        }
        let set = PathSet::new([link.join("file")]).unwrap();
        let read = |target: &Path| {
            let files = snapshot::take(&Linked(target.to_owned()), &set).files;
            files.map(|files| files.get(0).map(|(_, bytes)| bytes.to_vec()))
        };
        for target in [literal(&store).unwrap(), store.clone(), Path::new("store").to_owned()] {
            assert_eq!(read(&target), Ok(Some(b"right".to_vec())), "{}", target.display());
        }
        // There is no such drive. Without the drive, the path would be found on this one.
        let other = PathBuf::from(store.to_str().unwrap().replacen(&store.to_str().unwrap()[..1], "Q", 1));
        assert!(read(&other).is_err());
        assert!(read(Path::new(r"\\.\NUL")).is_err());
    }
}
