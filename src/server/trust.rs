//! The trust that a server's sessions are made under, and the state that the sessions live in.
//!
//! rustls resumes a session by its cipher suite and server name alone, and takes the client's
//! certificate as it was stored: it is not verified again. The state is therefore kept only while
//! nothing changes that the certificate was verified under.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hmac_sha256::Hash;
use rustls::{RootCertStore, crypto::WebPkiSupportedAlgorithms, pki_types::CertificateDer};

use super::{
    anchors::{self, Anchor},
    crl::{List, Lists, Policy, name},
    revocation_list::Scope,
    signer::Signer,
};
use crate::{
    build::TrustReduction,
    decide::trust::{Epoch, Trust},
    pki::der,
    report::event::{Fingerprint, RemovedTrust},
};

mod sessions;
pub use sessions::SESSION_LIMIT;
pub(super) use sessions::{Resumption, Sessions};

/// Whether a server requires client certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// A client may come without a certificate. A certificate that it presents is verified.
    Optional,
    /// A client without a valid certificate is rejected.
    Required,
}

pub(super) type TrustEpoch = Epoch<Arc<ServerTrust>, Sessions>;

/// The names of a leaf, of any kind.
pub(super) type SubjectNames = Arc<BTreeSet<(u8, Vec<u8>)>>;

/// Returns the names of this leaf.
pub(super) fn subject_names(leaf: &CertificateDer<'_>) -> SubjectNames {
    let owned = |(tag, name): (u8, &[u8])| (tag, name.to_vec());
    let names = der::fields(leaf).map(|fields| der::identity(&fields).into_iter().map(owned).collect());
    // A leaf that cannot be parsed has itself as its only name.
    Arc::new(names.unwrap_or_else(|| BTreeSet::from([(0, leaf.to_vec())])))
}

/// The CAs that are trusted, and the report of each for its removal. Order, duplicates and the parts
/// of a certificate that rustls ignores do not matter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cas(BTreeMap<Anchor, Option<RemovedTrust>>);

impl Cas {
    /// Adds the CAs of a bundle, each with its certificate. `removed` makes the report of a CA's
    /// removal, from its subject and the digest of its certificate.
    pub(crate) fn add(
        &mut self,
        roots: &RootCertStore,
        certificates: &[CertificateDer<'_>],
        removed: impl Fn(String, Fingerprint) -> RemovedTrust,
    ) {
        for (anchor, certificate) in roots.roots.iter().zip(certificates) {
            let report = || removed(anchors::subject(&anchor.subject), Fingerprint(Hash::hash(certificate)));
            self.0.entry(Anchor::of(anchor)).or_insert_with(|| Some(report()));
        }
    }

    /// Adds anchors that are trusted for ever, so that none of them has a report.
    pub(crate) fn always(&mut self, roots: &RootCertStore) {
        self.0.extend(roots.roots.iter().map(|anchor| (Anchor::of(anchor), None)));
    }

    /// Returns the CAs that may have verified peers that no CA verifies now: their name and key are
    /// gone, or came under other name constraints. Two constraints are not compared; only a CA
    /// without constraints is known to allow everything.
    pub(crate) fn removed<'a>(&self, served: &'a Self) -> impl Iterator<Item = &'a RemovedTrust> {
        let trusts =
            |anchor: &Anchor| self.0.contains_key(anchor) || self.0.contains_key(&anchor.unconstrained());
        served.0.iter().filter(move |(anchor, _)| !trusts(anchor)).filter_map(|(_, removed)| removed.as_ref())
    }
}

impl PartialEq for Cas {
    fn eq(&self, other: &Self) -> bool {
        self.0.keys().eq(other.0.keys())
    }
}

impl Eq for Cas {}

/// The trust that sessions are made under, as far as rustls depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerTrust {
    mode: Option<ClientAuth>,
    cas: Cas,
    /// The CRLs, by the canonical name of their issuer.
    lists: BTreeMap<Vec<u8>, Vec<Listed>>,
    revocation: Policy,
    /// The names of each pair, in the order of the settings: the default pair first.
    names: Vec<SubjectNames>,
}

/// The serial numbers that the CRLs of one key and scope list together.
///
/// Dates and CRL numbers are left out, so that a reissued CRL with the same entries is equal. A CRL
/// that no CA of the bundle signed stands alone: only its clients send the signing key, and another
/// key's serial numbers hide none of its own.
#[derive(Clone, Debug)]
struct Listed {
    issuer: Vec<u8>,
    /// The certificates that the CRLs cover.
    scope: Scope,
    signer: Signer,
    lists: Vec<List>,
    /// The algorithms that verify a CRL whose signing key only its clients send.
    algorithms: WebPkiSupportedAlgorithms,
}

impl Listed {
    /// Returns whether both cover the same certificates, and every key known to have signed the
    /// other signed this one.
    fn is_about(&self, other: &Self) -> bool {
        self.scope == other.scope && self.is_of(other) && other.is_signed_like(self)
    }

    /// Returns whether both may have the same authority. A key that entered or left the bundle is
    /// verified.
    fn is_of(&self, other: &Self) -> bool {
        let signed = |key: &[u8], lists: &[List]| {
            lists.iter().any(|list| list.parsed.signed_by(key, &self.algorithms))
        };
        match (self.signer.key(), other.signer.key()) {
            (Some(key), None) => signed(key, &other.lists),
            (None, Some(key)) => signed(key, &self.lists),
            _ => self.signer.is_same(&other.signer),
        }
    }

    /// Returns whether it may revoke a certificate that no CRL of its authority revoked before.
    /// `was` are all CRLs before the change; `gone` are the ones that are not present unchanged.
    fn grows(&self, was: &[Self], gone: &[&Self]) -> bool {
        let Signer::Other(identifier) = &self.signer else { return false };
        let more = |gone: &Self| count_new(&refused([self]), &refused([gone])) > 0;
        let mut before = gone.iter().filter(|gone| gone.scope == self.scope && gone.is_of(self)).peekable();
        match (before.peek(), identifier) {
            (None, Some(_)) => {
                count_new(&refused([self]), &refused(was.iter().filter(|was| was.is_of(self)))) > 0
            }
            (None, None) => !refused([self]).is_empty(),
            _ => before.any(|gone| more(gone)),
        }
    }

    /// Returns whether both hold the same CRLs, not merely equal ones.
    fn is_same(&self, other: &Self) -> bool {
        let same = |(a, b): (&List, &List)| Arc::ptr_eq(&a.parsed, &b.parsed) && a.released == b.released;
        self.lists.len() == other.lists.len() && self.lists.iter().zip(&other.lists).all(same)
    }

    /// Returns whether every key known to have signed CRLs here signed the other's CRLs: sessions
    /// were made under these keys.
    fn is_signed_like(&self, other: &Self) -> bool {
        let keys = self.lists.iter().flat_map(|list| list.parsed.signers());
        keys.into_iter()
            .all(|key| other.lists.iter().any(|list| list.parsed.signed_by(&key, &self.algorithms)))
    }

    /// Compares by scope, signer and serial numbers.
    fn order(&self, other: &Self) -> Ordering {
        let by_kind = (&self.scope, &self.signer).cmp(&(&other.scope, &other.signer));
        by_kind.then_with(|| match self.is_same(other) {
            true => Ordering::Equal,
            false => refused([self]).cmp(&refused([other])),
        })
    }
}

impl PartialEq for Listed {
    fn eq(&self, other: &Self) -> bool {
        self.order(other) == Ordering::Equal
            && (self.is_same(other) || self.is_signed_like(other) && other.is_signed_like(self))
    }
}

impl Eq for Listed {}

/// Returns the serial numbers that the CRLs revoke, in ascending order and each once.
fn refused<'a>(listed: impl IntoIterator<Item = &'a Listed>) -> Vec<&'a [u8]> {
    let lists: Vec<_> = listed.into_iter().flat_map(|listed| &listed.lists).collect();
    let mut serials: Vec<_> = lists.iter().flat_map(|list| list.refused()).collect();
    // A single CRL is sorted already.
    if lists.len() > 1 {
        serials.sort_unstable();
    }
    serials.dedup();
    serials
}

/// Returns the entries of each side that the other side lacks; each entry matches one entry at
/// most.
fn differing<'a>(now: &'a [Listed], was: &'a [Listed]) -> (Vec<&'a Listed>, Vec<&'a Listed>) {
    let mut gone: Vec<_> = was.iter().collect();
    let mut came: Vec<_> = now.iter().collect();
    came.retain(|now| match gone.iter().position(|was| was == now) {
        Some(place) => {
            gone.remove(place);
            false
        }
        None => true,
    });
    (came, gone)
}

/// Returns how many of `now` are not in `was`.
fn count_new(now: &[&[u8]], was: &[&[u8]]) -> usize {
    now.iter().filter(|serial| was.binary_search(serial).is_err()).count()
}

impl ServerTrust {
    /// Returns a trust in no CA, with this mode of client authentication.
    pub(super) fn new(mode: Option<ClientAuth>) -> Self {
        Self {
            mode,
            cas: Cas::default(),
            lists: BTreeMap::new(),
            revocation: Policy::default(),
            names: Vec::new(),
        }
    }

    /// Adds these client CAs, each with its certificate.
    pub(super) fn cas(&mut self, roots: &RootCertStore, certificates: &[CertificateDer<'_>]) {
        self.cas
            .add(roots, certificates, |subject, fingerprint| RemovedTrust::ClientCa { subject, fingerprint });
    }

    /// Adds the revocations of these CRLs, under the options of `revocation`.
    pub(super) fn lists(&mut self, lists: &Lists, revocation: Policy, algorithms: WebPkiSupportedAlgorithms) {
        self.revocation = revocation;
        for list in lists.all() {
            let of_issuer = self.lists.entry(list.parsed.canonical.clone()).or_default();
            // One CRL lies in several files.
            if of_issuer.iter().flat_map(|other| &other.lists).any(|other| other.is_same_file(list)) {
                continue;
            }
            let alike = of_issuer
                .iter_mut()
                .find(|other| (&other.scope, &other.signer) == (&list.parsed.scope, &list.signer));
            match alike.filter(|alike| alike.signer.key().is_some()) {
                Some(alike) => alike.lists.push(list.clone()),
                None => of_issuer.push(Listed {
                    issuer: list.parsed.issuer.clone(),
                    scope: list.parsed.scope.clone(),
                    signer: list.signer.clone(),
                    lists: vec![list.clone()],
                    algorithms,
                }),
            }
        }
        // The order of CRLs decides nothing.
        self.lists.values_mut().for_each(|lists| lists.sort_by(Listed::order));
    }

    /// Returns the same trust for a server with these names.
    pub(super) fn of(&self, names: Vec<SubjectNames>) -> Self {
        Self { names, ..self.clone() }
    }
}

impl ServerTrust {
    /// Returns the trust that `served` has and this does not.
    fn removed(&self, served: &Self) -> Vec<RemovedTrust> {
        let mut removed: Vec<_> = self.cas.removed(&served.cas).cloned().collect();
        if strictness(self.mode) > strictness(served.mode) {
            removed.push(RemovedTrust::Unauthenticated);
        }
        removed.extend(self.removed_by_lists(served));
        if self.revocation.is_stricter_than(served.revocation) {
            removed.push(RemovedTrust::RevocationPolicy);
        }
        removed
    }

    /// Returns the issuers whose CRLs may reject clients that the served CRLs do not.
    fn removed_by_lists(&self, served: &Self) -> Vec<RemovedTrust> {
        // Unless an unknown status is allowed, the removal of a CRL rejects the clients that it
        // covered.
        let went = |(canonical, _): &(&Vec<u8>, &Vec<Listed>)| {
            !self.revocation.allow_unknown && !self.lists.contains_key(*canonical)
        };
        let went = served.lists.iter().filter(went).map(|(_, lists)| (&lists[0].issuer, 0));
        let narrowed = self.lists.iter().filter_map(|(canonical, now)| {
            let was = served.lists.get(canonical).map_or(&[][..], Vec::as_slice);
            let (came, gone) = differing(now, was);
            let more: usize = came
                .iter()
                .map(|now| count_new(&refused([*now]), &refused(was.iter().filter(|was| was.is_of(now)))))
                .sum();
            let lacks = |some: &[&Listed], others: &[Listed]| {
                some.iter().any(|one| !others.iter().any(|other| other.is_about(one)))
            };
            // Unless it is allowed, an unknown status rejects. An expired CRL rejects in either
            // case, and so do CRLs of the issuer that only another key signed.
            let narrower = match self.revocation.allow_unknown {
                false => was.is_empty() || lacks(&gone, now),
                true => {
                    let mut others = gone.clone();
                    others.retain(|was| was.signer.key().is_none());
                    lacks(&came, was) || lacks(&others, now)
                }
            };
            let narrower = narrower || came.iter().any(|now| now.grows(was, &gone));
            (more > 0 || narrower).then(|| (&now[0].issuer, more))
        });
        let revocation =
            |(issuer, more): (&Vec<u8>, usize)| RemovedTrust::Revocation { issuer: name(issuer), more };
        went.chain(narrowed).map(revocation).collect()
    }
}

/// Returns the trust that is lost when `epoch` replaces `served`, if trust is reduced.
pub(super) fn reduction(epoch: &TrustEpoch, served: &TrustEpoch) -> Option<TrustReduction> {
    let is_reduced = epoch.reduced_since(served.number());
    is_reduced
        .then(|| TrustReduction { epoch: epoch.number(), removed: epoch.trust().removed(served.trust()) })
}

fn strictness(mode: Option<ClientAuth>) -> u8 {
    match mode {
        None => 0,
        Some(ClientAuth::Optional) => 1,
        Some(ClientAuth::Required) => 2,
    }
}

impl Trust for ServerTrust {
    /// Returns whether a CA was removed, a CRL grew, was added or was removed, or more is required
    /// of clients. The names of pairs do not count: they are no trust in clients.
    fn shrinks(&self, served: &Self) -> bool {
        !self.removed(served).is_empty()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
