//! The CRLs of a generation: which of them are in force, and which faults reject a file set of
//! CRLs.
//!
//! Whether a client is revoked is decided in each handshake over all CRLs that are served
//! (`revocation`). Faults that are visible earlier are caught here. A CRL that another key than its
//! CA's signed would leave revoked certificates accepted. A CRL that a CA had and has no more would
//! leave the clients that it revoked accepted, and so would an empty set.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateRevocationListDer, TrustAnchor},
};

use super::{revocation_list::Parsed, signer::Signer};
use crate::{
    pki::{crl, der},
    report::{
        error::{Error, Layer, Warning},
        event::Timestamp,
    },
};

mod list;
pub(super) mod warnings;
pub(super) use list::{List, name};

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
    /// A served CRL does not fail 1, because a change of the client CAs may come from another
    /// publisher. It fails 3 where the valid one beside it went.
    pub(super) fn read<'a>(
        files: impl IntoIterator<Item = (&'a Path, &'a [u8])>,
        validator: &CrlValidator<'_>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self, Error> {
        let mut lists = Self::default();
        for (path, file) in files {
            for parsed in validator.parse(file).map_err(|error| error.at(path))? {
                // 1.
                let same = lists.0.iter().find(|other| other.parsed.der == parsed.der);
                let list = validator.admit(path, same.map_or(parsed, |same| Arc::clone(&same.parsed)));
                // A CRL in the files of several file sets belongs to each of them.
                if !lists.0.iter().any(|other| other.path == path && other.is_same_file(&list)) {
                    lists.0.push(list);
                }
            }
            validator.large(path, file.len(), warnings);
        }
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
    /// A newer CRL that is dated in the future releases nothing, until CRLs are read again. A release
    /// that began in between would be a change of trust without a reload.
    ///
    /// Nothing is released where the key is known only to the clients that send it: anybody could
    /// have made the newer CRL.
    fn release(&mut self, validator: &CrlValidator<'_>, warnings: &mut Vec<Warning>) {
        let counts = |list: &List| {
            list.parsed.this_update <= validator.wall
                && (validator.policy.ignore_expiration || !list.is_expired(validator.wall))
        };
        for i in 0..self.0.len() {
            let older = &self.0[i];
            let is_newer = |list: &&List| list.is_about(older) && list.parsed.is_newer_than(&older.parsed);
            let newer = self.0.iter().filter(is_newer);
            let newest = newer.clone().max_by_key(|list| (list.parsed.this_update, list.parsed.magnitude()));
            let Some(newest) = newest.filter(|_| older.signer.key().is_some()) else { continue };
            let why = format!(
                "a newer CRL of {} for the same certificates lies in {}: this one still rejects \
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

    /// Parses the CRLs of a file.
    fn parse(&self, file: &[u8]) -> Result<Vec<Arc<Parsed>>, Error> {
        // A served CRL is indexed already, and knows which of the keys asked for signed it.
        if let Some(served) = self.served_as(file) {
            return Ok(vec![served]);
        }
        let lists = crl::parse(file)?;
        let count = lists.len();
        let parsed = lists.into_iter().enumerate().map(|(i, der)| match self.served_as(&der) {
            Some(served) => Ok(served),
            None => Parsed::new(der).map(Arc::new).map_err(|why| crl::refused(file, i, count, &why)),
        });
        parsed.collect()
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
                "the CRL of {} is not signed by the CA of that name, or in a way that the crypto provider \
                 does not know",
                list.issuer()
            );
            return Err(Error::new(Layer::Crl, why).at(&list.path));
        }
        // The warning about CAs without a CRL says what happens to their clients.
        let why = format!("the CRL of {} is not signed by any CA of that name", list.issuer());
        warnings.push(Warning::new(Layer::Crl, why).at(&list.path));
        Ok(())
    }

    /// Returns the CAs with this canonical name.
    pub(super) fn anchors(&self, canonical: &[u8]) -> impl Iterator<Item = &TrustAnchor<'static>> {
        self.roots.roots.iter().filter(move |anchor| der::canonical_name(&anchor.subject) == canonical)
    }

    /// Applies the rule about dates: an expired CRL does not replace a valid one, as with a leaf. Nor
    /// does one that was served beside it.
    fn expired(&self, list: &List, lists: &Lists, warnings: &mut Vec<Warning>) -> Result<(), Error> {
        let valid = |lists: &Lists, about: &dyn Fn(&List) -> bool| {
            lists.of(&list.parsed.canonical).any(|other| about(other) && !other.is_expired(self.wall))
        };
        let same = |other: &List| other.is_about(list);
        // Beside a valid CRL for the same certificates it only revokes more.
        if !list.is_expired(self.wall) || valid(lists, &same) {
            return Ok(());
        }
        let why =
            format!("the CRL of {} has expired at {}", list.issuer(), Timestamp(list.parsed.next_update));
        if let Some(served) = self.served {
            let was_served = served.has(list);
            // The CRLs of an authority may go with the CA above it, and an expired one may stay.
            let may_stay = was_served && list.signer.key().is_none() && (list.retired || self.lost_a_ca());
            let expired = was_served
                || served
                    .of(&list.parsed.canonical)
                    .any(|served| served.signer.is_same(&list.signer) && served.is_expired(self.wall));
            if !may_stay && valid(served, &same) || !expired {
                let left =
                    if was_served { ", and the valid one for the same certificates is gone" } else { "" };
                return Err(Error::new(Layer::Crl, why + left).at(&list.path));
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

    /// Returns what happens to the clients of a CA without a CRL in force.
    fn effect_of_no_list(&self) -> &'static str {
        // Above an intermediate, the CA issued only certificates that are not checked then.
        match self.policy.end_entity_only {
            false => "no client of it is let in",
            true => "each client whose certificate it issued itself is rejected",
        }
    }
}
