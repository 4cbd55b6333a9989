//! CRLs that are removed, with which their revocations would be forgotten.

use super::{
    crl::{CrlValidator, List, Lists},
    signer::Signer,
};
use crate::{
    pki::der,
    report::error::{Error, Layer, Warning},
};

impl CrlValidator<'_> {
    /// Rejects CRLs among which an authority that had a CRL has none.
    ///
    /// The CRL of an intermediate or of a former key may be removed, with a warning, where clients
    /// of unknown status are rejected. Elsewhere it may be removed with a CA of the bundle, and
    /// once it has expired. So may any CRL whose authority has CRLs for other certificates left.
    pub(super) fn lost(&self, lists: &Lists, warnings: &mut Vec<Warning>) -> Result<(), Error> {
        for served in self.served.into_iter().flat_map(Lists::all) {
            let named = lists.of(&served.parsed.canonical);
            let left: Vec<_> = named.clone().filter(|list| list.signer.is_same(&served.signer)).collect();
            let scope = &served.parsed.scope;
            if left.iter().any(|list| list.parsed.scope == *scope) {
                continue;
            }
            let gone = |why: String| Error::new(Layer::Crl, why).at(served.path());
            let none = format!("there is no CRL of {} any more", served.issuer());
            if left.is_empty() && served.signer.key().is_some() {
                return Err(gone(none));
            }
            // Where unknown status is rejected, the clients of a CRL are rejected without it, so its
            // removal is safe. An error here would keep all other CRLs from being renewed.
            let is_over = !self.policy.ignore_expiration && served.is_expired(self.wall);
            let scopes: Vec<_> = left.iter().map(|list| &list.parsed.scope).collect();
            let authorities = !self.policy.end_entity_only;
            let is_covered = scope.is_covered_by(&scopes, &served.parsed.canonical, authorities);
            let accepts = self.policy.allow_unknown && !is_covered;
            // A CA that goes takes the CRLs of its intermediates with it, and none of another CA.
            let may_go = served.signer.key().is_none() && self.lost_a_ca();
            if accepts && !is_over && !served.retired && !may_go {
                let which = if left.is_empty() {
                    format!("{none}, of the key that signed this one")
                } else {
                    format!("no CRL of {} covers the certificates of this one any more", served.issuer())
                };
                let how = if self.policy.ignore_expiration {
                    "only a restart accepts its removal"
                } else {
                    "remove it once it has expired"
                };
                return Err(gone(format!("{which}: {how}")));
            }
            if left.is_empty() {
                // A CA whose key was replaced has CRLs of its new key.
                let is_replaced = served.retired && named.clone().next().is_some();
                warnings.extend((!is_replaced).then(|| gone(none).into()));
            } else {
                let why = format!(
                    "a CRL of {} is gone, and no other covers the same certificates: a \
                     certificate that only it named is no longer revoked, and the status of one that only \
                     it covered is unknown",
                    served.issuer()
                );
                warnings.push(Warning::new(Layer::Crl, why).at(served.path()));
            }
        }
        Ok(())
    }

    /// Rejects the change of a file set that loses a CRL, unless the set has another CRL of that
    /// authority or another set has one as new. CRLs of one authority may come from several
    /// publishers.
    ///
    /// A CRL for other certificates replaces the lost one only where that leaves no older CRL in
    /// force.
    pub(super) fn kept(&self, lists: &Lists) -> Result<(), Error> {
        let [old, new] = self.of_set;
        let was_of_set = |list: &&List| old.contains(&list.path());
        for lost in self.served.into_iter().flat_map(Lists::all).filter(was_of_set) {
            let same = lists.of(&lost.parsed.canonical).filter(|list| list.signer.is_same(&lost.signer));
            let is_own = |list: &&List| new.contains(&list.path());
            // A CRL that no file set has any more is subject to the rule for authorities.
            let mut own = same.clone().filter(is_own).peekable();
            let is_excused = own.peek().is_some() || same.clone().next().is_none();
            if lost.retired || own.any(|list| list.is_about(lost)) {
                continue;
            }
            let mut about = same.filter(|list| list.is_about(lost)).peekable();
            if is_excused && about.peek().is_none() || about.any(|other| other.is_as_new_as(lost)) {
                continue;
            }
            let which = if is_excused { "for the same certificates here" } else { "here" };
            let why = format!(
                "there is no CRL of {} {which} any more, and no other publisher's is as new",
                lost.issuer()
            );
            return Err(Error::new(Layer::Crl, why).at(lost.path()));
        }
        Ok(())
    }

    /// Returns whether a CA of the bundle was removed: CRLs of its intermediates may be removed
    /// with it.
    pub(super) fn lost_a_ca(&self) -> bool {
        let Some(served) = self.served_roots else { return false };
        let goes = |subject: &[u8], key: &[u8]| !self.trusts(&der::canonical_name(subject), key);
        served.roots.iter().any(|anchor| goes(&anchor.subject, &anchor.subject_public_key_info))
    }

    /// Returns whether the bundle has a CA with this canonical name and this key.
    pub(super) fn trusts(&self, canonical: &[u8], key: &[u8]) -> bool {
        self.anchors(canonical).any(|anchor| *anchor.subject_public_key_info == *key)
    }

    /// Returns whether a CA that was removed from the bundle signed this CRL.
    pub(super) fn is_retired(&self, list: &List) -> bool {
        let identifier = |list: &List| list.parsed.key_identifier.clone();
        let is_like = |old: &&List| {
            old.is_same_file(list) || identifier(old).is_some() && identifier(old) == identifier(list)
        };
        let left = |old: &List| {
            let canonical = &old.parsed.canonical;
            old.retired || old.signer.key().is_some_and(|key| !self.trusts(canonical, key))
        };
        let before = self.served.into_iter().flat_map(|served| served.of(&list.parsed.canonical));
        matches!(list.signer, Signer::Other(_)) && before.filter(is_like).any(left)
    }
}
