//! The trust that a server's sessions are made under, and the state that the sessions live in.
//!
//! rustls resumes a session by its cipher suite and server name alone, and takes the client's
//! certificate as it was stored: it is not verified again. The state is therefore kept only while
//! nothing changes that the certificate was verified under.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use hmac_sha256::Hash;
use rustls::{
    Error as TlsError, RootCertStore, ServerConfig,
    crypto::WebPkiSupportedAlgorithms,
    pki_types::CertificateDer,
    server::{NoServerSessionStorage, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions},
};

use super::{
    anchors::{self, Anchor},
    builder::ClientAuth,
    crl::{List, Lists, Policy, name},
    rehearse::NoTickets,
    revocation_list::Scope,
    signer::Signer,
};
use crate::{
    build::TrustReduction,
    decide::trust::{Epoch, Trust},
    pki::der,
    report::{
        error::{Error, Layer},
        event::{Fingerprint, RemovedTrust},
    },
};

/// Default limit of stored sessions: enough for 1,024 TLS 1.2 clients, or half as many TLS 1.3
/// clients.
///
/// rustls's own default is 256. A larger storage is slower: a TLS 1.3 session is searched for among
/// all that are stored.
pub const SESSION_LIMIT: usize = 1024;

/// The content of a test ticket, by which a ticketer shows whether it can decrypt another one's
/// tickets.
const PROBE: &[u8] = b"whose is this?";

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

/// The state of resumption: every server that holds it resumes all of its sessions.
#[derive(Clone)]
pub(super) struct Sessions {
    storage: Arc<dyn StoresServerSessions>,
    ticketer: Arc<dyn ProducesTickets>,
}

impl Sessions {
    pub(super) fn put_into(&self, config: &mut ServerConfig) {
        config.session_storage = Arc::clone(&self.storage);
        config.ticketer = Arc::clone(&self.ticketer);
    }

    pub(super) fn stored_by(&self, config: &ServerConfig) -> bool {
        Arc::ptr_eq(&self.storage, &config.session_storage)
    }

    pub(super) fn ticketed_by(&self, config: &ServerConfig) -> bool {
        Arc::ptr_eq(&self.ticketer, &config.ticketer)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

type MakeTicketer = Box<dyn FnMut() -> Result<Arc<dyn ProducesTickets>, TlsError> + Send>;

/// The settings of resumption.
pub(super) struct Resumption {
    pub(super) limit: usize,
    pub(super) make: Option<MakeTicketer>,
    pub(super) over_reloads: bool,
}

impl Default for Resumption {
    fn default() -> Self {
        Self { limit: SESSION_LIMIT, make: None, over_reloads: true }
    }
}

impl Resumption {
    /// Returns the epoch of a value that is to replace `served`.
    pub(super) fn epoch(
        &mut self,
        served: Option<&TrustEpoch>,
        trust: ServerTrust,
    ) -> Result<TrustEpoch, Error> {
        Epoch::after(served, Arc::new(trust), self.over_reloads, |served| self.fresh(served))
    }

    fn fresh(&mut self, served: Option<&Sessions>) -> Result<Sessions, Error> {
        let storage: Arc<dyn StoresServerSessions> = match self.limit {
            0 => Arc::new(NoServerSessionStorage {}),
            limit => ServerSessionMemoryCache::new(limit),
        };
        let Some(make) = &mut self.make else {
            return Ok(Sessions { storage, ticketer: Arc::new(NoTickets) });
        };
        let mut ticketer = || {
            make().map_err(|error| Error::new(Layer::Config, format!("no ticketer could be made: {error}")))
        };
        let fresh = ticketer()?;
        // At the first load a second ticketer is made for the comparison, so that shared keys are
        // an error at the start.
        let other = served.map_or_else(ticketer, |served| Ok(Arc::clone(&served.ticketer)))?;
        if other.encrypt(PROBE).is_some_and(|ticket| fresh.decrypt(&ticket).is_some()) {
            let why = "the new ticketer accepts the tickets of another one: it needs keys of its own";
            return Err(Error::new(Layer::Config, why));
        }
        Ok(Sessions { storage, ticketer: fresh })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use rustls::pki_types::TrustAnchor;

    use super::*;

    /// A client CA: a name, a key, name constraints, and what else is in its certificate.
    type Ca = (u8, u8, Option<u8>, u8);

    /// Returns the parts of a CA that are trusted, by the rule under test.
    fn trusted((name, key, constraints, _): Ca) -> (u8, u8, Option<u8>) {
        (name, key, constraints)
    }

    fn gone((name, _, _, certificate): Ca) -> RemovedTrust {
        let subject = super::super::crl::name(&subject(name));
        RemovedTrust::ClientCa { subject, fingerprint: Fingerprint(Hash::hash(&[certificate])) }
    }

    /// Encodes `CN=` and a letter.
    fn subject(name: u8) -> Vec<u8> {
        let mut der = vec![0x31, 10, 0x30, 8, 6, 3, 0x55, 4, 3, 0x0c, 1];
        der.push(b'a' + name);
        der
    }

    /// Makes a trust of these CAs, this mode and this leaf.
    fn trust(mode: Option<ClientAuth>, cas: &[Ca], leaf: u8) -> ServerTrust {
        let mut trust = ServerTrust::new(mode);
        let mut roots = RootCertStore::empty();
        roots.roots.extend(cas.iter().map(|(name, key, constraints, _)| TrustAnchor {
            subject: subject(*name).into(),
            subject_public_key_info: vec![*key].into(),
            name_constraints: constraints.map(|constraints| vec![constraints].into()),
        }));
        let certificates: Vec<_> = cas.iter().map(|ca| CertificateDer::from(vec![ca.3])).collect();
        trust.cas(&roots, &certificates);
        trust.names.push(subject_names(&CertificateDer::from(vec![leaf])));
        trust
    }

    /// Checks: INV-09, INV-11.
    ///
    /// Compares every bundle of up to two certificates with every other one, in every mode.
    ///
    /// Engine: generated.
    #[test]
    fn inv09_inv11_trust_is_compared_by_name_key_and_constraints() {
        use ClientAuth::{Optional, Required};
        let modes = [None, Some(Optional), Some(Required)];
        // The first two are one CA and its renewal. Another key, another name, and two constrained
        // CAs follow.
        let cas: [Ca; 6] = [
            (0, 0, None, 0),
            (0, 0, None, 1),
            (0, 1, None, 2),
            (1, 0, None, 3),
            (0, 0, Some(0), 4),
            (0, 0, Some(1), 5),
        ];
        let mut bundles = vec![Vec::new()];
        bundles.extend(cas.map(|ca| vec![ca]));
        bundles.extend(cas.into_iter().flat_map(|one| cas.map(|other| vec![one, other])));
        let lets_in = |bundle: &[Ca], (name, key, constraints, _): Ca| {
            bundle.iter().any(|ca| (ca.0, ca.1) == (name, key) && (ca.2.is_none() || ca.2 == constraints))
        };
        let (mut reduced, mut same) = (0, 0);
        for (old, strict) in modes.iter().enumerate() {
            for (new, stricter) in modes.iter().enumerate() {
                for (had, has) in bundles.iter().flat_map(|had| bundles.iter().map(move |has| (had, has))) {
                    let (served, next) = (trust(*strict, had, 1), trust(*stricter, has, 1));
                    let removed: BTreeSet<_> =
                        had.iter().filter(|ca| !lets_in(has, **ca)).map(|ca| trusted(*ca)).collect();
                    let found = next.removed(&served);
                    assert_eq!(found.contains(&RemovedTrust::Unauthenticated), new > old, "{had:?} {has:?}");
                    assert_eq!(
                        found.len(),
                        removed.len() + usize::from(new > old),
                        "{had:?} {has:?}: {found:?}"
                    );
                    assert!(removed.iter().all(|removed| {
                        had.iter().any(|ca| trusted(*ca) == *removed && found.contains(&gone(*ca)))
                    }));
                    assert_eq!(next.shrinks(&served), !found.is_empty());
                    let all = |bundle: &[Ca]| bundle.iter().map(|ca| trusted(*ca)).collect::<BTreeSet<_>>();
                    assert_eq!(next == served, strict == stricter && all(had) == all(has), "{had:?} {has:?}");
                    reduced += usize::from(!found.is_empty());
                    same += usize::from(next == served);
                    // Breaks: INV-09, INV-16.
                    // Trust compared by the bytes of certificates loses a CA that was renewed.
                    let by_bytes = had.iter().any(|ca| !has.contains(ca));
                    assert!(by_bytes || removed.is_empty(), "{had:?} {has:?}");
                }
            }
        }
        assert!(reduced > 9 * 43 && same > 3 * 43, "{reduced} {same}");
    }

    const ISSUERS: [&[u8]; 2] = [b"a", b"b"];
    const SERIALS: [u8; 2] = [1, 2];

    fn of(issuer: &[u8], scope: Scope, serials: &[Vec<u8>]) -> Listed {
        Listed {
            issuer: issuer.to_vec(),
            scope,
            signer: Signer::Other(None),
            lists: vec![List::of_serials(serials)],
            algorithms: WebPkiSupportedAlgorithms { all: &[], mapping: &[] },
        }
    }

    /// Makes a trust with CRLs of some issuers; the other issuers have none.
    fn listing(lists: [Option<u8>; 2], revocation: Policy) -> ServerTrust {
        let mut trust = ServerTrust { revocation, ..ServerTrust::new(Some(ClientAuth::Required)) };
        for (issuer, serials) in ISSUERS.iter().zip(lists) {
            let Some(bits) = serials else { continue };
            let listed = SERIALS.iter().filter(|serial| bits & **serial != 0);
            let serials: Vec<_> = listed.map(|serial| vec![*serial]).collect();
            trust.lists.insert(issuer.to_vec(), vec![of(issuer, Scope::default(), &serials)]);
        }
        trust
    }

    /// The reference model: returns the clients that are accepted.
    fn let_in(lists: [Option<u8>; 2], policy: Policy) -> Vec<(usize, u8)> {
        let asked = lists != [None, None];
        let clients = (0..2).flat_map(|issuer| SERIALS.map(|serial| (issuer, serial)));
        let fine = |(issuer, serial): &(usize, u8)| match lists[*issuer] {
            Some(bits) => bits & serial == 0,
            None => !asked || policy.allow_unknown,
        };
        clients.filter(fine).collect()
    }

    /// Checks: INV-09.
    ///
    /// Engine: generated.
    #[test]
    fn inv09_whoever_a_change_of_lists_shuts_out_has_shrunk_the_trust_and_equal_lists_never_do() {
        let states: Vec<_> = [None, Some(0), Some(1), Some(2), Some(3)]
            .into_iter()
            .flat_map(|a| [None, Some(0), Some(1), Some(2), Some(3)].map(|b| [a, b]))
            .flat_map(|lists| {
                [false, true].map(|unknown| (lists, Policy { allow_unknown: unknown, ..Policy::default() }))
            })
            .collect();
        let (mut pairs, mut needless) = (0, 0);
        for (was, policy_was) in &states {
            for (now, policy) in &states {
                let (old, new) = (listing(*was, *policy_was), listing(*now, *policy));
                let before = let_in(*was, *policy_was);
                let after = let_in(*now, *policy);
                let removed = before.iter().any(|client| !after.contains(client));
                let shrinks = new.shrinks(&old);
                assert!(
                    shrinks || !removed,
                    "{was:?} {policy_was:?} to {now:?} {policy:?} shuts somebody out"
                );
                assert!(!shrinks || new != old, "the same trust shrinks");
                // A change that only removes serial numbers rejects no client.
                let forgives = policy == policy_was
                    && now.iter().zip(was).all(|(now, was)| {
                        now.is_some() == was.is_some() && now.unwrap_or(0) & !was.unwrap_or(0) == 0
                    });
                assert!(!(shrinks && forgives), "{was:?} to {now:?} shuts nobody out");
                pairs += 1;
                needless += usize::from(shrinks && !removed);
            }
        }
        // A new CRL is reported, even if it revokes no certificate.
        assert!(pairs == 2500 && needless < pairs / 4, "{needless} of {pairs} are told without need");
    }

    #[test]
    fn inv09_a_stricter_policy_shrinks_the_trust_and_a_laxer_one_does_not() {
        let lax = Policy { end_entity_only: true, allow_unknown: true, ignore_expiration: true };
        let stricter = [
            Policy { end_entity_only: false, ..lax },
            Policy { allow_unknown: false, ..lax },
            Policy { ignore_expiration: false, ..lax },
        ];
        for strict in stricter {
            let (strict, lax) = (listing([Some(1), None], strict), listing([Some(1), None], lax));
            assert!(strict.shrinks(&lax) && !lax.shrinks(&strict) && strict != lax, "{strict:?}");
        }
    }

    #[test]
    fn inv09_order_of_lists_never_counts_and_their_scopes_do() {
        let scope = |authorities: bool| Scope { authorities, ..Scope::default() };
        let trust = |lists: [Listed; 2]| {
            let mut lists = Vec::from(lists);
            lists.sort_by(Listed::order);
            ServerTrust {
                lists: BTreeMap::from([(b"a".to_vec(), lists)]),
                ..ServerTrust::new(Some(ClientAuth::Required))
            }
        };
        let one = |authorities, serial| of(b"a", scope(authorities), &[vec![serial]]);
        let (before, behind) = (trust([one(false, 1), one(true, 2)]), trust([one(true, 2), one(false, 1)]));
        assert!(before == behind && !before.shrinks(&behind) && !behind.shrinks(&before));
        let other = trust([one(true, 1), one(false, 2)]);
        assert!(before != other, "the same numbers in lists of other scopes");
    }
}
