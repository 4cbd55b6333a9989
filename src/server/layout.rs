//! The file sets of a server: which files are read together, and the purpose of each file.
//!
//! A file set belongs to a publisher: its files change together, and a broken file rejects the
//! whole set. Files of different publishers are therefore in different sets, and the directory of a
//! file stands for its publisher. Directories are compared as they were configured; no file is
//! accessed here.

use std::path::{Path, PathBuf};

use super::pairs::SniPair;
use crate::{
    build::Build,
    drive::reloader::Builder,
    read::snapshot::{FILE_LIMIT, Files, PathSet, absolute, near_limit},
    report::error::{Error, Layer, Warning},
};

/// The purpose of a file set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetRole {
    /// The default pair, and everything else of its publisher.
    Default,
    /// An SNI pair, by its index among the SNI pairs.
    Pair(usize),
    /// The client CAs, if they are a file set of their own.
    ClientCas,
    /// CRLs of another publisher than that of the client CAs.
    Crls,
}

impl SetRole {
    /// Returns the index of the set's pair among all pairs, of which the default one is the first.
    pub(super) fn pair(self) -> Option<usize> {
        match self {
            Self::Default => Some(0),
            Self::Pair(further) => Some(further + 1),
            Self::ClientCas | Self::Crls => None,
        }
    }
}

/// The files of one file set, in the order in which they are read.
#[derive(Clone, Debug)]
pub(super) struct SetLayout {
    pub(super) role: SetRole,
    files: Vec<PathBuf>,
    /// Directories in which every file is a CRL.
    directories: Vec<PathBuf>,
    /// The indices of chain and key, in the file set of a pair.
    pair: Option<[usize; 2]>,
    client_ca: Option<usize>,
    /// The directory whose CRLs belong to the set.
    publisher: Option<PathBuf>,
    /// The index of the first CRL; every file from there on is one.
    lists: usize,
}

/// The configured paths of a server, and how they form file sets.
pub(super) struct Given<'a> {
    pub(super) chain: &'a Path,
    pub(super) key: &'a Path,
    pub(super) client_ca: Option<&'a Path>,
    pub(super) crls: &'a [PathBuf],
    pub(super) crl_dirs: &'a [PathBuf],
    pub(super) pairs: &'a [SniPair],
    /// Whether the client CAs are a file set of their own.
    pub(super) separate_client_ca: bool,
    /// Whether all CRLs are in the file set of the client CAs.
    pub(super) crls_with_client_ca: bool,
}

/// The file sets of a server: the default one first, the SNI pairs in their order, then client CAs
/// and CRLs.
#[derive(Clone, Debug)]
pub(super) struct Layout(Vec<SetLayout>);

impl SetLayout {
    fn new(role: SetRole, files: Vec<PathBuf>) -> Self {
        let pair = role.pair().map(|_| [0, 1]);
        let lists = files.len();
        Self { role, files, directories: Vec::new(), pair, client_ca: None, publisher: None, lists }
    }

    /// Returns chain and key among the files of the set.
    ///
    /// # Errors
    /// [`Layer::Settings`] if the set has no pair.
    pub(super) fn pair<'a>(&self, files: &'a Files) -> Result<[(&'a Path, &'a [u8]); 2], Error> {
        let pair = self.pair.and_then(|[chain, key]| Some([files.get(chain)?, files.get(key)?]));
        pair.ok_or_else(missing)
    }

    /// Returns whether the file at this index is the key.
    pub(super) fn is_key(&self, index: usize) -> bool {
        self.pair.is_some_and(|[_, key]| index == key)
    }

    /// Returns whether the file at this index is the bundle of client CAs.
    pub(super) fn is_client_ca(&self, index: usize) -> bool {
        self.client_ca == Some(index)
    }

    /// Returns whether the file at this index is the chain.
    pub(super) fn is_chain(&self, index: usize) -> bool {
        self.pair.is_some_and(|[chain, _]| index == chain)
    }

    /// Returns the client CAs among the files that [`of_clients`](Self::of_clients) selects.
    pub(super) fn client_ca<'a>(&self, of_clients: &'a Files) -> Option<(&'a Path, &'a [u8])> {
        of_clients.get(self.client_ca? - self.first_of_clients())
    }

    /// Returns the CRLs among the files that [`of_clients`](Self::of_clients) selects.
    pub(super) fn lists<'a>(&self, of_clients: &'a Files) -> impl Iterator<Item = (&'a Path, &'a [u8])> {
        of_clients.iter().skip(self.lists - self.first_of_clients())
    }

    /// Returns those of the CRLs that come from a directory. They follow the files that are given.
    pub(super) fn listed<'a>(&self, of_clients: &'a Files) -> impl Iterator<Item = (&'a Path, &'a [u8])> {
        of_clients.iter().skip(self.files.len() - self.first_of_clients())
    }

    /// Selects the files that decide about clients: client CAs and CRLs, but no key.
    pub(super) fn of_clients(&self, files: &Files) -> Files {
        files.from(self.first_of_clients())
    }

    /// Returns the CRLs among the files of the set.
    pub(super) fn of_lists<'a>(&self, files: &'a Files) -> impl Iterator<Item = (&'a Path, &'a [u8])> {
        files.iter().skip(self.lists)
    }

    /// Warns of files near their limit, except for CRLs, which have a limit of their own.
    pub(super) fn near_limits(&self, files: &Files) -> Vec<Warning> {
        let near = |(index, (path, bytes)): (usize, (&Path, &[u8]))| {
            let layer = match index {
                _ if self.is_chain(index) => Layer::Chain,
                _ if self.is_key(index) => Layer::Key,
                _ => Layer::ClientCa,
            };
            near_limit(FILE_LIMIT, bytes.len()).map(|why| Warning::new(layer, why).at(path))
        };
        files.iter().take(self.lists).enumerate().filter_map(near).collect()
    }

    fn is_inspected(&self) -> bool {
        !matches!(self.role, SetRole::Pair(_))
    }

    fn first_of_clients(&self) -> usize {
        self.client_ca.unwrap_or(self.lists)
    }
}

impl Layout {
    /// Groups the configured files into file sets.
    ///
    /// # Errors
    /// [`Layer::Settings`] for a path that cannot be made absolute.
    pub(super) fn new(given: &Given<'_>) -> Result<Self, Error> {
        let pair = |role, chain: &Path, key: &Path| SetLayout::new(role, vec![chain.into(), key.into()]);
        let mut sets = vec![pair(SetRole::Default, given.chain, given.key)];
        let further = given.pairs.iter().enumerate();
        sets.extend(further.map(|(i, further)| pair(SetRole::Pair(i), &further.chain, &further.key)));
        let Some(bundle) = given.client_ca else { return Ok(Self(sets)) };
        let clients = if given.separate_client_ca {
            sets.push(SetLayout::new(SetRole::ClientCas, Vec::new()));
            sets.len() - 1
        } else {
            0
        };
        let set = &mut sets[clients];
        set.client_ca = Some(set.files.len());
        set.files.push(bundle.to_owned());
        set.lists = set.files.len();
        set.publisher = Some(parent(bundle)?);
        let mut layout = Self(sets);
        for file in given.crls {
            let set = if given.crls_with_client_ca { clients } else { layout.publisher(parent(file)?) };
            layout.0[set].files.push(file.clone());
        }
        for dir in given.crl_dirs {
            let set = if given.crls_with_client_ca { clients } else { layout.publisher(absolute(dir)?) };
            layout.0[set].directories.push(dir.clone());
        }
        Ok(layout)
    }

    /// Returns the index of the file set for files in this directory, and adds one if there is
    /// none.
    fn publisher(&mut self, dir: PathBuf) -> usize {
        let known = self.0.iter().position(|set| set.publisher.as_ref() == Some(&dir));
        known.unwrap_or_else(|| {
            let mut set = SetLayout::new(SetRole::Crls, Vec::new());
            set.publisher = Some(dir);
            self.0.push(set);
            self.0.len() - 1
        })
    }

    /// Returns the file set with this index.
    pub(super) fn get(&self, set: usize) -> Option<&SetLayout> {
        self.0.get(set)
    }

    /// Returns the file sets, in the order of their indices.
    pub(super) fn iter(&self) -> impl Iterator<Item = &SetLayout> {
        self.0.iter()
    }

    /// Selects the files of the sets that [`inspected`](Self::inspected) joins, set by set.
    pub(super) fn inspected_of(&self, sets: &[Files]) -> Vec<Files> {
        let all = self.iter().zip(sets).filter(|(set, _)| set.is_inspected());
        all.map(|(_, files)| files.clone()).collect()
    }

    /// Returns the client CAs among the files that [`SetLayout::of_clients`] selects of each set.
    pub(super) fn bundle<'a>(&self, of_clients: &'a [Files]) -> Option<(&'a Path, &'a [u8])> {
        self.0.iter().zip(of_clients).find_map(|(set, files)| set.client_ca(files))
    }

    /// Returns a builder of a reloader for these file sets.
    ///
    /// # Errors
    /// As [`PathSet::new`].
    pub(super) fn builder<B: Build>(&self, build: B) -> Result<Builder<B>, Error> {
        let [default, others @ ..] = self.0.as_slice() else { return Err(missing()) };
        let builder = Builder::new(&default.files, build).large_from(default.lists);
        let builder = default.directories.iter().fold(builder, Builder::directory);
        others.iter().try_fold(builder, |builder, set| {
            let files = PathSet::of(&set.files, &set.directories)?;
            Ok(builder.path_set(files.large_from(set.lists)))
        })
    }

    /// Returns the chain and the key of each SNI pair, as a set.
    ///
    /// # Errors
    /// As [`PathSet::new`].
    pub(super) fn pairs(&self) -> Result<Vec<PathSet>, Error> {
        let pairs = self.iter().filter(|set| !set.is_inspected());
        pairs.map(|set| PathSet::of(&set.files, &set.directories)).collect()
    }

    /// Returns the paths of all file sets except those of SNI pairs, as one set.
    ///
    /// # Errors
    /// As [`PathSet::new`].
    pub(super) fn inspected(&self) -> Result<PathSet, Error> {
        let sets = || self.iter().filter(|set| set.is_inspected());
        let files = PathSet::of(sets().flat_map(|set| &set.files), sets().flat_map(|set| &set.directories))?;
        // The load has rejected a bundle of client CAs that is too large.
        Ok(files.large_from(self.0.first().map_or(0, |default| default.lists)))
    }
}

/// Returns the error for a file set that has fewer files than its layout.
pub(crate) fn missing() -> Error {
    Error::new(Layer::Settings, "a path is missing")
}

/// Returns the directory that stands for the publisher of a file.
pub(crate) fn parent(file: &Path) -> Result<PathBuf, Error> {
    let file = absolute(file)?;
    Ok(file.parent().map_or_else(|| file.clone(), Path::to_owned))
}
