//! The first load is synchronous and strict: its error names the layer that refuses, and the path.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use crate::common::{self, Generation, client, client_of, handshake};
use rustls::{
    ProtocolVersion, RootCertStore, ServerConfig, SignatureAlgorithm, SignatureScheme,
    crypto::{CryptoProvider, KeyProvider, ring},
    pki_types::PrivateKeyDer,
    server::ServerSessionMemoryCache,
    sign::{Signer, SigningKey},
    version::{TLS12, TLS13},
};
use rustls_reload::{ClientAuth, Error, Event, Layer, ServerBuilder, ServerReloader};
use rustls_reload_testkit::{Authority, PrivateKey, Subject};

/// A plain directory with the files of a generation.
struct Files(tempfile::TempDir);

impl Files {
    fn of(generation: &Generation) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        for (name, bytes) in generation.files() {
            files.write(name, bytes);
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn server(&self) -> ServerBuilder {
        common::server_in(self.0.path())
    }

    fn server_with_clients(&self) -> ServerBuilder {
        self.server().client_ca(self.path("ca.crt"), ClientAuth::Required)
    }
}

/// Asserts the layer and the path of a refusal, and returns its error.
fn refused(load: Result<ServerReloader, Error>, layer: Layer, path: Option<&Path>) -> Error {
    let error = load.expect_err("the first load is strict");
    assert_eq!((error.layer(), error.path()), (layer, path), "{error}");
    assert!(!error.why().is_empty());
    error
}

#[test]
fn inv02_all_settings_end_up_in_the_configuration() {
    let generation = Generation::new(0);
    let files = Files::of(&generation);
    let reloader = files
        .server_with_clients()
        .alpn(["h2", "http/1.1"])
        .versions(&[&TLS13])
        .configure(|config| config.max_fragment_size = Some(1024))
        .load()
        .unwrap();
    let config = reloader.config();
    assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert_eq!(config.max_fragment_size, Some(1024));
    let mut offers = client_of(&generation, Some(&generation)).as_ref().clone();
    offers.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connection = handshake(&config, &Arc::new(offers)).unwrap();
    assert_eq!(connection.alpn.as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(*connection.leaf(), generation.server.leaf);
    assert_eq!(connection.client.as_ref(), Some(&generation.client.leaf));
    assert_eq!(connection.version, ProtocolVersion::TLSv1_3);
    let old = client(std::slice::from_ref(&generation), &[&TLS12]);
    assert!(handshake(&config, &old).is_err(), "TLS 1.2 is not enabled");
    let status = reloader.status();
    assert_eq!((status.generation, status.running), (1, false));
    assert_eq!(status.leaf.unwrap().names, ["localhost"]);
}

#[test]
fn inv02_client_auth_off_optional_and_required_mean_what_they_say() {
    let (ours, other) = (Generation::new(0), Generation::new(1));
    let files = Files::of(&ours);
    let clients = [Some(&ours), None, Some(&other)].map(|shown| client_of(&ours, shown));
    for (mode, wanted) in [
        (None, [true, true, true]),
        (Some(ClientAuth::Optional), [true, true, false]),
        (Some(ClientAuth::Required), [true, false, false]),
    ] {
        let server = files.server();
        let server = match mode {
            Some(mode) => server.client_ca(files.path("ca.crt"), mode),
            None => server,
        };
        let config = server.load().unwrap().config();
        let seen = clients.each_ref().map(|client| handshake(&config, client));
        assert_eq!(seen.each_ref().map(Result::is_ok), wanted, "{mode:?}: {seen:?}");
        let shown = seen[0].as_ref().unwrap().client.is_some();
        assert_eq!(shown, mode.is_some(), "a certificate is asked for where CAs are given");
    }
}

#[test]
fn inv02_every_layer_that_refuses_a_file_is_named_with_its_path() {
    let (good, other) = (Generation::new(0), Generation::new(1));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cut = |pem: &str| pem[..pem.len() / 2].to_owned();
    let key_in_ca = good.ca.pem.clone() + &good.server.key;
    for (name, bytes, layer) in [
        ("tls.crt", String::new(), Layer::Pem),
        ("tls.crt", cut(&good.server.chain), Layer::Pem),
        ("tls.crt", garbage.to_owned(), Layer::Chain),
        ("tls.crt", good.server.chain.clone() + garbage, Layer::Chain),
        ("tls.key", cut(&good.server.key), Layer::Pem),
        ("tls.key", good.server.key.clone() + &other.server.key, Layer::Key),
        ("tls.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned(), Layer::Key),
        ("tls.key", good.server.chain.clone(), Layer::Key),
        ("tls.key", other.server.key.clone(), Layer::Match),
        ("ca.crt", String::new(), Layer::Pem),
        ("ca.crt", key_in_ca, Layer::Pem),
        ("ca.crt", good.ca.pem.clone() + garbage, Layer::ClientCa),
    ] {
        let files = Files::of(&good);
        files.write(name, bytes);
        refused(files.server_with_clients().load(), layer, Some(&files.path(name)));
    }
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        let files = Files::of(&good);
        fs::remove_file(files.path(name)).unwrap();
        refused(files.server_with_clients().load(), Layer::Read, Some(&files.path(name)));
        fs::create_dir(files.path(name)).unwrap();
        refused(files.server_with_clients().load(), Layer::Read, Some(&files.path(name)));
    }
}

/// Checks: INV-11. The error names the malformed certificate by its place, and says that a leaf has
/// to be of version 3. Certificates after the leaf may have another version.
#[test]
fn inv11_malformed_certificate_is_reported_with_its_place() {
    let good = Generation::new(0);
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let two = good.server.chain.clone() + &good.ca.pem;
    for (chain, why) in [
        (garbage.to_owned(), "line 1: certificate 1 of 1 is malformed or not X.509 version 3".to_owned()),
        (two.clone() + garbage, format!("line {}: certificate 3 of 3 is malformed", two.lines().count() + 1)),
    ] {
        let files = Files::of(&good);
        files.write("tls.crt", chain);
        assert_eq!(refused(files.server().load(), Layer::Chain, Some(&files.path("tls.crt"))).why(), why);
    }
}

#[test]
fn inv03_a_panic_in_the_closure_is_an_error_of_the_first_load() {
    let files = Files::of(&Generation::new(0));
    refused(files.server().configure(|_| panic!("by design")).load(), Layer::Panic, None);
}

#[test]
fn inv02_no_protocol_version_is_an_error() {
    let files = Files::of(&Generation::new(0));
    refused(files.server().versions(&[]).load(), Layer::Config, None);
}

#[test]
fn inv02_an_empty_path_is_an_error() {
    refused(ServerReloader::builder("", "tls.key").load(), Layer::Settings, Some(Path::new("")));
}

#[test]
fn inv09_the_closure_may_not_replace_what_the_reload_owns() {
    let generation = Generation::new(0);
    let files = Files::of(&generation);
    let whole = files.server().load().unwrap().config().as_ref().clone();
    let other = whole.clone();
    type Closure = Box<dyn FnMut(&mut ServerConfig) + Send>;
    let resolver = Arc::clone(&other.cert_resolver);
    let closures: [(&str, Closure); 5] = [
        ("session storage", Box::new(|config| config.session_storage = ServerSessionMemoryCache::new(64))),
        ("ticketer", Box::new(|config| config.ticketer = ring::Ticketer::new().unwrap())),
        ("resolver", Box::new(move |config| config.cert_resolver = Arc::clone(&resolver))),
        ("storage", Box::new(move |config| *config = whole.clone())),
        // Every other setting stays comparable; the verifier of client certificates is replaced.
        (
            "verifier",
            Box::new(move |config| {
                let mut next = other.clone();
                next.session_storage = Arc::clone(&config.session_storage);
                next.ticketer = Arc::clone(&config.ticketer);
                next.cert_resolver = Arc::clone(&config.cert_resolver);
                *config = next;
            }),
        ),
    ];
    for (what, closure) in closures {
        let error = refused(files.server_with_clients().configure(closure).load(), Layer::Config, None);
        assert!(error.why().contains(what), "{error}");
    }
}

#[test]
fn inv11_first_load_outside_its_validity_starts_with_a_warning() {
    let (now, day) = (SystemTime::now(), Duration::from_secs(86_400));
    for (from, to) in [(now - 2 * day, now - day), (now + day, now + 2 * day)] {
        let mut generation = Generation::new(0);
        let subject = Subject::server("localhost").valid(from, to);
        generation.server = generation.ca.issue(&subject, &PrivateKey::p256());
        let files = Files::of(&generation);
        let reported = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&reported);
        let observer = move |event: &Event| keep.lock().unwrap().push(event.clone());
        let reloader = files.server().on_event(observer).load().unwrap();
        assert_eq!(common::presented(&reloader)[0], generation.server.leaf);
        let reported = reported.lock().unwrap();
        let [Event::Warning { warning }, rest @ ..] = reported.as_slice() else {
            panic!("reported: {reported:?}")
        };
        match rest {
            [] if from > now => {}
            [Event::Expired { .. }] if to < now => {}
            other => panic!("reported: {other:?}"),
        }
        assert_eq!(warning.layer(), Layer::Validity);
        assert_eq!(warning.path(), Some(files.path("tls.crt").as_path()));
    }
}

/// Loads a usual key but does not return its public key, so that only the rehearsal notices a wrong
/// certificate.
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
fn inv02_rehearsal_rejects_an_incomparable_foreign_key() {
    let (generation, other) = (Generation::new(0), Generation::new(1));
    let files = Files::of(&generation);
    let provider = Arc::new(CryptoProvider { key_provider: &Reticent, ..ring::default_provider() });
    let server = || files.server_with_clients().provider(Arc::clone(&provider));
    let config = server().load().unwrap().config();
    assert!(handshake(&config, &client_of(&generation, Some(&generation))).is_ok());
    files.write("tls.key", &other.server.key);
    refused(server().load(), Layer::Rehearsal, Some(&files.path("tls.crt")));
}

#[test]
fn inv02_the_rehearsal_leaves_no_session_and_no_key_log_behind() {
    let files = Files::of(&Generation::new(0));
    let load = |configure| files.server().configure(configure).load().unwrap().config();
    assert_eq!(common::leaves_no_trace(load), Ok(()));
}

#[test]
fn inv02_chain_and_key_may_be_one_file_and_any_path_may_lead_there() {
    let generation = Generation::new(0);
    let files = Files::of(&generation);
    files.write("both.pem", generation.server.chain.clone() + &generation.server.key);
    fs::create_dir(files.path("sub")).unwrap();
    let mut ways = vec![("both.pem", "both.pem"), ("sub/../both.pem", "./both.pem")];
    // On Windows few users may make a link.
    if cfg!(unix) {
        common::platform::symlink("../both.pem", files.path("sub/link.pem"));
        ways.push(("sub/link.pem", "both.pem"));
    }
    for (chain, key) in ways {
        let load = ServerReloader::builder(files.path(chain), files.path(key)).timing(common::quick()).load();
        assert_eq!(common::presented(&load.unwrap())[0], generation.server.leaf, "{chain}, {key}");
    }
}

/// Checks: INV-02. A handshake names all CAs to the client in a message of limited length, and the
/// server would send a message that exceeds the limit.
#[test]
fn inv02_client_cas_are_served_if_a_handshake_holds_their_names() {
    let generation = Generation::new(0);
    let length = |ca: &Authority| {
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        roots.subjects()[0].as_ref().len() + 2
    };
    let long = |bytes: usize| Authority::root(&"x".repeat(bytes));
    let others = [long(20_000), long(20_001), long(20_002)];
    let around = length(&others[0]) - 20_000;
    // The names of the CAs may take 64 KiB less 1 KiB for everything else.
    let taken: usize = others.iter().chain([&generation.ca]).map(length).sum();
    let rest = 65_535 - 1_024 - taken - around;
    let files = Files::of(&generation);
    let server = |rest: usize| {
        let cas =
            others.iter().chain([&generation.ca, &long(rest)]).map(|ca| ca.pem.as_str()).collect::<String>();
        files.write("ca.crt", cas);
        files.server_with_clients()
    };
    for version in [&TLS12, &TLS13] {
        let config = server(rest).versions(&[version]).load().unwrap().config();
        let connection = handshake(&config, &client_of(&generation, Some(&generation))).unwrap();
        assert_eq!(connection.client.as_ref(), Some(&generation.client.leaf), "{version:?}");
    }
    refused(server(rest + 1).load(), Layer::ClientCa, Some(&files.path("ca.crt")));
}
