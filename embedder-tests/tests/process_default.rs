//! The process default provider is honoured, and an explicit provider takes precedence over it.
//! This test has a process of its own, because a process default can be set only once.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs)] // reason: a test may panic

use std::{sync::Arc, time::Duration};

use embedder_tests::{compiled_in, handshake_using, pair};
use rustls::{crypto::CryptoProvider, version::TLS13};
use rustls_reload::{ServerReloader, Timing};

#[test]
fn inv02_process_default_ranks_between_passed_and_compiled_in() {
    let Some(provider) = compiled_in() else { return };
    let dir = tempfile::tempdir().unwrap();
    pair(dir.path(), "-newkey ed25519");
    let timing = Timing { settle: Duration::from_millis(20), ..Timing::default() };
    let server =
        || ServerReloader::builder(dir.path().join("tls.crt"), dir.path().join("tls.key")).timing(timing);
    // No compiled-in provider has only one suite.
    let mut default = provider.clone();
    default.cipher_suites.truncate(1);
    assert_ne!(default.cipher_suites, provider.cipher_suites);
    default.install_default().unwrap();
    let config = server().load().unwrap().config();
    assert!(Arc::ptr_eq(config.crypto_provider(), CryptoProvider::get_default().unwrap()));
    let provider = Arc::new(provider);
    assert!(handshake_using(&config, &provider, &TLS13, dir.path()).is_ok());
    let config = server().provider(Arc::clone(&provider)).load().unwrap().config();
    assert!(Arc::ptr_eq(config.crypto_provider(), &provider));
}
