//! CRLs, including kinds that usual authorities do not issue.

use std::time::SystemTime;

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber, SigningKey as _};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use super::{Authority, armor};
use rustls_reload::internal::der::{self, GENERALIZED_TIME, INTEGER, Reader, SEQUENCE, UTC_TIME};

/// A CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    /// DER, as authorities publish it.
    pub der: CertificateRevocationListDer<'static>,
    /// The CRL in PEM.
    pub pem: String,
}

/// A property by which a CRL differs from a usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrlVariant {
    /// Lists the changes since another CRL (RFC 5280 section 5.2.4).
    Delta,
    /// Lists certificates of other issuers too (section 5.2.5).
    Indirect,
    /// Covers only some reasons of revocation (section 5.2.5).
    SomeReasons,
    /// Covers only certificates of end entities, which is common (section 5.2.5).
    EndEntities,
    /// Covers only certificates of authorities (section 5.2.5).
    Authorities,
    /// Has an unknown critical extension.
    CriticalExtension,
    /// Has an unknown critical extension in its first entry.
    CriticalEntry,
    /// Has version 1 and no extensions.
    Version1,
    /// Does not say when the next CRL is due.
    NoNextUpdate,
    /// Has no CRL number.
    NoNumber,
    /// Has a CRL number of 21 bytes, one more than section 5.2.3 allows.
    LongNumber,
    /// Has version 2 and no extensions, as `openssl ca -gencrl` writes without `crl_extensions`.
    NoExtensions,
    /// Covers only attribute certificates (section 5.2.5).
    AttributeCertificates,
    /// Names its distribution point relative to its issuer (section 5.2.5).
    RelativeName,
}

impl CrlVariant {
    /// All variants.
    pub const ALL: [Self; 14] = [
        Self::Delta,
        Self::Indirect,
        Self::SomeReasons,
        Self::EndEntities,
        Self::Authorities,
        Self::CriticalExtension,
        Self::CriticalEntry,
        Self::Version1,
        Self::NoNextUpdate,
        Self::NoNumber,
        Self::LongNumber,
        Self::NoExtensions,
        Self::AttributeCertificates,
        Self::RelativeName,
    ];

    /// Returns the extension that makes the variant, if it has one.
    fn extension(self) -> Vec<u8> {
        const NUMBER: u8 = 20;
        const DELTA: u8 = 27;
        const DISTRIBUTION_POINT: u8 = 28;
        const PLACE: &[u8] = b"\xa0\x0b\xa0\x09\x86\x07http:ee";
        let critical = |id: &[u8], content: &[u8]| {
            value(SEQUENCE, &[&value(6, &[id]), &[1, 1, 0xff], &value(4, &[content])])
        };
        let point = |flag: &[u8]| critical(&[0x55, 29, DISTRIBUTION_POINT], &value(SEQUENCE, &[flag]));
        match self {
            Self::Delta => critical(&[0x55, 29, DELTA], &[INTEGER, 1, 1]),
            // Each has a distribution point with a name of its own, because webpki supports no
            // scope without one.
            Self::EndEntities => point(&[PLACE, &[0x81, 1, 0xff]].concat()),
            Self::Authorities => point(&[PLACE, &[0x82, 1, 0xff]].concat()),
            Self::SomeReasons => point(&[0x83, 2, 0, 0x80]),
            Self::Indirect => point(&[0x84, 1, 0xff]),
            Self::CriticalExtension => critical(&[0x2a, 3, 4], &[5, 0]),
            Self::AttributeCertificates => point(&[0x85, 1, 0xff]),
            Self::RelativeName => point(b"\xa0\x0d\xa1\x0b\x30\x09\x06\x03\x55\x04\x03\x0c\x02ee"),
            Self::LongNumber => critical(&[0x55, 29, NUMBER], &value(INTEGER, &[&[1; 21]])),
            Self::CriticalEntry
            | Self::Version1
            | Self::NoNextUpdate
            | Self::NoNumber
            | Self::NoExtensions => Vec::new(),
        }
    }
}

#[allow(clippy::expect_used)] // reason: tests cannot go on without a list
impl Authority {
    /// Issues a CRL that revokes these certificates. Its window begins with its issue and ends when
    /// the next CRL is due.
    #[must_use]
    pub fn crl(&self, revoked: &[&CertificateDer<'_>], window: (SystemTime, SystemTime), number: u64) -> Crl {
        let entry = |certificate: &&CertificateDer<'_>| RevokedCertParams {
            serial_number: SerialNumber::from_slice(der::fields(certificate).expect("a certificate").serial),
            revocation_time: window.0.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: window.0.into(),
            next_update: window.1.into(),
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("a CRL");
        Crl { der: list.der().clone(), pem: list.pem().expect("PEM") }
    }

    /// Turns a CRL into a variant that this authority signs.
    #[doc(hidden)]
    #[must_use]
    pub fn odd_crl(&self, list: &Crl, odd: CrlVariant) -> Crl {
        let (signed, algorithm) = rewritten(&list.der, odd).expect("a list of this factory");
        let signature = self.issuer.key().sign(&signed).expect("a signature");
        let signature = value(3, &[&[0], &signature]);
        let der = value(SEQUENCE, &[&signed, &value(SEQUENCE, &[&algorithm]), &signature]);
        let pem = String::from_utf8(armor::encode("X509 CRL", &[&der])).expect("PEM");
        Crl { der: der.into(), pem }
    }
}

/// Returns the signed part of a CRL variant, and the algorithm: version, algorithm, issuer, dates,
/// entries, extensions.
fn rewritten(list: &[u8], odd: CrlVariant) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut tbs = Reader(Reader(Reader(list).read(SEQUENCE)?).read(SEQUENCE)?);
    let version = value(INTEGER, &[tbs.read(INTEGER)?]);
    let algorithm = tbs.read(SEQUENCE)?;
    let issuer = value(SEQUENCE, &[tbs.read(SEQUENCE)?]);
    let mut date = || {
        let (tag, digits) = tbs.any()?;
        matches!(tag, UTC_TIME | GENERALIZED_TIME).then(|| value(tag, &[digits]))
    };
    let (this, next) = (date()?, date()?);
    let entries = tbs.read_if(SEQUENCE);
    let extensions = Reader(tbs.read(0xa0)?).read(SEQUENCE)?;
    let entries = match entries {
        Some(entries) if odd == CrlVariant::CriticalEntry => {
            let mut all = Reader(entries);
            let first = all.read(SEQUENCE)?;
            let unknown =
                value(SEQUENCE, &[&value(SEQUENCE, &[b"\x06\x03\x2a\x03\x04\x01\x01\xff\x04\x02\x05\x00"])]);
            value(SEQUENCE, &[&value(SEQUENCE, &[first, &unknown]), all.0])
        }
        Some(entries) => value(SEQUENCE, &[entries]),
        None => Vec::new(),
    };
    let extensions = match odd {
        // The first extension is the authority key identifier, the second the CRL number.
        CrlVariant::NoNumber | CrlVariant::LongNumber => {
            let mut all = Reader(extensions);
            value(SEQUENCE, &[&value(SEQUENCE, &[all.read(SEQUENCE)?]), &odd.extension()])
        }
        odd => value(SEQUENCE, &[extensions, &odd.extension()]),
    };
    let extensions = value(0xa0, &[&extensions]);
    let version_1 = odd == CrlVariant::Version1;
    let bare = version_1 || odd == CrlVariant::NoExtensions;
    let parts = [
        if version_1 { &[] } else { version.as_slice() },
        &value(SEQUENCE, &[algorithm]),
        &issuer,
        &this,
        if odd == CrlVariant::NoNextUpdate { &[] } else { &next },
        &entries,
        if bare { &[] } else { &extensions },
    ];
    Some((value(SEQUENCE, &parts), algorithm.to_vec()))
}

/// Encodes a value of DER: its tag, its length, and these parts as its content.
#[must_use]
pub fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut value = Vec::with_capacity(length + 6);
    value.push(tag);
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => value.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let digits = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            value.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
            value.extend(digits);
        }
    }
    parts.iter().for_each(|part| value.extend(*part));
    value
}
