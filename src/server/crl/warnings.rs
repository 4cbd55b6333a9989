//! Warnings about CRLs that pass.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use hmac_sha256::Hash;
use rustls::pki_types::TrustAnchor;

use super::{CrlValidator, Lists, name};
use crate::{
    pki::der,
    read::snapshot::{FILE_LIMIT, LIST_FILE_LIMIT, LISTED_BYTES_LIMIT, near_limit},
    report::{
        error::{Layer, Warning},
        event::{Fingerprint, Timestamp},
    },
    server::{
        revocation_list::{DIRECTORY_NAME, Scope},
        signer::Signer,
    },
};

impl CrlValidator<'_> {
    /// Warns of a file near its limit and, at the first load, of one that is near or above the
    /// limit of other files.
    pub(super) fn large(&self, path: &Path, length: usize, warnings: &mut Vec<Warning>) {
        let large = || {
            let why = format!(
                "{length} bytes are a large file of CRLs: while a reload changes it, it is in memory several \
                 times"
            );
            (self.served.is_none() && near_limit(FILE_LIMIT, length).is_some()).then_some(why)
        };
        let why = near_limit(LIST_FILE_LIMIT, length).or_else(large);
        warnings.extend(why.map(|why| Warning::new(Layer::Crl, why).at(path)));
    }

    /// Warns of CRLs older than the served ones. A publisher may roll back to an earlier update as
    /// a whole, so they are not rejected. Clients that were revoked in between are accepted again.
    pub(super) fn rolled_back(&self, lists: &Lists, warnings: &mut Vec<Warning>) {
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
                    "the CRL of {} is older than the one before it: issued {} after {}, number {} after {}",
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

    /// Warns of CAs without a CRL, and of CAs whose CRLs cover only some of the clients.
    pub(super) fn missing_lists(&self, lists: &Lists, warnings: &mut Vec<Warning>) {
        if self.policy.allow_unknown || lists.0.is_empty() {
            return;
        }
        let mut seen: Vec<(&[u8], &[u8])> = Vec::new();
        for anchor in &self.roots.roots {
            let (subject, key) = (&*anchor.subject, &*anchor.subject_public_key_info);
            let canonical = der::canonical_name(subject);
            if seen.contains(&(subject, key)) {
                continue;
            }
            seen.push((subject, key));
            let own: Vec<_> = lists
                .of(&canonical)
                .filter(|list| list.signer.key() == Some(key))
                .map(|list| &list.parsed.scope)
                .collect();
            if !own.is_empty() {
                let gap = partial(&own, &canonical, lists);
                let warning = |(scope, effect)| {
                    let why = format!("the CRLs of {} cover only {scope}: {effect}", with_key(anchor));
                    Warning::new(Layer::Crl, why)
                };
                warnings.extend(gap.map(warning));
                continue;
            }
            // A warning that was reported already is not repeated: the key tells this CA from
            // another one of its name, which may have been there before, or be beside it.
            let why = format!("there is no CRL of {}: {}", with_key(anchor), self.effect_of_no_list());
            warnings.push(Warning::new(Layer::Crl, why));
        }
    }

    /// Warns of CRLs whose issuer name is a CA's name in another encoding.
    pub(super) fn misspelled_issuers(&self, lists: &Lists, warnings: &mut Vec<Warning>) {
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
                "the issuer of the CRL and the subject of the client CA {} differ in their encoding only \
                 ({here} here, {there} there; or in case, or in spaces): {counts}. Where names are compared byte for byte, as \
                 rustls does for certificates, they are two names: have the list issued under the name that stands in the \
                 CA's certificate",
                name(subject)
            );
            warnings.push(Warning::new(Layer::Crl, why).at(&list.path));
        }
    }
}

/// Returns the scope that the CRLs of one CA have together and its effect, if they leave out clients
/// of that CA. `canonical` is the CA's name.
///
/// A CA that issues only intermediates needs no CRL for clients. The CRL of an intermediate shows
/// such a CA.
fn partial(scopes: &[&Scope], canonical: &[u8], lists: &Lists) -> Option<(Scope, &'static str)> {
    let mut of_clients = scopes.iter().filter(|scope| !scope.authorities).peekable();
    if of_clients.peek().is_none() {
        let of_intermediate = lists.0.iter().any(|list| list.signer.key().is_none() && !list.foreign);
        let effect = "each client whose certificate it issued itself is rejected";
        return (!of_intermediate).then(|| (Scope { authorities: true, ..Scope::default() }, effect));
    }
    let mut points = BTreeSet::new();
    for scope in of_clients {
        let names = scope.names.as_ref()?;
        // The name of the issuer stands for each of its certificates.
        if names.iter().any(|(tag, name)| *tag == DIRECTORY_NAME && name == canonical) {
            return None;
        }
        points.extend(names.iter().cloned());
    }
    let effect = "each client whose certificate it issued itself and that names no such point is rejected";
    Some((Scope { names: Some(points.into_iter().collect()), ..Scope::default() }, effect))
}

/// Returns the subject of a CA with its public key, which tells it from others of its name.
pub(in crate::server) fn with_key(anchor: &TrustAnchor<'_>) -> String {
    let key = Fingerprint(Hash::hash(&webpki::spki_for_anchor(anchor)));
    format!("{} with the public key {key}", name(&anchor.subject))
}

/// Warns of directories whose files are near the limit for all files of one directory.
pub(in crate::server) fn full_directories<'a>(
    files: impl Iterator<Item = (&'a Path, &'a [u8])>,
    warnings: &mut Vec<Warning>,
) {
    let mut sums: BTreeMap<&Path, (usize, usize)> = BTreeMap::new();
    // A directory may be given twice.
    for (path, file) in files.collect::<BTreeMap<_, _>>() {
        let (count, sum) = sums.entry(path.parent().unwrap_or(path)).or_default();
        (*count, *sum) = (*count + 1, sum.saturating_add(file.len()));
    }
    for (dir, (_, sum)) in sums.into_iter().filter(|(_, (count, _))| *count > 1) {
        let why = near_limit(LISTED_BYTES_LIMIT, sum).map(|why| format!("the CRLs in it together: {why}"));
        warnings.extend(why.map(|why| Warning::new(Layer::Crl, why).at(dir)));
    }
}
