//! The publishers of the field, each a list of atomic steps: a reader may run between any two, and a crash may follow any.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

/// One system call of a publisher. Paths are relative to the root that it is applied under; link targets are verbatim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// mkdir(2)
    Mkdir(PathBuf),
    /// open(2) with `O_CREAT | O_TRUNC`: the file is empty now.
    Create(PathBuf),
    /// write(2) at the end of the file.
    Append(PathBuf, Vec<u8>),
    /// chmod(2)
    Chmod(PathBuf, u32),
    /// utimensat(2): the modification time since the Unix epoch, as `cp -p` sets it.
    Modified(PathBuf, Duration),
    /// symlink(2): the target, then the link.
    Symlink(PathBuf, PathBuf),
    /// rename(2): from, to.
    Rename(PathBuf, PathBuf),
    /// unlink(2)
    Unlink(PathBuf),
    /// rmdir(2)
    Rmdir(PathBuf),
}

impl Op {
    /// Carries the step out on the real file system beneath `root`.
    ///
    /// # Errors
    /// What the system says.
    pub fn apply(&self, root: &Path) -> io::Result<()> {
        let at = |path: &PathBuf| root.join(path);
        match self {
            Self::Mkdir(path) => std::fs::create_dir(at(path)),
            Self::Create(path) => std::fs::File::create(at(path)).map(drop),
            Self::Append(path, bytes) => {
                std::fs::OpenOptions::new().append(true).open(at(path))?.write_all(bytes)
            }
            Self::Chmod(path, mode) => chmod(&at(path), *mode),
            Self::Modified(path, mtime) => {
                std::fs::OpenOptions::new().append(true).open(at(path))?.set_modified(UNIX_EPOCH + *mtime)
            }
            Self::Symlink(target, path) => symlink(target, &at(path)),
            Self::Rename(from, to) => std::fs::rename(at(from), at(to)),
            Self::Unlink(path) => std::fs::remove_file(at(path)),
            Self::Rmdir(path) => std::fs::remove_dir(at(path)),
        }
    }
}

#[cfg(unix)]
fn chmod(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn chmod(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A file name and its content.
pub type Keyed<'a> = (&'a str, &'a [u8]);

/// The first publication of a Kubernetes volume into an empty directory (kubelet's `AtomicWriter`).
#[must_use]
pub fn kubelet_first(dir: &Path, stamp: &str, files: &[Keyed<'_>]) -> Vec<Op> {
    let mut ops = payload(dir, stamp, files);
    for (name, _) in files {
        ops.push(Op::Symlink(Path::new("..data").join(name), dir.join(name)));
    }
    ops
}

/// An update of it with the same names: `old` is the stamp of what it replaces.
#[must_use]
pub fn kubelet_update(dir: &Path, old: &str, stamp: &str, files: &[Keyed<'_>]) -> Vec<Op> {
    let mut ops = payload(dir, stamp, files);
    for (name, _) in files {
        ops.push(Op::Unlink(dir.join(old).join(name)));
    }
    ops.push(Op::Rmdir(dir.join(old)));
    ops
}

/// A new directory filled, and `..data` moved to it.
fn payload(dir: &Path, stamp: &str, files: &[Keyed<'_>]) -> Vec<Op> {
    let mut ops = vec![Op::Mkdir(dir.join(stamp))];
    for (name, bytes) in files {
        let path = dir.join(stamp).join(name);
        ops.push(Op::Create(path.clone()));
        ops.push(Op::Append(path.clone(), bytes.to_vec()));
        ops.push(Op::Chmod(path, 0o644));
    }
    ops.push(Op::Symlink(stamp.into(), dir.join("..data_tmp")));
    ops.push(Op::Rename(dir.join("..data_tmp"), dir.join("..data")));
    ops
}
