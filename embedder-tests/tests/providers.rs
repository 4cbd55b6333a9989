//! No crypto provider is forced on anybody: the one compiled in, or none, and then it has to be passed.
//! `scripts/providers` runs these with each. What a process default changes is seen in a process of its own:
//! `process_default`.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)] // reason: a test may panic and print

use std::sync::Arc;

use embedder_tests::{compiled_in, pair, shake};
use rustls::{
    ProtocolVersion, SupportedCipherSuite,
    crypto::CryptoProvider,
    version::{TLS12, TLS13},
};
use rustls_reload::{Layer, ServerReloader};

const KEYS: [&str; 3] =
    ["-newkey rsa:2048", "-newkey ec -pkeyopt ec_paramgen_curve:P-256", "-newkey ed25519"];

/// A directory with a pair whose key is of the first kind that everybody supports.
fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    pair(dir.path(), KEYS[1]);
    dir
}

fn server_in(dir: &tempfile::TempDir) -> rustls_reload::ServerBuilder {
    ServerReloader::builder(dir.path().join("tls.crt"), dir.path().join("tls.key"))
}

/// Checks: INV-02.
#[test]
fn inv02_without_any_provider_a_load_is_refused_by_the_settings() {
    let dir = files();
    assert!(CryptoProvider::get_default().is_none(), "something in this process has installed a default");
    match (compiled_in(), server_in(&dir).load()) {
        (None, Err(error)) => {
            assert_eq!((error.layer(), error.path()), (Layer::Settings, None), "{error}");
            println!("no provider: {error}");
        }
        (Some(provider), Ok(reloader)) => {
            assert_eq!(reloader.current().crypto_provider().cipher_suites, provider.cipher_suites);
            println!("provider: {:?}", provider.key_provider);
        }
        (provider, load) => panic!("compiled in: {}, {load:?}", provider.is_some()),
    }
    assert!(CryptoProvider::get_default().is_none(), "a load installs no default behind anybody's back");
}

#[test]
fn inv02_every_key_shakes_hands_on_both_versions_and_only_on_those_enabled() {
    let Some(provider) = compiled_in() else { return };
    let provider = Arc::new(provider);
    let dir = tempfile::tempdir().unwrap();
    let mut shaken = 0;
    for key in KEYS {
        pair(dir.path(), key);
        for (enabled, wanted) in
            [(&[&TLS12, &TLS13][..], [true, true]), (&[&TLS12], [true, false]), (&[&TLS13], [false, true])]
        {
            let config = server_in(&dir).versions(enabled).load().unwrap().current();
            let versions = [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)];
            for ((version, name), wanted) in versions.into_iter().zip(wanted) {
                let seen = shake(&config, &provider, version, dir.path());
                assert_eq!(seen.is_ok(), wanted, "{key}, {name:?} of {enabled:?}: {seen:?}");
                assert!(seen.is_err() || seen.is_ok_and(|(version, _)| version == name));
                shaken += 1;
            }
        }
    }
    println!("{shaken} handshakes, refused ones included");
    assert_eq!(shaken, 18);
}

#[test]
fn inv02_a_combination_that_cannot_serve_is_an_error_at_the_start() {
    let Some(provider) = compiled_in() else { return };
    let dir = files();
    let only = |tls13: bool| {
        let mut provider = provider.clone();
        provider.cipher_suites.retain(|suite| matches!(suite, SupportedCipherSuite::Tls13(_)) == tls13);
        assert!(!provider.cipher_suites.is_empty());
        Arc::new(provider)
    };
    let refused = |what, load: Result<ServerReloader, rustls_reload::Error>, layer| {
        let error = load.expect_err(what);
        assert_eq!(error.layer(), layer, "{what}: {error}");
    };
    let server = || server_in(&dir);
    refused("no version", server().versions(&[]).load(), Layer::Config);
    refused(
        "TLS 1.3 without a suite",
        server().provider(only(false)).versions(&[&TLS13]).load(),
        Layer::Config,
    );
    refused(
        "TLS 1.2 without a suite",
        server().provider(only(true)).versions(&[&TLS12]).load(),
        Layer::Config,
    );
    let groupless = Arc::new(CryptoProvider { kx_groups: Vec::new(), ..provider.clone() });
    refused("no key exchange", server().provider(groupless).load(), Layer::Config);
    // The suites left are for RSA keys, and this one is not: only a handshake shows it.
    let mut for_rsa = provider.clone();
    for_rsa.cipher_suites.retain(|suite| format!("{suite:?}").contains("ECDHE_RSA"));
    refused("suites for another key", server().provider(Arc::new(for_rsa)).load(), Layer::Rehearsal);
}
