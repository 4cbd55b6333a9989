//! How clients are verified: by the client CAs and the revocation lists of all sets that are served together.
//!
//! Each of them may come from another publisher, and so in another set. Whenever one set changes, the lists are judged anew
//! beside the client CAs that they are to be served with: nobody is let in because one set forgot what another knows.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{RootCertStore, crypto::CryptoProvider, pki_types::CertificateDer};

use super::{
    anchors,
    crl::{Court, List, Lists, Policy},
    inspect::Notes,
    layout::{Layout, SetLayout, missing},
    server::ClientAuth,
    trust::ServerTrust,
};
use crate::{
    error::{Error, Layer},
    snapshot::Files,
};

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

/// What clients are judged by besides the files.
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
        let clients = self.read(sources, Some(served))?;
        clients.keeps_lists(served, layout, [&old, &clients.sources[set]])?;
        // A warning about a file of another set is reported once, not at each change of this one.
        let is_own = |warning: &Error| {
            warning.path().is_none_or(|path| clients.sources[set].iter().any(|(own, _)| own == path))
        };
        let new = |warning: &&Error| is_own(warning) || !served.warnings.contains(warning);
        warnings.extend(clients.warnings.iter().filter(new).cloned());
        Ok(Arc::new(clients))
    }

    fn read(&self, sources: Vec<Files>, served: Option<&Clients>) -> Result<Clients, Error> {
        let (mut trust, mut warnings) = (ServerTrust::new(self.mode), Vec::new());
        let anchors = self.anchors(&sources, served, &mut warnings)?;
        let crls = match &anchors {
            None => Lists::default(),
            Some(Anchors { roots, certificates, .. }) => {
                trust.cas(roots, certificates);
                self.found.note(|found| found.client_cas.clone_from(certificates));
                let court = Court {
                    policy: self.revocation,
                    roots,
                    provider: self.provider,
                    wall: self.wall,
                    served: served.map(|served| &served.crls),
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

impl Clients {
    /// Refuses the change of a set that loses a list of a trusted CA, while neither the set has another of that CA nor any
    /// other set one that is as new.
    ///
    /// Lists of one CA may come from several publishers. [`Lists::read`] sees only a CA that has no list at all any more.
    fn keeps_lists(&self, served: &Self, set: &SetLayout, [old, new]: [&Files; 2]) -> Result<(), Error> {
        let Some(Anchors { roots, .. }) = &self.anchors else { return Ok(()) };
        let is_of_set = |path: &Path| set.lists(old).any(|(own, _)| own == path);
        for lost in served.crls.all().iter().filter(|list| is_of_set(list.path())) {
            let key = lost.signer.as_deref();
            let is_trusted = roots.roots.iter().any(|anchor| Some(&*anchor.subject_public_key_info) == key);
            let is_in_set = |list: &&List| set.lists(new).any(|(own, _)| own == list.path());
            let mut others = self.crls.of(&lost.parsed.canonical);
            if !is_trusted || others.clone().filter(is_in_set).any(|list| list.signer == lost.signer) {
                continue;
            }
            if !others.any(|other| other.is_about(lost) && other.is_as_new_as(lost)) {
                let why = format!(
                    "there is no revocation list of {} here any more, and no other publisher's is as new",
                    lost.issuer()
                );
                return Err(Error::new(Layer::Crl, why).at(lost.path()));
            }
        }
        Ok(())
    }
}
