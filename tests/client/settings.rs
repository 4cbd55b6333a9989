//! Settings that the builder of a client takes or rejects, and faults that its rehearsal finds.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls::{
    DigitallySignedStruct, DistinguishedName, KeyLog, RootCertStore, SignatureAlgorithm, SignatureScheme,
    client::{
        ClientSessionMemoryCache, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, KeyProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    sign::{Signer, SigningKey},
    version::{TLS12, TLS13},
};
use rustls_reload::{ClientReloader, Error, Layer, Reload};

use crate::{
    common::{Generation, Volume, generations, handshake, quick, sessions::KINDS},
    world::{bundle, client, files, server},
};

fn rejected(loaded: Result<ClientReloader, Error>) -> Error {
    loaded.map(drop).unwrap_err()
}

#[test]
fn inv02_settings_without_a_file_or_without_trust_are_rejected() {
    let own = Generation::new(0);
    let volume = Volume::in_memory(&files(&own.client, &own.ca.pem));
    let mut store = RootCertStore::empty();
    store.add(own.ca.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(store.clone()), provider).build().unwrap();
    let identity =
        || ClientReloader::builder().identity(volume.path("tls.crt"), volume.path("tls.key")).timing(quick());
    for (builder, why) in [
        (ClientReloader::builder(), "no roots and no verifier"),
        (identity(), "no roots and no verifier"),
        (ClientReloader::builder().root_store(store.clone()), "nothing to reload"),
        (identity().root_store(store.clone()).verifier(verifier.clone()), "a verifier and roots"),
        (identity().roots(volume.path("ca.crt")).verifier(verifier.clone()), "a verifier and roots"),
    ] {
        let error = rejected(builder.load());
        assert_eq!(error.layer(), Layer::Settings);
        assert!(error.why().contains(why), "{error}");
    }
    let empty = rejected(identity().root_store(RootCertStore::empty()).load());
    assert_eq!(empty.layer(), Layer::RootCa, "{empty}");
    // Each way to verify servers, and a client without an identity.
    let mut accepting = vec![
        identity().root_store(store).load().unwrap(),
        identity().verifier(verifier).load().unwrap(),
        identity().roots(volume.path("ca.crt")).load().unwrap(),
    ];
    let other = Generation::new(1);
    for kind in KINDS {
        let good = server(&own.server, &[&own.ca], kind);
        let stranger = server(&other.server, &[], kind);
        for client in &accepting {
            assert_eq!(handshake(&good, &client.config()).unwrap().client.as_ref(), Some(&own.client.leaf));
            assert!(handshake(&stranger, &client.config()).is_err());
        }
    }
    accepting.clear();
    let nameless = ClientReloader::builder().roots(volume.path("ca.crt")).timing(quick()).load().unwrap();
    assert_eq!(nameless.current().value.leaf, None);
    assert_eq!(handshake(&server(&own.server, &[], KINDS[0]), &nameless.config()).unwrap().client, None);
    assert!(handshake(&server(&own.server, &[&own.ca], KINDS[0]), &nameless.config()).is_err());
}

#[test]
fn inv09_roots_of_no_file_are_never_reported_as_removed() {
    let all = generations(2);
    let mut store = RootCertStore::empty();
    store.add(all[0].ca.der().clone()).unwrap();
    let mut volume = Volume::in_memory(&files(&all[0].client, &bundle(&[&all[0], &all[1]])));
    let client = client(&volume).root_store(store).load().unwrap();
    let mut events = client.events();
    volume.publish_in_one_tick(&files(&all[0].client, &bundle(&[&all[1]])));
    assert_eq!(client.reload_now(), Reload::Reloaded);
    assert_eq!(crate::common::drain(&mut events).len(), 1, "the publication");
    assert_eq!(client.current().value.trust_epoch(), 1, "the same roots are trusted");
    for of in &all {
        assert!(handshake(&server(&of.server, &[], KINDS[2]), &client.config()).is_ok());
    }
}

#[test]
fn inv02_name_that_the_server_lacks_is_rejected_as_by_rustls() {
    let own = Generation::new(0);
    let volume = Volume::in_memory(&files(&own.client, &own.ca.pem));
    let client = client(&volume).load().unwrap();
    let server = server(&own.server, &[], KINDS[2]);
    assert!(crate::common::handshake_as(&server, &client.config(), "other.example").is_err());
    assert!(crate::common::handshake_as(&server, &client.config(), "localhost").is_ok());
}

#[test]
fn inv02_versions_and_alpn_are_those_of_the_builder() {
    let own = Generation::new(0);
    let volume = Volume::in_memory(&files(&own.client, &own.ca.pem));
    let old = client(&volume).versions(&[&TLS12]).alpn(["h2"]).load().unwrap();
    assert_eq!(old.config().alpn_protocols, [b"h2".to_vec()]);
    assert!(handshake(&server(&own.server, &[], (&TLS12, false)), &old.config()).is_ok());
    assert!(handshake(&server(&own.server, &[], (&TLS13, false)), &old.config()).is_err());
}

#[test]
fn inv08_without_a_session_cache_no_session_resumes() {
    let own = Generation::new(0);
    let volume = Volume::in_memory(&files(&own.client, &own.ca.pem));
    let client = client(&volume).session_cache(0).load().unwrap();
    for kind in KINDS {
        let server = server(&own.server, &[&own.ca], kind);
        for _ in 0..2 {
            assert!(!handshake(&server, &client.config()).unwrap().resumed, "{kind:?}");
        }
    }
}

#[test]
fn inv02_a_closure_cannot_replace_identity_or_verifier() {
    let all = generations(2);
    let volume = Volume::in_memory(&files(&all[0].client, &all[0].ca.pem));
    let other = client(&volume).load().unwrap().config();
    let foreign = Arc::clone(&other.client_auth_cert_resolver);
    let resolver = client(&volume)
        .configure(move |config| config.client_auth_cert_resolver = Arc::clone(&foreign))
        .load();
    let error = rejected(resolver);
    assert_eq!(error.layer(), Layer::Config);
    assert!(error.why().contains("replaced the identity"), "{error}");
    let whole = client(&volume).configure(move |config| *config = other.as_ref().clone()).load();
    assert_eq!(rejected(whole).layer(), Layer::Config);
    // A verifier of its own has no effect.
    let mut roots = RootCertStore::empty();
    roots.add(all[1].ca.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let lax = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let client = client(&volume)
        .configure(move |config| config.dangerous().set_certificate_verifier(lax.clone()))
        .load()
        .unwrap();
    assert!(handshake(&server(&all[0].server, &[], KINDS[2]), &client.config()).is_ok());
    assert!(handshake(&server(&all[1].server, &[], KINDS[2]), &client.config()).is_err());
}

#[test]
fn inv02_a_configuration_that_cannot_connect_fails_its_rehearsal() {
    let own = Generation::new(0);
    let volume = Volume::in_memory(&files(&own.client, &own.ca.pem));
    let unusable = |config: &mut rustls::ClientConfig| config.max_fragment_size = Some(1);
    let error = rejected(client(&volume).configure(unusable).load());
    assert_eq!((error.layer(), error.path()), (Layer::Rehearsal, Some(volume.path("tls.crt").as_path())));
    let nameless = ClientReloader::builder().roots(volume.path("ca.crt")).timing(quick());
    assert_eq!(rejected(nameless.configure(unusable).load()).layer(), Layer::Rehearsal);
}

/// Loads a key of the usual kind but does not report to which certificate it belongs: only the
/// rehearsal can.
#[derive(Debug)]
struct Reticent;

impl KeyProvider for Reticent {
    fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Ok(Arc::new(WithoutPublicKey(ring::default_provider().key_provider.load_private_key(key)?)))
    }
}

#[derive(Debug)]
struct WithoutPublicKey(Arc<dyn SigningKey>);

impl SigningKey for WithoutPublicKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        self.0.choose_scheme(offered)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

#[test]
fn inv02_client_rehearsal_rejects_an_incomparable_foreign_key() {
    let all = generations(2);
    let provider = Arc::new(CryptoProvider { key_provider: &Reticent, ..ring::default_provider() });
    for versions in [&[&TLS12], &[&TLS13]] {
        let mut volume = Volume::in_memory(&files(&all[0].client, &all[0].ca.pem));
        let client = client(&volume).versions(versions).provider(Arc::clone(&provider)).load().unwrap();
        let mixed = rustls_reload_testkit::Pair { key: all[1].client.key.clone(), ..all[0].client.clone() };
        volume.publish_in_one_tick(&files(&mixed, &all[0].ca.pem));
        let Reload::Refused(error) = client.reload_now() else { panic!("a foreign key") };
        assert_eq!((error.layer(), error.path()), (Layer::Rehearsal, Some(volume.path("tls.crt").as_path())));
    }
}

/// Counts the secrets that it receives.
#[derive(Debug, Default)]
struct Counter(AtomicUsize);

impl KeyLog for Counter {
    fn log(&self, _: &str, _: &[u8], _: &[u8]) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn inv02_the_rehearsal_of_a_client_leaves_no_session_and_no_key_log() {
    let own = Generation::new(0);
    let volume = Volume::in_memory(&files(&own.client, &own.ca.pem));
    let (log, cache) = (Arc::new(Counter::default()), Arc::new(ClientSessionMemoryCache::new(8)));
    let (keep, store) = (Arc::clone(&log), Arc::clone(&cache));
    let client = client(&volume)
        .configure(move |config| {
            config.key_log = Arc::clone(&keep) as Arc<dyn KeyLog>;
            config.resumption = Resumption::store(Arc::clone(&store) as _);
        })
        .load()
        .unwrap();
    let hint =
        |name: &'static str| rustls::client::ClientSessionStore::kx_hint(&*cache, &name.try_into().unwrap());
    assert_eq!((log.0.load(Ordering::SeqCst), hint("rehearsal.invalid")), (0, None));
    // A handshake leaves both, so that either could have been seen.
    handshake(&server(&own.server, &[], KINDS[2]), &client.config()).unwrap();
    assert!(log.0.load(Ordering::SeqCst) > 0 && hint("localhost").is_some());
}

/// Checks: INV-10, INV-11.
#[test]
fn inv10_inv11_messages_of_a_client_name_files_and_hold_no_key() {
    let own = Generation::new(0);
    let volume = Volume::in_memory(&files(&own.client, &own.ca.pem));
    let client = client(&volume).load().unwrap();
    let said = format!("{client:?} {:?}", client.current());
    assert!(!rustls_reload_testkit::leaks(said.as_bytes(), &own.client.key_der(), &own.client.key), "{said}");
    fs::remove_dir_all(volume.dir()).unwrap();
    let Reload::Refused(error) = client.reload_now() else { panic!("the files are gone") };
    assert_eq!((error.layer(), error.path()), (Layer::Read, Some(volume.path("tls.crt").as_path())));
}

/// Checks: INV-02. A suite of TLS 1.2 is for one kind of server's key, which is not the client's.
#[test]
fn inv02_identity_unfit_for_servers_is_rehearsed_by_signature() {
    let all = generations(2);
    let cipher_suites = vec![ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256];
    let honest = CryptoProvider { cipher_suites, ..ring::default_provider() };
    let reticent = CryptoProvider { key_provider: &Reticent, ..honest.clone() };
    let mixed = rustls_reload_testkit::Pair { key: all[1].client.key.clone(), ..all[0].client.clone() };
    for (provider, identity, layer) in [
        (&honest, &all[0].client, None),
        (&reticent, &all[0].client, None),
        (&honest, &mixed, Some(Layer::Match)),
        (&reticent, &mixed, Some(Layer::Rehearsal)),
    ] {
        let volume = Volume::in_memory(&files(identity, &all[0].ca.pem));
        let loaded = client(&volume).versions(&[&TLS12]).provider(Arc::new(provider.clone())).load();
        assert_eq!(loaded.map(drop).map_err(|error| error.layer()), layer.map_or(Ok(()), Err));
    }
}

#[test]
fn inv02_chain_and_key_of_a_client_may_be_one_file() {
    let own = Generation::new(0);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("both.pem");
    fs::write(&path, own.client.chain.clone() + &own.client.key).unwrap();
    fs::write(dir.path().join("ca.crt"), &own.ca.pem).unwrap();
    let builder = ClientReloader::builder().identity(&path, &path).roots(dir.path().join("ca.crt"));
    let client = builder.timing(quick()).load().unwrap();
    let connection = handshake(&server(&own.server, &[&own.ca], KINDS[2]), &client.config()).unwrap();
    assert_eq!(connection.client, Some(own.client.leaf));
}

/// A verifier of the embedder's that says which CAs it knows, and which schemes it takes.
#[derive(Debug)]
struct Particular {
    stock: Arc<WebPkiServerVerifier>,
    schemes: Vec<SignatureScheme>,
    names: Vec<DistinguishedName>,
}

impl ServerCertVerifier for Particular {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.stock.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.stock.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.stock.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.names)
    }
}

/// Loads a client with an identity whose verifier takes these schemes.
fn particular(own: &Generation, schemes: &[SignatureScheme]) -> Result<ClientReloader, Error> {
    let volume = Volume::in_memory(&files(&own.client, &own.ca.pem));
    let mut roots = RootCertStore::empty();
    roots.add(own.ca.der().clone()).unwrap();
    let names = roots.subjects();
    let provider = Arc::new(ring::default_provider());
    let stock = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let verifier = Arc::new(Particular { stock, schemes: schemes.to_vec(), names });
    ClientReloader::builder()
        .identity(volume.path("tls.crt"), volume.path("tls.key"))
        .verifier(verifier)
        .timing(quick())
        .load()
}

/// The handshakes of the rehearsal do without the verifier, so they do not show it.
#[test]
fn inv02_unreadable_client_hello_is_rejected_with_an_identity() {
    let own = Generation::new(0);
    let error = rejected(particular(&own, &[]));
    assert_eq!(error.layer(), Layer::Rehearsal, "{error}");
    let client = particular(&own, &[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
    assert!(handshake(&server(&own.server, &[&own.ca], KINDS[2]), &client.config()).is_ok());
}

#[test]
fn inv16_rotating_config_names_the_cas_of_its_verifier() {
    let own = Generation::new(0);
    let client = particular(&own, &[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
    let named = |config: Arc<rustls::ClientConfig>| {
        let mut connection = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        let (mut flight, mut acceptor) = (Vec::new(), rustls::server::Acceptor::default());
        connection.write_tls(&mut flight).unwrap();
        acceptor.read_tls(&mut flight.as_slice()).unwrap();
        let accepted = acceptor.accept().unwrap().unwrap();
        let hello = accepted.client_hello();
        let names = hello.certificate_authorities().unwrap_or_default();
        names.iter().map(|name| name.as_ref().to_vec()).collect::<Vec<_>>()
    };
    let each = named(client.config());
    assert_eq!(each.len(), 1);
    assert_eq!(named(Arc::new(client.rotating_config())), each);
}
