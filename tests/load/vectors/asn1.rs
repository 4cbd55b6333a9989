//! Writes DER, and malformed DER: certificates in which any part may be wrong.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_reload::{Timestamp, internal::pem};

use super::set::Set;
use crate::common::armor::block;

pub(crate) const BOOLEAN: u8 = 1;
pub(crate) const INTEGER: u8 = 2;
pub(crate) const BITS: u8 = 3;
pub(crate) const OCTETS: u8 = 4;
pub(crate) const OID: u8 = 6;
pub(crate) const UTF8: u8 = 0x0c;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// Encodes a value in the shortest form.
pub(crate) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let head = match length {
        [] => vec![tag, 0],
        [short] if *short < 0x80 => vec![tag, *short],
        long => [&[tag, 0x80 | long.len() as u8], long].concat(),
    };
    [&head, content].concat()
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    value(SEQUENCE, &parts.concat())
}

/// Returns the content of a DER value, and the bytes after the value.
pub(crate) fn open(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = match der[1] {
        short @ 0..=0x7f => (usize::from(short), &der[2..]),
        long => {
            let (bytes, rest) = der[2..].split_at(usize::from(long & 0x7f));
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
    };
    rest.split_at(length)
}

/// Returns the values within a value, each with its head.
pub(crate) fn parts(der: &[u8]) -> Vec<&[u8]> {
    let mut rest = open(der).0;
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let behind = open(rest).1;
        parts.push(&rest[..rest.len() - behind.len()]);
        rest = behind;
    }
    parts
}

pub(crate) fn extension(id: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[BOOLEAN, 1, 0xff] } else { &[] };
    sequence(&[&value(OID, id), critical, &value(OCTETS, content)])
}

pub(crate) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 29, 17];
pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 29, 19];
pub(crate) const KEY_USAGE: &[u8] = &[0x55, 29, 15];
pub(crate) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 29, 37];
pub(crate) const NAME_CONSTRAINTS: &[u8] = &[0x55, 29, 30];

/// The DNS name `localhost`.
pub(crate) fn localhost() -> Vec<u8> {
    extension(SUBJECT_ALT_NAME, false, &sequence(&[&value(0x82, b"localhost")]))
}

pub(crate) fn common_name(tag: u8, text: &[u8]) -> Vec<u8> {
    let pair = sequence(&[&value(OID, &[0x55, 4, 3]), &value(tag, text)]);
    value(SEQUENCE, &value(SET, &pair))
}

/// Formats a time as GeneralizedTime, `20260131235959Z`.
pub(crate) fn written(at: SystemTime) -> String {
    let since = Duration::from_secs(at.duration_since(UNIX_EPOCH).unwrap().as_secs());
    Timestamp(since).to_string().chars().filter(|c| c.is_ascii_digit() || *c == 'Z').collect()
}

pub(crate) fn general(text: &str) -> Vec<u8> {
    value(GENERALIZED_TIME, text.as_bytes())
}

pub(crate) const fn hours(hours: u64) -> Duration {
    Duration::from_secs(3600 * hours)
}

/// The parts of a certificate. The signature is random, because a server does not verify its own
/// certificate.
pub(crate) struct Certificate {
    pub(crate) version: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) algorithm: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) validity: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) key: Vec<u8>,
    /// The unique identifiers, between key and extensions.
    pub(crate) unique: Vec<u8>,
    pub(crate) extensions: Vec<Vec<u8>>,
    /// Bytes after the extensions.
    pub(crate) extra: Vec<u8>,
    pub(crate) outer_algorithm: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    /// Bytes after the certificate.
    pub(crate) behind: Vec<u8>,
}

impl Certificate {
    /// A valid certificate for the key of the set: version 3, valid for a day, for `localhost`.
    pub(crate) fn of(set: &Set) -> Self {
        let leaf = pem::chain(set.chain.as_bytes()).unwrap().remove(0);
        let signed = parts(&leaf)[0];
        let key = parts(signed)[6].to_vec();
        // ecdsa-with-SHA256
        let algorithm = sequence(&[&value(OID, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2])]);
        let now = SystemTime::now();
        let mut certificate = Self {
            version: value(VERSION, &[INTEGER, 1, 2]),
            serial: value(INTEGER, &[0x12, 0x34]),
            outer_algorithm: algorithm.clone(),
            algorithm,
            issuer: common_name(UTF8, b"by hand"),
            validity: Vec::new(),
            subject: common_name(UTF8, b"localhost"),
            key,
            unique: Vec::new(),
            extensions: vec![localhost()],
            extra: Vec::new(),
            signature: value(BITS, &[0, 0x30, 6, 2, 1, 1, 2, 1, 1]),
            behind: Vec::new(),
        };
        certificate.valid(&written(now - hours(1)), &written(now + hours(24)));
        certificate
    }

    pub(crate) fn valid(&mut self, from: &str, to: &str) {
        self.validity = sequence(&[&general(from), &general(to)]);
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        let extensions = match self.extensions.as_slice() {
            [] => Vec::new(),
            some => value(EXTENSIONS, &value(SEQUENCE, &some.concat())),
        };
        let signed = sequence(&[
            &self.version,
            &self.serial,
            &self.algorithm,
            &self.issuer,
            &self.validity,
            &self.subject,
            &self.key,
            &self.unique,
            &extensions,
            &self.extra,
        ]);
        [sequence(&[&signed, &self.outer_algorithm, &self.signature]), self.behind.clone()].concat()
    }

    pub(crate) fn pem(&self) -> String {
        block("CERTIFICATE", &self.der())
    }
}
