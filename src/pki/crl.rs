//! CRLs (RFC 5280 section 5): the CRLs of a file, and the few fields that policies and messages
//! need.
//!
//! This is a bounded reader on top of [`der`]. It decides nothing about a certificate: rustls and
//! webpki parse each CRL themselves. No entry is skipped: a malformed entry makes the whole CRL
//! malformed, because a client whose entry is not read would be accepted.

use std::{cmp::Ordering, time::Duration};

use rustls::pki_types::CertificateRevocationListDer;

use crate::{
    pki::{
        der::{
            self, BIT_STRING, BOOLEAN, GENERALIZED_TIME, INTEGER, OCTETS, OID, Reader, SEQUENCE, UTC_TIME,
        },
        pem,
    },
    report::error::{Error, Layer},
};

/// The fields that are read from a CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    /// Whether it has version 2, the only one that rustls supports.
    pub version_2: bool,
    /// The DER of the issuer's name.
    pub issuer: &'a [u8],
    /// The time of its issue, since the Unix epoch.
    pub this_update: Duration,
    /// The time by which the next CRL is due, since the Unix epoch.
    pub next_update: Option<Duration>,
    /// The bytes of its CRL number, most significant first, as encoded.
    pub number: Option<&'a [u8]>,
    /// The authority key identifier, if it has one (RFC 5280 section 5.2.1).
    pub key_identifier: Option<&'a [u8]>,
    /// The DER of its issuing distribution point, if it covers only some of the issuer's
    /// certificates.
    pub scope: Option<&'a [u8]>,
    /// Whether it has extensions.
    pub extended: bool,
    /// The bytes of the serial numbers that it lists, as encoded.
    pub revoked: Vec<&'a [u8]>,
    /// The serial numbers among them that are only on hold (reason `certificateHold`), which an
    /// authority may release.
    pub on_hold: Vec<&'a [u8]>,
    /// The signed part, with its tag and length.
    pub signed: &'a [u8],
    /// The DER of the signature's algorithm, without its tag and length.
    pub algorithm: &'a [u8],
    /// The signature.
    pub signature: &'a [u8],
}

const EXTENSIONS: u8 = 0xa0;
const CRL_NUMBER: &[u8] = &[0x55, 29, 20];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 29, 35];
/// The tag of the key identifier in an AuthorityKeyIdentifier.
const KEY_IDENTIFIER: u8 = 0x80;
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 29, 28];
const REASON: &[u8] = &[0x55, 29, 21];
/// The DER of an ENUMERATED with the value 6 (RFC 5280 section 5.3.1).
const CERTIFICATE_HOLD: &[u8] = &[0x0a, 1, 6];

/// Parses the CRLs of a file, in its order: one CRL in DER, or any number in PEM, but at least one.
///
/// Input that parses as a CRL in DER is taken as DER, which authorities publish. Other input is PEM
/// if it has a `BEGIN` or does not begin like DER.
///
/// # Errors
/// [`Layer::Pem`] for an empty file, damaged PEM, and sections other than CRLs; [`Layer::Crl`] for
/// a malformed CRL. One such CRL rejects the whole file.
pub fn parse(file: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    let lists = match file.first() {
        // The bytes are copied only once they are known to be a CRL: a private key begins like one.
        Some(&SEQUENCE) if fields(file).is_some() => vec![file.to_vec().into()],
        // Text before PEM may begin with a zero, the byte that begins DER.
        Some(&SEQUENCE) if !file.windows(11).any(|text| text == b"-----BEGIN ") => {
            return Err(refused(file, 0, 1, "is malformed"));
        }
        _ => pem::crls(file)?,
    };
    match lists.iter().position(|list| fields(list).is_none()) {
        None => Ok(lists),
        Some(i) => Err(refused(file, i, lists.len(), "is malformed")),
    }
}

/// Returns the error of the CRL with this number (from 0) of a file of `count` CRLs: with its line,
/// if the file is PEM.
pub(crate) fn refused(file: &[u8], number: usize, count: usize, why: &str) -> Error {
    let why = format!("CRL {} of {count} {why}", number + 1);
    match pem::line_of_crl(file, number) {
        Some(line) => Error::on_line(Layer::Crl, line, why),
        None => Error::new(Layer::Crl, why),
    }
}

/// Parses a CRL; `None` if it is malformed.
///
/// 1. CertificateList: the signed part, the algorithm and the signature are read.
/// 2. Version, algorithm and issuer follow.
/// 3. The dates follow.
/// 4. The entries follow.
/// 5. The extensions follow, of which the CRL number, the authority key identifier and the issuing
///    distribution point are parsed.
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
    // A signature consists of whole bytes.
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
    let Entries { revoked, on_hold } = entries(tbs.read_if(SEQUENCE).unwrap_or_default())?;
    // 5.
    let explicit = tbs.read_if(EXTENSIONS);
    let Extensions { number, key_identifier, scope } = match explicit {
        Some(explicit) => extensions(explicit)?,
        None => Extensions::default(),
    };
    tbs.end()?;
    Some(Fields {
        version_2,
        issuer,
        this_update,
        next_update,
        number,
        key_identifier,
        scope,
        extended: explicit.is_some(),
        revoked,
        on_hold,
        signed,
        algorithm,
        signature,
    })
}

/// The serial numbers of the entries, and those of the entries on hold.
#[derive(Default)]
struct Entries<'a> {
    revoked: Vec<&'a [u8]>,
    on_hold: Vec<&'a [u8]>,
}

fn entries(entries: &[u8]) -> Option<Entries<'_>> {
    let mut entries = Reader(entries);
    let mut found = Entries::default();
    while !entries.0.is_empty() {
        let mut entry = Reader(entries.read(SEQUENCE)?);
        let serial = entry.read(INTEGER).filter(|serial| !serial.is_empty())?;
        der::time(&mut entry)?;
        let reason = entry.read_if(SEQUENCE).and_then(|extensions| der::extension_of(extensions, REASON));
        entry.end()?;
        found.revoked.push(serial);
        found.on_hold.extend((reason == Some(CERTIFICATE_HOLD)).then_some(serial));
    }
    Some(found)
}

/// The extensions that are read.
#[derive(Default)]
struct Extensions<'a> {
    number: Option<&'a [u8]>,
    key_identifier: Option<&'a [u8]>,
    scope: Option<&'a [u8]>,
}

fn extensions(explicit: &[u8]) -> Option<Extensions<'_>> {
    let mut explicit = Reader(explicit);
    let mut extensions = Reader(explicit.read(SEQUENCE)?);
    explicit.end()?;
    let mut found = Extensions::default();
    while !extensions.0.is_empty() {
        let mut extension = Reader(extensions.read(SEQUENCE)?);
        let id = extension.read(OID)?;
        extension.read_if(BOOLEAN);
        let value = extension.read(OCTETS)?;
        extension.end()?;
        if id == CRL_NUMBER {
            found.number = Some(Reader(value).read(INTEGER).filter(|number| !number.is_empty())?);
        } else if id == AUTHORITY_KEY_IDENTIFIER {
            found.key_identifier =
                Reader(value).read(SEQUENCE).and_then(|parts| Reader(parts).read_if(KEY_IDENTIFIER));
        } else if id == ISSUING_DISTRIBUTION_POINT {
            found.scope = Some(value);
        }
    }
    Some(found)
}

impl Fields<'_> {
    /// Compares the ages of two CRLs of one issuer: by date of issue, then by CRL number. A CRL
    /// without a number is older than every CRL with one, because an order of many CRLs needs a
    /// place for it.
    ///
    /// The date comes first, because the number starts again where an authority loses its files.
    #[must_use]
    pub fn age(&self, other: &Self) -> Ordering {
        (self.this_update, self.magnitude()).cmp(&(other.this_update, other.magnitude()))
    }

    /// Compares the CRL numbers of two CRLs; `None` if either has none.
    #[must_use]
    pub fn numbered(&self, other: &Self) -> Option<Ordering> {
        Some(self.magnitude()?.cmp(&other.magnitude()?))
    }

    /// Returns the CRL number in a form that compares: the count of its digits, and the digits.
    pub(crate) fn magnitude(&self) -> Option<(usize, &[u8])> {
        let number = self.number?;
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        Some((number.len() - zeros, &number[zeros..]))
    }
}
