//! The files of a server that runs already: kept beside their names, and renamed back.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use crate::{Failure, log::log_line};

/// The names that are overwritten, of which the first two have to be there.
const NAMES: [&str; 4] = ["tls.crt", "tls.key", "ca.crt", "ca.crl"];

/// The files of a directory as they were, each under a name that the server does not read. They are
/// renamed back, so that owner, mode and everything else are what they were. A drill that is killed
/// leaves them there. Dropping the value renames them back too.
pub(super) struct Originals {
    dir: PathBuf,
    kept: Vec<&'static str>,
    /// Locked, so that no other drill works in the directory.
    _lock: Flock<File>,
}

impl Originals {
    /// Keeps the files, and leaves an empty one under each name, with the same mode.
    ///
    /// # Errors
    /// Another drill runs here. A file is missing or no plain file, cannot be kept, or has a name
    /// that the drill uses.
    pub(super) fn of(dir: &Path) -> Result<Self, Failure> {
        let opened = File::open(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let lock =
            Flock::lock(opened, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
                Errno::EWOULDBLOCK => format!("another drill runs on {}", dir.display()),
                _ => format!("cannot lock {}: {error}", dir.display()),
            })?;
        let mut found = Vec::new();
        for name in NAMES {
            let path = dir.join(name);
            let kept = keeping(&path);
            if kept.symlink_metadata().is_ok() {
                let (kept, path) = (kept.display(), path.display());
                return Err(format!(
                    "{kept} is the server's own file, left by a drill that was killed: rename it to {path}, or \
                     remove it if {path} has been renewed since"
                )
                .into());
            }
            match path.symlink_metadata() {
                Ok(file) if file.is_file() => found.push(name),
                Ok(_) => {
                    let path = path.display();
                    return Err(format!("{path} is no plain file: drill would have to replace it").into());
                }
                Err(error) if name.starts_with("tls.") || error.kind() != io::ErrorKind::NotFound => {
                    return Err(format!("{}: {error}", path.display()).into());
                }
                Err(_) => {}
            }
        }
        if let Some(taken) = names_of_publishers(dir).find(|path| path.symlink_metadata().is_ok()) {
            return Err(format!("{} is in the way: drill would overwrite it", taken.display()).into());
        }
        let mut originals = Self { dir: dir.to_owned(), kept: Vec::new(), _lock: lock };
        for name in found {
            let path = dir.join(name);
            keep(&path, || originals.kept.push(name))
                .map_err(|error| format!("cannot keep {}: {error}", path.display()))?;
        }
        Ok(originals)
    }

    /// Renames the files back, and removes what the publishers of the drill left.
    ///
    /// # Errors
    /// Names each file that is not back, and where it is.
    pub(super) fn restore(&mut self) -> Result<(), Failure> {
        let mut failures = Vec::new();
        for name in self.kept.drain(..) {
            let path = self.dir.join(name);
            let kept = keeping(&path);
            // A rename replaces a file, and no directory.
            let back = remove_directory(&path).and_then(|()| fs::rename(&kept, &path));
            if let Err(error) = back {
                let (kept, path) = (kept.display(), path.display());
                failures.push(format!("{path} is not the server's own: cannot rename {kept} to it: {error}"));
            }
        }
        for path in names_of_publishers(&self.dir) {
            let removed = remove_directory(&path).and_then(|()| fs::remove_file(&path));
            if let Err(error) = removed
                && error.kind() != io::ErrorKind::NotFound
            {
                failures.push(format!("cannot remove {}, which the drill left: {error}", path.display()));
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
    }
}

impl Drop for Originals {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            log_line(format_args!("rustls-reload: {error}"));
        }
    }
}

/// Returns where an original is kept.
fn keeping(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.drill"))
}

/// Gives a file its second name, calls `is_kept`, and renames an empty file of the same mode over
/// the first name.
fn keep(path: &Path, is_kept: impl FnOnce()) -> io::Result<()> {
    let kept = keeping(path);
    // Unlike a rename, this replaces nothing.
    fs::hard_link(path, &kept)?;
    is_kept();
    let own = kept.symlink_metadata()?;
    let temporary = temporary(path);
    let empty = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    // Root alone gives files away. Another user's drill works on files of its own.
    let _ = fchown(&empty, Some(own.uid()), Some(own.gid()));
    empty.set_permissions(own.permissions())?;
    fs::rename(temporary, path)
}

/// Returns the name under which a publisher of the drill writes a file first.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Returns the further names that publishers of the drill use in the directory.
fn names_of_publishers(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let beside = NAMES.into_iter().flat_map(|name| [format!(".{name}.tmp"), format!("{name}~")]);
    beside.chain(["neighbour", "neighbour.old"].map(str::to_owned)).map(move |name| dir.join(name))
}

/// Removes an empty directory where one is, as an invalid set of the drill has.
fn remove_directory(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir(path),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // reason: a test
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in ["tls.crt", "tls.key"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        dir
    }

    #[test]
    fn originals_come_back_over_whatever_is_there() {
        let ways: [fn(&Path); 4] = [
            |path| fs::write(path, "other").unwrap(),
            |path| fs::remove_file(path).unwrap(),
            |path| fs::remove_file(path).and_then(|()| fs::create_dir(path)).unwrap(),
            |path| fs::rename(path, path.with_file_name("tls.key~")).unwrap(),
        ];
        for replace in ways {
            let dir = directory();
            let key = dir.path().join("tls.key");
            fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
            let inode = key.metadata().unwrap().ino();
            let originals = Originals::of(dir.path()).unwrap();
            // The key's bytes are in no other file.
            let empty = key.metadata().unwrap();
            assert_eq!((empty.len(), empty.mode() & 0o7777), (0, 0o640));
            let second = Originals::of(dir.path()).err().map(|error| error.to_string());
            assert!(second.is_some_and(|why| why.contains("another drill runs on")));
            replace(&key);
            // Other programs write here too.
            fs::create_dir(dir.path().join("other")).unwrap();
            drop(originals);
            let back = key.metadata().unwrap();
            assert_eq!((back.ino(), back.mode() & 0o7777), (inode, 0o640));
            assert_eq!(fs::read(&key).unwrap(), b"tls.key");
            let left = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
            let mut left: Vec<_> = left.collect();
            left.sort();
            assert_eq!(left, ["other", "tls.crt", "tls.key"]);
        }
    }

    #[test]
    fn names_that_the_drill_uses_are_not_overwritten() {
        for name in ["tls.crt~", ".tls.key.tmp", "neighbour", ".tls.key.drill", ".ca.crl.drill"] {
            let dir = directory();
            fs::write(dir.path().join(name), "own").unwrap();
            let refused = Originals::of(dir.path()).err().map(|error| error.to_string());
            assert!(refused.is_some_and(|why| why.contains(name)), "{name}");
            assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"own");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        }
    }

    #[test]
    fn original_that_cannot_come_back_is_named_and_stays() {
        let dir = directory();
        let mut originals = Originals::of(dir.path()).unwrap();
        let chain = dir.path().join("tls.crt");
        fs::remove_file(&chain).unwrap();
        fs::create_dir_all(chain.join("full")).unwrap();
        let why = originals.restore().unwrap_err().to_string();
        assert!(why.contains("tls.crt is not the server's own") && why.contains(".tls.crt.drill"), "{why}");
        assert_eq!(fs::read(dir.path().join(".tls.crt.drill")).unwrap(), b"tls.crt");
        assert_eq!(fs::read(dir.path().join("tls.key")).unwrap(), b"tls.key");
        assert!(!dir.path().join(".tls.key.drill").exists());
    }
}
