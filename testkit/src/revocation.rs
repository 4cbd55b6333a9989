//! CRLs of any scope, and certificates that name the location of their list.

use std::time::{Duration, SystemTime};

use rcgen::{CrlDistributionPoint, SigningKey as _};
use rustls::pki_types::CertificateDer;

use super::{Authority, Crl, Pair, PrivateKey, Subject, armor, lists::value};
use rustls_reload::internal::{
    crl,
    der::{self, INTEGER, OCTETS, OID, Reader, SEQUENCE},
};

/// The reason `certificateHold`: an authority may release such an entry.
pub const HOLD: u8 = 6;

/// The properties of a CRL to issue.
#[derive(Clone, Debug)]
pub struct ListSpec {
    /// Serial numbers as encoded, each with its reason, if it has one.
    pub revoked: Vec<(Vec<u8>, Option<u8>)>,
    /// The time of its issue, and the time when the next CRL is due.
    pub window: (SystemTime, SystemTime),
    /// The CRL number.
    pub number: u64,
    /// The URIs of its distribution point; if empty, the issuing distribution point has no name.
    pub points: Vec<String>,
    /// Whether it covers only certificates of end entities.
    pub users: bool,
    /// Whether it covers only certificates of authorities.
    pub authorities: bool,
    /// The content of its issuer's name in DER, if it differs from the authority's.
    pub issuer: Option<Vec<u8>>,
    /// Whether it has an authority key identifier.
    pub identified: bool,
}

impl ListSpec {
    /// Describes an empty CRL for all certificates, issued an hour ago and valid for another hour.
    #[must_use]
    pub fn new(number: u64) -> Self {
        let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
        let window = (now - hour, now + hour);
        Self {
            revoked: Vec::new(),
            window,
            number,
            points: Vec::new(),
            users: false,
            authorities: false,
            issuer: None,
            identified: true,
        }
    }

    /// Adds a URI to its distribution point.
    #[must_use]
    pub fn at(mut self, uri: &str) -> Self {
        self.points.push(uri.to_owned());
        self
    }

    /// Adds this certificate to its entries.
    #[must_use]
    #[allow(clippy::expect_used)] // reason: made by this factory
    pub fn naming(mut self, certificate: &CertificateDer<'_>) -> Self {
        self.revoked.push((der::fields(certificate).expect("a certificate").serial.to_vec(), None));
        self
    }

    fn issuing_distribution_point(&self) -> Vec<u8> {
        let mut parts = Vec::new();
        if !self.points.is_empty() {
            let names: Vec<_> = self.points.iter().map(|uri| value(0x86, &[uri.as_bytes()])).collect();
            parts.push(value(0xa0, &[&value(0xa0, &[&names.concat()])]));
        }
        parts.extend(self.users.then(|| value(0x81, &[&[0xff]])));
        parts.extend(self.authorities.then(|| value(0x82, &[&[0xff]])));
        if parts.is_empty() {
            return Vec::new();
        }
        let point = value(SEQUENCE, &[&parts.concat()]);
        value(SEQUENCE, &[&value(OID, &[&[0x55, 29, 28]]), &[1, 1, 0xff], &value(OCTETS, &[&point])])
    }
}

#[allow(clippy::expect_used)] // reason: tests cannot go on without a list
impl Authority {
    /// Issues a CRL with these properties.
    #[doc(hidden)]
    #[must_use]
    pub fn list(&self, spec: &ListSpec) -> Crl {
        let template = self.crl(&[], spec.window, spec.number);
        let signed = rewritten(&template.der, spec).expect("a list of this factory");
        let algorithm = crl::fields(&template.der).expect("a list of this factory").algorithm;
        let signature = self.issuer.key().sign(&signed).expect("a signature");
        let signature = value(3, &[&[0], &signature]);
        let der = value(SEQUENCE, &[&signed, &value(SEQUENCE, &[algorithm]), &signature]);
        let pem = String::from_utf8(armor::encode("X509 CRL", &[&der])).expect("PEM");
        Crl { der: der.into(), pem }
    }

    /// Issues a new leaf for `subject` with one CRL distribution point for each URI.
    #[doc(hidden)]
    #[must_use]
    pub fn issue_listed_at(&self, subject: &Subject, identity: &PrivateKey, uris: &[&str]) -> Pair {
        let mut params = super::certs::leaf_params(subject);
        params.crl_distribution_points = points(uris);
        let certificate = params.signed_by(identity.key(), &self.issuer).expect("a leaf");
        Pair { chain: certificate.pem(), key: identity.pem(), leaf: certificate.der().clone() }
    }

    /// Makes an intermediate under this authority with one CRL distribution point for each URI.
    #[doc(hidden)]
    #[must_use]
    pub fn intermediate_listed_at(&self, name: &str, uris: &[&str]) -> Self {
        self.certify_with(name, |params| params.crl_distribution_points = points(uris))
    }
}

fn points(uris: &[&str]) -> Vec<CrlDistributionPoint> {
    uris.iter().map(|uri| CrlDistributionPoint { uris: vec![(*uri).to_owned()] }).collect()
}

/// Returns the signed part of a CRL: version, algorithm, issuer, dates, entries, extensions.
fn rewritten(template: &[u8], spec: &ListSpec) -> Option<Vec<u8>> {
    let mut tbs = Reader(Reader(Reader(template).read(SEQUENCE)?).read(SEQUENCE)?);
    let version = value(INTEGER, &[tbs.read(INTEGER)?]);
    let algorithm = value(SEQUENCE, &[tbs.read(SEQUENCE)?]);
    let issuer = tbs.read(SEQUENCE)?;
    let issuer = value(SEQUENCE, &[spec.issuer.as_deref().unwrap_or(issuer)]);
    let mut date = || tbs.any().map(|(tag, digits)| value(tag, &[digits]));
    let (this, next) = (date()?, date()?);
    tbs.read_if(SEQUENCE);
    let usual = Reader(tbs.read(0xa0)?).read(SEQUENCE)?;
    let entry = |(serial, reason): &(Vec<u8>, Option<u8>)| {
        let reason = reason.map(|reason| {
            let reason = value(OCTETS, &[&[0x0a, 1, reason]]);
            value(SEQUENCE, &[&value(SEQUENCE, &[&value(OID, &[&[0x55, 29, 21]]), &reason])])
        });
        value(SEQUENCE, &[&value(INTEGER, &[serial]), &this, &reason.unwrap_or_default()])
    };
    let entries: Vec<_> = spec.revoked.iter().flat_map(entry).collect();
    // An empty list of entries is absent (RFC 5280 section 5.1.2.6).
    let entries = if entries.is_empty() { entries } else { value(SEQUENCE, &[&entries]) };
    let mut usual = Reader(usual);
    let usual = std::iter::from_fn(|| usual.read(SEQUENCE));
    // The id of the authority key identifier is 2.5.29.35.
    let usual = usual.filter(|extension| spec.identified || !extension.starts_with(&[OID, 3, 0x55, 29, 35]));
    let usual: Vec<_> = usual.flat_map(|extension| value(SEQUENCE, &[extension])).collect();
    let extensions = value(SEQUENCE, &[&usual, &spec.issuing_distribution_point()]);
    Some(value(
        SEQUENCE,
        &[&version, &algorithm, &issuer, &this, &next, &entries, &value(0xa0, &[&extensions])],
    ))
}
