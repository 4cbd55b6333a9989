//! The trust that a client's sessions are made under, and the state that the sessions live in.
//!
//! A client that resumes a session verifies no certificate: it takes the server's as it was stored,
//! and the server takes the client's. The state is therefore kept only while neither the roots nor
//! the identity change.
//!
//! [`clients`](crate::manual::clients) has the rule as a table, with its reasons.
//!
//! rustls adds a second lock. A session resumes only with the verifier and the resolver that it was
//! made with, and both belong to one epoch. So a session is bound to its epoch whatever storage a
//! closure of the embedder puts in the place of this one.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    RootCertStore,
    client::{ResolvesClientCert, Resumption, danger::ServerCertVerifier},
    pki_types::CertificateDer,
    sign::CertifiedKey,
};

use crate::{
    build::TrustReduction,
    decide::trust::{Epoch, Trust},
    read::snapshot::Files,
    report::event::{Leaf, RemovedTrust},
    server::trust::Cas,
};

pub(super) type ClientEpoch = Epoch<Arc<ClientTrust>, Sessions>;

/// The certificate chain and the key that a client shows.
pub(super) struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) leaf: Leaf,
    /// The path of the chain.
    pub(super) path: PathBuf,
    /// The digest of the key file.
    pub(super) key_file: [u8; 32],
}

impl Identity {
    /// Returns whether both are the same certificates with the same key file.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert && self.key_file == other.key_file
    }
}

/// The roots of one file set.
pub(super) struct SetRoots {
    /// The files of the bundles, by which a set that has not changed is recognized.
    pub(super) files: Files,
    pub(super) bundles: Vec<Bundle>,
}

/// The usable roots of one file, each with its certificate.
pub(super) struct Bundle {
    pub(super) path: PathBuf,
    pub(super) store: RootCertStore,
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

/// The roots that a client trusts, and its identity.
pub(super) struct ClientTrust {
    roots: Cas,
    /// One object for as long as the identity is the same.
    identity: Option<Arc<Identity>>,
}

impl ClientTrust {
    /// Makes the trust of these roots. `fixed` are roots that no file removes.
    pub(super) fn new(
        identity: Option<Arc<Identity>>,
        roots: &[Arc<SetRoots>],
        fixed: &RootCertStore,
    ) -> Self {
        let mut cas = Cas::default();
        for bundle in roots.iter().flat_map(|set| &set.bundles) {
            let removed = |subject, fingerprint| RemovedTrust::RootCa { subject, fingerprint };
            cas.add(&bundle.store, &bundle.certificates, removed);
        }
        cas.always(fixed);
        Self { roots: cas, identity }
    }
}

impl PartialEq for ClientTrust {
    fn eq(&self, other: &Self) -> bool {
        let same_identity = match (&self.identity, &other.identity) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        same_identity && self.roots == other.roots
    }
}

impl Eq for ClientTrust {}

impl Trust for ClientTrust {
    /// Returns whether a root was removed. The identity does not count: it is no trust in servers.
    fn shrinks(&self, served: &Self) -> bool {
        self.roots.removed(&served.roots).next().is_some()
    }
}

/// Returns the trust that is lost when `epoch` replaces `served`, if trust is reduced.
pub(super) fn reduction(epoch: &ClientEpoch, served: &ClientEpoch) -> Option<TrustReduction> {
    let removed = || epoch.trust().roots.removed(&served.trust().roots).cloned().collect();
    epoch.reduced_since(served.number()).then(|| TrustReduction { epoch: epoch.number(), removed: removed() })
}

/// The state of resumption, and the objects that rustls binds each session to.
#[derive(Clone)]
pub(super) struct Sessions {
    pub(super) verifier: Arc<dyn ServerCertVerifier>,
    pub(super) resolver: Arc<dyn ResolvesClientCert>,
    pub(super) resumption: Resumption,
}
