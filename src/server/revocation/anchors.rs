//! The certificates of client CAs, as far as a CRL may revoke them. A bundle often has intermediates
//! beside their root.

use std::{collections::BTreeMap, time::Duration};

use rustls::{
    RootCertStore,
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, TrustAnchor},
};

use crate::{
    pki::der,
    server::{
        anchors::Anchor,
        chain::{self, Signed},
        crl::{List, Lists, Policy},
    },
};

/// The anchors of which each certificate has an issuer in the bundle, with these certificates.
#[derive(Debug, Default)]
pub(crate) struct AnchorCertificates(BTreeMap<Anchor, Vec<Issued>>);

/// A certificate of an anchor.
#[derive(Debug)]
struct Issued {
    canonical_issuer: Vec<u8>,
    serial: Vec<u8>,
    /// The keys of the CAs of the bundle that have the issuer's name, except those that are known
    /// not to have signed the certificate.
    signers: Vec<Vec<u8>>,
}

/// The keys of the CAs of a bundle, by the canonical name of the CA.
type Keys<'a> = BTreeMap<Vec<u8>, Vec<&'a [u8]>>;

impl Issued {
    /// Returns `None` for a certificate that no other CA in the bundle has issued. A CA that has
    /// signed its former key with its new one, or the other way, has two keys and is two CAs here.
    fn new(
        certificate: &CertificateDer<'_>,
        own: &[u8],
        keys: &Keys<'_>,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Option<Self> {
        let fields = der::fields(certificate)?;
        let canonical_issuer = der::canonical_name(fields.issuer);
        if canonical_issuer == der::canonical_name(fields.subject)
            && chain::signed_by(&fields, own, algorithms) != Signed::ByAnotherKey
        {
            return None;
        }
        let may_be = |key: &&&[u8]| chain::signed_by(&fields, key, algorithms) != Signed::ByAnotherKey;
        let signers: Vec<_> = keys.get(&canonical_issuer)?.iter().filter(may_be).collect();
        let signers = signers.into_iter().map(|key| key.to_vec()).collect();
        Some(Self { canonical_issuer, serial: fields.serial.to_vec(), signers })
    }

    /// Returns a list of its issuer that revokes it.
    fn revoked_by<'a>(
        &self,
        (lists, policy): (&'a Lists, Policy),
        algorithms: &WebPkiSupportedAlgorithms,
        now: Duration,
    ) -> Option<&'a List> {
        lists.of(&self.canonical_issuer).find(|list| {
            list.names(&self.serial, policy, now)
                && self.signers.iter().any(|key| list.parsed.signed_by(key, algorithms))
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
        let mut keys = Keys::new();
        for anchor in &roots.roots {
            let of_name = keys.entry(der::canonical_name(&anchor.subject)).or_default();
            of_name.push(&anchor.subject_public_key_info);
        }
        let mut all = BTreeMap::<_, Option<Vec<_>>>::new();
        for (anchor, certificate) in roots.roots.iter().zip(certificates) {
            let known = all.entry(Anchor::of(anchor)).or_insert_with(|| Some(Vec::new()));
            *known = known
                .take()
                .zip(Issued::new(certificate, &anchor.subject_public_key_info, &keys, algorithms))
                .map(|(mut known, new)| {
                    known.push(new);
                    known
                });
        }
        Self(all.into_iter().filter_map(|(anchor, known)| Some((anchor, known?))).collect())
    }

    /// Returns a list of another CA of the bundle that revokes this anchor, if each certificate of
    /// the anchor is revoked.
    pub(crate) fn revoked_by<'a>(
        &self,
        anchor: &TrustAnchor<'_>,
        (lists, policy): (&'a Lists, Policy),
        algorithms: &WebPkiSupportedAlgorithms,
        now: Duration,
    ) -> Option<&'a List> {
        if policy.end_entity_only || self.0.is_empty() {
            return None;
        }
        let revoked_by = |issued: &Issued| issued.revoked_by((lists, policy), algorithms, now);
        let by: Option<Vec<_>> = self.0.get(&Anchor::of(anchor))?.iter().map(revoked_by).collect();
        by?.pop()
    }
}
