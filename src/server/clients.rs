//! How clients are verified: by the client CAs and the CRLs of all file sets that are served
//! together.
//!
//! The client CAs and each CRL may come from different publishers, and so from different file sets.
//! Whenever one file set changes, the CRLs are evaluated again together with the client CAs that
//! they are to be served with. No client is accepted because one file set lacks a revocation that
//! another one knows.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, TrustAnchor},
};

use super::{
    anchors::{self, Origin, Peers},
    crl::{self, CrlValidator, List, Lists, Policy},
    findings::InspectionLog,
    layout::{Layout, SetLayout, missing},
    revocation::AnchorCertificates,
    trust::{ClientAuth, ServerTrust},
};
use crate::{
    read::snapshot::Files,
    report::error::{Error, Layer, Warning},
};

/// The verification of clients, which is the same for all pairs.
#[derive(Debug)]
pub(super) struct Clients {
    /// `None` where client authentication is off.
    pub(super) anchors: Option<Anchors>,
    /// The CRLs that clients are verified against.
    pub(super) crls: Lists,
    /// Everything that sessions depend on, except for the names of the pairs.
    pub(super) trust: ServerTrust,
    /// The files that this was made of, by file set.
    sources: Vec<Files>,
    /// Every warning about the files, whether it was reported or not.
    warnings: Vec<Warning>,
}

/// The client CAs of a server.
#[derive(Clone, Debug)]
pub(super) struct Anchors {
    /// The path of the bundle.
    pub(super) path: PathBuf,
    pub(super) roots: Arc<RootCertStore>,
    certificates: Vec<CertificateDer<'static>>,
    /// Issuers and serial numbers of the certificates, by which a CRL may revoke them.
    pub(super) revocable: Arc<AnchorCertificates>,
}

/// A change of one file set, whose files were `old` before.
#[derive(Clone, Copy)]
struct Change<'a> {
    served: &'a Clients,
    layout: &'a SetLayout,
    set: usize,
    old: &'a Files,
}

/// The settings that clients are verified by, apart from the files.
pub(super) struct Settings<'a> {
    pub(super) layout: &'a Layout,
    pub(super) mode: Option<ClientAuth>,
    pub(super) revocation: Policy,
    pub(super) provider: &'a Arc<CryptoProvider>,
    pub(super) wall: Duration,
    pub(super) found: &'a InspectionLog,
}

impl Settings<'_> {
    /// Makes the verification of clients from the files of all file sets.
    pub(super) fn first(&self, sets: &[Files], warnings: &mut Vec<Warning>) -> Result<Arc<Clients>, Error> {
        let files = |set| sets.get(set).cloned().unwrap_or_else(Files::none);
        let sources =
            self.layout.iter().enumerate().map(|(number, set)| set.of_clients(&files(number))).collect();
        let clients = self.read(sources, None)?;
        warnings.extend(clients.warnings.iter().cloned());
        Ok(Arc::new(clients))
    }

    /// Makes the verification of clients from these files of one file set, and the served files of
    /// all others.
    ///
    /// Where these files are the served ones too, returns the served verification unchanged: the
    /// renewal of a pair depends on no other file set.
    pub(super) fn after(
        &self,
        served: &Arc<Clients>,
        (set, files): (usize, &Files),
        warnings: &mut Vec<Warning>,
    ) -> Result<Arc<Clients>, Error> {
        let Some(layout) = self.layout.get(set) else { return Ok(Arc::clone(served)) };
        let new = layout.of_clients(files);
        if served.sources.get(set) == Some(&new) {
            return Ok(Arc::clone(served));
        }
        let mut sources = served.sources.clone();
        let old = std::mem::replace(&mut sources[set], new);
        let clients = self.read(sources, Some(Change { served, layout, set, old: &old }))?;
        // A warning about a file of another file set, or about no file, is reported once, not at
        // each change of this one.
        let is_own = |warning: &Warning| {
            warning.path().is_some_and(|path| clients.sources[set].iter().any(|(own, _)| own == path))
        };
        let new = |warning: &&Warning| is_own(warning) || !served.warnings.contains(warning);
        warnings.extend(clients.warnings.iter().filter(new).cloned());
        Ok(Arc::new(clients))
    }

    /// Makes the verification of clients from `sources`; `change` says which file set differs from
    /// the served ones.
    fn read(&self, sources: Vec<Files>, change: Option<Change<'_>>) -> Result<Clients, Error> {
        let served = change.map(|change| change.served);
        let (mut trust, mut warnings) = (ServerTrust::new(self.mode), Vec::new());
        let anchors = self.anchors(&sources, served, &mut warnings)?;
        let crls = match &anchors {
            None => Lists::default(),
            Some(Anchors { path, roots, certificates, revocable }) => {
                self.found.note(|found| found.client_cas.clone_from(certificates));
                let of_set = change.map_or_else(Default::default, |change| {
                    [change.old, &sources[change.set]]
                        .map(|files| change.layout.lists(files).map(|(path, _)| path).collect::<Vec<_>>())
                });
                let validator = CrlValidator {
                    policy: self.revocation,
                    roots,
                    provider: self.provider,
                    wall: self.wall,
                    served: served.map(|served| &served.crls),
                    served_roots: served.and_then(|served| served.anchors.as_ref()).map(|old| &old.roots),
                    of_set: [&of_set[0], &of_set[1]],
                };
                let files = self.layout.iter().zip(&sources).flat_map(|(set, files)| set.lists(files));
                let listed = self.layout.iter().zip(&sources).flat_map(|(set, files)| set.listed(files));
                crl::warnings::full_directories(listed, &mut warnings);
                let crls = Lists::read(files, &validator, &mut warnings)?;
                let algorithms = self.provider.signature_verification_algorithms;
                let pairs = roots.roots.iter().cloned().zip(certificates.iter().cloned());
                let (trusted, certificates): (_, Vec<_>) = pairs
                    .filter(|(anchor, _)| {
                        let lists = (&crls, self.revocation);
                        let by = revocable.revoked_by(anchor, lists, &algorithms, self.wall);
                        warnings.extend(by.map(|list| revoked(anchor, list, path)));
                        by.is_none()
                    })
                    .unzip();
                trust.cas(&RootCertStore { roots: trusted }, &certificates);
                trust.lists(&crls, self.revocation, algorithms);
                self.found.note(|found| found.crls.clone_from(&crls));
                crls
            }
        };
        Ok(Clients { anchors, crls, trust, sources, warnings })
    }

    /// Returns the client CAs, or the served ones where the bundle has not changed.
    fn anchors(
        &self,
        sources: &[Files],
        served: Option<&Clients>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Option<Anchors>, Error> {
        if self.mode.is_none() {
            return Ok(None);
        }
        let bundle = self.layout.bundle(sources);
        if let Some(served) = served.filter(|served| self.layout.bundle(&served.sources) == bundle) {
            return Ok(served.anchors.clone());
        }
        let (path, bytes) = bundle.ok_or_else(missing)?;
        let (roots, certificates) = anchors::read(Peers::Clients, self.provider, path, bytes, warnings)?;
        warnings.extend(anchors::crowded(Peers::Clients, &[(Origin::Bundle(path), &roots)]));
        let algorithms = &self.provider.signature_verification_algorithms;
        let revocable = Arc::new(AnchorCertificates::new(&roots, &certificates, algorithms));
        Ok(Some(Anchors { path: path.to_owned(), roots: Arc::new(roots), certificates, revocable }))
    }
}

/// Makes the warning about a CA of the bundle that this list revokes.
fn revoked(anchor: &TrustAnchor<'_>, list: &List, bundle: &Path) -> Warning {
    let why = format!(
        "the client CA {} is revoked by the CRL of {} in {}: no client is accepted by it",
        crl::warnings::with_key(anchor),
        list.issuer(),
        list.path().display()
    );
    Warning::new(Layer::ClientCa, why).at(bundle)
}
