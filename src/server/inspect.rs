//! Runs a first load and reports each stage: for an operator, before a server starts or a file set
//! is published.
//!
//! The inspection is the load itself, whose build step records its findings, and then a start. No
//! check is implemented twice.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    SignatureAlgorithm, SignatureScheme,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer},
    sign::SigningKey,
};

use super::{build::ServerTls, builder::ServerBuilder, crl::Lists, lint};
use crate::{
    drive::reloader::{Builder, Reloader},
    fs::NativeFs,
    read::{
        snapshot::{self, Files, PathSet, absolute},
        walk::{Walk, WalkedDir},
    },
    report::{
        error::{Error, Layer, Warning},
        event::Event,
    },
    sync::{Deadline, Mutex, lock},
};

/// Time limit of a start, which watches and takes one snapshot. Only a file system that hangs takes
/// this long.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Snapshots taken to find the way to the very files that were loaded. A file set that changes more
/// often is reported as changing.
const LOOK_LIMIT: usize = 3;

/// The findings of each stage of a first load, up to the stage that failed.
///
/// It holds no key material: only the length of the key file and the kind of the key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The absolute paths: chain, key and, if configured, client CAs and CRLs. The directories of
    /// CRLs and the files found in them come last.
    pub paths: Vec<PathBuf>,
    /// The walk to each of the paths, complete up to the step that failed.
    pub(crate) walk: Walk,
    /// The lengths in bytes of the files of each file set, which were read together; empty if they
    /// could not be read.
    pub sizes: Vec<Vec<usize>>,
    /// The certificates of the chain; empty unless all of them parse.
    pub chain: Vec<CertificateDer<'static>>,
    /// The kind of the key, if the crypto provider loaded it.
    pub key: Option<&'static str>,
    /// Whether the crypto provider compared key and leaf. With `Some(false)` it cannot, and the
    /// rehearsal decides. `None` if they do not match or an earlier stage failed.
    pub matched: Option<bool>,
    /// The client CAs that are trusted; empty unless the bundle passes. A warning names each CA
    /// that is ignored.
    pub client_cas: Vec<CertificateDer<'static>>,
    /// The CRLs in force, each with its file; empty unless all of them pass.
    pub crls: Vec<(PathBuf, CertificateRevocationListDer<'static>)>,
    /// The TLS versions whose rehearsal handshake passed.
    pub rehearsed: Vec<&'static str>,
    /// The directories that a server would watch, and that were watched here; empty if it would not
    /// start.
    pub watched: Vec<PathBuf>,
    /// The directories that cannot be watched, as in
    /// [`Status::unwatched`](crate::Status::unwatched). A directory that lacks events for another
    /// reason has a warning.
    pub unwatched: Vec<PathBuf>,
    /// The error that a load returns, if it fails.
    pub refused: Option<Error>,
    /// Findings that do not fail a load and that an operator should know. Each has a layer and,
    /// where it concerns a file or directory, a path.
    pub warnings: Vec<Warning>,
    /// The paths of the key and the client CAs.
    pub(super) named: Named,
}

/// The absolute paths of single files.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) key: PathBuf,
    pub(super) client_ca: Option<PathBuf>,
}

impl ServerBuilder {
    /// Loads the files as a server would, starts to watch them, stops again, and returns the
    /// findings of each stage.
    ///
    /// The inspection calls [`load`](Self::load) and so agrees with it. It blocks as long as a load
    /// does, and observers receive the same events. A leaf that expires within `soon` is a warning.
    ///
    /// Other warnings are:
    ///
    /// - a file mounted alone (Linux);
    /// - a file system known not to report changes that are made elsewhere, such as NFS;
    /// - a directory that could not be watched;
    /// - a key that every user can read (Unix);
    /// - a chain out of order;
    /// - certificates and CRLs outside their dates;
    /// - CRLs of no CA in the bundle.
    ///
    /// Not checked: whether a client trusts the chain, and whether its names fit.
    #[must_use]
    pub fn inspect(mut self, soon: Duration) -> Inspection {
        let notes = Arc::new(Mutex::new(Findings::default()));
        self.found = InspectionLog(Some(Arc::clone(&notes)));
        let set = self.layout().and_then(|layout| layout.inspected());
        let named = Named {
            key: absolute(&self.key).unwrap_or_default(),
            client_ca: self.client_ca.as_ref().and_then(|(path, _)| absolute(path).ok()),
        };
        let loaded = self.into_generic().and_then(Builder::load);
        // A build after the start is not recorded.
        let found = std::mem::take(&mut *lock(&notes));
        let (walk, same) = way(set.as_ref().ok(), &found.files);
        let lengths = |files: &Files| files.iter().map(|(_, bytes)| bytes.len()).collect();
        let mut inspection = Inspection {
            paths: set.map(|set| set.ways(&walk)).unwrap_or_default(),
            walk,
            sizes: found.files.iter().map(lengths).collect(),
            chain: found.chain,
            key: found.key,
            matched: found.matched,
            client_cas: found.client_cas,
            crls: found.crls.iter().map(|(path, der)| (path.to_owned(), der.clone())).collect(),
            rehearsed: found.rehearsed,
            watched: Vec::new(),
            unwatched: Vec::new(),
            refused: None,
            warnings: found.warnings,
            named,
        };
        match loaded {
            Err(error) => inspection.refused = Some(error),
            Ok(reloader) => inspection.watch(&reloader),
        }
        if !same && inspection.refused.is_none() {
            let why = "the files have changed since they were loaded: their paths lead to other files now";
            inspection.warnings.push(Warning::new(Layer::Changing, why));
        }
        let warnings =
            lint::warnings(&inspection, &found.chains, found.provider.as_deref(), found.wall, soon);
        inspection.warnings.extend(warnings);
        inspection
    }
}

impl Inspection {
    /// Starts the driver, and stops it once it has reported the directories that it watches.
    fn watch(&mut self, reloader: &Reloader<ServerTls>) {
        let mut events = reloader.events();
        let deadline = Deadline::after(START_LIMIT);
        let started = reloader.start().is_ok()
            && std::iter::from_fn(|| events.next_within(deadline.left()?))
                .any(|delivered| matches!(*delivered.event, Event::Started { .. }));
        if !started {
            let why = format!("the driver did not watch the files within {} s", START_LIMIT.as_secs());
            self.warnings.push(Warning::new(Layer::Watch, why));
            return;
        }
        let status = reloader.status();
        // A stop that times out is caused by the file system, which has been reported already.
        let _ = reloader.stop();
        (self.watched, self.unwatched) = (status.watched, status.unwatched);
        let Some((fault, _)) = status.degraded else { return };
        // One fault stands for all. A fault without a path is the watcher's and concerns all
        // directories.
        if let Some(named) = fault.path() {
            let is_known =
                |dir: &WalkedDir| self.watched.contains(&dir.path) || self.unwatched.contains(&dir.path);
            // Two paths to one directory share one watch.
            let twin = |a: &WalkedDir, b: &WalkedDir| a.path == b.path || a.id == b.id && a.id.ino != 0;
            for dir in self.walk.dirs.iter().filter(|dir| dir.path != named) {
                if !self.walk.dirs.iter().any(|other| twin(dir, other) && is_known(other)) {
                    let why = format!("not watched either, for the same reason as {}", named.display());
                    self.warnings.push(Warning::new(Layer::Watch, why).at(&dir.path));
                }
            }
        }
        self.warnings.push(fault.into());
    }
}

/// Returns the walk to the files that were loaded, and whether they are still the same.
fn way(set: Option<&PathSet>, loaded: &[Files]) -> (Walk, bool) {
    let Some(set) = set else { return (Walk::default(), true) };
    let mut snapshot = snapshot::take(&NativeFs::default(), set);
    let same = |snapshot: &snapshot::Snapshot| {
        loaded.is_empty() || snapshot.files.as_ref().is_ok_and(|files| is_same(files, loaded))
    };
    for _ in 1..LOOK_LIMIT {
        if same(&snapshot) {
            break;
        }
        snapshot = snapshot::take(&NativeFs::default(), set);
    }
    let same = same(&snapshot);
    (snapshot.walk, same)
}

/// Returns whether the files are those of all file sets together, in any order.
fn is_same(files: &Files, sets: &[Files]) -> bool {
    let mut read: Vec<_> = files.iter().collect();
    let mut loaded: Vec<_> = sets.iter().flat_map(Files::iter).collect();
    read.sort_unstable();
    loaded.sort_unstable();
    read == loaded
}

/// The findings of the stages of one build.
#[derive(Default)]
pub(crate) struct Findings {
    /// The files of each file set that is inspected.
    pub(super) files: Vec<Files>,
    pub(super) wall: Duration,
    pub(super) provider: Option<Arc<CryptoProvider>>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Each chain with its path, in the order of the pairs.
    pub(super) chains: Vec<(PathBuf, Vec<CertificateDer<'static>>)>,
    pub(super) key: Option<&'static str>,
    pub(super) matched: Option<bool>,
    pub(super) client_cas: Vec<CertificateDer<'static>>,
    pub(super) crls: Lists,
    pub(super) warnings: Vec<Warning>,
    pub(super) rehearsed: Vec<&'static str>,
}

/// Records the findings of a build step; records nothing unless the build is inspected.
#[derive(Clone, Default)]
pub(crate) struct InspectionLog(Option<Arc<Mutex<Findings>>>);

impl InspectionLog {
    pub(super) fn note(&self, note: impl FnOnce(&mut Findings)) {
        if let Some(found) = &self.0 {
            note(&mut lock(found));
        }
    }
}

/// Returns the kind of a key, by the signature schemes that it supports.
pub(super) fn kind(key: &dyn SigningKey) -> &'static str {
    let signs = |scheme| key.choose_scheme(&[scheme]).is_some();
    match key.algorithm() {
        SignatureAlgorithm::RSA => "RSA",
        SignatureAlgorithm::ED25519 => "Ed25519",
        SignatureAlgorithm::ED448 => "Ed448",
        SignatureAlgorithm::ECDSA if signs(SignatureScheme::ECDSA_NISTP256_SHA256) => "ECDSA P-256",
        SignatureAlgorithm::ECDSA if signs(SignatureScheme::ECDSA_NISTP384_SHA384) => "ECDSA P-384",
        SignatureAlgorithm::ECDSA if signs(SignatureScheme::ECDSA_NISTP521_SHA512) => "ECDSA P-521",
        SignatureAlgorithm::ECDSA => "ECDSA",
        _ => "of an unknown kind",
    }
}
