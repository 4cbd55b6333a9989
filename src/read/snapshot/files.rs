//! The bytes of a file set that were read together.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::read::secret::Secret;

/// The bytes of every file of a set, in the order of its paths; the files of directories follow, in
/// the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files(pub(super) Vec<(PathBuf, Arc<Secret>)>);

impl Files {
    /// Copies the files of a set from memory, for tests of a build step.
    pub fn new<P: Into<PathBuf>, B: AsRef<[u8]>>(files: impl IntoIterator<Item = (P, B)>) -> Self {
        let file = |(path, bytes): (P, B)| (path.into(), Arc::new(Secret::from(bytes.as_ref())));
        Self(files.into_iter().map(file).collect())
    }

    /// Makes a set without files.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// Returns the path and bytes of the file at `index` of the path set.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<(&Path, &[u8])> {
        self.0.get(index).map(|(path, bytes)| (path.as_path(), &***bytes))
    }

    /// Returns the files from `first` on.
    pub(crate) fn from(&self, first: usize) -> Self {
        Self(self.0.iter().skip(first).cloned().collect())
    }

    /// Iterates over path and bytes of all files, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.0.iter().map(|(path, bytes)| (path.as_path(), &***bytes))
    }
}
