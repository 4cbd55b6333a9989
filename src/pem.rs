//! PEM (RFC 7468) read strictly: what is skipped elsewhere is refused here.
//!
//! The decoding of certificates is `rustls-pki-types`'; this module finds the sections first, because that decoder passes
//! over sections whose label it does not know (an encrypted key, a `TRUSTED CERTIFICATE`) and over whatever follows a
//! damaged line. A key is decoded here, because that decoder leaves copies of it behind.
//! Text between sections is allowed (RFC 7468 section 2), as `openssl x509 -text` writes it.

use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer,
    PrivateSec1KeyDer,
    pem::{PemObject, SectionKind},
};
use zeroize::Zeroizing;

use crate::{
    base64,
    error::{Error, Layer},
};

/// Sections read from one file; Debian's whole CA bundle has about 150.
pub const SECTION_LIMIT: usize = 4096;

/// The private key of a key file.
#[derive(Debug)]
pub struct Key(Zeroizing<PrivateKeyDer<'static>>);

impl Key {
    /// The key for a crypto provider; the copy that it takes is the provider's to wipe.
    #[must_use]
    pub fn clone_der(&self) -> PrivateKeyDer<'static> {
        self.0.clone_key()
    }
}

/// One `BEGIN` to `END`, both lines included.
struct Section<'a> {
    label: &'a str,
    text: &'a [u8],
}

/// The certificates of a chain, in the order of the file: at least one. A private key may lie beside them.
///
/// # Errors
/// [`Layer::Pem`] for anything else than certificates and keys, or no certificate.
pub fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    certificates(text, |label| is_key(label) || is_parameters(label))
}

/// The certificates of a bundle of CAs: at least one, and nothing else.
///
/// # Errors
/// [`Layer::Pem`] for anything else than certificates, or no certificate.
pub fn ca_bundle(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    certificates(text, |_| false)
}

/// The revocation lists of a file: at least one, and nothing else.
///
/// # Errors
/// [`Layer::Pem`] for anything else than revocation lists, or none.
pub fn crls(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    let mut lists = Vec::new();
    for section in sections(text)? {
        if section.label != "X509 CRL" {
            return Err(unexpected(section.label, "a revocation list"));
        }
        match <(SectionKind, Vec<u8>)>::from_pem_slice(section.text) {
            Ok((SectionKind::Crl, der)) if !der.is_empty() => lists.push(der.into()),
            _ => {
                let why = format!("revocation list {} is not valid base64", lists.len() + 1);
                return Err(Error::new(Layer::Pem, why));
            }
        }
    }
    Ok(lists)
}

/// The one private key of a key file. Certificates and parameters may lie beside it.
///
/// # Errors
/// [`Layer::Key`] where there is no key, more than one, or an encrypted one; [`Layer::Pem`] where the file is damaged.
pub fn key(text: &[u8]) -> Result<Key, Error> {
    let mut found = None;
    for section in sections(text)? {
        if is_key(section.label) {
            if found.is_some() {
                return Err(Error::new(Layer::Key, "more than one private key: which one is not guessed"));
            }
            found = Some(section);
        } else if section.label == "ENCRYPTED PRIVATE KEY" {
            return Err(Error::new(Layer::Key, "the private key is encrypted: decrypt it first"));
        } else if section.label != "CERTIFICATE" && !is_parameters(section.label) {
            return Err(unexpected(section.label, "a private key"));
        }
    }
    let section = found.ok_or_else(|| Error::new(Layer::Key, "no private key in the file"))?;
    if section.text.windows(10).any(|window| window == b"Proc-Type:") {
        return Err(Error::new(Layer::Key, "the private key is encrypted: decrypt it first"));
    }
    let der = body(section.text).and_then(base64::decode);
    let der = der.ok_or_else(|| Error::new(Layer::Key, "the private key is not valid base64"))?;
    Ok(Key(Zeroizing::new(match section.label {
        "RSA PRIVATE KEY" => PrivatePkcs1KeyDer::from(der).into(),
        "EC PRIVATE KEY" => PrivateSec1KeyDer::from(der).into(),
        _ => PrivatePkcs8KeyDer::from(der).into(),
    })))
}

/// What lies between the first and the last line of a section, each of which has to begin with its dashes.
fn body(section: &[u8]) -> Option<&[u8]> {
    let ends_line = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let (from, to) = (section.iter().position(ends_line)?, section.iter().rposition(ends_line)?);
    let dashed = section.starts_with(b"-----") && section[to + 1..].starts_with(b"-----");
    dashed.then(|| &section[from..to])
}

fn certificates(
    text: &[u8],
    passed_over: impl Fn(&str) -> bool,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let mut certificates = Vec::new();
    for section in sections(text)? {
        if section.label != "CERTIFICATE" {
            if passed_over(section.label) {
                continue;
            }
            return Err(unexpected(section.label, "a certificate"));
        }
        let number = certificates.len() + 1;
        let damaged = || Error::new(Layer::Pem, format!("certificate {number} is not valid base64"));
        match <(SectionKind, Vec<u8>)>::from_pem_slice(section.text) {
            Ok((SectionKind::Certificate, der)) if !der.is_empty() => certificates.push(der.into()),
            _ => return Err(damaged()),
        }
    }
    if certificates.is_empty() {
        return Err(Error::new(Layer::Pem, "no certificate in the file"));
    }
    Ok(certificates)
}

fn is_key(label: &str) -> bool {
    matches!(label, "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY")
}

fn is_parameters(label: &str) -> bool {
    matches!(label, "EC PARAMETERS" | "DH PARAMETERS")
}

fn unexpected(label: &str, wanted: &str) -> Error {
    Error::new(Layer::Pem, format!("a section {} where {wanted} is wanted", quoted(label)))
}

fn damaged(label: &str, how: &str) -> Error {
    Error::new(Layer::Pem, format!("a section {} {how}", quoted(label)))
}

/// The label, if it is made of what labels are made of: a damaged file may have anything there, a key too.
fn quoted(label: &str) -> String {
    let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ';
    let known = label.len() <= 24 && label.contains(' ') || matches!(label, "CERTIFICATE" | "PKCS7" | "CMS");
    if known && label.bytes().all(plain) { format!("{label:?}") } else { "with a strange label".to_owned() }
}

/// Finds the sections.
///
/// 1. A byte order mark at the start is passed over: editors add it, and the first line would not count.
/// 2. `-----BEGIN label-----` opens a section, `-----END label-----` closes it; white space around is passed over. Any other
///    line of dashes is damage, also where they stand behind bytes that are not printed: it is no text beside the sections.
/// 3. A section that does not close, closes with another label, or holds another `BEGIN` is damage.
fn sections(text: &[u8]) -> Result<Vec<Section<'_>>, Error> {
    // 1.
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if text.is_empty() {
        return Err(Error::new(Layer::Pem, "the file is empty"));
    }
    let mut found: Vec<Section<'_>> = Vec::new();
    let mut open: Option<(&str, usize)> = None;
    let mut start = 0;
    while let Some(rest) = text.get(start..) {
        let end = rest.iter().position(|b| matches!(b, b'\n' | b'\r'));
        let end = end.map_or(text.len(), |length| start + length);
        let line = text[start..end].trim_ascii();
        // 2.
        if let Some(label) = marker(line, b"-----BEGIN ") {
            if let Some((outer, _)) = open {
                return Err(damaged(outer, "has no END line"));
            }
            open = Some((label?, start));
        } else if let Some(label) = marker(line, b"-----END ") {
            let label = label?;
            match open.take() {
                Some((outer, from)) if outer == label => {
                    found.push(Section { label, text: &text[from..end] });
                }
                Some((outer, _)) => return Err(damaged(outer, "ends with another label")),
                None => return Err(damaged(label, "has no BEGIN line")),
            }
            if found.len() > SECTION_LIMIT {
                return Err(Error::new(Layer::Pem, format!("more than {SECTION_LIMIT} sections")));
            }
        } else {
            let plain = printed(line);
            if plain.starts_with(b"-----") || (end == text.len() && cut_marker(plain)) {
                let why = if line.starts_with(b"-") {
                    "a line starts with dashes but neither begins nor ends a section"
                } else {
                    "a byte order mark, or another byte that is not printed, before dashes"
                };
                return Err(Error::new(Layer::Pem, why));
            }
        }
        start = end + 1;
    }
    // 3.
    if let Some((label, _)) = open {
        return Err(damaged(label, "has no END line: the file is cut off"));
    }
    if found.is_empty() {
        let der = text[0] == 0x30;
        let hint =
            if der { "no PEM in the file; it looks like DER: convert it" } else { "no PEM in the file" };
        return Err(Error::new(Layer::Pem, hint));
    }
    Ok(found)
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A line without what no ASCII text shows before and behind it: byte order marks, where marked files were joined; zeros,
/// where a crash came before the bytes of a file whose length was written.
fn printed(line: &[u8]) -> &[u8] {
    let is_printed = |byte: &u8| byte.is_ascii_graphic();
    let from = line.iter().position(is_printed).unwrap_or(line.len());
    let to = line.iter().rposition(is_printed).map_or(from, |last| last + 1);
    &line[from..to]
}

/// The first dashes of a marker line of which the rest was not written yet.
fn cut_marker(line: &[u8]) -> bool {
    !line.is_empty() && line.iter().all(|byte| *byte == b'-')
}

/// The label of a marker line; an error where the line is one but its label is not text.
fn marker<'a>(line: &'a [u8], opening: &[u8]) -> Option<Result<&'a str, Error>> {
    let rest = line.strip_prefix(opening)?;
    let label = rest.strip_suffix(b"-----").and_then(|label| std::str::from_utf8(label).ok());
    Some(label.ok_or_else(|| Error::new(Layer::Pem, "a damaged BEGIN or END line")))
}
