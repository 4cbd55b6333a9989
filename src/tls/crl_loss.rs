//! Revocation lists that go: what they revoked would be forgotten.

use super::{
    crl::{Court, List, Lists},
    signer::Signer,
};
use crate::{
    der,
    error::{Error, Layer},
};

impl Court<'_> {
    /// Refuses a set of lists in which an authority that had lists has none.
    ///
    /// The list of an intermediate or of a former key may go, with a warning, where clients of unknown status are refused.
    /// Elsewhere it may go with a CA of the bundle, and once it has expired.
    pub(super) fn lost(&self, lists: &Lists, warnings: &mut Vec<Error>) -> Result<(), Error> {
        for served in self.served.into_iter().flat_map(Lists::all) {
            let named = lists.of(&served.parsed.canonical);
            let mut left = named.clone().filter(|list| list.signer.is_same(&served.signer)).peekable();
            if left.peek().is_none() {
                let why = format!("there is no revocation list of {} any more", served.issuer());
                let gone = |why: String| Error::new(Layer::Crl, why).at(served.path());
                if served.signer.key().is_some() {
                    return Err(gone(why));
                }
                // Where unknown status is refused, its clients are refused without it: nothing is let in. A refusal of the
                // set would keep all other lists from being renewed.
                let is_over = !self.policy.ignore_expiration && served.is_expired(self.wall);
                if self.policy.allow_unknown && !is_over && !served.retired && !self.lost_a_ca() {
                    let how = if self.policy.ignore_expiration {
                        "only a restart goes on without it"
                    } else {
                        "remove it once it has expired"
                    };
                    return Err(gone(format!("{why}, of the key that signed this one: {how}")));
                }
                // A CA whose key was replaced has lists of its new one.
                let is_replaced = served.retired && named.clone().next().is_some();
                warnings.extend((!is_replaced).then(|| gone(why)));
            } else if !left.any(|list| list.parsed.scope == served.parsed.scope) {
                let why = format!(
                    "a revocation list of {} is gone, and there is no other for the same certificates: who was named by \
                     it alone is revoked no more, and the status of who was covered by it alone is unknown",
                    served.issuer()
                );
                warnings.push(Error::new(Layer::Crl, why).at(served.path()));
            }
        }
        Ok(())
    }

    /// Refuses the change of a set that loses a list, while neither the set has another of that authority nor any other set
    /// one that is as new. Lists of one authority may come from several publishers.
    ///
    /// A list for other certificates stands in for the one that was lost only where no older one would come to count.
    pub(super) fn kept(&self, lists: &Lists) -> Result<(), Error> {
        let [old, new] = self.of_set;
        let was_of_set = |list: &&List| old.contains(&list.path());
        for lost in self.served.into_iter().flat_map(Lists::all).filter(was_of_set) {
            let same = lists.of(&lost.parsed.canonical).filter(|list| list.signer.is_same(&lost.signer));
            let is_own = |list: &&List| new.contains(&list.path());
            // A list that no set has any more was judged before.
            let mut own = same.clone().filter(is_own).peekable();
            let is_excused = own.peek().is_some() || same.clone().next().is_none();
            if lost.retired || own.any(|list| list.is_about(lost)) {
                continue;
            }
            let mut about = same.filter(|list| list.is_about(lost)).peekable();
            if is_excused && about.peek().is_none() || about.any(|other| other.is_as_new_as(lost)) {
                continue;
            }
            let why = format!(
                "there is no revocation list of {} here any more, and no other publisher's is as new",
                lost.issuer()
            );
            return Err(Error::new(Layer::Crl, why).at(lost.path()));
        }
        Ok(())
    }

    /// Whether a CA of the bundle went: what it issued may go with it.
    fn lost_a_ca(&self) -> bool {
        let Some(served) = self.served_roots else { return false };
        let goes = |subject: &[u8], key: &[u8]| !self.trusts(&der::canonical_name(subject), key);
        served.roots.iter().any(|anchor| goes(&anchor.subject, &anchor.subject_public_key_info))
    }

    /// Whether the bundle has a CA of this name, in the form that compares, and this key.
    pub(super) fn trusts(&self, canonical: &[u8], key: &[u8]) -> bool {
        self.anchors(canonical).any(|anchor| *anchor.subject_public_key_info == *key)
    }

    /// Whether a CA that has left the bundle signed this list.
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
