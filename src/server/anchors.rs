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

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

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

    /// Returns whether both have the same name and key.
    fn is_same_ca(&self, other: &Self) -> bool {
        (&self.subject, &self.key) == (&other.subject, &other.key)
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
    let mut roots = RootCertStore::empty();
    for (i, certificate) in all.iter().enumerate() {
        roots.add(certificate.clone()).map_err(|error| {
            refused(format!("CA {} of {} cannot be a trust anchor: {error}", i + 1, all.len()))
        })?;
    }
    let candidates = roots.roots.into_iter().zip(all.into_iter().map(Some)).collect();
    let Usable { anchors, reported } = usable(peers, provider, "the bundle", candidates).map_err(refused)?;
    warnings.extend(reported.into_iter().map(|why| Warning::new(peers.layer(), why).at(path)));
    let (roots, taken): (Vec<_>, Vec<_>) = anchors.into_iter().unzip();
    let roots = RootCertStore { roots };
    // A server names its client CAs; rustls would encode names that are too long, with a wrong
    // length.
    let names: usize = roots.subjects().iter().map(|name| name.as_ref().len() + 2).sum();
    if peers == Peers::Clients && names > NAMES_LIMIT {
        return Err(refused(format!(
            "the names of the CAs take {names} bytes; a handshake has room for {NAMES_LIMIT}"
        )));
    }
    Ok((roots, taken.into_iter().flatten().collect()))
}

/// Returns the anchors of a store that can verify such peers. `origin` names the store in messages.
///
/// The store has no certificates, so nothing shows whether an anchor may issue the peers'.
///
/// # Errors
/// The peers' [layer](Peers::layer) for a store whose anchors are all unusable.
pub(crate) fn of_store(
    peers: Peers,
    provider: &CryptoProvider,
    origin: &str,
    store: &RootCertStore,
    warnings: &mut Vec<Warning>,
) -> Result<RootCertStore, Error> {
    let candidates: Vec<_> = store.roots.iter().cloned().map(|anchor| (anchor, None)).collect();
    if candidates.is_empty() {
        return Ok(RootCertStore::empty());
    }
    let Usable { anchors, reported } =
        usable(peers, provider, origin, candidates).map_err(|why| Error::new(peers.layer(), why))?;
    warnings.extend(reported.into_iter().map(|why| Warning::new(peers.layer(), format!("{origin}: {why}"))));
    Ok(RootCertStore { roots: anchors.into_iter().map(|(anchor, _)| anchor).collect() })
}

/// An anchor with its certificate, where that is known.
type Candidate = (TrustAnchor<'static>, Option<CertificateDer<'static>>);

/// The candidates that can verify a peer, and the warnings about all candidates.
struct Usable {
    anchors: Vec<Candidate>,
    reported: Vec<String>,
}

/// Leaves out the candidates that can verify no peer. `origin` names their source.
///
/// # Errors
/// Returns the reasons where none is left.
fn usable(
    peers: Peers,
    provider: &CryptoProvider,
    origin: &str,
    candidates: Vec<Candidate>,
) -> Result<Usable, String> {
    let count = candidates.len();
    let (mut anchors, mut limited, mut ignored) = (Vec::new(), Vec::new(), Vec::new());
    for (i, (anchor, certificate)) in candidates.into_iter().enumerate() {
        let named = format!("CA {} of {count} ({})", i + 1, subject(&anchor.subject));
        match evaluate(peers, provider, certificate.as_ref(), &anchor) {
            Ok(limits) => {
                limited.push((named, limits, Anchor::of(&anchor)));
                anchors.push((anchor, certificate));
            }
            Err(why) => ignored.push((named, why, Anchor::of(&anchor))),
        }
    }
    if anchors.is_empty() {
        let (given, further) = ignored.split_at(ignored.len().min(REASONS));
        let given: Vec<_> = given.iter().map(|(named, why, _)| format!("{named}: {why}")).collect();
        let more = if further.is_empty() { String::new() } else { format!("; and {} more", further.len()) };
        return Err(format!("{}: {}{more}", peers.none_usable(origin), given.join("; ")));
    }
    // Another certificate of the same CA may accept the peers that this one does not.
    let used: BTreeSet<_> = limited.iter().map(|(_, _, anchor)| anchor.clone()).collect();
    let is_used = |of: &Anchor, same_constraints: bool| {
        let mut same = used.range(of.unconstrained()..).take_while(|other| other.is_same_ca(of));
        same.any(|other| same_constraints || other != of)
    };
    let mut reported = Vec::new();
    for (named, Limits { constraints, extensions }, anchor) in &limited {
        if !constraints.is_empty() {
            let why = peers.limited(&constraints.join(" and "), is_used(anchor, false));
            reported.push(format!("{named} {why}"));
        }
        reported.extend(extensions.iter().map(|id| format!("{named} {}", peers.extension(id))));
    }
    reported.extend(
        ignored
            .into_iter()
            .map(|(named, why, anchor)| format!("{named} {}: {why}", peers.ignored(is_used(&anchor, true)))),
    );
    Ok(Usable { anchors, reported })
}

/// Returns the critical extensions for which webpki rejects a leaf, in words.
pub(crate) fn unknown_in_leaf(certificate: &[u8]) -> String {
    Extensions::of(certificate).map_or_else(String::new, |extensions| extensions.unknown_in_leaf())
}

/// Warns of each name that more anchors share than rustls reliably tries.
///
/// `served` has all anchors that verify one peer, by the file or the other origin of each store:
/// rustls sees no boundary between them.
pub(crate) fn crowded(peers: Peers, served: &[(Origin<'_>, &RootCertStore)]) -> Vec<Warning> {
    let mut names = BTreeMap::<&[u8], Vec<Origin<'_>>>::new();
    for (origin, store) in served {
        for anchor in &store.roots {
            names.entry(&anchor.subject).or_default().push(*origin);
        }
    }
    let warning = |(name, mut origins): (&[u8], Vec<Origin<'_>>)| {
        let count = origins.len();
        origins.dedup();
        let have = match &origins[..] {
            [Origin::Bundle(_)] => "the bundle has".to_owned(),
            [Origin::Store(name)] => format!("{name} has"),
            all => all.iter().map(Origin::to_string).collect::<Vec<_>>().join(" and ") + " together have",
        };
        let why = peers.crowded(&have, count, &subject(name), SAME_NAME_LIMIT);
        let warning = Warning::new(peers.layer(), why);
        match origins.first() {
            Some(Origin::Bundle(path)) => warning.at(path),
            _ => warning,
        }
    };
    names.into_iter().filter(|(_, origins)| origins.len() > SAME_NAME_LIMIT).map(warning).collect()
}

/// The source of a store of anchors.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin<'a> {
    /// The file of a bundle.
    Bundle(&'a Path),
    /// A value, with its name in messages.
    Store(&'static str),
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundle(path) => path.display().fmt(f),
            Self::Store(name) => f.write_str(name),
        }
    }
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

/// The parts of a usable CA that limit it, or seem to.
struct Limits {
    /// Kinds of name constraints that rustls cannot apply.
    constraints: Vec<&'static str>,
    /// Critical extensions that rustls ignores.
    extensions: Vec<String>,
}

/// Returns the limits of a CA that can verify such peers, or the reason why it can verify none.
/// Without a certificate, only its key and its name constraints are evaluated.
fn evaluate(
    peers: Peers,
    provider: &CryptoProvider,
    certificate: Option<&CertificateDer<'_>>,
    anchor: &TrustAnchor<'_>,
) -> Result<Limits, String> {
    let extensions = certificate
        .map(|certificate| Extensions::of(certificate).ok_or("the certificate is malformed"))
        .transpose()?;
    if let Some((extensions, certificate)) = extensions.as_ref().zip(certificate) {
        extensions.may_issue(peers, certificate)?;
    }
    key::verifies(provider, &anchor.subject_public_key_info)?;
    let names = anchor.name_constraints.as_ref();
    let constraints = names.map(|names| constraints::unsupported(peers, names)).transpose()?;
    let ignored = extensions.iter().flat_map(Extensions::ignored);
    Ok(Limits { constraints: constraints.unwrap_or_default(), extensions: ignored.map(dotted).collect() })
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)] // reason: a test
mod tests {
    use std::time::{Duration, SystemTime};

    use rustls_reload_testkit::Authority;

    use super::*;

    /// Checks: INV-05.
    #[test]
    fn inv05_cut_bundle_is_distinguished_from_one_of_a_renewed_ca() {
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
