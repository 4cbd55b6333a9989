//! The client CAs of a bundle: by which of them rustls can verify a client, and which may issue one.
//!
//! rustls keeps the name, the public key and the name constraints of a trust anchor, and looks at nothing else of its
//! certificate. A certificate that says that it is no CA's would therefore issue clients, and a CA whose key no algorithm
//! verifies, or whose constraints rustls does not implement, would lock all of its clients out. Both are left out here, with
//! a warning that names them. A bundle of which nothing is left is refused.

mod key;

use std::path::Path;

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, TrustAnchor},
};

use crate::{
    der::{self, BOOLEAN, OCTETS, OID, Reader, SEQUENCE},
    error::{Error, Layer},
    pem,
};

/// Bytes of client CAs' names, each with its length in two: a handshake names all CAs to the client, in a message that has
/// room for 64 KiB of them and of what is beside them. Debian's whole bundle has 15 KiB.
const NAMES_LIMIT: usize = 65_535 - 1_024;
/// Characters of a subject in a message; whoever issues a CA chooses how long it is.
const SUBJECT_LIMIT: usize = 160;
/// Reasons given where no CA of a bundle can be used; a bundle may hold thousands.
const REASONS: usize = 8;

const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const BIT_STRING: u8 = 0x03;
const KEY_USAGE: &[u8] = &[0x55, 29, 15];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 29, 19];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 29, 37];
const NETSCAPE_TYPE: &[u8] = &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 1, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
const ANY_PURPOSE: &[u8] = &[0x55, 29, 37, 0];
/// Extensions that are evaluated for a CA, here or by rustls, and those that constrain nothing: identifiers of keys,
/// alternative names, name constraints.
const EVALUATED: &[&[u8]] = &[
    KEY_USAGE,
    BASIC_CONSTRAINTS,
    EXTENDED_KEY_USAGE,
    NETSCAPE_TYPE,
    &[0x55, 29, 14],
    &[0x55, 29, 17],
    &[0x55, 29, 18],
    &[0x55, 29, 30],
    &[0x55, 29, 35],
];

/// What is trusted in a client CA. Two certificates with the same anchor let in the same clients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Anchor {
    subject: Vec<u8>,
    key: Vec<u8>,
    constraints: Option<Vec<u8>>,
}

impl Anchor {
    pub(super) fn of(anchor: &TrustAnchor<'_>) -> Self {
        Self {
            subject: anchor.subject.to_vec(),
            key: anchor.subject_public_key_info.to_vec(),
            constraints: anchor.name_constraints.as_ref().map(|der| der.to_vec()),
        }
    }

    /// The anchor of the same name and key that lets in every client that this one does.
    pub(super) fn unconstrained(&self) -> Self {
        Self { constraints: None, ..self.clone() }
    }
}

/// Returns the anchors and certificates of a bundle that can let a client in, in the order of the bundle.
///
/// # Errors
/// [`Layer::ClientCa`] for a certificate that is malformed, for names that a handshake has no room for, and where no
/// certificate of the bundle can let a client in.
pub(super) fn read(
    provider: &CryptoProvider,
    path: &Path,
    bundle: &[u8],
    warnings: &mut Vec<Error>,
) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), Error> {
    let all = pem::ca_bundle(bundle).map_err(|error| error.at(path))?;
    let refused = |why: String| Error::new(Layer::ClientCa, why).at(path);
    let (mut roots, mut taken, mut left_out) = (RootCertStore::empty(), Vec::new(), Vec::new());
    for (i, certificate) in all.iter().enumerate() {
        roots
            .add(certificate.clone())
            .map_err(|error| refused(format!("CA {} of {} is no trust anchor: {error}", i + 1, all.len())))?;
        let Some(anchor) = roots.roots.last() else { continue };
        let named = format!("CA {} of {} ({})", i + 1, all.len(), subject(&anchor.subject));
        match judge(provider, certificate, anchor) {
            Ok(limits) => {
                taken.push(certificate.clone());
                warnings.extend(limits.into_iter().map(|limit| refused(format!("{named} {limit}"))));
            }
            Err(why) => {
                roots.roots.pop();
                left_out.push((named, why));
            }
        }
    }
    if taken.is_empty() {
        let (given, further) = left_out.split_at(left_out.len().min(REASONS));
        let given: Vec<_> = given.iter().map(|(named, why)| format!("{named}: {why}")).collect();
        let more = if further.is_empty() { String::new() } else { format!("; and {} more", further.len()) };
        return Err(refused(format!("no CA of the bundle can let a client in: {}{more}", given.join("; "))));
    }
    warnings.extend(
        left_out
            .into_iter()
            .map(|(named, why)| refused(format!("{named} is left out, so no client is let in by it: {why}"))),
    );
    // rustls encodes what is too long all the same, with another length.
    let names: usize = roots.subjects().iter().map(|name| name.as_ref().len() + 2).sum();
    if names > NAMES_LIMIT {
        return Err(refused(format!(
            "the names of the CAs take {names} bytes; a handshake has room for {NAMES_LIMIT}"
        )));
    }
    Ok((roots, taken))
}

/// Whether the new bundle may be the old one cut off: it has fewer anchors, and those are the first ones of the old bundle.
///
/// Anchors are compared, not bytes: a CA that was renewed in place does not hide that those behind it are missing, and a
/// renewed certificate whose predecessor went has lost nothing.
pub(super) fn lost_its_end(old: &[CertificateDer<'static>], new: &[CertificateDer<'static>]) -> bool {
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

/// Returns the subject of a CA for messages: one line, of limited length.
pub(super) fn subject(name: &[u8]) -> String {
    let name = super::crl::name(name);
    match name.char_indices().nth(SUBJECT_LIMIT) {
        Some((at, _)) => format!("{}...", &name[..at]),
        None => name,
    }
}

/// Returns what an operator should know of a CA that can let clients in, or why it can let in none.
fn judge(
    provider: &CryptoProvider,
    certificate: &CertificateDer<'_>,
    anchor: &TrustAnchor<'_>,
) -> Result<Vec<String>, String> {
    let extensions = Extensions::of(certificate).ok_or("the certificate is malformed")?;
    extensions.may_issue_clients(certificate)?;
    key::verifies(provider, &anchor.subject_public_key_info)?;
    let mut limits = Vec::new();
    if let Some(names) = anchor.name_constraints.as_ref() {
        let kinds = unsupported_constraints(names)?;
        if !kinds.is_empty() {
            limits.push(format!(
                "has name constraints that rustls cannot apply, on {}: by this CA it lets in no client whose chain has a \
                 name of that kind, whatever the name",
                kinds.join(" and ")
            ));
        }
    }
    limits.extend(extensions.0.iter().filter(|found| found.critical && !EVALUATED.contains(&found.id)).map(
        |found| {
            format!(
                "has the critical extension {}, which rustls ignores in a client CA: no client is refused for it",
                dotted(found.id)
            )
        },
    ));
    Ok(limits)
}

struct Extension<'a> {
    id: &'a [u8],
    critical: bool,
    value: &'a [u8],
}

/// The extensions of a certificate; those of version 1 have none.
struct Extensions<'a>(Vec<Extension<'a>>);

impl<'a> Extensions<'a> {
    fn of(certificate: &'a [u8]) -> Option<Self> {
        let mut tbs = Reader(Reader(Reader(certificate).read(SEQUENCE)?).read(SEQUENCE)?);
        let mut found = Vec::new();
        while !tbs.0.is_empty() {
            let (tag, explicit) = tbs.any()?;
            if tag != EXTENSIONS {
                continue;
            }
            let mut extensions = Reader(Reader(explicit).read(SEQUENCE)?);
            while !extensions.0.is_empty() {
                let mut extension = Reader(extensions.read(SEQUENCE)?);
                let id = extension.read(OID)?;
                let critical = extension.read_if(BOOLEAN).is_some_and(|value| value != [0]);
                found.push(Extension { id, critical, value: extension.read(OCTETS)? });
            }
        }
        Some(Self(found))
    }

    fn value(&self, id: &[u8]) -> Option<&'a [u8]> {
        self.0.iter().find(|found| found.id == id).map(|found| found.value)
    }

    /// Whether the certificate is a CA's that may issue client certificates, as `openssl verify -purpose sslclient` has it.
    ///
    /// 1. A key usage has to allow signing certificates. 2. Basic constraints have to say that it is a CA. 3. Without them it
    ///    has to be self-issued and of version 1, or its key usage or the older Netscape type has to name the task.
    /// 4. An extended key usage has to allow clients. OpenSSL does not take `anyExtendedKeyUsage` for that; RFC 5280
    ///    section 4.2.1.12 does.
    fn may_issue_clients(&self, certificate: &[u8]) -> Result<(), String> {
        // 1.
        let usage = self.value(KEY_USAGE).map(|value| has_bit(value, 0x04));
        if usage == Some(false) {
            return Err("its key usage does not allow signing certificates (keyCertSign)".to_owned());
        }
        // 2.
        if let Some(value) = self.value(BASIC_CONSTRAINTS) {
            let ca = Reader(value).read(SEQUENCE).and_then(|own| Reader(own).read(BOOLEAN));
            if ca.is_none_or(|ca| ca == [0]) {
                return Err("it says that it is not a CA's (basicConstraints CA:FALSE)".to_owned());
            }
        } else if usage.is_none() && !self.value(NETSCAPE_TYPE).is_some_and(|value| has_bit(value, 0x04)) {
            // 3.
            let version_3 = Reader(certificate)
                .read(SEQUENCE)
                .and_then(|outer| Reader(outer).read(SEQUENCE))
                .is_none_or(|tbs| tbs.first() == Some(&VERSION));
            if version_3 {
                return Err("it does not say that it is a CA's (no basicConstraints)".to_owned());
            }
            if !der::fields(certificate).is_some_and(|fields| fields.issuer == fields.subject) {
                return Err(
                    "it is of version 1 and not self-issued, so nothing says that it is a CA's".to_owned()
                );
            }
        }
        // 4.
        let Some(value) = self.value(EXTENDED_KEY_USAGE) else { return Ok(()) };
        let mut purposes = Reader(Reader(value).read(SEQUENCE).unwrap_or_default());
        if std::iter::from_fn(|| purposes.read(OID))
            .any(|purpose| [CLIENT_AUTH, ANY_PURPOSE].contains(&purpose))
        {
            return Ok(());
        }
        Err("its extended key usage does not allow client certificates (clientAuth)".to_owned())
    }
}

/// Whether a bit of the first byte of a bit string is set.
fn has_bit(value: &[u8], bit: u8) -> bool {
    Reader(value).read(BIT_STRING).is_some_and(|bits| bits.get(1).is_some_and(|first| first & bit != 0))
}

/// Returns the kinds of names for which rustls refuses every client of a CA with these name constraints.
///
/// rustls-webpki implements constraints on DNS names and IP addresses, where they are well-formed. For each certificate below the CA it goes through all
/// subtrees, so that one it cannot read refuses every client. It does the same for a subject with a constraint on
/// directory names: every certificate has a subject.
fn unsupported_constraints(constraints: &[u8]) -> Result<Vec<&'static str>, String> {
    let malformed = || "its name constraints are malformed: rustls lets in no client by such a CA".to_owned();
    let mut kinds = Vec::new();
    let mut rest = Reader(constraints);
    for subtrees in [VERSION, 0xa1].into_iter().filter_map(|tag| rest.read_if(tag)).collect::<Vec<_>>() {
        let mut subtrees = Reader(subtrees);
        while !subtrees.0.is_empty() {
            // RFC 5280 section 4.2.1.10: no minimum and no maximum, so the base is alone.
            let mut subtree = Reader(subtrees.read(SEQUENCE).ok_or_else(malformed)?);
            let base = subtree.any().filter(|_| subtree.0.is_empty()).ok_or_else(malformed)?;
            let kind = match base {
                (0x82, name) if is_dns_name(name) => continue,
                (0x82, _) => "DNS names",
                (0x87, network) if is_network(network) => continue,
                (0x87, _) => "IP addresses",
                (0xa4, _) => {
                    return Err(
                        "it has name constraints on directory names, which rustls cannot apply: it lets in no client by \
                         such a CA"
                            .to_owned(),
                    );
                }
                (0x86, _) => "URIs",
                (0x81, _) => "e-mail addresses",
                (0xa0, _) => "other names",
                (0xa3 | 0xa5 | 0x88, _) => "names of an uncommon kind",
                _ => return Err(malformed()),
            };
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }
    rest.end().map(|()| kinds).ok_or_else(malformed)
}

/// Whether rustls takes this as a constraint on DNS names: all names, those beneath one, or those and itself. A wildcard is
/// none.
fn is_dns_name(name: &[u8]) -> bool {
    let of_label = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && label.iter().all(of_label)
            && label.first() != Some(&b'-')
            && label.last() != Some(&b'-')
    };
    let labels = name.strip_prefix(b".").unwrap_or(name);
    name.is_empty() || name.len() <= 253 && labels.split(|byte| *byte == b'.').all(is_label)
}

/// Whether this is an address and its mask, of four bytes each or of sixteen.
fn is_network(network: &[u8]) -> bool {
    let (_, mask) = network.split_at(network.len() / 2);
    let bits = mask.iter().try_fold(0_u128, |bits, byte| Some((bits << 8) | u128::from(*byte)));
    let unused = 128_u32.saturating_sub(u32::try_from(mask.len() * 8).unwrap_or(128));
    let bits = bits.unwrap_or_default() << unused.min(127);
    matches!(network.len(), 8 | 32) && bits.leading_ones() + bits.trailing_zeros() >= 128
}

/// An object identifier as text, `2.5.29.54`.
fn dotted(id: &[u8]) -> String {
    let mut arcs = Vec::new();
    let mut arc = 0_u64;
    for byte in id {
        arc = (arc << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.push(first.to_string());
                arc -= first * 40;
            }
            arcs.push(arc.to_string());
            arc = 0;
        }
    }
    arcs.join(".")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::testkit::Authority;

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
            // Nothing is lost of a CA that is still there by another certificate.
            (&[a, &renewed], &[&renewed], false),
            (&[a, &renewed], &[a], false),
            (&[a], &[a, b], false),
        ] {
            assert_eq!(lost_its_end(&bundle(old), &bundle(new)), is_cut, "{} to {}", old.len(), new.len());
        }
    }

    #[test]
    fn inv16_an_object_identifier_is_printed_as_openssl_prints_it() {
        for (id, printed) in [
            (&[0x2a, 3, 4][..], "1.2.3.4"),
            (&[0x55, 29, 54], "2.5.29.54"),
            (&[0x88, 0x37, 3], "2.999.3"),
            (&[0x2b, 0x24, 3, 3, 2, 8, 1, 1, 7], "1.3.36.3.3.2.8.1.1.7"),
        ] {
            assert_eq!(dotted(id), printed);
        }
    }
}
