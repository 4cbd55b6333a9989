//! Directories of certificate files, each published in the way of one publisher of the field.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    NamedFile, Op, Pair,
    publish::{payload, wait_for_tick},
};

/// The name of certbot's lineage.
const LINEAGE: &str = "localhost";

/// A directory into which a test publishes certificates, in the way of one publisher.
///
/// The state is on disk alone: a volume that is made over the directory of an earlier one goes on
/// where that ended. Nothing is removed when it is dropped.
#[derive(Clone, Debug)]
pub struct Volume {
    dir: PathBuf,
    publisher: Publisher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Publisher {
    Kubelet,
    InPlace,
    Certbot,
}

impl Volume {
    /// Makes a volume as kubelet mounts a Secret of type `kubernetes.io/tls` in `dir`: `tls.crt`
    /// and `tls.key` are symlinks through `..data`, and one rename of `..data` commits an update.
    ///
    /// Needs symlinks: on Windows each publication fails.
    #[must_use]
    pub fn kubelet(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), publisher: Publisher::Kubelet }
    }

    /// Makes a directory in which `tls.crt` and then `tls.key` are truncated and written again, as
    /// `cp` and acme.sh do. The update is served once the files have been unchanged for the settle
    /// time of the server under test.
    #[must_use]
    pub fn in_place(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), publisher: Publisher::InPlace }
    }

    /// Makes a configuration directory of certbot (`/etc/letsencrypt` by default) with one lineage:
    /// `fullchain.pem` and `privkey.pem` in `live/localhost` are symlinks to numbered files in
    /// `archive/localhost`, and a renewal replaces one symlink after the other.
    ///
    /// Needs symlinks: on Windows each publication fails.
    #[must_use]
    pub fn certbot(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), publisher: Publisher::Certbot }
    }

    /// Returns the path of the certificate chain.
    #[must_use]
    pub fn chain(&self) -> PathBuf {
        self.path(self.names()[0])
    }

    /// Returns the path of the private key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.path(self.names()[1])
    }

    /// Returns the path of a file that is published with this name.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        match self.publisher {
            Publisher::Certbot => self.dir.join("live").join(LINEAGE).join(name),
            _ => self.dir.join(name),
        }
    }

    /// Publishes a certificate chain and its key. Creates the directory where it is missing. Removes
    /// the further files of an earlier [`publish_with`](Self::publish_with), as that does.
    ///
    /// A volume of kubelet waits for up to one tick of the file system's clock (4 ms on most
    /// kernels), as the real one takes longer than that. A server then knows at once that the
    /// update is complete.
    ///
    /// # Errors
    /// The system's own error. Part of the update may then be on disk.
    pub fn publish(&self, pair: &Pair) -> io::Result<()> {
        self.publish_with(pair, &[])
    }

    /// Publishes a certificate chain, its key, and further files in the same update: client CAs or
    /// CRLs. A file of an earlier update that is not among them is removed, except from
    /// an [in-place](Self::in_place) directory.
    ///
    /// # Errors
    /// As [`publish`](Self::publish). `Unsupported` for further files of certbot, which publishes
    /// none.
    pub fn publish_with(&self, pair: &Pair, further: &[NamedFile<'_>]) -> io::Result<()> {
        let [chain, key] = self.names();
        let mut files = vec![(chain, pair.chain.as_bytes()), (key, pair.key.as_bytes())];
        files.extend_from_slice(further);
        fs::create_dir_all(&self.dir)?;
        let steps = match self.publisher {
            Publisher::Kubelet => self.kubelet_steps(&files)?,
            Publisher::InPlace => {
                files.iter().flat_map(|(name, bytes)| write(name.as_ref(), bytes)).collect()
            }
            Publisher::Certbot if further.is_empty() => self.certbot_steps(&files)?,
            Publisher::Certbot => {
                let why = "certbot publishes a chain and its key, and no further files";
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
        };
        for step in steps {
            if matches!(step, Op::Rename(..)) {
                wait_for_tick(&self.dir)?;
            }
            step.apply(&self.dir)?;
        }
        Ok(())
    }

    /// Returns the names of the chain and the key.
    fn names(&self) -> [&'static str; 2] {
        match self.publisher {
            Publisher::Certbot => ["fullchain.pem", "privkey.pem"],
            _ => ["tls.crt", "tls.key"],
        }
    }

    /// Returns the steps of kubelet's `AtomicWriter`: a new directory, the rename of `..data`, the
    /// symlinks of new names, and the removal of stale names and of the old directory.
    fn kubelet_steps(&self, files: &[NamedFile<'_>]) -> io::Result<Vec<Op>> {
        let old = existing(fs::read_link(self.dir.join("..data")))?;
        let mut old_names = Vec::new();
        if let Some(old) = &old {
            for entry in fs::read_dir(self.dir.join(old))? {
                old_names.push(PathBuf::from(entry?.file_name()));
            }
        }
        let mut steps = payload(Path::new(""), &format!("..{}", number(old.as_deref()) + 1), files);
        let is_new = |name: &str| !old_names.iter().any(|old| old == Path::new(name));
        for (name, _) in files.iter().filter(|(name, _)| is_new(name)) {
            steps.push(Op::Symlink(Path::new("..data").join(name), name.into()));
        }
        for name in &old_names {
            if !files.iter().any(|(new, _)| Path::new(new) == name) {
                steps.push(Op::Unlink(name.clone()));
            }
        }
        if let Some(old) = old {
            steps.extend(old_names.iter().map(|name| Op::Unlink(old.join(name))));
            steps.push(Op::Rmdir(old));
        }
        Ok(steps)
    }

    /// Returns the steps of `certbot renew`: new files in the archive, and then the symlinks, each
    /// removed and made again.
    fn certbot_steps(&self, files: &[NamedFile<'_>]) -> io::Result<Vec<Op>> {
        let [archive, live] = ["archive", "live"].map(|dir| Path::new(dir).join(LINEAGE));
        let old = existing(fs::read_link(self.key()))?;
        let number = number(old.as_deref()) + 1;
        fs::create_dir_all(self.dir.join(&archive))?;
        fs::create_dir_all(self.dir.join(&live))?;
        let numbered = |name: &str| archive.join(name.replace(".pem", &format!("{number}.pem")));
        // The key comes first in both.
        let files = || files.iter().rev();
        let mut steps: Vec<_> = files().flat_map(|(name, bytes)| write(&numbered(name), bytes)).collect();
        for (name, _) in files() {
            if old.is_some() {
                steps.push(Op::Unlink(live.join(name)));
            }
            steps.push(Op::Symlink(Path::new("../..").join(numbered(name)), live.join(name)));
        }
        Ok(steps)
    }
}

/// Returns the steps that truncate a file and write it.
fn write(path: &Path, bytes: &[u8]) -> Vec<Op> {
    vec![Op::Create(path.to_owned()), Op::Append(path.to_owned(), bytes.to_vec())]
}

/// Turns the error of a missing file into `None`.
fn existing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Returns the number in the last part of a path, 0 without one.
fn number(path: Option<&Path>) -> u64 {
    let name = path.and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}
