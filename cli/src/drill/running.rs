//! The files of a server that runs already: kept, and written back.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use crate::{Failure, log::log_line};

/// The names that are overwritten, of which the first two have to be there.
const NAMES: [&str; 4] = ["tls.crt", "tls.key", "ca.crt", "ca.crl"];

/// The files of a directory as they were. Dropping it writes them back, and removes what has come.
pub(super) struct Originals {
    dir: PathBuf,
    names: Vec<OsString>,
    contents: BTreeMap<&'static str, Vec<u8>>,
}

impl Originals {
    /// Reads the files.
    pub(super) fn of(dir: &Path) -> Result<Self, Failure> {
        let mut contents = BTreeMap::new();
        for name in NAMES {
            let path = dir.join(name);
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_file() => {
                    let read = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                    contents.insert(name, read);
                }
                Ok(_) => {
                    let path = path.display();
                    return Err(format!("{path} is no plain file: drill would have to replace it").into());
                }
                Err(error) if name.starts_with("tls.") => {
                    return Err(format!("{}: {error}", path.display()).into());
                }
                Err(_) => {}
            }
        }
        Ok(Self { dir: dir.to_owned(), names: names(dir)?, contents })
    }

    fn restore(&self) -> std::io::Result<()> {
        for (name, bytes) in &self.contents {
            let (path, temporary) = (self.dir.join(name), self.dir.join(format!(".{name}.drill")));
            fs::write(&temporary, bytes)?;
            fs::rename(temporary, path)?;
        }
        for name in names(&self.dir)? {
            if !self.names.contains(&name) {
                fs::remove_file(self.dir.join(name))?;
            }
        }
        Ok(())
    }
}

impl Drop for Originals {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            log_line(format_args!(
                "rustls-reload: cannot write the files of {} back: {error}",
                self.dir.display()
            ));
        }
    }
}

fn names(dir: &Path) -> std::io::Result<Vec<OsString>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
}
