//! The verifier of client certificates if there are CRLs.
//!
//! webpki builds and verifies the path. Each path that it finds is evaluated here over *all* CRLs
//! (RFC 5280 section 6.3.3). webpki itself would use only the first CRL that it considers
//! authoritative for a certificate. One shard of an authority's CRLs would then hide another shard
//! that revokes the certificate.

use std::{cell::RefCell, sync::Arc, time::Duration};

use rustls::{
    CertRevocationListError, CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError,
    RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use webpki::{Cert, EndEntityCert, KeyUsage, VerifiedPath};

mod anchors;
pub(super) use anchors::AnchorCertificates;

use super::{
    crl::{Lists, Policy},
    revocation_list::{DIRECTORY_NAME, Scope, general_names},
};
use crate::{
    pki::der::{self, BIT_STRING, Reader, SEQUENCE},
    read::snapshot::Files,
    report::error::{Error, Layer},
};

const KEY_USAGE: &[u8] = &[0x55, 29, 15];
const DISTRIBUTION_POINTS: &[u8] = &[0x55, 29, 31];

/// Verifies client certificates, including their revocation status by the CRLs and the policy.
#[derive(Debug)]
pub(super) struct Verifier {
    /// The verifier of rustls without CRLs, for everything except revocation.
    stock: Arc<dyn ClientCertVerifier>,
    roots: Arc<RootCertStore>,
    anchors: Arc<AnchorCertificates>,
    algorithms: WebPkiSupportedAlgorithms,
    lists: Lists,
    policy: Policy,
}

impl Verifier {
    /// Makes the verifier of clients of these roots.
    pub(super) fn new(
        stock: Arc<dyn ClientCertVerifier>,
        (roots, anchors): (Arc<RootCertStore>, Arc<AnchorCertificates>),
        algorithms: WebPkiSupportedAlgorithms,
        lists: Lists,
        policy: Policy,
    ) -> Self {
        Self { stock, roots, anchors, algorithms, lists, policy }
    }

    /// Evaluates each certificate of a path. Of the anchor's it is enough that it is not revoked.
    fn decide(&self, path: &VerifiedPath<'_>, now: Duration) -> Result<(), TlsError> {
        let authorities: Vec<_> = path.intermediate_certificates().collect();
        let anchor = path.anchor().subject_public_key_info.as_ref();
        let certificates = std::iter::once::<&Cert<'_>>(path.end_entity()).chain(authorities.iter().copied());
        let checked = if self.policy.end_entity_only { 1 } else { usize::MAX };
        for (place, certificate) in certificates.take(checked).enumerate() {
            let issuer = authorities.get(place);
            let key = issuer.map(|issuer| issuer.subject_public_key_info());
            let key = key.as_ref().map_or(Some(anchor), |key| Reader(key).read(SEQUENCE));
            let signs = issuer.is_none_or(|issuer| may_sign_lists(&issuer.der()));
            let der = certificate.der();
            let subject = Subject::new(certificate, &der, place > 0);
            self.status(&subject, (key.unwrap_or_default(), issuer.is_none()), signs, now)?;
        }
        let lists = (&self.lists, self.policy);
        if self.anchors.revoked_by(path.anchor(), lists, &self.algorithms, now).is_some() {
            return Err(CertificateError::Revoked.into());
        }
        Ok(())
    }

    /// Evaluates one certificate by the CRLs of its issuer; `key` is the issuer's key, and
    /// `is_anchor` says whether the issuer is a CA of the bundle.
    ///
    /// 1. A CRL of the issuer that lists the certificate revokes it, whatever the CRL covers and
    ///    whether it has expired.
    /// 2. Otherwise one CRL that covers the certificate and has not expired is enough.
    fn status(
        &self,
        of: &Subject<'_>,
        (key, is_anchor): (&[u8], bool),
        signs: bool,
        now: Duration,
    ) -> Result<(), TlsError> {
        let (mut good, mut expired, mut unsigned) = (false, None::<Duration>, false);
        for list in self.lists.of(&of.canonical_issuer) {
            let names = list.names(of.serial, self.policy, now);
            let covers = of.is_covered_by(&list.parsed.scope);
            // The signature is verified only if the CRL matters for the certificate.
            if !names && !covers {
                continue;
            }
            if !list.parsed.signed_by(key, &self.algorithms) {
                // A CRL that a CA of the bundle signed belongs to that CA, not to another one of
                // its name. A CRL that no CA of the bundle signed may belong to an intermediate,
                // but to no CA of the bundle. A serial number that such a CRL names for a certificate
                // that it does not cover says nothing: a CA of another key issued that one.
                unsigned |= covers && list.signer.key().is_none() && !is_anchor;
                continue;
            }
            // 1.
            if names {
                return Err(CertificateError::Revoked.into());
            }
            let next = list.parsed.next_update;
            if self.policy.ignore_expiration || now < next {
                good = true;
            } else {
                expired = expired.max(Some(next));
            }
        }
        // 2.
        match expired {
            _ if (good || expired.is_some()) && !signs => {
                Err(CertRevocationListError::IssuerInvalidForCrl.into())
            }
            _ if good => Ok(()),
            // Also if an unknown status is allowed: this status is not unknown, because the CRL
            // covers the certificate.
            Some(next) => {
                let [time, next_update] = [now, next].map(UnixTime::since_unix_epoch);
                Err(CertificateError::ExpiredRevocationListContext { time, next_update }.into())
            }
            None if unsigned => Err(CertRevocationListError::BadSignature.into()),
            None if self.policy.allow_unknown => Ok(()),
            None => Err(CertificateError::UnknownRevocationStatus.into()),
        }
    }
}

impl ClientCertVerifier for Verifier {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let refused = RefCell::new(None);
        let decide = |path: &VerifiedPath<'_>| {
            self.decide(path, Duration::from_secs(now.as_secs())).map_err(|why| {
                let mut known = refused.borrow_mut();
                if known.is_none() || why == CertificateError::Revoked.into() {
                    *known = Some(why);
                }
                webpki::Error::UnknownRevocationStatus
            })
        };
        let verified = EndEntityCert::try_from(end_entity).and_then(|certificate| {
            let (usage, algorithms) = (KeyUsage::client_auth(), self.algorithms.all);
            let path = certificate.verify_for_usage(
                algorithms,
                &self.roots.roots,
                intermediates,
                now,
                usage,
                None,
                Some(&decide),
            );
            path.map(drop)
        });
        match (verified, refused.into_inner()) {
            (Ok(()), _) => Ok(ClientCertVerified::assertion()),
            // A path that fails only for revocation gives the reason.
            (Err(_), Some(why)) => Err(why),
            // No path verifies, and rustls reports the reason in its own errors. It cannot succeed
            // here.
            (Err(_), None) => {
                let failure = self.stock.verify_client_cert(end_entity, intermediates, now).err();
                Err(failure.unwrap_or_else(|| CertificateError::ApplicationVerificationFailure.into()))
            }
        }
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.stock.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.stock.client_auth_mandatory()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.stock.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.stock.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.stock.supported_verify_schemes()
    }
}

/// A certificate whose revocation status is evaluated.
struct Subject<'a> {
    canonical_issuer: Vec<u8>,
    serial: &'a [u8],
    /// The names of its CRL distribution points.
    points: Vec<(u8, Vec<u8>)>,
    authority: bool,
}

impl<'a> Subject<'a> {
    fn new(certificate: &'a Cert<'_>, der: &'a [u8], authority: bool) -> Self {
        let points = der::extension(der, DISTRIBUTION_POINTS).and_then(points);
        Self {
            canonical_issuer: der::canonical_name(certificate.issuer()),
            serial: certificate.serial(),
            points: points.unwrap_or_default(),
            authority,
        }
    }

    /// Returns whether a CRL of its issuer with this scope covers the certificate (RFC 5280 section
    /// 6.3.3 (b)(2)).
    fn is_covered_by(&self, scope: &Scope) -> bool {
        if scope.users && self.authority || scope.authorities && !self.authority {
            return false;
        }
        let Some(names) = &scope.names else { return true };
        names.iter().any(|point| {
            // The issuer's name stands for a distribution point of each of its certificates
            // (section 6.3.3, last paragraph).
            let issuer = point.0 == DIRECTORY_NAME && point.1 == self.canonical_issuer;
            issuer || self.points.contains(point)
        })
    }
}

/// Returns the full names of the distribution points whose CRLs the issuer itself signs for all
/// reasons.
fn points(extension: &[u8]) -> Option<Vec<(u8, Vec<u8>)>> {
    let (mut points, mut found) = (Reader(Reader(extension).read(SEQUENCE)?), Vec::new());
    while !points.0.is_empty() {
        let mut point = Reader(points.read(SEQUENCE)?);
        let Some(name) = point.read_if(0xa0) else { continue };
        // The other fields are reasons, or another issuer of the CRL.
        if point.end().is_some()
            && let Some(full) = Reader(name).read(0xa0)
        {
            found.extend(general_names(full)?);
        }
    }
    Some(found)
}

/// Returns whether an authority with this certificate may sign CRLs (RFC 5280 section 6.3.3 (f)).
fn may_sign_lists(certificate: &[u8]) -> bool {
    let Some(usage) = der::extension(certificate, KEY_USAGE) else { return true };
    // The first byte counts the unused bits. cRLSign is bit 6, counted from the highest.
    matches!(Reader(usage).read(BIT_STRING), Some([_, bits, ..]) if bits & 0x02 != 0)
}

/// Returns the verifiers that a first load of these files of lists makes at `wall`, by the policy.
///
/// # Errors
/// Returns the reason why a first load rejects the lists or the roots.
pub fn client_verifiers(
    roots: Arc<RootCertStore>,
    files: &Files,
    provider: &Arc<CryptoProvider>,
    wall: Duration,
) -> Result<impl Fn(Policy) -> Arc<dyn ClientCertVerifier> + use<>, Error> {
    // Each handshake evaluates a release from hold again, by the policy of its verifier.
    let validator = super::crl::CrlValidator {
        policy: Policy { ignore_expiration: true, ..Policy::default() },
        roots: &roots,
        provider,
        wall,
        served: None,
        served_roots: None,
        of_set: [&[]; 2],
    };
    let lists = Lists::read(files.iter(), &validator, &mut Vec::new())?;
    let (of_roots, provider) = (Arc::clone(&roots), Arc::clone(provider));
    let stock = rustls::server::WebPkiClientVerifier::builder_with_provider(of_roots, provider);
    let algorithms = validator.provider.signature_verification_algorithms;
    let stock = stock.build().map_err(|error| Error::new(Layer::ClientCa, error.to_string()))?;
    Ok(move |policy| {
        let (stock, roots) = (Arc::clone(&stock), Arc::clone(&roots));
        Arc::new(Verifier::new(stock, (roots, Arc::default()), algorithms, lists.clone(), policy))
            as Arc<dyn ClientCertVerifier>
    })
}
