//! Handshakes that fail by the settings of server or client.

use std::{sync::Arc, time::SystemTime};

use super::{Ca, DAY, Version, client, der, handshake, provider, server, verifier};
use crate::common::{Generation, at_time, client_of};
use rcgen::KeyPair;
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError,
    RootCertStore, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring},
    pki_types::{CertificateDer, UnixTime},
    server::{
        ClientHello, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};
use rustls_reload::HandshakeFailure::{
    self, Alert, NoCommonAlgorithm, NoCommonProtocol, NoCommonVersion, Other, RejectedCertificate,
    UnknownName, UnsupportedAlgorithm,
};

/// A verifier that refuses every client with a general error.
#[derive(Debug)]
struct Nobody(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Nobody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// A resolver without a certificate.
#[derive(Debug)]
struct Nothing;

impl ResolvesServerCert for Nothing {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

/// A clock that does not know the time.
#[derive(Debug)]
struct NoClock;

impl TimeProvider for NoClock {
    fn current_time(&self) -> Option<UnixTime> {
        None
    }
}

/// Returns the algorithms of ring without those of this scheme.
fn without(scheme: SignatureScheme) -> WebPkiSupportedAlgorithms {
    let whole = ring::default_provider().signature_verification_algorithms;
    let gone = whole.mapping.iter().find(|(of, _)| *of == scheme).unwrap().1[0].signature_alg_id();
    let left: Vec<_> = whole.all.iter().copied().filter(|of| of.signature_alg_id() != gone).collect();
    WebPkiSupportedAlgorithms { all: left.leak(), mapping: whole.mapping }
}

/// Returns handshakes that fail because of the settings of the two sides.
pub(super) fn by_setting(version: Version) -> Vec<(HandshakeFailure, Result<(), TlsError>)> {
    let of = Generation::new(0);
    let own = || verifier(of.ca.der(), Vec::new());
    let shown = |provider| client(&of, provider, version, (of.client.leaf.clone(), of.client.key_der()));
    let with = |change: &dyn Fn(&mut ServerConfig)| {
        let mut server = server(&of, version, Some(own()));
        change(&mut server);
        handshake(server, Arc::new(shown(provider())))
    };
    // The client's CA has a key whose signatures the server's provider cannot verify.
    let ed25519 = Ca::new("Ed25519", KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(), |_| {});
    let mut roots = RootCertStore::empty();
    roots.add(ed25519.der.clone()).unwrap();
    let few = CryptoProvider {
        signature_verification_algorithms: without(SignatureScheme::ED25519),
        ..ring::default_provider()
    };
    let few = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(few)).build().unwrap();
    let leaf = ed25519.client(|_| {});
    let unsupported = client(&of, provider(), version, (leaf.0, der(&leaf.1)));

    let split = |of_client: bool| {
        let mut split = ring::default_provider();
        let mut first = true;
        // Each side has one suite of this version, and they differ.
        split
            .cipher_suites
            .retain(|suite| suite.version() == version && (std::mem::take(&mut first) != of_client));
        split.cipher_suites.truncate(1);
        Arc::new(split)
    };
    let own_suite = ServerConfig::builder_with_provider(split(false)).with_protocol_versions(&[version]);
    let own_suite = own_suite.unwrap().with_no_client_auth();
    let own_suite = own_suite.with_single_cert(vec![of.server.leaf.clone()], of.server.key_der()).unwrap();

    let mut other_protocol = shown(provider());
    other_protocol.alpn_protocols = vec![b"h2".to_vec()];
    let mut one_protocol = server(&of, version, None);
    one_protocol.alpn_protocols = vec![b"http/1.1".to_vec()];
    let other_version = if version.version == TLS12.version { &TLS13 } else { &TLS12 };
    let (stranger, later) = (Generation::new(1), SystemTime::now() + 30 * DAY);
    let later = later.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let expired = at_time(&Arc::new(shown(provider())), later);
    vec![
        (UnsupportedAlgorithm, handshake(server(&of, version, Some(few)), Arc::new(unsupported))),
        (RejectedCertificate, {
            let server = server(&of, version, Some(Arc::new(Nobody(own()))));
            handshake(server, Arc::new(shown(provider())))
        }),
        (
            Alert(AlertDescription::UnknownCA),
            handshake(server(&of, version, None), client_of(&stranger, None)),
        ),
        (Alert(AlertDescription::CertificateExpired), handshake(server(&of, version, None), expired)),
        (NoCommonVersion, handshake(server(&of, other_version, None), Arc::new(shown(provider())))),
        (NoCommonAlgorithm, handshake(own_suite, Arc::new(shown(split(true))))),
        (NoCommonProtocol, handshake(one_protocol, Arc::new(other_protocol))),
        (UnknownName, with(&|server| server.cert_resolver = Arc::new(Nothing))),
        (Other, with(&|server| server.time_provider = Arc::new(NoClock))),
    ]
}
