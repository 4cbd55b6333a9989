//! The paths of a file set.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use crate::{
    fs,
    read::walk::{Step, Walk},
    report::error::{Error, Layer},
};

/// The paths of a file set, absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathSet {
    pub(super) paths: Vec<PathBuf>,
    /// Directories whose files all belong to the set.
    pub(super) dirs: Vec<PathBuf>,
    /// The files from this index on may be as large as a file of CRLs.
    pub(super) large_from: usize,
}

impl PathSet {
    /// Makes a file set of these paths, in this order. Resolves them against the working directory,
    /// once; later changes of that directory are not followed.
    ///
    /// # Errors
    /// [`Layer::Settings`] if there is no path, a path is empty or the working directory is
    /// unknown.
    pub fn new<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self, Error> {
        Self::of(paths, [] as [&Path; 0])
    }

    /// Makes a file set of every file in this directory, as [`directory`](Self::directory) reads
    /// it, and of no other file.
    ///
    /// # Errors
    /// Fails as [`new`](Self::new) does.
    pub fn of_directory(dir: impl AsRef<Path>) -> Result<Self, Error> {
        Self::of([] as [&Path; 0], [dir])
    }

    /// Makes a file set of these files, and of every file in these directories.
    pub(crate) fn of<P: AsRef<Path>, D: AsRef<Path>>(
        paths: impl IntoIterator<Item = P>,
        dirs: impl IntoIterator<Item = D>,
    ) -> Result<Self, Error> {
        let paths = paths.into_iter().map(absolute).collect::<Result<Vec<_>, _>>()?;
        let dirs = dirs.into_iter().map(absolute).collect::<Result<Vec<_>, _>>()?;
        if paths.is_empty() && dirs.is_empty() {
            return Err(Error::new(Layer::Settings, "no paths: there is nothing to load"));
        }
        Ok(Self { paths, dirs, large_from: usize::MAX })
    }

    /// Adds every file in this directory to the file set, behind all other files, in the order of
    /// the names.
    ///
    /// A file is a regular file or a symlink to one, under a name that does not begin with a dot:
    /// Kubernetes has its `..data` there, and writers their temporary files. Directories in it are
    /// skipped. Each of the following fails the attempt, like a file that is missing:
    ///
    /// - any other entry that cannot be read as a file;
    /// - more than [`LISTING_LIMIT`](super::LISTING_LIMIT) names,
    ///   [`HIDDEN_LIMIT`](super::HIDDEN_LIMIT) names that begin with a dot, or
    ///   [`LISTED_BYTES_LIMIT`](super::LISTED_BYTES_LIMIT) bytes;
    /// - no file at all.
    ///
    /// # Errors
    /// Fails as [`new`](Self::new) does.
    pub fn directory(mut self, dir: impl AsRef<Path>) -> Result<Self, Error> {
        self.dirs.push(absolute(dir)?);
        Ok(self)
    }

    /// Reads the files from index `first` on up to [`LIST_FILE_LIMIT`](super::LIST_FILE_LIMIT)
    /// instead of [`FILE_LIMIT`](super::FILE_LIMIT), files of directories included.
    #[must_use]
    pub fn large_from(mut self, first: usize) -> Self {
        self.large_from = first;
        self
    }

    /// Returns the paths, in the order given.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Returns the path that events and the status name the set by: its first, or the first
    /// directory of a set without paths.
    #[must_use]
    pub fn name(&self) -> &Path {
        // Unreachable: a set has at least one path or directory.
        self.paths.first().or(self.dirs.first()).map_or(Path::new(""), PathBuf::as_path)
    }

    /// Returns the path that each trace of a walk resolves: the paths, the directories, and the
    /// files found in these.
    pub(crate) fn ways(&self, walk: &Walk) -> Vec<PathBuf> {
        let mut ways: Vec<_> = self.paths.iter().chain(&self.dirs).cloned().collect();
        let dirs = || self.dirs.iter().zip(walk.traces.iter().skip(self.paths.len()));
        for trace in walk.traces.iter().skip(ways.len()) {
            let within = |(dir, way): (&PathBuf, &Vec<Step>)| {
                let name =
                    walk.entries[trace.strip_prefix(way.as_slice())?.first()?.entry].path.file_name()?;
                Some((way.len(), dir.join(name)))
            };
            // Of two directories one in the other, the name belongs to the inner one.
            ways.extend(dirs().filter_map(within).max().map(|(_, path)| path));
        }
        ways
    }
}

pub(crate) fn absolute(path: impl AsRef<Path>) -> Result<PathBuf, Error> {
    let path = path.as_ref();
    let fault = |error| Error::new(Layer::Settings, format!("not a usable path: {error}")).at(path);
    let mut absolute = std::path::absolute(path).map(|path| fs::plain(&path).into_owned()).map_err(fault)?;
    if cfg!(unix) && path.as_os_str().as_encoded_bytes().ends_with(b"/.") {
        // Only a directory has such a path, and the dot is left out.
        absolute.push("");
    }
    Ok(absolute)
}

/// Returns whether an entry of this name belongs to the set where all files of its directory do.
pub(crate) fn is_listed(name: &OsStr) -> bool {
    !name.as_encoded_bytes().starts_with(b".")
}
