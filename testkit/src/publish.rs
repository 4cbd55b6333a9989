//! The publishers of the field as lists of atomic steps. A reader may run between any two steps,
//! and a crash may follow any step.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// One system call of a publisher. Paths are relative to the root that it is applied under; symlink
/// targets are verbatim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// mkdir(2)
    Mkdir(PathBuf),
    /// open(2) with `O_CREAT | O_TRUNC`, which leaves the file empty.
    Create(PathBuf),
    /// write(2) at the end of the file.
    Append(PathBuf, Vec<u8>),
    /// chmod(2)
    Chmod(PathBuf, u32),
    /// utimensat(2): sets the modification time since the Unix epoch, as `cp -p` does.
    Modified(PathBuf, Duration),
    /// symlink(2): the target, then the symlink.
    Symlink(PathBuf, PathBuf),
    /// rename(2): from, to.
    Rename(PathBuf, PathBuf),
    /// unlink(2)
    Unlink(PathBuf),
    /// rmdir(2)
    Rmdir(PathBuf),
    /// mkfifo(3): a file that must not be opened, because that may block.
    Mkfifo(PathBuf),
}

impl Op {
    /// Returns the step for a disk whose root is `root`: an absolute symlink target is moved
    /// beneath it.
    #[must_use]
    pub fn beneath(&self, root: &Path) -> Self {
        match self {
            Self::Symlink(target, path) => {
                let target = target.strip_prefix("/").map_or_else(|_| target.clone(), |rest| root.join(rest));
                Self::Symlink(target, path.clone())
            }
            op => op.clone(),
        }
    }

    /// Performs the step on the real file system beneath `root`.
    ///
    /// # Errors
    /// The system's own error.
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
            Self::Mkfifo(path) => mkfifo(&at(path)),
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

// rustix has no such call for Apple's systems.
#[cfg(all(unix, not(target_vendor = "apple")))]
fn mkfifo(path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, Mode, mkfifoat};
    Ok(mkfifoat(CWD, path, Mode::from_raw_mode(0o644))?)
}

#[cfg(not(all(unix, not(target_vendor = "apple"))))]
fn mkfifo(_: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A kernel that counts 100 ticks a second has ticks of 10 ms. A file system that takes this long
/// has none to wait for.
const TICK_LIMIT: Duration = Duration::from_secs(2);

/// Waits until the timestamps of the file system that holds the directory `root` have advanced
/// since the call.
///
/// Called before a rename that commits an update, it makes the earlier writes strictly older than
/// the rename. They are so with a publisher that takes longer than a tick (at most 4 ms on most
/// kernels). Without it the whole update may carry one timestamp, and a reader cannot tell the
/// order of its steps (ASM-06).
///
/// A scratch file in `root` reads the clock; it is removed before the return.
///
/// # Errors
/// The system's own error; `TimedOut` if the timestamps do not advance for two seconds.
pub fn wait_for_tick(root: &Path) -> io::Result<()> {
    static SCRATCHES: AtomicU64 = AtomicU64::new(0);
    let number = SCRATCHES.fetch_add(1, Ordering::Relaxed);
    let scratch = root.join(format!(".tick-{}-{number}", process::id()));
    let ticked = tick(&scratch);
    ticked.and(std::fs::remove_file(&scratch))
}

/// Writes to `scratch` until its modification time changes.
fn tick(scratch: &Path) -> io::Result<()> {
    let mut file = std::fs::File::create_new(scratch)?;
    let mut stamp = || -> io::Result<SystemTime> {
        file.write_all(b".")?;
        file.metadata()?.modified()
    };
    let (first, deadline) = (stamp()?, Instant::now() + TICK_LIMIT);
    loop {
        // Read first, so that a thread that is held up takes no clock for one that stands still.
        let is_late = Instant::now() >= deadline;
        if stamp()? > first {
            return Ok(());
        }
        if is_late {
            let why = "the timestamps of the file system stand still";
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        // A tick raises no event, so it has to be polled.
        thread::sleep(Duration::from_micros(200));
    }
}

/// A file name and its content.
pub type NamedFile<'a> = (&'a str, &'a [u8]);

/// Returns the steps of the first publication of a Kubernetes volume into an empty directory
/// (kubelet's `AtomicWriter`).
#[must_use]
pub fn kubelet_first(dir: &Path, stamp: &str, files: &[NamedFile<'_>]) -> Vec<Op> {
    let mut ops = payload(dir, stamp, files);
    for (name, _) in files {
        ops.push(Op::Symlink(Path::new("..data").join(name), dir.join(name)));
    }
    ops
}

/// Returns the steps of an update with the same names; `old` is the stamp of the payload that it
/// replaces.
#[must_use]
pub fn kubelet_update(dir: &Path, old: &str, stamp: &str, files: &[NamedFile<'_>]) -> Vec<Op> {
    let mut ops = payload(dir, stamp, files);
    for (name, _) in files {
        ops.push(Op::Unlink(dir.join(old).join(name)));
    }
    ops.push(Op::Rmdir(dir.join(old)));
    ops
}

/// Returns the steps that fill a new directory and move `..data` to it.
pub(super) fn payload(dir: &Path, stamp: &str, files: &[NamedFile<'_>]) -> Vec<Op> {
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

#[cfg(all(test, unix, not(loom)))]
#[allow(clippy::unwrap_used)] // reason: a test
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn write_before_a_tick_is_older_than_a_rename_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let changed = |name: &str| {
            let meta = std::fs::symlink_metadata(dir.path().join(name)).unwrap();
            (meta.ctime(), meta.ctime_nsec())
        };
        for round in 0..20 {
            let (file, link) = (format!("file{round}"), format!("link{round}"));
            std::fs::write(dir.path().join(&file), "new").unwrap();
            symlink(Path::new("somewhere"), &dir.path().join(&link)).unwrap();
            wait_for_tick(dir.path()).unwrap();
            std::fs::rename(dir.path().join(&link), dir.path().join("..data")).unwrap();
            assert!(changed(&file) < changed("..data"), "round {round}");
        }
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 21, "the scratch files are gone");
    }
}
