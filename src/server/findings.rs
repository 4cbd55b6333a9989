//! The findings of an inspection: its report, and the log that the stages of a load write to.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer},
};

use super::crl::Lists;
use crate::{
    read::{snapshot::Files, walk::Walk},
    report::error::{Error, Warning},
    sync::{Mutex, lock},
};

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
pub(crate) struct InspectionLog(pub(super) Option<Arc<Mutex<Findings>>>);

impl InspectionLog {
    pub(super) fn note(&self, note: impl FnOnce(&mut Findings)) {
        if let Some(found) = &self.0 {
            note(&mut lock(found));
        }
    }
}
