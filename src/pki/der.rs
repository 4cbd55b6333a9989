//! Parses the few fields of a certificate that are reported and compared: validity, serial number,
//! names.
//!
//! This is a bounded reader of DER (X.690) and of the necessary part of RFC 5280 section 4.1. It
//! decides nothing about trust: rustls and webpki parse the certificate themselves. Every length is
//! checked against the input, and nothing recurses.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use crate::report::date;

/// Limit of names read from one certificate.
const NAME_LIMIT: usize = 1024;

/// The fields that are read from a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
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

pub(crate) const BOOLEAN: u8 = 0x01;
/// The tag of an integer.
pub const INTEGER: u8 = 0x02;
/// The tag of an octet string.
pub const OCTETS: u8 = 0x04;
/// The tag of an object identifier.
pub const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const UNIVERSAL_STRING: u8 = 0x1c;
const BMP_STRING: u8 = 0x1e;
/// The tag of a time with two digits of the year.
pub const UTC_TIME: u8 = 0x17;
/// The tag of a time with four digits of the year.
pub const GENERALIZED_TIME: u8 = 0x18;
/// The tag of a sequence.
pub const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const ISSUER_UNIQUE_ID: u8 = 0x81;
const SUBJECT_UNIQUE_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// The attribute types of RFC 4514 section 3 that certificates use, and the e-mail address of PKCS
/// #9.
const ATTRIBUTES: &[(&[u8], &str)] = &[
    (COMMON_NAME, "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 29, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 29, 19];
/// id-pe-tlsfeature, and the number of `status_request` in it (RFC 7633 section 4).
const TLS_FEATURE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 24];
const STATUS_REQUEST: &[u8] = &[5];
const BIT_STRING: u8 = 0x03;

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
    tbs.read_if(VERSION);
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
    let (mut names, mut alternative, mut ca, mut must_staple) = (Vec::new(), None, false, false);
    if let Some(explicit) = tbs.read_if(EXTENSIONS) {
        let mut extensions = Reader(Reader(explicit).read(SEQUENCE)?);
        while !extensions.0.is_empty() {
            let mut extension = Reader(extensions.read(SEQUENCE)?);
            let id = extension.read(OID)?;
            extension.read_if(BOOLEAN);
            let value = extension.read(OCTETS)?;
            if id == SUBJECT_ALT_NAME {
                let found = Reader(value).read(SEQUENCE)?;
                names = alternative_names(found)?;
                alternative = Some(found);
            } else if id == BASIC_CONSTRAINTS {
                // X.690 section 11.1 encodes true as all ones.
                ca = Reader(value).read(SEQUENCE).and_then(|own| Reader(own).read(BOOLEAN)) == Some(&[0xff]);
            } else if id == TLS_FEATURE {
                let mut features = Reader(Reader(value).read(SEQUENCE).unwrap_or_default());
                must_staple = std::iter::from_fn(|| features.read(INTEGER)).any(|id| id == STATUS_REQUEST);
            }
        }
    }
    // Extensions that are truncated or under another tag must not count as no extensions.
    tbs.end()?;
    if names.is_empty() {
        let last = common_names(subject).and_then(|mut found| found.pop());
        names.extend(last.map(|(tag, value)| printable(&directory_string(tag, value))));
    }
    Some(Fields {
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

/// Formats a name (an issuer's or a subject's) in the order of `openssl x509 -subject`: `C=US,
/// O=Example, CN=localhost`. Returns `None` if the name is malformed.
///
/// A comma within a part is escaped, characters that break out of a line are replaced, and an
/// uncommon type is written as `?`.
#[must_use]
pub fn name(name: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut sets = Reader(name);
    while !sets.0.is_empty() {
        let mut pairs = Reader(sets.read(SET)?);
        while !pairs.0.is_empty() {
            let mut pair = Reader(pairs.read(SEQUENCE)?);
            let id = pair.read(OID)?;
            let (tag, value) = pair.any()?;
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(ATTRIBUTES.iter().find(|(known, _)| *known == id).map_or("?", |(_, short)| short));
            text.push('=');
            for c in printable(&directory_string(tag, value)).chars() {
                if matches!(c, ',' | '\\') {
                    text.push('\\');
                }
                text.push(c);
            }
        }
    }
    Some(text)
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

/// Returns a name in the canonical form in which RFC 5280 section 7.1 compares names. Equal names
/// have equal forms, whatever the types of their strings, the case of their letters and the number
/// of their spaces.
///
/// Unicode is not normalized beyond lower case. A malformed name is compared as raw bytes.
pub(crate) fn canonical_name(name: &[u8]) -> Vec<u8> {
    fn form(name: &[u8]) -> Option<Vec<u8>> {
        let mut form = Vec::with_capacity(name.len());
        let mut sets = Reader(name);
        while !sets.0.is_empty() {
            let mut pairs = Reader(sets.read(SET)?);
            // The order within a set follows from the encoding and has no meaning.
            let mut parts = BTreeSet::new();
            while !pairs.0.is_empty() {
                let mut pair = Reader(pairs.read(SEQUENCE)?);
                let id = pair.read(OID)?;
                let (tag, value) = pair.any()?;
                pair.end()?;
                let value = if string_type(tag).is_none() {
                    [&[tag], value].concat()
                } else {
                    let text = directory_string(tag, value).to_lowercase();
                    [b"=", text.split_whitespace().collect::<Vec<_>>().join(" ").as_bytes()].concat()
                };
                parts.insert((id, value));
            }
            for (id, value) in parts {
                form.extend(id.len().to_be_bytes());
                form.extend(id);
                form.extend(value.len().to_be_bytes());
                form.extend(value);
            }
            form.push(SET);
        }
        Some(form)
    }
    form(name).unwrap_or_else(|| name.to_vec())
}

/// Returns the types of the strings in a name, each once, in the order of their first use.
pub(crate) fn string_types(name: &[u8]) -> Vec<&'static str> {
    let mut types = Vec::new();
    let mut sets = Reader(name);
    while let Some(mut pairs) = sets.read(SET).map(Reader) {
        while let Some(mut pair) = pairs.read(SEQUENCE).map(Reader) {
            let found = pair.read(OID).and_then(|_| pair.any()).and_then(|(tag, _)| string_type(tag));
            types.extend(found.filter(|found| !types.contains(found)));
        }
    }
    types
}

fn string_type(tag: u8) -> Option<&'static str> {
    Some(match tag {
        UTF8_STRING => "UTF8String",
        PRINTABLE_STRING => "PrintableString",
        TELETEX_STRING => "TeletexString",
        IA5_STRING => "IA5String",
        UNIVERSAL_STRING => "UniversalString",
        BMP_STRING => "BMPString",
        _ => return None,
    })
}

fn alternative_names(names: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader(names);
    let mut found = Vec::new();
    while !reader.0.is_empty() && found.len() < NAME_LIMIT {
        match reader.any()? {
            (DNS_NAME, name) => found.push(printable(&String::from_utf8_lossy(name))),
            (IP_ADDRESS, &[a, b, c, d]) => found.push(IpAddr::from([a, b, c, d]).to_string()),
            (IP_ADDRESS, address) => {
                found.extend(<[u8; 16]>::try_from(address).ok().map(|a| IpAddr::from(a).to_string()));
            }
            _ => {}
        }
    }
    Some(found)
}

/// Returns the common names in a name, each with its tag.
fn common_names(name: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut sets = Reader(name);
    let mut found = Vec::new();
    while !sets.0.is_empty() {
        let mut pairs = Reader(sets.read(SET)?);
        while !pairs.0.is_empty() {
            let mut pair = Reader(pairs.read(SEQUENCE)?);
            if pair.read(OID)? == COMMON_NAME {
                found.push(pair.any()?);
            }
        }
    }
    Some(found)
}

/// Returns the text of a `DirectoryString` (RFC 5280 section 4.1.2.4). A `TeletexString` is read as
/// Latin-1, as OpenSSL does.
fn directory_string(tag: u8, value: &[u8]) -> String {
    match tag {
        TELETEX_STRING => value.iter().copied().map(char::from).collect(),
        BMP_STRING => {
            let units = value.chunks_exact(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
            char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')).collect()
        }
        UNIVERSAL_STRING => {
            let points = value.chunks_exact(4).map(|p| u32::from_be_bytes([p[0], p[1], p[2], p[3]]));
            points.map(|point| char::from_u32(point).unwrap_or('\u{fffd}')).collect()
        }
        _ => String::from_utf8_lossy(value).into_owned(),
    }
}

/// Returns a text for messages and logs: it can neither break out of a line nor reverse its
/// direction.
fn printable(text: &str) -> String {
    let breaks_out = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().take(255).map(|c| if breaks_out(c) { '\u{fffd}' } else { c }).collect()
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

/// The rest of the input.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// Reads the next value, whatever its tag.
    pub fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        // No tag of a certificate takes more than one byte.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // DER requires the shortest form. A CRL may have more than 16 MiB.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                if bytes[0] == 0 || length < 0x80 {
                    return None;
                }
                (length, rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }

    /// The next value, which must have this tag.
    pub fn read(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }

    /// Reads the next value if it has this tag; otherwise reads nothing.
    pub fn read_if(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&tag) { self.read(tag) } else { None }
    }

    /// `None` unless everything was read.
    pub fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
