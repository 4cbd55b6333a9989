//! The publishing steps that differ between platforms.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rustls_reload_testkit::{NamedFile, Op, kubelet_first, kubelet_update};

/// Makes a symbolic link.
pub fn symlink(target: impl AsRef<Path>, path: impl AsRef<Path>) {
    #[cfg(unix)]
    std::os::unix::fs::symlink(target, path).unwrap();
    #[cfg(windows)]
    std::os::windows::fs::symlink_file(target, path).unwrap();
}

/// Makes a directory accessible to its owner only. On Windows a user's temporary directory already
/// is.
pub fn make_private(dir: &Path) {
    #[cfg(unix)]
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    #[cfg(not(unix))]
    assert!(dir.is_dir());
}

/// Returns the time of the last change to an entry itself, in nanoseconds; on Windows, to its
/// content.
pub fn changed(path: &Path) -> i128 {
    let meta = fs::symlink_metadata(path).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec())
    }
    #[cfg(not(unix))]
    {
        let since = meta.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        i128::try_from(since.as_nanos()).unwrap()
    }
}

/// Renames a file. On Windows a reader of the target can make a rename fail for a moment, so it is
/// tried again.
pub fn rename(from: &Path, to: &Path) {
    let patience = Duration::from_secs(if cfg!(windows) { 1 } else { 0 });
    let start = Instant::now();
    while let Err(error) = fs::rename(from, to) {
        assert!(start.elapsed() < patience, "{}: {error}", to.display());
        std::thread::yield_now();
    }
}

/// Publishes the first generation of the directory `volume` in `root`: as a Kubernetes volume, or
/// as a plain directory where links need a special right.
pub fn publish_first(root: &Path, stamp: &str, files: &[NamedFile<'_>]) {
    fs::create_dir(root.join("volume")).unwrap();
    if cfg!(unix) {
        apply(root, &kubelet_first(Path::new("volume"), stamp, files));
    } else {
        write_all(&root.join("volume"), files);
    }
}

/// Takes the steps of an update before its commit. Returns the directory of the new files.
pub fn prepare(root: &Path, old: &str, stamp: &str, files: &[NamedFile<'_>]) -> std::path::PathBuf {
    if cfg!(unix) {
        let ops = kubelet_update(Path::new("volume"), old, stamp, files);
        let before_the_link = ops.iter().position(|op| matches!(op, Op::Symlink(..))).unwrap();
        apply(root, &ops[..before_the_link]);
        return root.join("volume").join(stamp);
    }
    fs::create_dir(root.join(stamp)).unwrap();
    write_all(&root.join(stamp), files);
    root.join(stamp)
}

/// Moves the prepared update into place. Returns a function that removes the old files.
pub fn commit(root: &Path, old: &str, stamp: &str) -> impl FnOnce() + use<> {
    let volume = root.join("volume");
    let old = if cfg!(unix) {
        symlink(stamp, volume.join("..data_tmp"));
        rename(&volume.join("..data_tmp"), &volume.join("..data"));
        volume.join(old)
    } else {
        rename(&volume, &root.join("old"));
        rename(&root.join(stamp), &volume);
        root.join("old")
    };
    move || fs::remove_dir_all(old).unwrap()
}

fn apply(root: &Path, ops: &[Op]) {
    ops.iter().for_each(|op| op.apply(root).unwrap());
}

fn write_all(dir: &Path, files: &[NamedFile<'_>]) {
    files.iter().for_each(|(name, bytes)| fs::write(dir.join(name), bytes).unwrap());
}
