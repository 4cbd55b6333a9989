//! How clients are verified: by the client CAs and the revocation lists of all sets that are served together.
//!
//! Each of them may come from another publisher, and so in another set. Whenever one set changes, the lists are judged anew
//! beside the client CAs that they are to be served with: nobody is let in because one set forgot what another knows.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::{RootCertStore, crypto::CryptoProvider, pki_types::CertificateDer};

use super::{
    anchors,
    crl::{Court, Lists, Policy},
    inspect::Notes,
    layout::{Layout, SetLayout, missing},
    server::ClientAuth,
    trust::ServerTrust,
};
use crate::{error::Error, snapshot::Files};

/// The verification of clients, the same for all pairs.
#[derive(Debug)]
pub(super) struct Clients {
    /// `None` where nothing is asked of clients.
    pub(super) anchors: Option<Anchors>,
    /// The revocation lists that clients are verified against: those that count.
    pub(super) crls: Lists,
    /// All that sessions depend on, except for the names of the pairs.
    pub(super) trust: ServerTrust,
    /// The files of each set that all this was made of.
    sources: Vec<Files>,
    /// Every warning about it, reported or not.
    warnings: Vec<Error>,
}

/// The client CAs.
#[derive(Clone, Debug)]
pub(super) struct Anchors {
    /// The bundle.
    pub(super) path: PathBuf,
    pub(super) roots: Arc<RootCertStore>,
    certificates: Vec<CertificateDer<'static>>,
}

/// A change of one set, whose files were `old` before.
#[derive(Clone, Copy)]
struct Change<'a> {
    served: &'a Clients,
    layout: &'a SetLayout,
    set: usize,
    old: &'a Files,
}

/// Settings that clients are judged by besides the files.
pub(super) struct Settings<'a> {
    pub(super) layout: &'a Layout,
    pub(super) mode: Option<ClientAuth>,
    pub(super) revocation: Policy,
    pub(super) provider: &'a Arc<CryptoProvider>,
    pub(super) wall: Duration,
    pub(super) found: &'a Notes,
}

impl Settings<'_> {
    /// Verifies clients by the files of all sets.
    pub(super) fn first(&self, sets: &[Files], warnings: &mut Vec<Error>) -> Result<Arc<Clients>, Error> {
        let files = |set| sets.get(set).cloned().unwrap_or_else(|| Files::new([]));
        let sources =
            self.layout.iter().enumerate().map(|(number, set)| set.of_clients(&files(number))).collect();
        let clients = self.read(sources, None)?;
        warnings.extend(clients.warnings.iter().cloned());
        Ok(Arc::new(clients))
    }

    /// Verifies clients by these files of one set, and the served ones of all others.
    ///
    /// Where these are the served ones as well, nothing is judged anew: a pair that is renewed depends on no other set.
    pub(super) fn after(
        &self,
        served: &Arc<Clients>,
        (set, files): (usize, &Files),
        warnings: &mut Vec<Error>,
    ) -> Result<Arc<Clients>, Error> {
        let Some(layout) = self.layout.get(set) else { return Ok(Arc::clone(served)) };
        let new = layout.of_clients(files);
        if served.sources.get(set) == Some(&new) {
            return Ok(Arc::clone(served));
        }
        let mut sources = served.sources.clone();
        let old = std::mem::replace(&mut sources[set], new);
        let clients = self.read(sources, Some(Change { served, layout, set, old: &old }))?;
        // A warning about a file of another set, or of none, is reported once, not at each change of this one.
        let is_own = |warning: &Error| {
            warning.path().is_some_and(|path| clients.sources[set].iter().any(|(own, _)| own == path))
        };
        let new = |warning: &&Error| is_own(warning) || !served.warnings.contains(warning);
        warnings.extend(clients.warnings.iter().filter(new).cloned());
        Ok(Arc::new(clients))
    }

    /// Verifies clients by these files, of which those of one set were others.
    fn read(&self, sources: Vec<Files>, change: Option<Change<'_>>) -> Result<Clients, Error> {
        let served = change.map(|change| change.served);
        let (mut trust, mut warnings) = (ServerTrust::new(self.mode), Vec::new());
        let anchors = self.anchors(&sources, served, &mut warnings)?;
        let crls = match &anchors {
            None => Lists::default(),
            Some(Anchors { roots, certificates, .. }) => {
                trust.cas(roots, certificates);
                self.found.note(|found| found.client_cas.clone_from(certificates));
                let of_set = change.map_or_else(Default::default, |change| {
                    [change.old, &sources[change.set]]
                        .map(|files| change.layout.lists(files).map(|(path, _)| path).collect::<Vec<_>>())
                });
                let court = Court {
                    policy: self.revocation,
                    roots,
                    provider: self.provider,
                    wall: self.wall,
                    served: served.map(|served| &served.crls),
                    served_roots: served.and_then(|served| served.anchors.as_ref()).map(|old| &old.roots),
                    of_set: [&of_set[0], &of_set[1]],
                };
                let files = self.layout.iter().zip(&sources).flat_map(|(set, files)| set.lists(files));
                let crls = Lists::read(files, &court, &mut warnings)?;
                trust.lists(&crls, self.revocation, self.provider.signature_verification_algorithms);
                self.found.note(|found| found.crls.clone_from(&crls));
                crls
            }
        };
        Ok(Clients { anchors, crls, trust, sources, warnings })
    }

    /// Returns the client CAs of the set that has them; the served ones where their bundle has not changed.
    fn anchors(
        &self,
        sources: &[Files],
        served: Option<&Clients>,
        warnings: &mut Vec<Error>,
    ) -> Result<Option<Anchors>, Error> {
        if self.mode.is_none() {
            return Ok(None);
        }
        let bundle = self.layout.bundle(sources);
        if let Some(served) = served.filter(|served| self.layout.bundle(&served.sources) == bundle) {
            return Ok(served.anchors.clone());
        }
        let (path, bytes) = bundle.ok_or_else(missing)?;
        let (roots, certificates) = anchors::read(self.provider, path, bytes, warnings)?;
        Ok(Some(Anchors { path: path.to_owned(), roots: Arc::new(roots), certificates }))
    }
}
