//! Parses the few fields of a certificate that are reported and compared: validity, serial number,
//! names.
//!
//! This is a bounded reader of DER (X.690) and of the necessary part of RFC 5280 section 4.1. It
//! decides nothing about trust: rustls and webpki parse the certificate themselves. Every length is
//! checked against the input, and nothing recurses.

use std::{collections::BTreeSet, time::Duration};

use crate::report::date;

mod name;
mod reader;
pub use name::name;
use name::{alternative_names, common_names, directory_string, printable};
pub(crate) use name::{canonical_name, string_types};
pub(crate) use reader::{BIT_STRING, BOOLEAN};
pub use reader::{GENERALIZED_TIME, INTEGER, OCTETS, OID, Reader, SEQUENCE, UTC_TIME};

/// The fields that are read from a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    /// Whether it is of version 1, which has no extensions.
    pub version_1: bool,
    /// The bytes of the serial number, most significant first, as encoded.
    pub serial: &'a [u8],
    /// The DER of the issuer's name.
    pub issuer: &'a [u8],
    /// The DER of the subject's name.
    pub subject: &'a [u8],
    /// The first second of validity, since the Unix epoch; dates before 1970 count as 1970.
    pub not_before: Duration,
    /// The last second of validity, since the Unix epoch.
    pub not_after: Duration,
    /// DNS names and IP addresses of the subject alternative name, else the common name.
    pub names: Vec<String>,
    /// The DER of the names in the subject alternative name, if it has one.
    pub alternative: Option<&'a [u8]>,
    /// Whether its basic constraints say that it is a CA.
    pub ca: bool,
    /// Whether it demands a stapled OCSP response: TLS feature `status_request` (RFC 7633).
    pub must_staple: bool,
    /// The DER of the SubjectPublicKeyInfo (algorithm and key bits), without its tag and length.
    pub public_key: &'a [u8],
    /// The signed part, with its tag and length.
    pub signed: &'a [u8],
    /// The DER of the signature's algorithm, without its tag and length, and the signature; `None`
    /// unless both follow the signed part.
    pub signature: Option<(&'a [u8], &'a [u8])>,
}

const VERSION: u8 = 0xa0;
const ISSUER_UNIQUE_ID: u8 = 0x81;
const SUBJECT_UNIQUE_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 29, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 29, 19];
/// id-pe-tlsfeature, and the number of `status_request` in it (RFC 7633 section 4).
const TLS_FEATURE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 24];
const STATUS_REQUEST: &[u8] = &[5];

/// Parses a certificate; `None` if the parts that are read are malformed.
///
/// 1. Certificate, TBSCertificate, version and serial number are read.
/// 2. Signature algorithm and issuer follow.
/// 3. Validity follows.
/// 4. Subject and public key follow.
/// 5. The unique identifiers of old certificates and the extensions follow. Of the extensions, only
///    the subject alternative name, the basic constraints and the TLS features are parsed.
#[must_use]
pub fn fields(certificate: &[u8]) -> Option<Fields<'_>> {
    // 1.
    let mut outer = Reader(certificate);
    let mut parts = Reader(outer.read(SEQUENCE)?);
    outer.end()?;
    let all = parts.0;
    let mut tbs = Reader(parts.read(SEQUENCE)?);
    let signed = &all[..all.len() - parts.0.len()];
    let signature = signature(parts);
    let version_1 = tbs.read_if(VERSION).is_none();
    let serial = tbs.read(INTEGER).filter(|serial| !serial.is_empty())?;
    // 2.
    tbs.read(SEQUENCE)?;
    let issuer = tbs.read(SEQUENCE)?;
    // 3.
    let mut validity = Reader(tbs.read(SEQUENCE)?);
    let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
    validity.end()?;
    // 4.
    let subject = tbs.read(SEQUENCE)?;
    let public_key = tbs.read(SEQUENCE)?;
    // 5.
    tbs.read_if(ISSUER_UNIQUE_ID);
    tbs.read_if(SUBJECT_UNIQUE_ID);
    let Extensions { mut names, alternative, ca, must_staple } = match tbs.read_if(EXTENSIONS) {
        Some(explicit) => extensions(explicit)?,
        None => Extensions::default(),
    };
    // Extensions that are truncated or under another tag must not count as no extensions.
    tbs.end()?;
    if names.is_empty() {
        let last = common_names(subject).and_then(|mut found| found.pop());
        names.extend(last.map(|(tag, value)| printable(&directory_string(tag, value))));
    }
    Some(Fields {
        version_1,
        serial,
        issuer,
        subject,
        not_before,
        not_after,
        names,
        alternative,
        ca,
        must_staple,
        public_key,
        signed,
        signature,
    })
}

/// The extensions that are read.
#[derive(Default)]
struct Extensions<'a> {
    names: Vec<String>,
    alternative: Option<&'a [u8]>,
    ca: bool,
    must_staple: bool,
}

fn extensions(explicit: &[u8]) -> Option<Extensions<'_>> {
    let mut extensions = Reader(Reader(explicit).read(SEQUENCE)?);
    let mut found = Extensions::default();
    while !extensions.0.is_empty() {
        let mut extension = Reader(extensions.read(SEQUENCE)?);
        let id = extension.read(OID)?;
        extension.read_if(BOOLEAN);
        let value = extension.read(OCTETS)?;
        if id == SUBJECT_ALT_NAME {
            let names = Reader(value).read(SEQUENCE)?;
            found.names = alternative_names(names)?;
            found.alternative = Some(names);
        } else if id == BASIC_CONSTRAINTS {
            // X.690 section 11.1 encodes true as all ones.
            let ca = Reader(value).read(SEQUENCE).and_then(|own| Reader(own).read(BOOLEAN));
            found.ca = ca == Some(&[0xff]);
        } else if id == TLS_FEATURE {
            let mut features = Reader(Reader(value).read(SEQUENCE).unwrap_or_default());
            found.must_staple = std::iter::from_fn(|| features.read(INTEGER)).any(|id| id == STATUS_REQUEST);
        }
    }
    Some(found)
}

/// Reads the algorithm and the signature that follow the signed part.
fn signature(mut rest: Reader<'_>) -> Option<(&[u8], &[u8])> {
    let algorithm = rest.read(SEQUENCE)?;
    // A signature consists of whole bytes.
    let bits = rest.read(BIT_STRING)?.strip_prefix(&[0])?;
    rest.end()?;
    Some((algorithm, bits))
}

/// Returns the names of a certificate for comparison: the whole subject alternative name, else the
/// common names, else the subject. Names of every kind count, in any number. Their order and
/// repetition do not matter, but every byte of them does.
#[must_use]
pub fn identity<'a>(fields: &Fields<'a>) -> BTreeSet<(u8, &'a [u8])> {
    let mut rest = Reader(fields.alternative.unwrap_or_default());
    let mut found: BTreeSet<_> = std::iter::from_fn(|| rest.any()).collect();
    // A part that cannot be parsed is compared as raw bytes.
    found.extend((!rest.0.is_empty()).then_some((0, rest.0)));
    if found.is_empty() {
        found.extend(common_names(fields.subject).unwrap_or_default());
    }
    if found.is_empty() {
        found.insert((SEQUENCE, fields.subject));
    }
    found
}

/// Formats a serial number as `openssl x509 -serial` does. A negative one, which RFC 5280 forbids
/// and some CAs issued, has a sign.
#[must_use]
pub fn serial_hex(serial: &[u8]) -> String {
    let negative = serial.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut digits = serial.to_vec();
    if negative {
        let mut carry = true;
        for byte in digits.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    let leading = digits.iter().take_while(|byte| **byte == 0).count();
    let digits = &digits[leading.min(digits.len().saturating_sub(1))..];
    let digits = digits.iter().map(|byte| format!("{byte:02X}"));
    negative.then(|| "-".to_owned()).into_iter().chain(digits).collect()
}

/// Returns the value of the extension `id` of a certificate; `None` if the certificate lacks it or
/// is malformed.
pub(crate) fn extension<'a>(certificate: &'a [u8], id: &[u8]) -> Option<&'a [u8]> {
    let mut tbs = Reader(Reader(Reader(certificate).read(SEQUENCE)?).read(SEQUENCE)?);
    let explicit = std::iter::from_fn(|| tbs.any()).find(|(tag, _)| *tag == EXTENSIONS)?.1;
    extension_of(Reader(explicit).read(SEQUENCE)?, id)
}

/// Returns the value of the extension `id` in a list of extensions, of a certificate, a CRL or an
/// entry of one.
pub(crate) fn extension_of<'a>(extensions: &'a [u8], id: &[u8]) -> Option<&'a [u8]> {
    let mut extensions = Reader(extensions);
    while !extensions.0.is_empty() {
        let mut extension = Reader(extensions.read(SEQUENCE)?);
        if extension.read(OID)? == id {
            extension.read_if(BOOLEAN);
            return extension.read(OCTETS);
        }
    }
    None
}

/// Parses a UTCTime `YYMMDDHHMMSSZ` or a GeneralizedTime `YYYYMMDDHHMMSSZ` (RFC 5280 section
/// 4.1.2.5).
pub(crate) fn time(reader: &mut Reader<'_>) -> Option<Duration> {
    let (tag, text) = reader.any()?;
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let number = |range: std::ops::Range<usize>| {
        let digits = digits.get(range)?;
        Some(digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
    };
    let (year, at) = match (tag, digits.len()) {
        (UTC_TIME, 12) => (number(0..2).map(|year| if year >= 50 { 1900 + year } else { 2000 + year })?, 2),
        (GENERALIZED_TIME, 14) => (number(0..4)?, 4),
        _ => return None,
    };
    let (month, day) = (number(at..at + 2)?, number(at + 2..at + 4)?);
    let (hour, minute, second) = (number(at + 4..at + 6)?, number(at + 6..at + 8)?, number(at + 8..at + 10)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if year < 1970 {
        // The calendar repeats every 400 years, so a date that is invalid then is invalid before
        // 1970.
        return date::days(year + 2000, month, day).map(|_| Duration::ZERO);
    }
    let days = date::days(year, month, day)?;
    Some(Duration::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second))
}

#[cfg(all(test, not(loom)))]
mod tests;
