//! The CRLs of a generation: which of them are in force, and which faults reject a file set of
//! CRLs.
//!
//! Whether a client is revoked is decided in each handshake over all CRLs that are served
//! (`revocation`). Faults that are visible earlier are caught here. A CRL that another key than its
//! CA's signed would leave revoked certificates accepted. A CRL that a CA had and has no more would
//! leave the clients that it revoked accepted, and so would an empty set.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hmac_sha256::Hash;
use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateRevocationListDer, TrustAnchor},
};

use super::{
    revocation_list::{Parsed, Span},
    signer::Signer,
};
use crate::{
    pki::{crl, der},
    read::snapshot::{FILE_LIMIT, LIST_FILE_LIMIT, LISTED_BYTES_LIMIT, near_limit},
    report::{
        error::{Error, Layer, Warning},
        event::{Fingerprint, Timestamp},
    },
};

/// Options of revocation checking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// See [`ServerBuilder::only_check_end_entity_revocation`](crate::ServerBuilder::only_check_end_entity_revocation).
    pub end_entity_only: bool,
    /// See [`ServerBuilder::allow_unknown_revocation_status`](crate::ServerBuilder::allow_unknown_revocation_status).
    pub allow_unknown: bool,
    /// See [`ServerBuilder::ignore_revocation_expiration`](crate::ServerBuilder::ignore_revocation_expiration).
    pub ignore_expiration: bool,
}

impl Policy {
    /// Returns whether it rejects any client that `other` accepts.
    pub(super) fn is_stricter_than(self, other: Self) -> bool {
        (other.end_entity_only && !self.end_entity_only)
            || (other.allow_unknown && !self.allow_unknown)
            || (other.ignore_expiration && !self.ignore_expiration)
    }
}

/// The CRLs that are served, in the order of the files. The order decides nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists(Vec<List>);

/// A CRL with its file and what is known of its signer.
#[derive(Clone, Debug)]
pub(super) struct List {
    path: PathBuf,
    pub(super) parsed: Arc<Parsed>,
    pub(super) signer: Signer,
    /// Whether CAs of the bundle have its issuer's name, and none of them signed it.
    foreign: bool,
    /// Whether a CA that was removed from the bundle signed it.
    pub(super) retired: bool,
    /// Entries on hold that a newer CRL of the same issuer, key and scope released, each with the
    /// end of that CRL.
    pub(super) released: Arc<[(Span, Duration)]>,
}

impl List {
    /// Returns whether the CRL revokes the certificate of its issuer that has this serial number.
    pub(super) fn names(&self, serial: &[u8], policy: Policy, now: Duration) -> bool {
        let released =
            |span| self.released(span).is_some_and(|until| policy.ignore_expiration || now < until);
        !self.parsed.named(serial).iter().all(released)
    }

    /// Returns the serial numbers that the CRL revokes, in ascending order.
    pub(super) fn refused(&self) -> impl Iterator<Item = &[u8]> {
        let all = self.parsed.serials().iter();
        all.filter(|span| self.released(span).is_none()).map(|span| self.parsed.serial(span))
    }

    /// Returns until when this entry is released from hold.
    fn released(&self, span: &Span) -> Option<Duration> {
        let place = self.released.binary_search_by_key(span, |(span, _)| *span).ok()?;
        self.released.get(place).map(|(_, until)| *until)
    }

    /// Returns whether both have the same issuer, scope and signer, so that they cover the same
    /// certificates.
    pub(super) fn is_about(&self, other: &Self) -> bool {
        (&self.parsed.canonical, &self.parsed.scope) == (&other.parsed.canonical, &other.parsed.scope)
            && self.signer.is_same(&other.signer)
    }

    /// Returns whether it was issued no earlier than `other`, a CRL for the same certificates: by
    /// date, then by number.
    pub(super) fn is_as_new_as(&self, other: &Self) -> bool {
        let age =
            |list: &Self| (list.parsed.this_update, list.parsed.magnitude().map(|(l, d)| (l, d.to_vec())));
        age(self) >= age(other)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn issuer(&self) -> String {
        name(&self.parsed.issuer)
    }

    /// Returns whether both share one parsed file.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.parsed, &other.parsed)
    }

    pub(super) fn is_expired(&self, wall: Duration) -> bool {
        wall >= self.parsed.next_update
    }
}

/// The context in which CRLs are evaluated.
pub(super) struct CrlValidator<'a> {
    pub(super) policy: Policy,
    pub(super) roots: &'a Arc<RootCertStore>,
    pub(super) provider: &'a Arc<CryptoProvider>,
    pub(super) wall: Duration,
    pub(super) served: Option<&'a Lists>,
    pub(super) served_roots: Option<&'a Arc<RootCertStore>>,
    /// The CRL files of the file set that changes, before and after the change.
    pub(super) of_set: [&'a [&'a Path]; 2],
}

impl Lists {
    /// Returns the CRLs, each with its file.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Path, &CertificateRevocationListDer<'static>)> {
        self.0.iter().map(|list| (list.path.as_path(), &list.parsed.der))
    }

    /// Returns all CRLs.
    pub(super) fn all(&self) -> &[List] {
        &self.0
    }

    /// Returns the CRLs of an issuer, by its canonical name.
    pub(super) fn of(&self, canonical: &[u8]) -> impl Iterator<Item = &List> + Clone {
        self.0.iter().filter(move |list| list.parsed.canonical == canonical)
    }

    /// Returns whether this very CRL is among them.
    fn has(&self, list: &List) -> bool {
        self.0.iter().any(|other| other.is_same_file(list))
    }

    /// Reads the CRLs of these files: all CRLs of all file sets that are to be served together.
    ///
    /// 1. Each CRL has to be of a supported kind, and signed by a CA of the bundle if one has its
    ///    issuer's name.
    /// 2. An entry that a newer CRL released from hold is ignored in an older one.
    /// 3. On a reload, no CRL may have expired, unless the served CRL of its issuer has expired too
    ///    or a valid CRL covers the same certificates.
    /// 4. No authority may lose its CRLs, and no file set a CRL that nothing as new replaces. Each
    ///    check states its exceptions.
    /// 5. Warnings about the CRLs that pass are added.
    ///
    /// A served CRL fails neither 1 nor 3, because a change of the client CAs may come from another
    /// publisher.
    pub(super) fn read<'a>(
        files: impl IntoIterator<Item = (&'a Path, &'a [u8])>,
        validator: &CrlValidator<'_>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self, Error> {
        let (mut lists, mut sizes) = (Self::default(), Vec::new());
        for (path, file) in files {
            let lists_of = |file| -> Result<Vec<_>, Error> {
                // A served CRL is indexed already, and knows which of the keys asked for signed it.
                if let Some(served) = validator.served_as(file) {
                    return Ok(vec![served]);
                }
                let parsed = crl::parse(file)?.into_iter().map(|der| match validator.served_as(&der) {
                    Some(served) => Ok(served),
                    None => Parsed::new(der).map(Arc::new).map_err(|why| Error::new(Layer::Crl, why)),
                });
                parsed.collect()
            };
            for parsed in lists_of(file).map_err(|error| error.at(path))? {
                // 1.
                let same = lists.0.iter().find(|other| other.parsed.der == parsed.der);
                let list = validator.admit(path, same.map_or(parsed, |same| Arc::clone(&same.parsed)));
                // A CRL in the files of several file sets belongs to each of them.
                if !lists.0.iter().any(|other| other.path == path && other.is_same_file(&list)) {
                    lists.0.push(list);
                }
            }
            validator.large(path, file.len(), warnings);
            sizes.push((path, file.len()));
        }
        together(&sizes, warnings);
        for list in lists.0.iter().filter(|list| list.foreign) {
            validator.foreign(list, &lists, warnings)?;
        }
        // 2.
        lists.release(validator, warnings);
        // 3.
        let served = validator.served.map(|served| validator.reapplied(served, &lists));
        let validator = &CrlValidator { served: served.as_ref(), ..*validator };
        for list in &lists.0 {
            validator.expired(list, &lists, warnings)?;
        }
        // 4.
        validator.lost(&lists, warnings)?;
        validator.kept(&lists)?;
        // 5.
        validator.rolled_back(&lists, warnings);
        validator.missing_lists(&lists, warnings);
        validator.misspelled_issuers(&lists, warnings);
        Ok(lists)
    }

    /// Releases the entries that an older CRL of the same issuer, key and scope has on hold and a
    /// newer one does not list. Any other revocation is final (RFC 5280 section 5.3.1), so an old
    /// file beside the new one can only revoke more.
    ///
    /// Nothing is released where the key is known only to the clients that send it: anybody could
    /// have made the newer CRL.
    fn release(&mut self, validator: &CrlValidator<'_>, warnings: &mut Vec<Warning>) {
        let counts = |list: &List| validator.policy.ignore_expiration || !list.is_expired(validator.wall);
        for i in 0..self.0.len() {
            let older = &self.0[i];
            let is_newer = |list: &&List| list.is_about(older) && list.parsed.is_newer_than(&older.parsed);
            let newer = self.0.iter().filter(is_newer);
            let newest = newer.clone().max_by_key(|list| (list.parsed.this_update, list.parsed.magnitude()));
            let Some(newest) = newest.filter(|_| older.signer.key().is_some()) else { continue };
            let why = format!(
                "a newer revocation list of {} for the same certificates lies in {}: this one still rejects \
                 each certificate that it names, except those on hold that a valid newer one has released",
                older.issuer(),
                newest.path.display()
            );
            warnings.push(Warning::new(Layer::Crl, why).at(&older.path));
            let mut released = BTreeMap::new();
            for newer in newer.filter(|list| counts(list)) {
                for span in older.parsed.released_by(&newer.parsed) {
                    let until = released.entry(span).or_insert(newer.parsed.next_update);
                    *until = newer.parsed.next_update.max(*until);
                }
            }
            self.0[i].released = released.into_iter().collect();
        }
    }

    /// Returns the newest of these CRLs that covers the same certificates as `list`.
    fn newest<'a>(&'a self, list: &'a List) -> &'a List {
        let same = self.0.iter().filter(|other| other.is_about(list));
        same.max_by_key(|other| (other.parsed.this_update, other.parsed.magnitude())).unwrap_or(list)
    }
}

impl CrlValidator<'_> {
    /// Returns the served CRL with these bytes.
    fn served_as(&self, der: &[u8]) -> Option<Arc<Parsed>> {
        let served = self.served?.0.iter().find(|served| *served.parsed.der == *der)?;
        Some(Arc::clone(&served.parsed))
    }

    /// Returns the CRL with its signer, and whether it is foreign or retired.
    fn admit(&self, path: &Path, parsed: Arc<Parsed>) -> List {
        let algorithms = &self.provider.signature_verification_algorithms;
        let signer = self
            .anchors(&parsed.canonical)
            .find(|anchor| parsed.signed_by(&anchor.subject_public_key_info, algorithms))
            .map(|anchor| Signer::Ca(anchor.subject_public_key_info.to_vec()));
        // The CRL of an intermediate, whose key only its clients send, is verified in their
        // handshakes.
        let is_named = || self.roots.roots.iter().any(|anchor| *anchor.subject == *parsed.issuer);
        let foreign = signer.is_none() && is_named();
        let signer = signer.unwrap_or_else(|| Signer::Other(parsed.key_identifier.clone()));
        let list =
            List { path: path.to_owned(), parsed, signer, foreign, retired: false, released: Arc::default() };
        List { retired: self.is_retired(&list), ..list }
    }

    /// Returns the served CRLs with their signers found anew among the CAs that are served with
    /// `lists`.
    fn reapplied(&self, served: &Lists, lists: &Lists) -> Lists {
        let again = |old: &List| {
            let List { signer, foreign, retired, .. } =
                match lists.0.iter().find(|list| list.is_same_file(old)) {
                    Some(list) => list.clone(),
                    None => self.admit(&old.path, Arc::clone(&old.parsed)),
                };
            List { signer, foreign, retired, ..old.clone() }
        };
        Lists(served.0.iter().map(again).collect())
    }

    /// Rejects a CRL with the name of CAs none of which signed it: it must not replace a CRL that
    /// they signed.
    ///
    /// It passes with a warning beside a CRL of that name that they signed, and where it was served
    /// before the CAs changed. It also passes where they signed none of the served CRLs of that
    /// name. It covers none of the CAs' clients.
    fn foreign(&self, list: &List, lists: &Lists, warnings: &mut Vec<Warning>) -> Result<(), Error> {
        let others = lists.of(&list.parsed.canonical).any(|other| other.signer.key().is_some());
        let replaces_none = |served: &Lists| {
            let mut old = served.of(&list.parsed.canonical).peekable();
            served.has(list) || old.peek().is_some() && old.all(|old| old.foreign)
        };
        if !others && !self.served.is_some_and(replaces_none) {
            let why = format!(
                "the revocation list of {} is not signed by the CA of that name, or in a way that the crypto provider \
                 does not know",
                list.issuer()
            );
            return Err(Error::new(Layer::Crl, why).at(&list.path));
        }
        // The warning about CAs without a CRL says what happens to their clients.
        let why = format!("the revocation list of {} is not signed by any CA of that name", list.issuer());
        warnings.push(Warning::new(Layer::Crl, why).at(&list.path));
        Ok(())
    }

    /// Returns the CAs with this canonical name.
    pub(super) fn anchors(&self, canonical: &[u8]) -> impl Iterator<Item = &TrustAnchor<'static>> {
        self.roots.roots.iter().filter(move |anchor| der::canonical_name(&anchor.subject) == canonical)
    }

    /// Warns of a file near its limit and, at the first load, of one that is near or above the
    /// limit of other files.
    fn large(&self, path: &Path, length: usize, warnings: &mut Vec<Warning>) {
        let large = || {
            let why = format!(
                "{length} bytes are a large file of revocation lists: while a reload changes it, it is in memory several \
                 times"
            );
            (self.served.is_none() && near_limit(FILE_LIMIT, length).is_some()).then_some(why)
        };
        let why = near_limit(LIST_FILE_LIMIT, length).or_else(large);
        warnings.extend(why.map(|why| Warning::new(Layer::Crl, why).at(path)));
    }

    /// Applies the rule about dates: an expired CRL does not replace a valid one, as with a leaf.
    fn expired(&self, list: &List, lists: &Lists, warnings: &mut Vec<Warning>) -> Result<(), Error> {
        let valid = |lists: &Lists, about: &dyn Fn(&List) -> bool| {
            lists.of(&list.parsed.canonical).any(|other| about(other) && !other.is_expired(self.wall))
        };
        let same = |other: &List| other.is_about(list);
        // Beside a valid CRL for the same certificates it only revokes more.
        if !list.is_expired(self.wall) || valid(lists, &same) {
            return Ok(());
        }
        let why = format!(
            "the revocation list of {} has expired at {}",
            list.issuer(),
            Timestamp(list.parsed.next_update)
        );
        if let Some(served) = self.served.filter(|served| !served.has(list)) {
            let expired = served
                .of(&list.parsed.canonical)
                .any(|served| served.signer.is_same(&list.signer) && served.is_expired(self.wall));
            if valid(served, &same) || !expired {
                return Err(Error::new(Layer::Crl, why).at(&list.path));
            }
        }
        let whole = list.parsed.scope == Default::default();
        let alone = !valid(lists, &|other| other.signer.is_same(&list.signer));
        let effect = if self.policy.ignore_expiration {
            "it counts all the same"
        } else if whole && alone && list.signer.key().is_some() {
            // The CRL covers each client of that CA.
            match self
                .anchors(&list.parsed.canonical)
                .any(|anchor| list.signer.key() != Some(&*anchor.subject_public_key_info))
            {
                false => self.effect_of_no_list(),
                true if self.policy.end_entity_only => {
                    "each client is rejected whose certificate the CA of this name that signed it issued \
                     itself"
                }
                true => "each client of the CA of this name that signed it is rejected",
            }
        } else {
            "a client certificate that it covers, and no other valid list does, is rejected"
        };
        warnings.push(Warning::new(Layer::Crl, format!("{why}: {effect}")).at(&list.path));
        Ok(())
    }

    /// Warns of CRLs older than the served ones. A publisher may roll back to an earlier update as
    /// a whole, so they are not rejected. Clients that were revoked in between are accepted again.
    fn rolled_back(&self, lists: &Lists, warnings: &mut Vec<Warning>) {
        for list in lists.0.iter().filter(|list| std::ptr::eq(*list, lists.newest(list))) {
            let Some(served) = self.served.and_then(|served| {
                served.0.iter().find(|old| old.is_about(list)).map(|old| served.newest(old))
            }) else {
                continue;
            };
            // An unchanged CRL that does not identify its key may be older than the CRL of another
            // authority.
            if list.signer == Signer::Other(None) && self.served.is_some_and(|served| served.has(list)) {
                continue;
            }
            let (new, old) = (&list.parsed, &served.parsed);
            let numbers = new.magnitude().zip(old.magnitude());
            if new.this_update < old.this_update || numbers.is_some_and(|(new, old)| new < old) {
                let number = |number: &Option<Vec<u8>>| {
                    number.as_deref().map_or_else(|| "-".to_owned(), der::serial_hex)
                };
                let why = format!(
                    "the revocation list of {} is older than the one before it: issued {} after {}, number {} after {}",
                    list.issuer(),
                    Timestamp(new.this_update),
                    Timestamp(old.this_update),
                    number(&new.number),
                    number(&old.number),
                );
                warnings.push(Warning::new(Layer::Crl, why).at(&list.path));
            }
        }
    }

    /// Returns what happens to the clients of a CA without a CRL in force.
    fn effect_of_no_list(&self) -> &'static str {
        // Above an intermediate, the CA issued only certificates that are not checked then.
        match self.policy.end_entity_only {
            false => "no client of it is let in",
            true => "each client whose certificate it issued itself is rejected",
        }
    }

    /// Warns of CAs without a CRL.
    fn missing_lists(&self, lists: &Lists, warnings: &mut Vec<Warning>) {
        if self.policy.allow_unknown || lists.0.is_empty() {
            return;
        }
        let mut seen: Vec<(&[u8], &[u8])> = Vec::new();
        for anchor in &self.roots.roots {
            let (subject, key) = (&*anchor.subject, &*anchor.subject_public_key_info);
            let canonical = der::canonical_name(subject);
            if seen.contains(&(subject, key))
                || lists.of(&canonical).any(|list| list.signer.key() == Some(key))
            {
                continue;
            }
            seen.push((subject, key));
            // A warning that was reported already is not repeated: the key tells this CA from
            // another one of its name, which may have been there before, or be beside it.
            let why = format!(
                "there is no revocation list of {} with the public key {}: {}",
                name(subject),
                Fingerprint(Hash::hash(&webpki::spki_for_anchor(anchor))),
                self.effect_of_no_list()
            );
            warnings.push(Warning::new(Layer::Crl, why));
        }
    }

    /// Warns of CRLs whose issuer name is a CA's name in another encoding.
    fn misspelled_issuers(&self, lists: &Lists, warnings: &mut Vec<Warning>) {
        for list in &lists.0 {
            let mut others = self.anchors(&list.parsed.canonical).map(|anchor| &*anchor.subject).peekable();
            let Some(subject) = others.peek().copied() else { continue };
            if others.any(|subject| *subject == *list.parsed.issuer) {
                continue;
            }
            let [here, there] = [&list.parsed.issuer, subject].map(|name| der::string_types(name).join(", "));
            let counts = if list.signer.key().is_some() {
                "it counts all the same, for the key of that CA has signed it"
            } else {
                "it does not count for that CA, whose key has not signed it"
            };
            let why = format!(
                "the issuer of the revocation list and the subject of the client CA {} differ in their encoding only \
                 ({here} here, {there} there; or in case, or in spaces): {counts}. Where names are compared byte for byte, as \
                 rustls does for certificates, they are two names: have the list issued under the name that stands in the \
                 CA's certificate",
                name(subject)
            );
            warnings.push(Warning::new(Layer::Crl, why).at(&list.path));
        }
    }
}

/// Warns of directories whose files are near the limit for all files of one directory.
fn together(sizes: &[(&Path, usize)], warnings: &mut Vec<Warning>) {
    let mut sums: BTreeMap<&Path, (usize, usize)> = BTreeMap::new();
    for (path, size) in sizes {
        let (count, sum) = sums.entry(path.parent().unwrap_or(path)).or_default();
        (*count, *sum) = (*count + 1, sum.saturating_add(*size));
    }
    for (dir, (_, sum)) in sums.into_iter().filter(|(_, (count, _))| *count > 1) {
        let why = near_limit(LISTED_BYTES_LIMIT, sum)
            .map(|why| format!("the revocation lists in it together: {why}"));
        warnings.extend(why.map(|why| Warning::new(Layer::Crl, why).at(dir)));
    }
}

/// Returns an issuer's name in words.
pub(super) fn name(name: &[u8]) -> String {
    der::name(name).filter(|text| !text.is_empty()).unwrap_or_else(|| "a CA without a name".to_owned())
}

#[cfg(all(test, not(loom)))]
impl List {
    /// Makes a CRL with these serial numbers and without an issuer.
    pub(super) fn of_serials(serials: &[Vec<u8>]) -> Self {
        let parsed = Arc::new(Parsed::of_serials(serials));
        Self {
            path: PathBuf::new(),
            parsed,
            signer: Signer::Other(None),
            foreign: false,
            retired: false,
            released: Arc::default(),
        }
    }
}
