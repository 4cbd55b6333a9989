//! PEM (RFC 7468) read strictly: what may be a damaged section is refused and never passed over.
//!
//! Sections are found and decoded here. Other readers pass over sections whose label they do not know and over whatever
//! follows a damaged line, so that a torn file becomes a shorter chain; and they leave copies of a key behind (INV-10).
//! Text between sections is allowed (RFC 7468 section 2), as `openssl x509 -text` writes it. Which labels are passed over
//! beside the wanted ones, and why the others are not, is in the manual's table of [inputs](crate::manual::inputs).

mod boundary;
pub(crate) mod content;
mod foreign;

use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer,
    PrivateSec1KeyDer,
};
use zeroize::Zeroizing;

use crate::{
    base64,
    error::{Error, Layer},
};
use boundary::Line;

/// Sections read from one file; Debian's whole CA bundle has about 150.
pub const SECTION_LIMIT: usize = 4096;

/// The private key of a key file.
#[derive(Debug)]
pub struct Key {
    der: Zeroizing<PrivateKeyDer<'static>>,
    line: usize,
}

impl Key {
    /// The key for a crypto provider; the copy that it takes is the provider's to wipe.
    #[must_use]
    pub fn clone_der(&self) -> PrivateKeyDer<'static> {
        self.der.clone_key()
    }

    /// The key in place.
    pub(crate) fn der(&self) -> &PrivateKeyDer<'static> {
        &self.der
    }

    /// The line of the file on which the key's section begins.
    pub(crate) fn line(&self) -> usize {
        self.line
    }
}

/// One `BEGIN` to `END`, both lines included.
struct Section<'a> {
    label: &'a str,
    text: &'a [u8],
    /// The number of its first line.
    line: usize,
}

/// Kinds of sections by their labels.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Certificate,
    Key,
    EncryptedKey,
    /// Key parameters, public keys and certificate requests: openssl writes them beside a pair, and no pair needs them.
    Beside,
    RevocationList,
    TrustedCertificate,
    /// A label that belongs in no file read here, or a damaged one.
    Other,
}

impl Section<'_> {
    fn kind(&self) -> Kind {
        match self.label {
            "CERTIFICATE" | "X509 CERTIFICATE" => Kind::Certificate,
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => Kind::Key,
            "ENCRYPTED PRIVATE KEY" => Kind::EncryptedKey,
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Kind::Beside,
            "X509 CRL" => Kind::RevocationList,
            "TRUSTED CERTIFICATE" => Kind::TrustedCertificate,
            label if label.ends_with(" PARAMETERS") || label.ends_with("PUBLIC KEY") => Kind::Beside,
            _ => Kind::Other,
        }
    }
}

/// The certificates of a chain, in the order of the file: at least one. A private key may lie beside them.
///
/// # Errors
/// [`Layer::Pem`] for sections that belong in no chain file, damaged ones, or no certificate.
pub fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    use Kind::{Beside, EncryptedKey, Key, RevocationList};
    certificates(text, |kind| matches!(kind, Beside | Key | EncryptedKey | RevocationList))
}

/// The certificates of a bundle of CAs: at least one. Neither a key nor a revocation list may lie beside them.
///
/// # Errors
/// [`Layer::Pem`] for sections that belong in no bundle, damaged ones, or no certificate.
pub fn ca_bundle(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    certificates(text, |kind| kind == Kind::Beside)
}

/// The revocation lists of a file: at least one, and nothing else.
///
/// # Errors
/// [`Layer::Pem`] for anything else than revocation lists, or none.
pub fn crls(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    let mut lists = Vec::new();
    for section in sections(text)? {
        if section.kind() != Kind::RevocationList {
            return Err(unexpected(&section, "a revocation list"));
        }
        let name = format!("revocation list {}", lists.len() + 1);
        lists.push(decode(&section, Layer::Pem, &name)?.into());
    }
    Ok(lists)
}

/// The one private key of a key file. Certificates and other sections that openssl writes may lie beside it.
///
/// # Errors
/// [`Layer::Key`] where there is no key, more than one, or an encrypted one; [`Layer::Pem`] where the file is damaged.
pub fn key(text: &[u8]) -> Result<Key, Error> {
    let refused = |line: usize, why: &str| Err(Error::new(Layer::Key, format!("line {line}: {why}")));
    let sections = sections(text)?;
    let mut found: Option<&Section<'_>> = None;
    for section in &sections {
        match section.kind() {
            Kind::Key => {
                if let Some(first) = found {
                    let why = format!(
                        "a second private key, beside that of line {}: which one is meant is not guessed, leave one in the \
                         file (`openssl pkey -in old -out new` writes the first)",
                        first.line
                    );
                    return refused(section.line, &why);
                }
                found = Some(section);
            }
            Kind::EncryptedKey => return refused(section.line, ENCRYPTED),
            Kind::Other => return Err(unexpected(section, "a private key")),
            _ => {}
        }
    }
    let Some(section) = found else { return Err(none(&sections, Layer::Key, "private key")) };
    if holds(section.text, b"Proc-Type:") {
        if holds(section.text, b"ENCRYPTED") {
            return refused(section.line, ENCRYPTED);
        }
        let why = "the private key has the header lines of an encryption and is not encrypted: remove the lines between BEGIN \
                   and the base64";
        return refused(section.line, why);
    }
    let der = decode(section, Layer::Key, "the private key")?;
    let der = Zeroizing::new(match section.label {
        "RSA PRIVATE KEY" => PrivatePkcs1KeyDer::from(der).into(),
        "EC PRIVATE KEY" => PrivateSec1KeyDer::from(der).into(),
        _ => PrivatePkcs8KeyDer::from(der).into(),
    });
    Ok(Key { der, line: section.line })
}

const ENCRYPTED: &str =
    "the private key is encrypted: `openssl pkey -in old -out new` asks for its passphrase and decrypts it";

/// The line on which the certificate with this number (from 0) begins, in a file that was read.
pub(crate) fn line_of_certificate(text: &[u8], number: usize) -> usize {
    let sections = sections(text).unwrap_or_default();
    let mut certificates = sections.iter().filter(|section| section.kind() == Kind::Certificate);
    certificates.nth(number).map_or(0, |section| section.line)
}

fn certificates(
    text: &[u8],
    passed_over: impl Fn(Kind) -> bool,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let sections = sections(text)?;
    let mut certificates = Vec::new();
    for section in &sections {
        match section.kind() {
            Kind::Certificate => {
                let name = format!("certificate {}", certificates.len() + 1);
                certificates.push(decode(section, Layer::Pem, &name)?.into());
            }
            kind if passed_over(kind) => {}
            _ => return Err(unexpected(section, "a certificate")),
        }
    }
    if certificates.is_empty() {
        return Err(none(&sections, Layer::Pem, "certificate"));
    }
    Ok(certificates)
}

/// The refusal of a file that has sections, and none of the wanted kind.
fn none(sections: &[Section<'_>], layer: Layer, wanted: &str) -> Error {
    let Some(first) = sections.first() else { return Error::new(layer, format!("no {wanted} in the file")) };
    let hint = match (first.kind(), layer) {
        (Kind::Key | Kind::EncryptedKey, Layer::Pem) | (Kind::Certificate, Layer::Key) => {
            ": were the paths of the certificate and the key exchanged?"
        }
        _ if first.label.ends_with("REQUEST") && layer == Layer::Pem => {
            ": the certificate is what the CA answers to the request"
        }
        _ if first.label.ends_with("PUBLIC KEY") => ": a public key alone is of no use here",
        _ => "",
    };
    let why = format!(
        "line {}: no {wanted} in the file, it begins with a section {}{hint}",
        first.line,
        quoted(first.label)
    );
    Error::new(layer, why)
}

fn unexpected(section: &Section<'_>, wanted: &str) -> Error {
    let hint = match section.label {
        "TRUSTED CERTIFICATE" => {
            ": its trust settings would be passed over, `openssl x509 -in old -out new` writes the certificate without them"
        }
        "PKCS7" | "CMS" | "PKCS #7 SIGNED DATA" => {
            ": `openssl pkcs7 -print_certs -in old -out new` writes its certificates"
        }
        "OPENSSH PRIVATE KEY" => {
            ": `ssh-keygen -p -N '' -m PKCS8 -f old` rewrites a copy of an RSA or ECDSA key in place"
        }
        "DSA PRIVATE KEY" => ": TLS 1.3 has no DSA, a new key and a certificate for it are needed",
        "AGE ENCRYPTED FILE" => ": the file is encrypted by age, `age -d -o new old` decrypts it",
        "PGP MESSAGE" => ": the file is encrypted by PGP, `gpg -d -o new old` decrypts it",
        "X509 CRL" => ": revocation lists have a setting of their own",
        _ if section.kind() == Kind::Key && wanted == "a certificate" => {
            ": a key among client CAs looks like the server's own pair, whose certificate is no CA to trust"
        }
        _ => "",
    };
    let why =
        format!("line {}: a section {} where {wanted} is wanted{hint}", section.line, quoted(section.label));
    Error::new(Layer::Pem, why)
}

fn damaged(line: usize, label: &str, how: &str) -> Error {
    Error::new(Layer::Pem, format!("line {line}: a section {} {how}", quoted(label)))
}

/// The label, if it is made of what labels are made of: a damaged file may have anything there, a key too.
fn quoted(label: &str) -> String {
    let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b' ' | b'.' | b'#');
    let known = label.len() <= 24 && label.contains(' ') || matches!(label, "CERTIFICATE" | "PKCS7" | "CMS");
    if known && label.bytes().all(plain) { format!("{label:?}") } else { "with a strange label".to_owned() }
}

/// The bytes of a section, in a buffer that was allocated once.
fn decode(section: &Section<'_>, layer: Layer, name: &str) -> Result<Vec<u8>, Error> {
    if let Some(der) = body(section.text).and_then(base64::decode).filter(|der| !der.is_empty()) {
        return Ok(der);
    }
    let (line, why) = not_base64(section);
    let begins =
        if line == section.line { String::new() } else { format!(" (begins on line {})", section.line) };
    Err(Error::new(layer, format!("line {line}: {name}{begins} is not valid base64: {why}")))
}

/// The bytes between the first and the last line of a section, each of which has to begin with its dashes.
fn body(section: &[u8]) -> Option<&[u8]> {
    let ends_line = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let (from, to) = (section.iter().position(ends_line)?, section.iter().rposition(ends_line)?);
    let dashed = section.starts_with(b"-----") && section[to + 1..].starts_with(b"-----");
    dashed.then(|| &section[from..to])
}

/// The line of a section that keeps it from being decoded, and the reason.
fn not_base64(section: &Section<'_>) -> (usize, &'static str) {
    odd_line(section).unwrap_or_else(|| {
        let is_empty = lines(section.text)
            .all(|line| line.line.starts_with(b"-----") || line.line.trim_ascii().is_empty());
        let why = if is_empty {
            "the section is empty"
        } else {
            "characters are missing or superfluous, or its padding is wrong"
        };
        (section.line, why)
    })
}

/// The first line of a section that is neither base64 nor a `BEGIN` or `END` line as it should be.
fn odd_line(section: &Section<'_>) -> Option<(usize, &'static str)> {
    for Numbered { number, line, .. } in lines(section.text) {
        let number = section.line + number - 1;
        if line.first().is_some_and(u8::is_ascii_whitespace) && line.trim_ascii_start().starts_with(b"-----")
        {
            let why = "white space stands before the dashes, as in YAML: `sed 's/^[[:space:]]*//' old > new` removes it";
            return Some((number, why));
        }
        if line.starts_with(b"-----") {
            continue;
        }
        let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        let Some(odd) = line.iter().find(|byte| !is_digit(byte) && !matches!(byte, b'\t'..=b'\r' | b' '))
        else {
            continue;
        };
        let why = match odd {
            0 => "zeros are in it, as a crash leaves them while a file is written",
            0x80.. => "a character that is not ASCII (looks like the work of an editor or a web page)",
            b'-' if holds(line, b"END ") => "it looks like a damaged END line",
            b'-' | b'_' => "it has - or _, as base64url has",
            b':' => "it looks like a header line: remove the lines between BEGIN and the base64",
            b'#' => "it looks like a comment, which may stand before BEGIN and behind END only",
            b'\\' => "it looks like line breaks written out as \\n",
            _ => "a character that base64 does not have",
        };
        return Some((number, why));
    }
    None
}

/// Finds the sections.
///
/// 1. A byte order mark at the start is passed over: editors add it, and the first line would not count.
/// 2. `-----BEGIN label-----` opens a section, `-----END label-----` closes it; white space around is passed over. A line of
///    dashes that may have been either is damage, see [`boundary`].
/// 3. A section that does not close, closes with another label, or holds another `BEGIN` is damage.
fn sections(text: &[u8]) -> Result<Vec<Section<'_>>, Error> {
    // 1.
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if text.is_empty() {
        return Err(Error::new(Layer::Pem, "the file is empty"));
    }
    let mut found: Vec<Section<'_>> = Vec::new();
    let mut open: Option<Section<'_>> = None;
    for Numbered { number, start, line } in lines(text) {
        let end = start + line.len();
        // 2.
        match boundary::read(line, end == text.len(), open.is_some()) {
            Ok(Line::Begin(label)) => {
                if let Some(outer) = open {
                    let how = format!("has no END line before the BEGIN of line {number}");
                    return Err(damaged(outer.line, outer.label, &how));
                }
                open = Some(Section { label, text: &text[start..], line: number });
            }
            Ok(Line::End(label)) => match open.take() {
                Some(section) if section.label == label => {
                    let length = section.text.len() - (text.len() - end);
                    found.push(Section { text: &section.text[..length], ..section });
                    if found.len() > SECTION_LIMIT {
                        return Err(Error::new(Layer::Pem, format!("more than {SECTION_LIMIT} sections")));
                    }
                }
                Some(outer) => {
                    let how = format!("ends with another label on line {number}");
                    return Err(damaged(outer.line, outer.label, &how));
                }
                None => {
                    return Err(match foreign::hidden(&text[..start]) {
                        Some(why) => Error::new(Layer::Pem, why),
                        None => damaged(number, label, "has an END and no BEGIN line"),
                    });
                }
            },
            Ok(Line::Text) => {}
            Err(why) => return Err(Error::new(Layer::Pem, format!("line {number}: {why}"))),
        }
    }
    // 3.
    if let Some(section) = open {
        return Err(match odd_line(&section) {
            Some((line, why)) => {
                let how = format!("has no END line, and line {line} is not valid base64: {why}");
                damaged(section.line, section.label, &how)
            }
            None => {
                let how = "has no END line: the file is cut off, or still being written";
                damaged(section.line, section.label, how)
            }
        });
    }
    if found.is_empty() {
        return Err(Error::new(Layer::Pem, foreign::describe(text)));
    }
    Ok(found)
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A line without its break.
struct Numbered<'a> {
    /// From 1.
    number: usize,
    start: usize,
    line: &'a [u8],
}

/// The lines of a text. A line feed, a carriage return, or both in this order break a line; an empty line may be found
/// between the two, which counts as none.
fn lines(text: &[u8]) -> impl Iterator<Item = Numbered<'_>> {
    let (mut start, mut number) = (0, 1);
    std::iter::from_fn(move || {
        let rest = text.get(start..)?;
        if start > 0 && text[start - 1] == b'\n' && (start < 2 || text[start - 2] != b'\r')
            || start > 0 && text[start - 1] == b'\r'
        {
            number += 1;
        }
        let line = rest.split(|byte| matches!(byte, b'\n' | b'\r')).next()?;
        let found = Numbered { number, start, line };
        start += line.len() + 1;
        Some(found)
    })
}

/// The number of the line in which the byte at `at` stands.
fn line_at(text: &[u8], at: usize) -> usize {
    lines(text).take_while(|line| line.start <= at).last().map_or(1, |line| line.number)
}

fn holds(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}
