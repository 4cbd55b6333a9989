//! Names of subjects and issuers: for messages, and for comparison.

use std::{collections::BTreeSet, net::IpAddr};

use super::reader::{OID, Reader, SEQUENCE, SET};
use crate::report::line::breaks_line;

/// Limit of names read from one certificate.
const NAME_LIMIT: usize = 1024;

const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
pub(super) const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
pub(super) const UNIVERSAL_STRING: u8 = 0x1c;
pub(super) const BMP_STRING: u8 = 0x1e;
pub(super) const DNS_NAME: u8 = 0x82;
pub(super) const IP_ADDRESS: u8 = 0x87;
pub(super) const COMMON_NAME: &[u8] = &[0x55, 4, 3];
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

pub(super) fn alternative_names(names: &[u8]) -> Option<Vec<String>> {
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
pub(super) fn common_names(name: &[u8]) -> Option<Vec<(u8, &[u8])>> {
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
pub(super) fn directory_string(tag: u8, value: &[u8]) -> String {
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
pub(super) fn printable(text: &str) -> String {
    text.chars().take(255).map(|c| if breaks_line(c) { '\u{fffd}' } else { c }).collect()
}
