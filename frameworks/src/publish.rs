//! Files that are published in the two ways of the field.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustls_reload_testkit::{kubelet_first, kubelet_update, wait_for_tick};
use tempfile::TempDir;

/// The way in which files change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As kubelet does: all files by one rename of `..data`.
    Kubelet,
    /// One file after another, each truncated and written.
    InPlace,
}

impl Mode {
    pub const ALL: [Self; 2] = [Self::Kubelet, Self::InPlace];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kubelet => "kubelet",
            Self::InPlace => "in place",
        }
    }
}

/// A directory with the files of one publisher.
pub struct Files {
    root: TempDir,
    mode: Mode,
    files: Vec<(&'static str, String)>,
    updates: usize,
}

impl Files {
    /// Publishes the files for the first time, in a new directory.
    pub fn new(mode: Mode, files: &[(&'static str, &str)]) -> io::Result<Self> {
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        let new = Self { root: TempDir::new()?, mode, files, updates: 0 };
        fs::create_dir(new.root.path().join("volume"))?;
        match mode {
            Mode::Kubelet => {
                for op in kubelet_first(Path::new("volume"), &new.stamp(), &new.named()) {
                    op.apply(new.root.path())?;
                }
            }
            Mode::InPlace => {
                for (name, text) in &new.files {
                    fs::write(new.path(name), text)?;
                }
            }
        }
        Ok(new)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("volume").join(name)
    }

    /// Publishes the present files with these ones changed.
    pub fn publish(&mut self, changes: &[(&'static str, &str)]) -> io::Result<()> {
        for (name, text) in changes {
            for file in self.files.iter_mut().filter(|file| file.0 == *name) {
                (*text).clone_into(&mut file.1);
            }
        }
        match self.mode {
            Mode::Kubelet => self.swap(),
            Mode::InPlace => changes.iter().try_for_each(|(name, text)| fs::write(self.path(name), text)),
        }
    }

    fn swap(&mut self) -> io::Result<()> {
        let old = self.stamp();
        self.updates += 1;
        let ops = kubelet_update(Path::new("volume"), &old, &self.stamp(), &self.named());
        for op in ops {
            if matches!(op, rustls_reload_testkit::Op::Rename(..)) {
                wait_for_tick(self.root.path())?;
            }
            op.apply(self.root.path())?;
        }
        Ok(())
    }

    fn stamp(&self) -> String {
        format!("..generation_{}", self.updates)
    }

    fn named(&self) -> Vec<(&'static str, &[u8])> {
        self.files.iter().map(|(name, text)| (*name, text.as_bytes())).collect()
    }
}
