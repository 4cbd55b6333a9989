//! The certificates of client CAs, as far as a CRL may revoke them. A bundle often has intermediates
//! beside their root.

use std::time::Duration;

use rustls::{
    RootCertStore,
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, TrustAnchor},
};

use crate::{
    pki::der,
    server::{
        chain::{self, Signed},
        crl::{Lists, Policy},
    },
};

/// The certificates of the client CAs.
#[derive(Debug, Default)]
pub(crate) struct AnchorCertificates(Vec<AnchorCertificate>);

#[derive(Debug)]
struct AnchorCertificate {
    subject: Vec<u8>,
    key: Vec<u8>,
    canonical_issuer: Vec<u8>,
    serial: Vec<u8>,
    /// The keys of other CAs of the bundle that signed it.
    signers: Vec<Vec<u8>>,
}

impl AnchorCertificate {
    /// Returns the certificate of an anchor; `None` if it is malformed.
    fn new(
        anchor: &TrustAnchor<'_>,
        certificate: &CertificateDer<'_>,
        roots: &RootCertStore,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Option<Self> {
        let fields = der::fields(certificate)?;
        let canonical_issuer = der::canonical_name(fields.issuer);
        let signed = |signer: &&TrustAnchor<'_>| {
            signer.subject_public_key_info != anchor.subject_public_key_info
                && der::canonical_name(&signer.subject) == canonical_issuer
                && chain::signed_by(&fields, &signer.subject_public_key_info, algorithms) == Signed::ByThisKey
        };
        let signers = roots.roots.iter().filter(signed);
        Some(Self {
            subject: anchor.subject.to_vec(),
            key: anchor.subject_public_key_info.to_vec(),
            serial: fields.serial.to_vec(),
            signers: signers.map(|signer| signer.subject_public_key_info.to_vec()).collect(),
            canonical_issuer,
        })
    }
}

impl AnchorCertificates {
    /// Takes the certificates of these roots, which are in the same order.
    pub(crate) fn new(
        roots: &RootCertStore,
        certificates: &[CertificateDer<'_>],
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Self {
        let pairs = roots.roots.iter().zip(certificates);
        let known = pairs.filter_map(|(anchor, of)| AnchorCertificate::new(anchor, of, roots, algorithms));
        Self(known.collect())
    }

    /// Returns whether lists of other CAs of the bundle revoke each certificate of this anchor.
    ///
    /// A self-signed certificate is revoked by no list, and neither is one whose issuer is not in
    /// the bundle.
    pub(crate) fn is_revoked(
        &self,
        anchor: &TrustAnchor<'_>,
        (lists, policy): (&Lists, Policy),
        algorithms: &WebPkiSupportedAlgorithms,
        now: Duration,
    ) -> bool {
        let is_revoked = |certificate: &AnchorCertificate| {
            lists.of(&certificate.canonical_issuer).any(|list| {
                list.names(&certificate.serial, policy, now)
                    && certificate.signers.iter().any(|key| list.parsed.signed_by(key, algorithms))
            })
        };
        let mut own = self.0.iter().filter(|certificate| {
            certificate.subject == *anchor.subject && certificate.key == *anchor.subject_public_key_info
        });
        !policy.end_entity_only && own.clone().next().is_some() && own.all(is_revoked)
    }
}
