//! One indexed CRL: the serial numbers that it lists, the certificates that it covers, and the keys
//! that signed it.

use std::{fmt, ops::Range, time::Duration};

use rustls::{crypto::WebPkiSupportedAlgorithms, pki_types::CertificateRevocationListDer};
use webpki::BorrowedCertRevocationList;

use crate::{
    pki::{
        crl::{self, Fields},
        der::{self, BIT_STRING, Reader, SEQUENCE},
    },
    sync::{Mutex, lock},
};

mod scope;
pub use scope::covered_certificates;
pub(super) use scope::{DIRECTORY_NAME, Scope, general_names};

/// The last byte of the extension ids 2.5.29.28 and 2.5.29.35.
const ISSUING_DISTRIBUTION_POINT: u8 = 28;
const AUTHORITY_KEY_IDENTIFIER: u8 = 35;
/// Keys whose result is cached for one CRL. Only authorities below a trust anchor reach a CRL.
const KEY_LIMIT: usize = 8;

const MALFORMED: &str = "is malformed";
const EXTENDED: &str = "`openssl ca -gencrl` writes version 2 with both if openssl.cnf sets crlnumber, and \
                        crl_extensions to a section with authorityKeyIdentifier = keyid";

/// The place of a serial number in the DER of a CRL: offset and length.
pub(super) type Span = (u32, u32);

/// A CRL that passed every check that needs no key.
pub(super) struct Parsed {
    pub(super) der: CertificateRevocationListDer<'static>,
    pub(super) issuer: Vec<u8>,
    /// The issuer's name in canonical form.
    pub(super) canonical: Vec<u8>,
    pub(super) scope: Scope,
    pub(super) this_update: Duration,
    pub(super) next_update: Duration,
    pub(super) number: Option<Vec<u8>>,
    /// The authority key identifier, if the CRL has one.
    pub(super) key_identifier: Option<Vec<u8>>,
    signed: Range<usize>,
    algorithm: Range<usize>,
    signature: Range<usize>,
    /// Sorted by serial number. Most CRLs are not sorted.
    serials: Vec<Span>,
    /// The entries among them that are only on hold.
    on_hold: Vec<Span>,
    /// Whether each of these keys signed the CRL. A CRL of 64 MiB is hashed once for each key, not
    /// in each handshake.
    keys: Mutex<Vec<(Vec<u8>, bool)>>,
}

impl Parsed {
    /// Parses and indexes a CRL.
    ///
    /// # Errors
    /// Returns the reason in words, with the CRL as subject, for a CRL that is malformed or of a
    /// kind that is not supported.
    pub(super) fn new(der: CertificateRevocationListDer<'static>) -> Result<Self, String> {
        let malformed = || MALFORMED.to_owned();
        let fields = crl::fields(&der).ok_or_else(malformed)?;
        if !fields.version_2 {
            return Err(format!(
                "is of version 1: rustls accepts version 2 only, with authorityKeyIdentifier and cRLNumber; {EXTENDED}"
            ));
        }
        let next_update = fields.next_update.ok_or("has no nextUpdate, the date of the next one")?;
        let scope = fields.scope.map_or_else(|| Some(Scope::default()), Scope::read).ok_or_else(malformed)?;
        // Rejects delta CRLs, indirect CRLs, CRLs for some reasons only, and unknown critical
        // extensions.
        supported(&der, &fields, &scope).map_err(|error| unsupported(&error, &fields))?;
        let index = |serials: &[&[u8]]| -> Option<Vec<Span>> {
            let span = |serial: &&[u8]| {
                let at = range(&der, serial);
                Some((u32::try_from(at.start).ok()?, u32::try_from(at.len()).ok()?))
            };
            let mut spans = serials.iter().map(span).collect::<Option<Vec<_>>>()?;
            spans.sort_unstable_by_key(|span| shortest(at(&der, span)));
            Some(spans)
        };
        let spans = index(&fields.revoked).zip(index(&fields.on_hold));
        let (serials, on_hold) = spans.ok_or("is longer than 4 GiB")?;
        Ok(Self {
            issuer: fields.issuer.to_vec(),
            canonical: der::canonical_name(fields.issuer),
            scope,
            this_update: fields.this_update,
            next_update,
            number: fields.number.map(<[u8]>::to_vec),
            key_identifier: fields.key_identifier.map(<[u8]>::to_vec),
            signed: range(&der, fields.signed),
            algorithm: range(&der, fields.algorithm),
            signature: range(&der, fields.signature),
            serials,
            on_hold,
            keys: Mutex::default(),
            der,
        })
    }

    /// Returns the bytes of a serial number, without redundant bytes of its encoding.
    pub(super) fn serial(&self, span: &Span) -> &[u8] {
        shortest(at(&self.der, span))
    }

    /// Returns the entries with this serial number.
    pub(super) fn named(&self, serial: &[u8]) -> &[Span] {
        let serial = shortest(serial);
        let from = self.serials.partition_point(|span| self.serial(span) < serial);
        let rest = &self.serials[from..];
        &rest[..rest.partition_point(|span| self.serial(span) == serial)]
    }

    /// Returns all entries, in the order of their serial numbers.
    pub(super) fn serials(&self) -> &[Span] {
        &self.serials
    }

    /// Returns the entries that `newer` has released from hold.
    pub(super) fn released_by(&self, newer: &Self) -> impl Iterator<Item = Span> {
        let released = |span: &Span| newer.named(self.serial(span)).is_empty();
        self.on_hold.iter().copied().filter(released)
    }

    /// Returns whether this is a later CRL than `older` by number, and not an earlier one by date.
    ///
    /// Both have to agree. A number starts again where an authority loses its files, and a date is
    /// wrong where the authority's clock is.
    pub(super) fn is_newer_than(&self, older: &Self) -> bool {
        let numbers = self.magnitude().zip(older.magnitude());
        numbers.is_some_and(|(new, old)| new > old) && self.this_update >= older.this_update
    }

    /// Returns the CRL number in a form that compares: the count of its digits, and the digits.
    pub(super) fn magnitude(&self) -> Option<(usize, &[u8])> {
        let number = self.number.as_deref()?;
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        Some((number.len() - zeros, &number[zeros..]))
    }

    /// Returns whether the key of this SubjectPublicKeyInfo (its content) signed the CRL, by an
    /// algorithm of the provider (RFC 5280 section 6.3.3 (g)).
    pub(super) fn signed_by(&self, key: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> bool {
        if let Some((_, known)) = lock(&self.keys).iter().find(|(known, _)| known == key) {
            return *known;
        }
        // The lock is released here, so that other handshakes can verify other keys meanwhile.
        let signed = self.verify(key, algorithms).is_some();
        let mut keys = lock(&self.keys);
        if keys.len() == KEY_LIMIT {
            let forgotten = keys.iter().position(|(_, signed)| !signed).unwrap_or(0);
            keys.remove(forgotten);
        }
        keys.push((key.to_vec(), signed));
        signed
    }

    /// Returns the cached keys that signed the CRL.
    pub(super) fn signers(&self) -> Vec<Vec<u8>> {
        let keys = lock(&self.keys);
        keys.iter().filter(|(_, signed)| *signed).map(|(key, _)| key.clone()).collect()
    }

    fn verify(&self, key: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> Option<()> {
        let mut spki = Reader(key);
        let (kind, bits) = (spki.read(SEQUENCE)?, spki.read(BIT_STRING)?);
        let key = bits.strip_prefix(&[0])?;
        let [signed, algorithm, signature] =
            [&self.signed, &self.algorithm, &self.signature].map(|range| &self.der[range.clone()]);
        let verifies = algorithms.all.iter().any(|known| {
            known.signature_alg_id().as_ref() == algorithm
                && known.public_key_alg_id().as_ref() == kind
                && known.verify_signature(key, signed, signature).is_ok()
        });
        verifies.then_some(())
    }
}

impl fmt::Debug for Parsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A CRL may have millions of bytes.
        f.debug_struct("Parsed")
            .field("issuer", &der::name(&self.issuer))
            .field("entries", &self.serials.len())
            .finish_non_exhaustive()
    }
}

/// Checks that webpki supports everything in a CRL that is critical for its meaning.
fn supported(der: &[u8], fields: &Fields<'_>, scope: &Scope) -> Result<(), webpki::Error> {
    let all = |der: &[u8]| {
        let list = BorrowedCertRevocationList::from_der(der)?;
        list.into_iter().try_for_each(|entry| entry.map(drop))
    };
    match (all(der), fields.scope) {
        // webpki rejects a scope without a name, which RFC 5280 section 6.3.3 (b)(2) defines and
        // this module implements. webpki checks everything else, on a copy that has the id of an
        // extension that it ignores.
        (Err(webpki::Error::UnsupportedCrlIssuingDistributionPoint), Some(idp)) if scope.names.is_none() => {
            let mut copy = der.to_vec();
            let before = &copy[..range(der, idp).start];
            let id = [0x55, 29, ISSUING_DISTRIBUTION_POINT];
            let place = before.windows(id.len()).rposition(|bytes| bytes == id);
            if let Some(place) = place {
                copy[place + 2] = AUTHORITY_KEY_IDENTIFIER;
            }
            all(&copy)
        }
        (answer, _) => answer,
    }
}

/// Returns the reason in words why webpki rejects a CRL, with the CRL as subject.
fn unsupported(error: &webpki::Error, fields: &Fields<'_>) -> String {
    use webpki::Error as Webpki;
    let why = match error {
        Webpki::MalformedExtensions if !fields.extended => {
            return format!(
                "has no extensions: RFC 5280 section 5.2 requires authorityKeyIdentifier and cRLNumber; \
                 {EXTENDED}"
            );
        }
        Webpki::UnsupportedDeltaCrl => {
            "is a delta CRL, which has only the changes since another one: publish the complete CRL"
        }
        Webpki::UnsupportedIndirectCrl => {
            "is an indirect CRL, which is for certificates of other CAs too: publish a CRL of each CA"
        }
        Webpki::UnsupportedRevocationReasonsPartitioning => {
            "is for some reasons of revocation only: publish the CRL for all reasons"
        }
        Webpki::UnsupportedCrlIssuingDistributionPoint => {
            "names its distribution point relative to its issuer: the CA has to name it in full"
        }
        Webpki::UnsupportedRevocationReason => {
            "has an entry with a reason that RFC 5280 section 5.3.1 does not have"
        }
        Webpki::UnsupportedCriticalExtension => {
            "has a critical extension that rustls does not know, in the CRL or in an entry: `openssl crl \
             -text -noout -in old` shows it, the CA has to leave it out"
        }
        Webpki::InvalidCrlNumber => "has a CRL number that is negative, longer than 20 bytes or malformed",
        Webpki::MalformedExtensions if fields.scope.is_some() => {
            "is for attribute certificates only, which TLS does not use, or its distribution point is \
             malformed"
        }
        _ => MALFORMED,
    };
    why.to_owned()
}

/// Returns where `part`, a slice of `whole`, lies in it.
fn range(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    start..start + part.len()
}

fn at<'a>(der: &'a [u8], span: &Span) -> &'a [u8] {
    let (start, length) = (span.0 as usize, span.1 as usize);
    der.get(start..start + length).unwrap_or_default()
}

/// Returns an INTEGER without redundant leading bytes.
///
/// webpki accepts certificates whose serial number has such bytes, and each CRL entry with that
/// number means them.
fn shortest(mut integer: &[u8]) -> &[u8] {
    while let [first @ (0 | 0xff), rest @ ..] = integer
        && rest.first().is_some_and(|next| (next & 0x80 != 0) == (*first == 0xff))
    {
        integer = rest;
    }
    integer
}

#[cfg(all(test, not(loom)))]
impl Parsed {
    /// Makes a CRL with these serial numbers and without a signature.
    pub(super) fn of_serials(serials: &[Vec<u8>]) -> Self {
        let der = serials.concat();
        let mut from = 0;
        let spans = serials.iter().map(|serial| {
            let length = u32::try_from(serial.len()).expect("short");
            from += length;
            (from - length, length)
        });
        let mut serials: Vec<_> = spans.collect();
        serials.sort_unstable_by_key(|span| shortest(at(&der, span)));
        Self {
            issuer: Vec::new(),
            canonical: Vec::new(),
            scope: Scope::default(),
            this_update: Duration::ZERO,
            next_update: Duration::MAX,
            number: None,
            key_identifier: None,
            signed: 0..0,
            algorithm: 0..0,
            signature: 0..0,
            serials,
            on_hold: Vec::new(),
            keys: Mutex::default(),
            der: der.into(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Checks: INV-14.
    #[test]
    fn inv14_serial_is_found_however_it_is_encoded() {
        let number = |bytes: &[u8]| bytes.to_vec();
        let list = Parsed::of_serials(&[
            number(&[5]),
            number(&[0, 0, 7]),
            number(&[0, 0x80]),
            number(&[0xff, 0x80]),
        ]);
        for named in
            [&[5][..], &[0, 5], &[0, 0, 5], &[7], &[0, 0x80], &[0, 0, 0x80], &[0x80], &[0xff, 0xff, 0x80]]
        {
            assert_eq!(list.named(named).len(), 1, "{named:?}");
        }
        for other in [&[6][..], &[0], &[0xff], &[0x7f], &[1, 0x80], &[5, 0], &[]] {
            assert_eq!(list.named(other).len(), 0, "{other:?}");
        }
    }
}
