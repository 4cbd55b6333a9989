//! The CAs of a bundle: which of them rustls can verify a peer by, and which may issue the
//! certificates of such a peer. The peers of a server are clients, and the peers of a client are
//! servers.
//!
//! rustls keeps the name, the public key and the name constraints of a trust anchor and ignores the
//! rest of its certificate. A certificate that is not a CA would therefore issue peers. A CA whose
//! key no algorithm verifies, or whose constraints rustls does not implement, would lock all of its
//! peers out. Both kinds are ignored here, with a warning that names them. A bundle of
//! which no certificate is left is rejected.

mod constraints;
mod extensions;
mod key;
mod peers;

use std::{collections::BTreeMap, path::Path};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, TrustAnchor},
};

use self::extensions::{Extensions, dotted};
pub(crate) use self::peers::Peers;
use crate::{
    pki::pem,
    report::error::{Error, Warning},
};

/// Bytes of client CA names, each with its two-byte length. The server names all CAs to the client
/// in one handshake message, which has room for 64 KiB including the other fields. Debian's whole
/// bundle has 15 KiB.
const NAMES_LIMIT: usize = 65_535 - 1_024;
/// Characters of a subject in a message. The issuer of a CA chooses how long the subject is.
const SUBJECT_LIMIT: usize = 160;
/// Reasons given where no CA of a bundle can be used. A bundle may hold thousands.
const REASONS: usize = 8;

/// CAs with one name and different keys that rustls tries in full for each client. rustls-webpki
/// gives up after 100 signatures, and a client with the six intermediates that it allows needs
/// seven.
const SAME_NAME_LIMIT: usize = 90;

const BIT_STRING: u8 = 0x03;

/// The part of a CA that rustls verifies peers by. Two certificates with the same anchor verify the
/// same peers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Anchor {
    subject: Vec<u8>,
    key: Vec<u8>,
    constraints: Option<Vec<u8>>,
}

impl Anchor {
    pub(crate) fn of(anchor: &TrustAnchor<'_>) -> Self {
        Self {
            subject: anchor.subject.to_vec(),
            key: anchor.subject_public_key_info.to_vec(),
            constraints: anchor.name_constraints.as_ref().map(|der| der.to_vec()),
        }
    }

    /// Returns the anchor with the same name and key and no constraints, which accepts every peer
    /// that this one does.
    pub(crate) fn unconstrained(&self) -> Self {
        Self { constraints: None, ..self.clone() }
    }
}

/// Returns the anchors and certificates of a bundle that can verify such peers, in the order of the
/// bundle.
///
/// # Errors
/// The peers' [layer](Peers::layer) for a malformed certificate, for names that do not fit into a
/// handshake message, and for a bundle without a usable CA.
pub(crate) fn read(
    peers: Peers,
    provider: &CryptoProvider,
    path: &Path,
    bundle: &[u8],
    warnings: &mut Vec<Warning>,
) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), Error> {
    let all = pem::ca_bundle(bundle).map_err(|error| error.at(path))?;
    let refused = |why: String| Error::new(peers.layer(), why).at(path);
    let warning = |why: String| Warning::new(peers.layer(), why).at(path);
    let (mut roots, mut taken, mut ignored) = (RootCertStore::empty(), Vec::new(), Vec::new());
    for (i, certificate) in all.iter().enumerate() {
        roots.add(certificate.clone()).map_err(|error| {
            refused(format!("CA {} of {} cannot be a trust anchor: {error}", i + 1, all.len()))
        })?;
        let Some(anchor) = roots.roots.last() else { continue };
        let named = format!("CA {} of {} ({})", i + 1, all.len(), subject(&anchor.subject));
        match evaluate(peers, provider, certificate, anchor) {
            Ok(limits) => {
                taken.push(certificate.clone());
                warnings.extend(limits.into_iter().map(|limit| warning(format!("{named} {limit}"))));
            }
            Err(why) => {
                roots.roots.pop();
                ignored.push((named, why));
            }
        }
    }
    if taken.is_empty() {
        let (given, further) = ignored.split_at(ignored.len().min(REASONS));
        let given: Vec<_> = given.iter().map(|(named, why)| format!("{named}: {why}")).collect();
        let more = if further.is_empty() { String::new() } else { format!("; and {} more", further.len()) };
        return Err(refused(format!("{}: {}{more}", peers.none_usable(), given.join("; "))));
    }
    warnings.extend(
        ignored.into_iter().map(|(named, why)| warning(format!("{named} {}: {why}", peers.ignored()))),
    );
    warnings.extend(crowded(peers, &roots).map(warning));
    // A server names its client CAs; rustls would encode names that are too long, with a wrong
    // length.
    let names: usize = roots.subjects().iter().map(|name| name.as_ref().len() + 2).sum();
    if peers == Peers::Clients && names > NAMES_LIMIT {
        return Err(refused(format!(
            "the names of the CAs take {names} bytes; a handshake has room for {NAMES_LIMIT}"
        )));
    }
    Ok((roots, taken))
}

/// Warns of each name that more CAs share than rustls reliably tries.
fn crowded(peers: Peers, roots: &RootCertStore) -> impl Iterator<Item = String> {
    let mut counts = BTreeMap::<&[u8], usize>::new();
    for anchor in &roots.roots {
        *counts.entry(&anchor.subject).or_default() += 1;
    }
    counts
        .into_iter()
        .filter(|(_, count)| *count > SAME_NAME_LIMIT)
        .map(move |(name, count)| peers.crowded(count, &subject(name), SAME_NAME_LIMIT))
}

/// Returns whether the new bundle may be a truncated copy of the old one: it has fewer anchors, and
/// they are the first ones of the old bundle.
///
/// The comparison is by anchors, not by bytes. A CA that was renewed in place does not hide that
/// the CAs after it are missing. A renewed certificate whose predecessor was removed loses no
/// anchor.
pub(crate) fn lost_its_end(old: &[CertificateDer<'static>], new: &[CertificateDer<'static>]) -> bool {
    let anchors = |certificates: &[CertificateDer<'static>]| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        let mut seen = Vec::new();
        for anchor in roots.roots.iter().map(Anchor::of) {
            if !seen.contains(&anchor) {
                seen.push(anchor);
            }
        }
        seen
    };
    let (old, new) = (anchors(old), anchors(new));
    new.len() < old.len() && old.starts_with(&new)
}

/// Returns the subject of a CA for messages: one line of limited length.
pub(crate) fn subject(name: &[u8]) -> String {
    let name = super::crl::name(name);
    match name.char_indices().nth(SUBJECT_LIMIT) {
        Some((at, _)) => format!("{}...", &name[..at]),
        None => name,
    }
}

/// Returns whether the extended key usage of a leaf, if it has one, allows it for such peers.
/// `anyExtendedKeyUsage` does so for neither rustls nor OpenSSL.
pub(crate) fn is_for(peers: Peers, leaf: &CertificateDer<'_>) -> bool {
    Extensions::of(leaf).is_none_or(|extensions| extensions.allows(peers, false))
}

/// Returns warnings about a CA that can verify such peers, or the reason why it can verify none.
fn evaluate(
    peers: Peers,
    provider: &CryptoProvider,
    certificate: &CertificateDer<'_>,
    anchor: &TrustAnchor<'_>,
) -> Result<Vec<String>, String> {
    let extensions = Extensions::of(certificate).ok_or("the certificate is malformed")?;
    extensions.may_issue(peers, certificate)?;
    key::verifies(provider, &anchor.subject_public_key_info)?;
    let mut limits = Vec::new();
    if let Some(names) = anchor.name_constraints.as_ref() {
        let kinds = constraints::unsupported(peers, names)?;
        if !kinds.is_empty() {
            limits.push(peers.limited(&kinds.join(" and ")));
        }
    }
    limits.extend(extensions.ignored().map(|id| peers.extension(&dotted(id))));
    Ok(limits)
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)] // reason: a test
mod tests {
    use std::time::{Duration, SystemTime};

    use rustls_reload_testkit::Authority;

    use super::*;

    /// Checks: INV-05.
    #[test]
    fn inv05_a_bundle_cut_off_is_told_from_one_whose_ca_was_renewed() {
        let [a, b] = ["A", "B"].map(Authority::root);
        let now = SystemTime::now();
        let day = Duration::from_secs(86_400);
        let renewed = a.twin("A", (now - day, now + 99 * day));
        let renamed = a.twin("other A", (now - day, now + 99 * day));
        let bundle = |parts: &[&String]| {
            pem::ca_bundle(parts.iter().map(|part| part.as_str()).collect::<String>().as_bytes()).unwrap()
        };
        let (a, b) = (&a.pem, &b.pem);
        for (old, new, is_cut) in [
            (&[a, b][..], &[a][..], true),
            (&[a, b], &[&renewed], true),
            (&[a, &renewed, b], &[a], true),
            (&[a, b], &[b], false),
            (&[a, b], &[&renamed], false),
            (&[a, b], &[&renewed, b], false),
            // The CA is still there by another certificate, so no anchor is lost.
            (&[a, &renewed], &[&renewed], false),
            (&[a, &renewed], &[a], false),
            (&[a], &[a, b], false),
        ] {
            assert_eq!(lost_its_end(&bundle(old), &bundle(new)), is_cut, "{} to {}", old.len(), new.len());
        }
    }
}
