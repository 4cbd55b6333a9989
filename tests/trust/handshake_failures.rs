//! Each reason for a failed handshake is tested by a real handshake that fails for it, in TLS 1.2
//! and 1.3. Checks: INV-16.

mod by_setting;

use std::{
    collections::BTreeSet,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::common::{DEADLINE, Generation, Volume, client_of};
use by_setting::by_setting;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::{
    ClientConfig, ClientConnection, Error as TlsError, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use rustls_reload::HandshakeFailure::{
    self, BadSignature, ConnectionLost, CriticalExtension, Expired, MalformedCertificate, NameConstraint,
    NoCertificate, NoCommonVersion, NotAnIssuer, NotTls, NotYetValid, Other, Protocol, RevocationListExpired,
    RevocationListUnusable, RevocationUnknown, Revoked, TimedOut, UnknownIssuer, WrongPurpose,
};
use rustls_reload_testkit::Authority;
use tokio::io::AsyncWriteExt;

type Version = &'static SupportedProtocolVersion;

const DAY: Duration = Duration::from_secs(86_400);

/// A CA made with rcgen directly, for certificates that the factory does not make.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

impl Ca {
    fn new(name: &str, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        change(&mut params);
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), der }
    }

    fn root() -> Self {
        Self::new("Root", KeyPair::generate().unwrap(), |_| {})
    }

    /// Makes a client of this CA.
    fn client(&self, change: impl FnOnce(&mut CertificateParams)) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
        (params.not_before, params.not_after) =
            ((SystemTime::now() - DAY).into(), (SystemTime::now() + DAY).into());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        (params.signed_by(&key, &self.issuer).unwrap().der().clone(), key)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

/// A server whose clients this verifier checks, or that requests no certificate.
fn server(of: &Generation, version: Version, verifier: Option<Arc<dyn ClientCertVerifier>>) -> ServerConfig {
    let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    let config = match verifier {
        Some(verifier) => config.with_client_cert_verifier(verifier),
        None => config.with_no_client_auth(),
    };
    config.with_single_cert(vec![of.server.leaf.clone()], of.server.key_der()).unwrap()
}

fn verifier(
    ca: &CertificateDer<'static>,
    lists: Vec<CertificateRevocationListDer<'static>>,
) -> Arc<dyn ClientCertVerifier> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).with_crls(lists);
    verifier.enforce_revocation_expiration().build().unwrap()
}

/// A client that trusts the server and shows this certificate, whichever key belongs to it.
fn client(
    of: &Generation,
    provider: Arc<CryptoProvider>,
    version: Version,
    shown: (CertificateDer<'static>, PrivateKeyDer<'static>),
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(of.ca.der().clone()).unwrap();
    let key = ring::sign::any_supported_type(&shown.1).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(vec![shown.0], key));
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(shown))
}

/// Makes a handshake and returns the result of the server's side.
fn handshake(server: ServerConfig, client: Arc<ClientConfig>) -> Result<(), TlsError> {
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut client = ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap();
    loop {
        let mut sent = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut sent).unwrap();
        }
        let mut rest = sent.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer).unwrap();
        }
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            // A client that gives up reports it by an alert, which is sent next.
            if client.process_new_packets().is_err() {
                break;
            }
        }
        if sent.is_empty() && answer.is_empty() {
            assert!(!server.is_handshaking() && !client.is_handshaking(), "neither fails nor ends");
            return Ok(());
        }
    }
}

/// Returns handshakes that fail because of the client's certificate.
fn by_certificate(version: Version) -> Vec<(HandshakeFailure, Result<(), TlsError>)> {
    let of = Generation::new(0);
    let ca = Ca::root();
    let shows = |leaf: (CertificateDer<'static>, KeyPair)| {
        let client = client(&of, provider(), version, (leaf.0, der(&leaf.1)));
        handshake(server(&of, version, Some(verifier(&ca.der, Vec::new()))), Arc::new(client))
    };
    assert_eq!(shows(ca.client(|_| {})), Ok(()), "(control) nothing is wrong with it");
    let now = SystemTime::now();
    let ca_key = KeyPair::try_from(ca.issuer.key().serialize_der()).unwrap();
    let wrong_key = (ca.client(|_| {}).0, KeyPair::generate().unwrap());
    let garbage = (CertificateDer::from(b"\x30\x03\x02\x01\x05".to_vec()), KeyPair::generate().unwrap());
    let (leaf, leaf_key) = ca.client(|_| {});
    let mut version_1 = leaf.to_vec();
    let place = leaf.windows(5).position(|bytes| bytes == b"\xa0\x03\x02\x01\x02").unwrap();
    version_1[place + 4] = 0;
    let none = handshake(server(&of, version, Some(verifier(&ca.der, Vec::new()))), client_of(&of, None));
    let constrained = Ca::new("Constrained", KeyPair::generate().unwrap(), |params| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("elsewhere.test".to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    });
    let outside = constrained.client(|_| {});
    let outside = client(&of, provider(), version, (outside.0, der(&outside.1)));
    let outside =
        handshake(server(&of, version, Some(verifier(&constrained.der, Vec::new()))), Arc::new(outside));
    vec![
        (NoCertificate, none),
        (Expired, shows(ca.client(|params| params.not_after = (now - DAY / 2).into()))),
        (NotYetValid, shows(ca.client(|params| params.not_before = (now + DAY / 2).into()))),
        (UnknownIssuer, shows(Ca::new("Elsewhere", KeyPair::generate().unwrap(), |_| {}).client(|_| {}))),
        (BadSignature, shows(wrong_key)),
        (
            WrongPurpose,
            shows(ca.client(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])),
        ),
        (
            CriticalExtension,
            shows(ca.client(|params| {
                let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
                unknown.set_criticality(true);
                params.custom_extensions.push(unknown);
            })),
        ),
        (NameConstraint, outside),
        (NotAnIssuer, shows((ca.der.clone(), ca_key))),
        (MalformedCertificate, shows(garbage)),
        (MalformedCertificate, shows((version_1.into(), leaf_key))),
    ]
}

/// Returns handshakes that fail because of CRLs.
fn by_list(version: Version) -> Vec<(HandshakeFailure, Result<(), TlsError>)> {
    let (of, other) = (Generation::new(0), Authority::root("Other"));
    let now = SystemTime::now();
    let (window, over) = ((now - DAY, now + DAY), (now - 2 * DAY, now - DAY));
    let shown = || Arc::new(client(&of, provider(), version, (of.client.leaf.clone(), of.client.key_der())));
    let with = |list: rustls_reload_testkit::Crl| {
        let verifier = verifier(of.ca.der(), vec![list.der]);
        handshake(server(&of, version, Some(verifier)), shown())
    };
    assert_eq!(with(of.ca.crl(&[], window, 1)), Ok(()), "(control) nothing is wrong with it");
    vec![
        (Revoked, with(of.ca.crl(&[&of.client.leaf], window, 1))),
        (RevocationUnknown, with(other.crl(&[], window, 1))),
        (RevocationListExpired, with(of.ca.crl(&[], over, 1))),
        // A list with the same issuer name, signed by another key.
        (RevocationListUnusable, with(Authority::root("CA 0").crl(&[], window, 1))),
    ]
}

#[test]
fn inv16_each_reason_is_that_of_a_handshake_that_fails_for_it() {
    let mut names = BTreeSet::new();
    for version in [&TLS12, &TLS13] {
        let all = [by_certificate(version), by_list(version), by_setting(version)].concat();
        for (wanted, ended) in all {
            let Err(error) = ended else { panic!("{wanted:?} in {version:?}: it succeeded") };
            assert_eq!(HandshakeFailure::of(&error), wanted, "{version:?}: {error:?}");
            // The error is wrapped as by tokio-rustls, and once more as by another library.
            let wrapped = io::Error::new(io::ErrorKind::InvalidData, error);
            assert_eq!(HandshakeFailure::of_io(&wrapped), wanted, "{version:?}");
            let twice = io::Error::other(wrapped);
            assert_eq!(HandshakeFailure::of_io(&twice), wanted, "{version:?}");
            names.insert(wanted.name());
        }
    }
    assert_eq!(names.len(), 23, "two reasons share a name: {names:?}");
}

/// Sends these bytes instead of a handshake, and then leaves or stays. Returns the acceptor's
/// failure.
async fn says(acceptor: &rustls_reload::Acceptor, bytes: &[u8], stays: bool) -> HandshakeFailure {
    let (mut client, server) = tokio::io::duplex(4096);
    client.write_all(bytes).await.unwrap();
    let client = stays.then_some(client);
    let limit = if stays && bytes.is_empty() { Duration::from_millis(1) } else { DEADLINE };
    let ended = tokio::time::timeout(limit, acceptor.accept(server)).await;
    drop(client);
    match ended {
        Ok(ended) => HandshakeFailure::of_io(&ended.map(|_| "it succeeded").unwrap_err()),
        Err(elapsed) => HandshakeFailure::of_io(&elapsed.into()),
    }
}

#[tokio::test]
async fn inv16_reasons_of_clients_that_speak_no_tls_or_go_or_wait() {
    let of = Generation::new(0);
    let reloader = Volume::of(&of).server().load().unwrap();
    let acceptor = reloader.acceptor();
    // Hellos of TLS 1.0 and 1.1, which have no extensions, with the suite 0x002f.
    let old = |version: u8| {
        let body = [&[3, version][..], &[7; 32], b"\x00\x00\x02\x00\x2f\x01\x00"].concat();
        [&b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29"[..], &body].concat()
    };
    let (tls10, tls11) = (old(1), old(2));
    let cases: [(&[u8], bool, HandshakeFailure); 10] = [
        (&tls10, true, NoCommonVersion),
        (&tls11, true, NoCommonVersion),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", true, NotTls),
        (b"SSH-2.0-OpenSSH_9.9\r\n", true, NotTls),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", true, NotTls),
        // A hello that ends within its length field, and one with an unknown version.
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", true, Protocol),
        (b"\x16\x09\x01\x00\x05\x01\x00\x00\x01\x00", true, Protocol),
        (b"", false, ConnectionLost),
        (b"\x16\x03\x01", false, ConnectionLost),
        (b"", true, TimedOut),
    ];
    for (bytes, stays, wanted) in cases {
        assert_eq!(says(&acceptor, bytes, stays).await, wanted, "{:?}", String::from_utf8_lossy(bytes));
    }
    let reset = io::Error::from(io::ErrorKind::ConnectionReset);
    assert_eq!(HandshakeFailure::of_io(&reset), ConnectionLost);
    assert_eq!(HandshakeFailure::of_io(&io::Error::other("a disk")), Other);
}
