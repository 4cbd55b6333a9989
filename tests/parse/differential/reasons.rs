//! Reasons why one side accepts an input that the other refuses. Each reason is found in the input,
//! or by a third reader.

use rustls::{RootCertStore, pki_types::CertificateDer, server::ParsedCertificate};
use rustls_reload::internal::{der, pem};
use rustls_reload_harness::fuzz::Role;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

use super::{Read, openssl};
use crate::common::armor::block;

/// Returns why a file is refused here that OpenSSL accepts.
pub(crate) fn to_refuse(role: Role, text: &[u8], theirs: &Read) -> Option<&'static str> {
    let labels = labels(text);
    match (role, theirs) {
        _ if labels.is_none() => Some("a marker line is damaged or has no partner: OpenSSL passes over it"),
        _ if labels.as_ref().is_some_and(Vec::is_empty) => Some("no PEM, which OpenSSL's commands also read"),
        (Role::Key, Read::Key(public)) => to_refuse_key(text, &labels?, public),
        (_, Read::Certificates(certificates)) => to_refuse_certificates(role, &labels?, certificates)
            .or_else(|| to_refuse_base64(text, certificates)),
        _ => None,
    }
}

fn to_refuse_key(text: &[u8], labels: &[String], public: &[u8]) -> Option<&'static str> {
    let keys = labels.iter().filter(|label| label.ends_with("PRIVATE KEY")).count();
    let is_known =
        |label: &String| is_beside(label) || is_certificate(label) || label == "TRUSTED CERTIFICATE";
    let der = pem::key(text).map(|key| key.clone_der().secret_der().to_vec()).unwrap_or_default();
    if keys == 0 {
        return Some("no private key: OpenSSL reads a public one in its place");
    }
    if keys > 1 {
        return Some("more than one key: OpenSSL takes the first");
    }
    if text.windows(9).any(|window| window == b"ENCRYPTED") {
        return Some("a key that says it is encrypted");
    }
    if !labels.iter().all(is_known) {
        return Some(
            "a section that belongs in no key file: OpenSSL passes over it, or reads it for what it holds",
        );
    }
    let kind = kind(public)?;
    if !kind.provided {
        return Some("a key of a kind that the provider does not have");
    }
    if kind
        .point
        .is_some_and(|point| point[0] != 4 || !der.windows(point.len()).any(|window| window == point))
    {
        return Some("a key without its public half, or with a compressed one");
    }
    // RFC 8017 appendix A.1.2: version 1 stands for more than two primes.
    if der.windows(5).any(|window| window == [2, 1, 1, 2, 0x82]) {
        return Some("an RSA key of more than two primes");
    }
    if !openssl::is_consistent(text) {
        return Some(
            "a key whose numbers do not fit together, which OpenSSL finds only where it is asked to check",
        );
    }
    let label = labels.iter().find(|label| label.ends_with("PRIVATE KEY"))?;
    // After the version, PKCS #8 has a sequence, PKCS #1 a number, and SEC 1 a string.
    let form = match version_and_next(&der) {
        Some((_, 0x30)) => "PRIVATE KEY",
        Some((_, 0x02)) => "RSA PRIVATE KEY",
        _ => "EC PRIVATE KEY",
    };
    if form != label {
        return Some("a key under the label of another form");
    }
    if version_and_next(&der).is_some_and(|(version, _)| version > 1) {
        return Some("a key of a version that there is not");
    }
    let rewritten = openssl::written(text, label != "PRIVATE KEY");
    (rewritten != Some(der)).then_some("a key that OpenSSL itself would write in another form")
}

/// Returns the number at the start of a sequence, and the tag of the next value.
fn version_and_next(der: &[u8]) -> Option<(u8, u8)> {
    let length = *der.get(1)?;
    let head = if length < 0x80 { 2 } else { 2 + usize::from(length & 0x7f) };
    let &[2, 1, version, next] = der.get(head..head + 4)? else { return None };
    Some((version, next))
}

fn is_certificate(label: &str) -> bool {
    matches!(label, "CERTIFICATE" | "X509 CERTIFICATE")
}

/// Returns whether the manual's table of inputs lists a section as ignored beside a pair.
fn is_beside(label: &str) -> bool {
    let keys = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"];
    let others = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", "X509 CRL"];
    keys.contains(&label)
        || others.contains(&label)
        || label.ends_with(" PARAMETERS")
        || label.ends_with("PUBLIC KEY")
}

/// Returns whether a line of dashes may be a damaged marker.
fn hides(line: &str) -> bool {
    let text = line.trim_start_matches('-').trim_start();
    text.starts_with(['B', 'b', 'E', 'e']) || !line.chars().all(|c| matches!(c, ' '..='~'))
}

/// The algorithm of a SubjectPublicKeyInfo.
struct Kind<'a> {
    provided: bool,
    /// The point of an elliptic curve.
    point: Option<&'a [u8]>,
}

fn kind(public: &[u8]) -> Option<Kind<'_>> {
    let (_, info) = SubjectPublicKeyInfo::from_der(public).ok()?;
    let bits = info.subject_public_key.data.as_ref();
    let at = public.len() - bits.len();
    let curve =
        info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok()).map(|oid| oid.to_id_string());
    Some(match info.algorithm.algorithm.to_id_string().as_str() {
        "1.3.101.112" => Kind { provided: true, point: None },
        "1.2.840.10045.2.1" => Kind {
            provided: matches!(curve.as_deref(), Some("1.2.840.10045.3.1.7" | "1.3.132.0.34")),
            point: Some(&public[at..]),
        },
        "1.2.840.113549.1.1.1" => {
            let x509_parser::public_key::PublicKey::RSA(rsa) = info.parsed().ok()? else { return None };
            let provided =
                (2048..=4096).contains(&rsa.key_size()) && rsa.try_exponent().is_ok_and(|e| e >= 65_537);
            Kind { provided, point: None }
        }
        _ => Kind { provided: false, point: None },
    })
}

/// Returns whether OpenSSL accepts a certificate as a CA for clients, and the provider supports its
/// key.
fn issues_clients(certificate: &[u8]) -> bool {
    let spki =
        X509Certificate::from_der(certificate).map(|(_, read)| read.tbs_certificate.subject_pki.raw.to_vec());
    openssl::issues_clients(certificate)
        && spki.is_ok_and(|spki| kind(&spki).is_some_and(|kind| kind.provided))
}

fn to_refuse_certificates(role: Role, labels: &[String], all: &[Vec<u8>]) -> Option<&'static str> {
    let of_pair = |label: &str| label.ends_with("PRIVATE KEY") || label == "X509 CRL";
    let allowed = |label: &String| {
        is_certificate(label) || is_beside(label) && (role == Role::Chain || !of_pair(label))
    };
    if !labels.iter().all(allowed) {
        return Some("a section that belongs in no chain or bundle");
    }
    if labels.iter().filter(|label| is_certificate(label)).count() > all.len() {
        return Some("a damaged section behind a whole one: OpenSSL ends with the whole one");
    }
    let anchor = |der: &Vec<u8>| RootCertStore::empty().add(CertificateDer::from(der.as_slice())).is_ok();
    let not_all_read = || {
        let unread = all.iter().any(|der| der::fields(der).is_none());
        unread.then_some("a certificate of which not all is read that is reported")
    };
    if role == Role::ClientCa {
        let unfit = !all.iter().all(anchor);
        let none = || all.iter().all(|der| !issues_clients(der));
        return unfit
            .then_some("a CA that rustls does not take for an anchor")
            .or_else(not_all_read)
            .or_else(|| {
                none()
                    .then_some("a bundle of no CA that may issue clients, or by a key that the provider has")
            });
    }
    let version = |der: &Vec<u8>| X509Certificate::from_der(der).map(|(_, found)| found.version().0);
    if all.first().is_some_and(|leaf| version(leaf).is_ok_and(|version| version != 2)) {
        return Some("a leaf that is not of version 3, which no client of rustls takes");
    }
    let parses = |der: &Vec<u8>| ParsedCertificate::try_from(&CertificateDer::from(der.as_slice())).is_ok();
    if !all.iter().enumerate().all(|(i, der)| parses(der) || i > 0 && anchor(der)) {
        return Some("a certificate that rustls does not read");
    }
    not_all_read()
}

/// Decides by the base64 between the markers, each of which has its partner.
fn to_refuse_base64(text: &[u8], all: &[Vec<u8>]) -> Option<&'static str> {
    let mut is_inside = false;
    let body = text.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| {
        let is_marker = line.starts_with(b"-----");
        is_inside = if is_marker { line.starts_with(b"-----BEGIN ") } else { is_inside };
        is_inside && !is_marker
    });
    let body: Vec<u8> = body.flatten().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    if !body.iter().all(is_digit) {
        return Some("a character in the base64 that is none of it: OpenSSL passes over it");
    }
    let digits: usize = all.iter().map(|der| der.len().div_ceil(3) * 4).sum();
    (body.len() > digits).then_some("bytes behind a certificate in its section: OpenSSL passes over them")
}

/// Returns why a file is accepted here that OpenSSL refuses or reads differently.
pub(crate) fn to_accept(role: Role, text: &[u8], ours: &Read, theirs: &Read) -> Option<&'static str> {
    let certificates = match role {
        Role::Key => return to_accept_key(text, ours, theirs),
        Role::Chain => pem::chain(text).ok()?,
        _ => pem::ca_bundle(text).ok()?,
    };
    if *theirs != Read::Refused {
        return None;
    }
    let malformed =
        |one: &CertificateDer<'_>| X509Certificate::from_der(one).is_err() || !openssl::reads(one);
    if certificates.iter().any(malformed) {
        return Some("a certificate that is malformed where rustls does not read");
    }
    let alone: String = certificates.iter().map(|one| block("CERTIFICATE", one)).collect();
    let found = Read::Certificates(certificates.iter().map(|one| one.to_vec()).collect());
    (openssl::read(role, alone.as_bytes()) == found)
        .then_some("a malformed key beside the chain, where it is not read")
}

fn to_accept_key(text: &[u8], ours: &Read, theirs: &Read) -> Option<&'static str> {
    const P256: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    const P384: &[u8] = &[6, 5, 0x2b, 0x81, 4, 0, 0x22];
    if *theirs != Read::Refused {
        return None;
    }
    // Rewrites the text with the line breaks that OpenSSL would write.
    let lines = text.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !line.is_empty());
    let lines: Vec<u8> = lines.flat_map(|line| [line, b"\n"].concat()).collect();
    if openssl::read(Role::Key, &lines) == *ours {
        return Some(
            "a line that ends in a carriage return alone or is empty: for OpenSSL the one goes on, the other ends a header",
        );
    }
    let der = pem::key(text).ok()?.clone_der().secret_der().to_vec();
    let names = |curve: &[u8]| der.windows(curve.len()).any(|window| window == curve);
    if labels(text)?.contains(&"EC PRIVATE KEY".to_owned()) && !names(P256) && !names(P384) {
        return Some("a key of SEC 1 without its curve: rustls tries each");
    }
    let body = text.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !line.starts_with(b"-----"));
    let digits = body.flatten().filter(|byte| !byte.is_ascii_whitespace()).count();
    (!digits.is_multiple_of(4)).then_some("base64 without its padding")
}

/// Returns the labels of all sections; `None` where a line of dashes is no marker, or has no
/// partner.
fn labels(text: &[u8]) -> Option<Vec<String>> {
    let text = String::from_utf8_lossy(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)).into_owned();
    let (mut found, mut open) = (Vec::new(), None);
    let blank = |edge: char| edge.is_ascii_whitespace();
    let mut lines = text.split(['\n', '\r']).map(|line| line.trim_matches(blank)).peekable();
    while let Some(line) = lines.next() {
        // For OpenSSL a marker after a byte order mark is text, so it reads only the first of two
        // files that `cat` joined.
        let plain = line.trim_matches(|edge: char| !edge.is_ascii_graphic());
        let marker = |from| line.strip_prefix(from).and_then(|rest: &str| rest.strip_suffix("-----"));
        match (marker("-----BEGIN "), marker("-----END ")) {
            (Some(label), _) if open.is_none() => open = Some(label),
            (None, Some(label)) if open == Some(label) => {
                found.push(label.to_owned());
                open = None;
            }
            (Some(_), _) | (_, Some(_)) => return None,
            // A ruler is text if no marker can hide in it.
            _ if plain.starts_with("-----") && (open.is_some() || hides(line)) => return None,
            // The file ends in the first dashes of a marker.
            _ if lines.peek().is_none() && !plain.is_empty() && plain.bytes().all(|byte| byte == b'-') => {
                return None;
            }
            _ => {}
        }
    }
    open.is_none().then_some(found)
}
