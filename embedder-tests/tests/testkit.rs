//! The test kit leaves the crypto provider of the crate under test alone, and its client uses the
//! same. `scripts/providers` runs this file with each provider and with none. It has one test, as a
//! process default can be set only once.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs)] // reason: a test may panic

use std::{io, sync::Arc, time::Duration};

use embedder_tests::{compiled_in, serve_once};
use rustls::{CipherSuite, crypto::CryptoProvider};
use rustls_reload::{Error, Layer, ServerReloader, Timing};
use rustls_reload_testkit::{Authority, Client, Volume};

/// A suite that no compiled-in provider prefers.
const RARE: CipherSuite = CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;

#[test]
fn inv02_testkit_changes_no_provider_and_uses_the_servers() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::root("CA"));
    let (volume, pair) = (Volume::in_place(dir.path()), ca.server("localhost"));
    volume.publish(&pair).unwrap();
    // The files were written just now.
    let timing = Timing { settle: Duration::from_millis(20), ..Timing::default() };
    let server = || ServerReloader::builder(volume.chain(), volume.key()).timing(timing).load();
    let client = Client::new(&ca, "localhost");

    let Some(provider) = compiled_in() else {
        // The kit has certificates made by ring, and gives it to nobody.
        assert_eq!(server().map(drop).as_ref().map_err(Error::layer), Err(Layer::Settings));
        let error = client.connect(([127, 0, 0, 1], 1).into()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("no crypto provider"), "{error}");
        return;
    };
    let config = server().unwrap().config();
    let name = |provider: &CryptoProvider| format!("{:?}", provider.key_provider);
    assert_eq!(name(config.crypto_provider()), name(&provider));
    let suite_of = |client: &Client| {
        let (address, suite) = serve_once(Arc::clone(&config));
        let handshake = client.connect(address).unwrap();
        assert_eq!((handshake.leaf.as_ref(), handshake.outcome), (Some(&pair.leaf), Ok(())));
        suite.join().unwrap()
    };
    let mut only_rare = provider.clone();
    only_rare.cipher_suites.retain(|suite| suite.suite() == RARE);
    let only_rare = Arc::new(only_rare);
    assert_ne!(suite_of(&client), RARE);
    assert_eq!(suite_of(&client.clone().provider(Arc::clone(&only_rare))), RARE);
    assert!(CryptoProvider::get_default().is_none(), "the kit installs no default");

    CryptoProvider::clone(&only_rare).install_default().unwrap();
    assert_eq!(suite_of(&client), RARE);
}
