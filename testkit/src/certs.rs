//! A certificate factory.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certification authority: a root or an intermediate.
pub struct Authority {
    pub(super) issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    /// The certificate in PEM.
    pub pem: String,
}

/// The names, purpose and validity of a certificate.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The DNS names; the first is the common name too.
    pub names: Vec<String>,
    /// Whether the certificate is for a client; otherwise it is for a server.
    pub client: bool,
    /// The start and end of the validity, by the wall clock.
    pub window: (SystemTime, SystemTime),
}

impl Subject {
    /// Describes a server with this name, whose validity began an hour ago and ends in a day.
    #[must_use]
    pub fn server(name: &str) -> Self {
        let (hour, now) = (Duration::from_secs(3600), SystemTime::now());
        Self { names: vec![name.to_owned()], client: false, window: (now - hour, now + 24 * hour) }
    }

    /// Describes a client with this name, with the same validity.
    #[must_use]
    pub fn client(name: &str) -> Self {
        Self { client: true, ..Self::server(name) }
    }

    /// Returns the subject with another validity.
    #[must_use]
    pub fn valid(self, from: SystemTime, to: SystemTime) -> Self {
        Self { window: (from, to), ..self }
    }
}

/// A private key. Several certificates can use it, as after a renewal that keeps its key.
pub struct PrivateKey(KeyPair);

impl PrivateKey {
    /// Generates a P-256 key.
    #[must_use]
    pub fn p256() -> Self {
        Self::of(&rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// Generates an Ed25519 key.
    #[must_use]
    pub fn ed25519() -> Self {
        Self::of(&rcgen::PKCS_ED25519)
    }

    /// Returns the Ed25519 key of this seed. Its signatures are not random, so everything that it
    /// signs is equal in every run.
    #[doc(hidden)]
    #[must_use]
    pub fn seeded(seed: u8) -> Self {
        Self(seeded(seed))
    }

    pub(super) fn key(&self) -> &KeyPair {
        &self.0
    }

    /// Loads a key of any kind from PKCS #8 PEM.
    #[must_use]
    #[allow(clippy::expect_used)] // reason: tests cannot go on without a key
    pub fn from_pem(pem: &str) -> Self {
        Self(KeyPair::from_pem(pem).expect("a PKCS #8 key that ring knows"))
    }

    #[allow(clippy::expect_used)] // reason: tests cannot go on without a key
    fn of(algorithm: &'static rcgen::SignatureAlgorithm) -> Self {
        Self(KeyPair::generate_for(algorithm).expect("a key pair"))
    }

    /// Returns the key as PKCS #8 PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }
}

/// A chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// PEM: the leaf, and behind it the issuer where [`Authority::issue_with_chain`] made the pair.
    pub chain: String,
    /// The key as PKCS #8 PEM.
    pub key: String,
    /// The leaf alone, in DER.
    pub leaf: CertificateDer<'static>,
}

impl Pair {
    /// Returns the key in DER.
    #[must_use]
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        use rustls::pki_types::pem::PemObject;
        #[allow(clippy::expect_used)] // reason: made by this factory
        PrivatePkcs8KeyDer::from_pem_slice(self.key.as_bytes()).expect("a key of this factory").into()
    }
}

#[allow(clippy::expect_used)] // reason: tests cannot go on without a certificate
impl Authority {
    /// Makes a self-signed root.
    #[must_use]
    pub fn root(name: &str) -> Self {
        Self::self_signed(name, KeyPair::generate().expect("a key pair"))
    }

    /// Makes a self-signed root with the key of [`PrivateKey::seeded`].
    #[doc(hidden)]
    #[must_use]
    pub fn seeded(name: &str, seed: u8) -> Self {
        Self::self_signed(name, seeded(seed))
    }

    fn self_signed(name: &str, key: KeyPair) -> Self {
        let params = ca_params(name);
        let certificate = params.self_signed(&key).expect("a root");
        Self { der: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// Makes an intermediate under this authority. [`issue_with_chain`](Self::issue_with_chain) puts its
    /// certificate into the chain of a pair.
    #[must_use]
    pub fn intermediate(&self, name: &str) -> Self {
        self.certify(name, KeyPair::generate().expect("a key pair"))
    }

    /// Makes an intermediate with the key of [`PrivateKey::seeded`].
    #[doc(hidden)]
    #[must_use]
    pub fn intermediate_seeded(&self, name: &str, seed: u8) -> Self {
        self.certify(name, seeded(seed))
    }

    fn certify(&self, name: &str, key: KeyPair) -> Self {
        self.certify_params(ca_params(name), key)
    }

    /// Makes an intermediate with a new key, from parameters that `change` modifies.
    pub(super) fn certify_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(name);
        change(&mut params);
        self.certify_params(params, KeyPair::generate().expect("a key pair"))
    }

    fn certify_params(&self, params: CertificateParams, key: KeyPair) -> Self {
        let certificate = params.signed_by(&key, &self.issuer).expect("an intermediate");
        Self { der: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// Returns a new certificate in PEM for the name and key of the intermediate `of`. Certificates
    /// issued under the old one are issued under this one too.
    #[doc(hidden)]
    #[must_use]
    pub fn certify_again(&self, of: &Self, name: &str) -> String {
        let certificate = ca_params(name).signed_by(of.issuer.key(), &self.issuer);
        certificate.expect("an intermediate").pem()
    }

    /// Returns another self-signed certificate in PEM for this authority's key, with this name and
    /// validity. With the authority's own name, certificates issued under one are issued under the
    /// other too.
    #[doc(hidden)]
    #[must_use]
    pub fn twin(&self, name: &str, window: (SystemTime, SystemTime)) -> String {
        let mut params = ca_params(name);
        (params.not_before, params.not_after) = (window.0.into(), window.1.into());
        params.self_signed(self.issuer.key()).expect("a root").pem()
    }

    /// Returns a certificate as [`certify_again`](Self::certify_again) does, valid only for DNS
    /// names beneath `permitted`.
    #[doc(hidden)]
    #[must_use]
    pub fn certify_again_for(&self, of: &Self, name: &str, permitted: &str) -> String {
        let mut params = ca_params(name);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(permitted.to_owned())],
            excluded_subtrees: Vec::new(),
        });
        params.signed_by(of.issuer.key(), &self.issuer).expect("an intermediate").pem()
    }

    /// Returns the certificate in DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Issues a certificate for a server with this name, with a key of its own (P-256), valid for a
    /// day.
    #[must_use]
    pub fn server(&self, name: &str) -> Pair {
        self.issue(&Subject::server(name), &PrivateKey::p256())
    }

    /// Issues a certificate for a client, as [`server`](Self::server) does.
    #[must_use]
    pub fn client(&self, name: &str) -> Pair {
        self.issue(&Subject::client(name), &PrivateKey::p256())
    }

    /// Issues a new leaf for `subject` with the key `identity`; the chain holds nothing else.
    #[must_use]
    pub fn issue(&self, subject: &Subject, identity: &PrivateKey) -> Pair {
        self.signed(leaf_params(subject), identity)
    }

    fn signed(&self, params: CertificateParams, identity: &PrivateKey) -> Pair {
        let certificate = params.signed_by(&identity.0, &self.issuer).expect("a leaf");
        Pair { chain: certificate.pem(), key: identity.pem(), leaf: certificate.der().clone() }
    }

    /// Issues a leaf for a server and a client in one.
    #[doc(hidden)]
    #[must_use]
    pub fn issue_for_both(&self, subject: &Subject, identity: &PrivateKey) -> Pair {
        let mut params = leaf_params(subject);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.signed(params, identity)
    }

    /// Issues a leaf that demands a stapled OCSP response (must-staple, RFC 7633).
    #[doc(hidden)]
    #[must_use]
    pub fn issue_must_staple(&self, subject: &Subject, identity: &PrivateKey) -> Pair {
        let mut params = leaf_params(subject);
        // The list of features holds one, `status_request`.
        let features =
            CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], vec![0x30, 3, 2, 1, 5]);
        params.custom_extensions.push(features);
        self.signed(params, identity)
    }

    /// Makes an authority with this name that signs with the key of an end entity.
    #[doc(hidden)]
    #[must_use]
    pub fn posing(name: &str, identity: &PrivateKey) -> Self {
        Self::self_signed(name, KeyPair::from_pem(&identity.pem()).expect("a key of this factory"))
    }

    /// Issues a new leaf, with this authority's certificate after it in the chain.
    #[must_use]
    pub fn issue_with_chain(&self, subject: &Subject, identity: &PrivateKey) -> Pair {
        let pair = self.issue(subject, identity);
        Pair { chain: pair.chain + &self.pem, ..pair }
    }
}

#[allow(clippy::expect_used)] // reason: any 32 bytes are a key
fn seeded(seed: u8) -> KeyPair {
    // The prefix of the seed (RFC 8410 section 7).
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend([seed; 32]);
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &rcgen::PKCS_ED25519)
        .expect("a key")
}

#[allow(clippy::expect_used)] // reason: tests cannot go on without a certificate
pub(super) fn leaf_params(subject: &Subject) -> CertificateParams {
    let mut params = CertificateParams::new(subject.names.clone()).expect("names");
    params.distinguished_name.push(DnType::CommonName, subject.names[0].clone());
    params.not_before = subject.window.0.into();
    params.not_after = subject.window.1.into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![if subject.client {
        ExtendedKeyUsagePurpose::ClientAuth
    } else {
        ExtendedKeyUsagePurpose::ServerAuth
    }];
    params
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
