//! Revocation lists (RFC 5280 section 5): the lists of a file, and the few fields of one that policy and people need.
//!
//! A bounded reader on top of that of [`der`]. It decides nothing about a certificate: rustls and webpki parse each
//! list themselves. Nothing is passed over: a malformed entry makes the whole list malformed, for an entry that is not
//! read is a client that is let in.

use std::{cmp::Ordering, time::Duration};

use rustls::pki_types::CertificateRevocationListDer;

use crate::{
    der::{self, BOOLEAN, GENERALIZED_TIME, INTEGER, OCTETS, OID, Reader, SEQUENCE, UTC_TIME},
    error::{Error, Layer},
    pem,
};

/// What is read of a revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    /// Whether it is of version 2: rustls takes no other.
    pub version_2: bool,
    /// The DER of the issuer's name.
    pub issuer: &'a [u8],
    /// When it was issued, since the Unix epoch.
    pub this_update: Duration,
    /// When the next one is due at the latest, since the Unix epoch.
    pub next_update: Option<Duration>,
    /// The bytes of its number, most significant first, as encoded.
    pub number: Option<&'a [u8]>,
    /// The identifier of the key that signed it, where it has one (RFC 5280 section 5.2.1).
    pub key_identifier: Option<&'a [u8]>,
    /// The DER of its issuing distribution point, where it is about a part of the certificates only.
    pub scope: Option<&'a [u8]>,
    /// The bytes of the serial numbers that it lists, as encoded.
    pub revoked: Vec<&'a [u8]>,
    /// The serial numbers among them that are on hold only (reason `certificateHold`): an authority may release these.
    pub on_hold: Vec<&'a [u8]>,
    /// The signed part, with its tag and length.
    pub signed: &'a [u8],
    /// The DER of the signature's algorithm, without its tag and length.
    pub algorithm: &'a [u8],
    /// The signature.
    pub signature: &'a [u8],
}

const BIT_STRING: u8 = 0x03;
const EXTENSIONS: u8 = 0xa0;
const CRL_NUMBER: &[u8] = &[0x55, 29, 20];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 29, 35];
/// The tag of the key identifier in an AuthorityKeyIdentifier.
const KEY_IDENTIFIER: u8 = 0x80;
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 29, 28];
const REASON: &[u8] = &[0x55, 29, 21];
/// An ENUMERATED of the value 6 (RFC 5280 section 5.3.1).
const CERTIFICATE_HOLD: &[u8] = &[0x0a, 1, 6];

/// The revocation lists of a file, in its order: one in DER, or any number in PEM, but at least one.
///
/// Whatever is a list in DER is read as that: authorities publish DER. Anything else is PEM if it has a `BEGIN`, or does
/// not begin like DER.
///
/// # Errors
/// [`Layer::Pem`] for an empty file, damaged PEM, or anything else than revocation lists in it; [`Layer::Crl`] for a
/// list that is malformed, whole files only.
pub fn parse(file: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    let lists = match file.first() {
        // Copied once it is known for a list: a private key begins like one.
        Some(&SEQUENCE) if fields(file).is_some() => vec![file.to_vec().into()],
        // The text before PEM may begin with a zero.
        Some(&SEQUENCE) if !file.windows(11).any(|text| text == b"-----BEGIN ") => {
            return Err(Error::new(Layer::Crl, "revocation list 1 of 1 is malformed"));
        }
        _ => pem::crls(file)?,
    };
    match lists.iter().position(|list| fields(list).is_none()) {
        None => Ok(lists),
        Some(i) => {
            let why = format!("revocation list {} of {} is malformed", i + 1, lists.len());
            Err(Error::new(Layer::Crl, why))
        }
    }
}

/// Reads a revocation list; `None` if it is not one.
///
/// 1. CertificateList: the signed part, algorithm, signature. 2. Version, algorithm, issuer. 3. Dates. 4. The entries.
/// 5. Extensions, of which the number, the key's identifier and the issuing distribution point are opened.
#[must_use]
pub fn fields(list: &[u8]) -> Option<Fields<'_>> {
    // 1.
    let mut outer = Reader(list);
    let mut parts = Reader(outer.read(SEQUENCE)?);
    outer.end()?;
    let all = parts.0;
    let mut tbs = Reader(parts.read(SEQUENCE)?);
    let signed = &all[..all.len() - parts.0.len()];
    let algorithm = parts.read(SEQUENCE)?;
    // A signature is whole bytes.
    let signature = parts.read(BIT_STRING)?.strip_prefix(&[0])?;
    parts.end()?;
    // 2.
    let version_2 = match tbs.read_if(INTEGER) {
        None => false,
        Some([1]) => true,
        Some(_) => return None,
    };
    tbs.read(SEQUENCE)?;
    let issuer = tbs.read(SEQUENCE)?;
    // 3.
    let this_update = der::time(&mut tbs)?;
    let dated = matches!(tbs.0.first(), Some(&(UTC_TIME | GENERALIZED_TIME)));
    let next_update = if dated { Some(der::time(&mut tbs)?) } else { None };
    // 4.
    let (mut revoked, mut on_hold) = (Vec::new(), Vec::new());
    if let Some(entries) = tbs.read_if(SEQUENCE) {
        let mut entries = Reader(entries);
        while !entries.0.is_empty() {
            let mut entry = Reader(entries.read(SEQUENCE)?);
            let serial = entry.read(INTEGER).filter(|serial| !serial.is_empty())?;
            der::time(&mut entry)?;
            let reason = entry.read_if(SEQUENCE).and_then(|extensions| der::extension_of(extensions, REASON));
            entry.end()?;
            revoked.push(serial);
            on_hold.extend((reason == Some(CERTIFICATE_HOLD)).then_some(serial));
        }
    }
    // 5.
    let (mut number, mut key_identifier, mut scope) = (None, None, None);
    if let Some(explicit) = tbs.read_if(EXTENSIONS) {
        let mut explicit = Reader(explicit);
        let mut extensions = Reader(explicit.read(SEQUENCE)?);
        explicit.end()?;
        while !extensions.0.is_empty() {
            let mut extension = Reader(extensions.read(SEQUENCE)?);
            let id = extension.read(OID)?;
            extension.read_if(BOOLEAN);
            let value = extension.read(OCTETS)?;
            extension.end()?;
            if id == CRL_NUMBER {
                number = Some(Reader(value).read(INTEGER).filter(|number| !number.is_empty())?);
            } else if id == AUTHORITY_KEY_IDENTIFIER {
                key_identifier =
                    Reader(value).read(SEQUENCE).and_then(|parts| Reader(parts).read_if(KEY_IDENTIFIER));
            } else if id == ISSUING_DISTRIBUTION_POINT {
                scope = Some(value);
            }
        }
    }
    tbs.end()?;
    Some(Fields {
        version_2,
        issuer,
        this_update,
        next_update,
        number,
        key_identifier,
        scope,
        revoked,
        on_hold,
        signed,
        algorithm,
        signature,
    })
}

impl Fields<'_> {
    /// How the ages of two lists of one issuer compare: by the date of issue, and by number where that is the same. One
    /// without a number is older than all that have one: an order of many lists needs a place for it.
    ///
    /// The date comes first, for a number begins again where an authority loses its files.
    #[must_use]
    pub fn age(&self, other: &Self) -> Ordering {
        (self.this_update, self.magnitude()).cmp(&(other.this_update, other.magnitude()))
    }

    /// How the numbers of two lists compare; `None` where one has none.
    #[must_use]
    pub fn numbered(&self, other: &Self) -> Option<Ordering> {
        Some(self.magnitude()?.cmp(&other.magnitude()?))
    }

    /// The number in a form that compares: how many digits, and these.
    pub(crate) fn magnitude(&self) -> Option<(usize, &[u8])> {
        let number = self.number?;
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        Some((number.len() - zeros, &number[zeros..]))
    }
}
