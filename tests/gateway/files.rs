//! What the constructor takes and refuses, and what its clients then see.

use std::{fs, path::PathBuf, sync::Arc};

use rustls::{
    AlertDescription::{CertificateRequired, NoApplicationProtocol, UnknownCA},
    crypto::{CryptoProvider, ring},
};
use rustls_reload_testkit::{Authority, Client, Subject, Volume, armor};

use super::{RARE, Site, TlsAcceptor, rejection, serve};

#[test]
fn start_is_strict_and_names_layer_and_file() {
    let site = Site::new();
    let ca = site.volume.path("ca.crt");
    site.load_with(Some(&ca), true).unwrap();
    let (chain, key) = (site.volume.chain(), site.volume.key());
    let other = site.ca.server("localhost");
    // An X25519 key (RFC 8410) agrees on keys and signs nothing.
    let mut x25519 = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x6e\x04\x22\x04\x20".to_vec();
    x25519.extend([7; 32]);
    let x25519 = armor::encode("PRIVATE KEY", &[x25519]);
    let invalid_updates: [(&PathBuf, Option<&[u8]>, &str); 8] = [
        (&chain, None, "read"),
        (&chain, Some(b"garbage"), "pem"),
        (&chain, Some(other.chain.as_bytes()), "match"),
        (&key, None, "read"),
        (&key, Some(b""), "pem"),
        (&key, Some(&x25519), "key"),
        (&ca, None, "read"),
        (&ca, Some(b"garbage"), "pem"),
    ];
    for (path, bytes, layer) in invalid_updates {
        let good = fs::read(path).unwrap();
        match bytes {
            Some(bytes) => fs::write(path, bytes).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        let error = site.load_with(Some(&ca), true).unwrap_err().to_string();
        // The key is what does not match.
        let named = if layer == "match" { &key } else { path };
        assert!(error.starts_with(&format!("TLS error: {layer}: {}: ", named.display())), "{error}");
        fs::write(path, good).unwrap();
    }
}

#[test]
fn client_ca_is_absent_optional_or_required() {
    let site = Site::new();
    let ca = site.volume.path("ca.crt");
    let (own, foreign) = (site.ca.client("own"), Authority::root("foreign CA").client("foreign"));
    for (client_ca, required, [nobody, stranger]) in [
        (None, false, [None, None]),
        (None, true, [None, None]),
        (Some(ca.as_path()), false, [None, Some(UnknownCA)]),
        (Some(ca.as_path()), true, [Some(CertificateRequired), Some(UnknownCA)]),
    ] {
        let address = serve(&site.load_with(client_ca, required).unwrap());
        let case = format!("{client_ca:?}, required: {required}");
        for (client, expected) in [
            (site.client(), nobody),
            (site.client().identity(&own), None),
            (site.client().identity(&foreign), stranger),
        ] {
            let handshake = client.connect(address).unwrap();
            assert_eq!(rejection(&handshake), expected, "{case}");
            assert_eq!(handshake.leaf.as_ref(), Some(&site.internal.leaf), "{case}");
        }
    }
}

#[test]
fn external_pair_answers_its_names_and_the_internal_one_all_others() {
    let site = Site::new();
    let public = Authority::root("public CA");
    let mut subject = Subject::server("gw.example.com");
    subject.names.push("*.apps.example.com".to_owned());
    let external = public.issue(&subject, &rustls_reload_testkit::PrivateKey::p256());
    let volume = Volume::in_place(site.dir.path().join("external"));
    volume.publish(&external).unwrap();
    let names = ["gw.example.com", "*.apps.example.com", "GW.example.com"].map(str::to_owned).to_vec();
    let acceptor = TlsAcceptor::from_files(
        &site.volume.chain(),
        &site.volume.key(),
        None,
        false,
        Some(&volume.chain()),
        Some(&volume.key()),
        names,
    );
    let address = serve(&acceptor.unwrap());
    for (name, is_external) in [
        ("gw.example.com", true),
        ("Gw.Example.Com", true),
        ("one.apps.example.com", true),
        // A wildcard stands for one label.
        ("two.one.apps.example.com", false),
        ("apps.example.com", false),
        ("example.com", false),
        ("notapps.example.com", false),
        ("localhost", false),
        // A client sends no SNI for an address.
        ("127.0.0.1", false),
    ] {
        let handshake = Client::new(&public, name).connect(address).unwrap();
        let expected = if is_external { &external } else { &site.internal };
        assert_eq!(handshake.leaf.as_ref(), Some(&expected.leaf), "{name}");
        assert_eq!(handshake.outcome.is_ok(), is_external, "{name}: {handshake:?}");
    }
    site.client().connect(address).unwrap().outcome.unwrap();
}

#[test]
fn external_settings_that_contradict_each_other_are_errors() {
    let site = Site::new();
    let (chain, key) = (site.volume.chain(), site.volume.key());
    let name = || vec!["gw.example.com".to_owned()];
    for (external_chain, external_key, names, why) in [
        (Some(chain.as_path()), None, name(), "external_key_path is missing"),
        (None, Some(key.as_path()), name(), "external_cert_path is missing"),
        (Some(chain.as_path()), Some(key.as_path()), Vec::new(), "external_server_names is empty"),
    ] {
        let acceptor =
            TlsAcceptor::from_files(&chain, &key, None, false, external_chain, external_key, names);
        let error = acceptor.unwrap_err().to_string();
        assert!(error.starts_with("TLS error: ") && error.contains(why), "{error}");
    }
}

#[test]
fn alpn_is_h2_and_http_1_1() {
    let site = Site::new();
    let address = serve(&site.load().unwrap());
    let agreed = |offered: &[&str]| {
        let handshake = site.client().alpn(offered).connect(address).unwrap();
        (handshake.alpn.clone().map(|alpn| String::from_utf8(alpn).unwrap()), rejection(&handshake))
    };
    assert_eq!(agreed(&["h2", "http/1.1"]), (Some("h2".to_owned()), None));
    assert_eq!(agreed(&["http/1.1"]), (Some("http/1.1".to_owned()), None));
    assert_eq!(agreed(&[]), (None, None));
    assert_eq!(agreed(&["spdy/3"]), (None, Some(NoApplicationProtocol)));
}

#[test]
fn provider_is_the_process_default() {
    let site = Site::new();
    let acceptor = site.load().unwrap();
    let config = Arc::clone(acceptor.acceptor().config());
    assert!(Arc::ptr_eq(config.crypto_provider(), CryptoProvider::get_default().unwrap()));
    // A client without the one suite of the default finds none in common with the server.
    let mut others = ring::default_provider();
    others.cipher_suites.retain(|suite| suite.suite() != RARE);
    let address = serve(&acceptor);
    let handshake = site.client().provider(Arc::new(others)).connect(address).unwrap();
    assert_eq!(rejection(&handshake), Some(rustls::AlertDescription::HandshakeFailure));
    site.client().provider(Arc::new(ring::default_provider())).connect(address).unwrap().outcome.unwrap();
}
