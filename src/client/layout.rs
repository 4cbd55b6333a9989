//! The file sets of a client: which files are read together, and the purpose of each file.
//!
//! A file set belongs to a publisher, for which the directory of a file stands, as on the server:
//! roots in the directory of the chain or of the key are in the set of the identity, and the roots
//! of each other directory are a set of their own. One Kubernetes volume with `tls.crt`, `tls.key`
//! and `ca.crt` is committed by one rename, so that its files change together and are only valid
//! together. A system's bundle has another publisher: where it is broken, the identity goes on being
//! renewed, and the other way round.

use std::path::PathBuf;

use crate::{
    build::Build,
    drive::reloader::Builder,
    read::snapshot::{FILE_LIMIT, Files, near_limit},
    report::error::{Error, Layer, Warning},
    server::{
        layout::{missing, parent},
        validate::NamedBytes,
    },
};

/// The purpose of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Chain,
    Key,
    Roots,
}

/// The files of one file set, in the order in which they are read: chain and key, if it is the set
/// of the identity, then bundles of roots.
#[derive(Clone, Debug)]
pub(super) struct SetLayout {
    has_identity: bool,
    files: Vec<PathBuf>,
    /// The directories whose roots belong to the set.
    publishers: Vec<PathBuf>,
}

impl SetLayout {
    /// Returns chain and key, if the set has the identity.
    ///
    /// # Errors
    /// [`Layer::Settings`] where the files are fewer than the layout says.
    pub(super) fn identity<'a>(&self, files: &'a Files) -> Result<Option<[NamedBytes<'a>; 2]>, Error> {
        if !self.has_identity {
            return Ok(None);
        }
        let pair = files.get(0).zip(files.get(1)).map(|(chain, key)| [chain, key]);
        pair.map(Some).ok_or_else(missing)
    }

    /// Returns the bundles of roots among the files of the set.
    pub(super) fn roots(&self, files: &Files) -> Files {
        files.from(if self.has_identity { 2 } else { 0 })
    }

    /// Returns the purpose of the file at this index.
    pub(super) fn purpose(&self, index: usize) -> Purpose {
        match index {
            0 if self.has_identity => Purpose::Chain,
            1 if self.has_identity => Purpose::Key,
            _ => Purpose::Roots,
        }
    }

    /// Warns of files near their limit.
    pub(super) fn near_limits(&self, files: &Files) -> Vec<Warning> {
        let near = |(index, (path, bytes)): (usize, NamedBytes<'_>)| {
            let layer = match self.purpose(index) {
                Purpose::Chain => Layer::Chain,
                Purpose::Key => Layer::Key,
                Purpose::Roots => Layer::RootCa,
            };
            near_limit(FILE_LIMIT, bytes.len()).map(|why| Warning::new(layer, why).at(path))
        };
        files.iter().enumerate().filter_map(near).collect()
    }
}

/// The file sets of a client: that of the identity first, then the sets of roots.
#[derive(Clone, Debug)]
pub(super) struct Layout(Vec<SetLayout>);

impl Layout {
    /// Groups the files into file sets. With `separate`, no roots are in the set of the identity.
    ///
    /// # Errors
    /// [`Layer::Settings`] without a file, and for a path that cannot be made absolute.
    pub(super) fn new(
        identity: Option<&(PathBuf, PathBuf)>,
        roots: &[PathBuf],
        separate: bool,
    ) -> Result<Self, Error> {
        let mut sets: Vec<SetLayout> = Vec::new();
        if let Some((chain, key)) = identity {
            let publishers = if separate { Vec::new() } else { vec![parent(chain)?, parent(key)?] };
            sets.push(SetLayout { has_identity: true, files: vec![chain.clone(), key.clone()], publishers });
        }
        for file in roots {
            let dir = parent(file)?;
            match sets.iter_mut().find(|set| set.publishers.contains(&dir)) {
                Some(set) => set.files.push(file.clone()),
                None => sets.push(SetLayout {
                    has_identity: false,
                    files: vec![file.clone()],
                    publishers: vec![dir],
                }),
            }
        }
        if sets.is_empty() {
            let why = "no file: without an identity or a bundle of roots there is nothing to reload";
            return Err(Error::new(Layer::Settings, why));
        }
        Ok(Self(sets))
    }

    /// Returns the file set with this index.
    pub(super) fn get(&self, set: usize) -> Option<&SetLayout> {
        self.0.get(set)
    }

    /// Returns the file sets, in the order of their indices.
    pub(super) fn iter(&self) -> impl Iterator<Item = &SetLayout> {
        self.0.iter()
    }

    /// Returns a builder of a reloader for these file sets.
    ///
    /// # Errors
    /// [`Layer::Settings`] for a path that cannot be used.
    pub(super) fn builder<B: Build>(&self, build: B) -> Result<Builder<B>, Error> {
        let [first, others @ ..] = self.0.as_slice() else { return Err(missing()) };
        let builder = Builder::new(&first.files, build);
        Ok(others.iter().fold(builder, |builder, set| builder.set(&set.files)))
    }
}
