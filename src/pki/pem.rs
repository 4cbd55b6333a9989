//! Parses PEM (RFC 7468) strictly: a section that may be damaged is rejected, never skipped.
//!
//! This module finds and decodes the sections itself. Other readers skip sections with unknown
//! labels and everything after a damaged line, so that a torn file becomes a shorter chain. They
//! also leave copies of a key behind (INV-10). Text between sections is allowed (RFC 7468 section
//! 2), as `openssl x509 -text` writes it.
//!
//! The manual's table of [inputs](crate::manual::inputs) lists the labels that are skipped beside
//! the wanted ones, and the reasons for rejecting others.

mod boundary;
pub(crate) mod content;
mod foreign;
mod lines;
mod section;

use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer,
    PrivateSec1KeyDer,
};
use zeroize::Zeroizing;

use crate::report::error::{Error, Layer};
use lines::holds;
pub use section::SECTION_LIMIT;
use section::{Kind, Section, decode, quoted, sections};

/// The private key of a key file.
#[derive(Debug)]
pub struct Key {
    der: Zeroizing<PrivateKeyDer<'static>>,
    line: usize,
}

impl Key {
    /// Returns a copy of the key for a crypto provider, which has to wipe it.
    #[must_use]
    pub fn clone_der(&self) -> PrivateKeyDer<'static> {
        self.der.clone_key()
    }

    /// Returns the key in place.
    pub(crate) fn der(&self) -> &PrivateKeyDer<'static> {
        &self.der
    }

    /// Returns the number of the line on which the key's section begins.
    pub(crate) fn line(&self) -> usize {
        self.line
    }
}

/// Parses the certificates of a chain, in the order of the file: at least one. A private key may be
/// in the same file.
///
/// # Errors
/// [`Layer::Pem`] for sections that belong in no chain file, for damaged sections, and for a file
/// without a certificate.
pub fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    use Kind::{Beside, EncryptedKey, Key, RevocationList};
    certificates(text, |kind| matches!(kind, Beside | Key | EncryptedKey | RevocationList))
}

/// Parses the certificates of a CA bundle: at least one. Neither a key nor a CRL may be in the same
/// file.
///
/// # Errors
/// [`Layer::Pem`] for sections that belong in no bundle, for damaged sections, and for a file
/// without a certificate.
pub fn ca_bundle(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    certificates(text, |kind| kind == Kind::Beside)
}

/// Parses the CRLs of a file: at least one. No other section may be in the file.
///
/// # Errors
/// [`Layer::Pem`] for other sections, for damaged sections, and for a file without a CRL.
pub fn crls(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    let mut lists = Vec::new();
    for section in sections(text)? {
        if section.kind() != Kind::RevocationList {
            return Err(unexpected(&section, "a CRL"));
        }
        let name = format!("CRL {}", lists.len() + 1);
        lists.push(decode(&section, Layer::Pem, &name)?.into());
    }
    Ok(lists)
}

/// Parses the private key of a key file, which has to hold exactly one. Certificates and other
/// sections that openssl writes may be in the same file.
///
/// # Errors
/// [`Layer::Key`] for no key, more than one, or an encrypted one; [`Layer::Pem`] for a damaged
/// file.
pub fn key(text: &[u8]) -> Result<Key, Error> {
    let refused = |line: usize, why: &str| Err(Error::on_line(Layer::Key, line, why));
    let sections = sections(text)?;
    let mut found: Option<&Section<'_>> = None;
    for section in &sections {
        match section.kind() {
            Kind::Key => {
                if let Some(first) = found {
                    let why = format!(
                        "a second private key, the first one is on line {}: leave one in the file (`openssl \
                         pkey -in old -out new` writes the first)",
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
        let why = "the private key has the header lines of an encrypted key and is not encrypted: remove \
                   the lines between BEGIN and the base64";
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

/// Returns the line on which the certificate with this number (from 0) begins, in a file that
/// parsed before.
pub(crate) fn line_of_certificate(text: &[u8], number: usize) -> usize {
    let sections = sections(text).unwrap_or_default();
    let mut certificates = sections.iter().filter(|section| section.kind() == Kind::Certificate);
    certificates.nth(number).map_or(0, |section| section.line)
}

/// Returns the line on which the CRL with this number (from 0) begins; `None` in a file of DER.
pub(crate) fn line_of_crl(text: &[u8], number: usize) -> Option<usize> {
    sections(text).ok()?.get(number).map(|section| section.line)
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

/// Returns the error for a file without a section of the wanted kind.
fn none(sections: &[Section<'_>], layer: Layer, wanted: &str) -> Error {
    let Some(first) = sections.first() else { return Error::new(layer, format!("no {wanted} in the file")) };
    let hint = match (first.kind(), layer) {
        (Kind::Key | Kind::EncryptedKey, Layer::Pem) | (Kind::Certificate, Layer::Key) => {
            ": perhaps the paths of the certificate and the key are exchanged or equal"
        }
        _ if first.label.ends_with("REQUEST") && layer == Layer::Pem => {
            ": a certificate request is no certificate, the CA returns the certificate for it"
        }
        _ if first.label.ends_with("PUBLIC KEY") => ": a public key alone cannot be used here",
        _ => "",
    };
    let why = format!("no {wanted} in the file, it begins with a section {}{hint}", quoted(first.label));
    Error::on_line(layer, first.line, why)
}

fn unexpected(section: &Section<'_>, wanted: &str) -> Error {
    let hint = match section.label {
        "TRUSTED CERTIFICATE" => {
            ": its trust settings would be ignored, `openssl x509 -in old -out new` writes the certificate \
             without them"
        }
        "PKCS7" | "PKCS #7 SIGNED DATA" => {
            ": `openssl pkcs7 -print_certs -in old -out new` writes its certificates"
        }
        "CMS" => {
            ": `sed 's/ CMS-/ PKCS7-/' old | openssl pkcs7 -print_certs -out new` writes its certificates"
        }
        "OPENSSH PRIVATE KEY" => {
            ": `ssh-keygen -p -N '' -m PKCS8 -f old` rewrites a copy of an RSA or ECDSA key in place"
        }
        "DSA PRIVATE KEY" => ": TLS 1.3 has no DSA, a new key and a certificate for it are needed",
        "AGE ENCRYPTED FILE" => ": the file is encrypted by age, `age -d -o new old` decrypts it",
        "PGP MESSAGE" => ": the file is encrypted by PGP, `gpg -d -o new old` decrypts it",
        "X509 CRL" => ": CRLs have a setting of their own",
        _ if section.kind() == Kind::Key && wanted == "a certificate" => {
            ": a key among CAs looks like a pair of chain and key, whose certificate is no CA to trust"
        }
        _ => "",
    };
    let why = format!("a section {} where {wanted} is expected{hint}", quoted(section.label));
    Error::on_line(Layer::Pem, section.line, why)
}
