//! The crate forces no crypto provider on an embedder: it uses the one compiled in, or requires one
//! to be passed. `scripts/providers` runs these tests with each. The effect of a process default is
//! tested in a process of its own: `process_default`.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)] // reason: a test may panic and print

use std::{process::Command, sync::Arc, time::Duration};

use embedder_tests::{compiled_in, handshake_using, pair};
use rustls::{
    ProtocolVersion, SupportedCipherSuite,
    crypto::CryptoProvider,
    version::{TLS12, TLS13},
};
use rustls_reload::{Layer, ServerReloader, Timing};

const KEYS: [&str; 3] =
    ["-newkey rsa:2048", "-newkey ec -pkeyopt ec_paramgen_curve:P-256", "-newkey ed25519"];

/// Returns a directory with a pair whose key is of the first kind that both providers support.
fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    pair(dir.path(), KEYS[1]);
    dir
}

fn server_in(dir: &tempfile::TempDir) -> rustls_reload::ServerBuilder {
    // The files were written just now, and a first load waits until they have been stable for the
    // settle time.
    let timing = Timing { settle: Duration::from_millis(20), ..Timing::default() };
    ServerReloader::builder(dir.path().join("tls.crt"), dir.path().join("tls.key")).timing(timing)
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
            assert_eq!(reloader.config().crypto_provider().cipher_suites, provider.cipher_suites);
            println!("provider: {:?}", provider.key_provider);
        }
        (provider, load) => panic!("compiled in: {}, {load:?}", provider.is_some()),
    }
    assert!(CryptoProvider::get_default().is_none(), "a load installs no default behind anybody's back");
}

#[test]
fn inv02_each_key_handshakes_on_enabled_versions_only() {
    let Some(provider) = compiled_in() else { return };
    let provider = Arc::new(provider);
    let dir = tempfile::tempdir().unwrap();
    let mut handshakes = 0;
    for key in KEYS {
        pair(dir.path(), key);
        for (enabled, wanted) in
            [(&[&TLS12, &TLS13][..], [true, true]), (&[&TLS12], [true, false]), (&[&TLS13], [false, true])]
        {
            let config = server_in(&dir).versions(enabled).load().unwrap().config();
            let versions = [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)];
            for ((version, name), wanted) in versions.into_iter().zip(wanted) {
                let seen = handshake_using(&config, &provider, version, dir.path());
                assert_eq!(seen.is_ok(), wanted, "{key}, {name:?} of {enabled:?}: {seen:?}");
                assert!(seen.is_err() || seen.is_ok_and(|(version, _)| version == name));
                handshakes += 1;
            }
        }
    }
    println!("{handshakes} handshakes, refused ones included");
    assert_eq!(handshakes, 18);
}

/// Runs `openssl` in the directory.
fn openssl(dir: &tempfile::TempDir, args: &str) {
    let run = Command::new("openssl").args(args.split_whitespace()).current_dir(dir.path()).output().unwrap();
    assert!(run.status.success(), "{args}: {}", String::from_utf8_lossy(&run.stderr));
}

/// EC keys without their public part, in either form, for each curve. The key is completed and
/// serves a handshake, or is refused with the curve's name where the provider lacks the curve.
#[test]
fn inv02_inv16_an_ec_key_without_its_public_part_serves() {
    let Some(provider) = compiled_in() else { return };
    let provider = Arc::new(provider);
    let has_p521 = format!("{:?}", provider.signature_verification_algorithms).contains("NISTP521");
    let dir = tempfile::tempdir().unwrap();
    for curve in ["P-256", "P-384", "P-521"] {
        let old = pair_of(&dir, curve);
        for form in ["ec -no_public -in full -out tls.key", "pkcs8 -topk8 -nocrypt -in tls.key -out half"] {
            openssl(&dir, form);
            if form.starts_with("pkcs8") {
                std::fs::rename(dir.path().join("half"), dir.path().join("tls.key")).unwrap();
            }
            match server_in(&dir).load() {
                Err(error) => {
                    assert!(curve == "P-521" && !has_p521, "{curve}: {error}");
                    assert_eq!(error.layer(), Layer::Key);
                    assert!(error.why().contains("P-521"), "{error}");
                }
                Ok(reloader) => {
                    let seen = handshake_using(&reloader.config(), &provider, &TLS13, dir.path());
                    assert!(seen.is_ok(), "{curve}: {seen:?}");
                    // The certificate of another key does not match.
                    let own = std::fs::read(dir.path().join("tls.crt")).unwrap();
                    std::fs::write(dir.path().join("tls.crt"), &old).unwrap();
                    assert_eq!(server_in(&dir).load().unwrap_err().layer(), Layer::Match, "{curve}");
                    std::fs::write(dir.path().join("tls.crt"), own).unwrap();
                }
            }
        }
    }
}

/// Makes a pair on this curve with its key in `full`. Returns the certificate of another such pair.
fn pair_of(dir: &tempfile::TempDir, curve: &str) -> Vec<u8> {
    pair(dir.path(), &format!("-newkey ec -pkeyopt ec_paramgen_curve:{curve}"));
    let old = std::fs::read(dir.path().join("tls.crt")).unwrap();
    pair(dir.path(), &format!("-newkey ec -pkeyopt ec_paramgen_curve:{curve}"));
    std::fs::rename(dir.path().join("tls.key"), dir.path().join("full")).unwrap();
    old
}

/// A certificate with a compressed point serves where the provider verifies with it, and is refused
/// elsewhere with an error that names the compressed point.
#[test]
fn inv02_inv16_a_compressed_point_in_the_leaf_serves_or_is_named() {
    let Some(provider) = compiled_in() else { return };
    let provider = Arc::new(provider);
    let dir = tempfile::tempdir().unwrap();
    openssl(&dir, "ecparam -name prime256v1 -genkey -noout -conv_form compressed -out short");
    pair(dir.path(), "-key short");
    openssl(&dir, "ec -in short -conv_form uncompressed -out tls.key");
    match server_in(&dir).load() {
        Ok(reloader) => {
            let seen = handshake_using(&reloader.config(), &provider, &TLS13, dir.path());
            assert!(seen.is_ok(), "{seen:?}");
            println!("a compressed point serves");
        }
        Err(error) => {
            assert_eq!(error.layer(), Layer::Chain, "{error}");
            assert!(error.why().contains("compressed EC point"), "{error}");
            println!("{error}");
        }
    }
    // The key has only the compressed point as well, so neither file has the uncompressed one.
    std::fs::rename(dir.path().join("short"), dir.path().join("tls.key")).unwrap();
    if let Err(error) = server_in(&dir).load() {
        assert!(error.why().contains("-conv_form uncompressed"), "{error}");
    }
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
    // The remaining suites need an RSA key, and this key is not one: only the rehearsed handshake
    // fails.
    let mut for_rsa = provider.clone();
    for_rsa.cipher_suites.retain(|suite| format!("{suite:?}").contains("ECDHE_RSA"));
    refused("suites for another key", server().provider(Arc::new(for_rsa)).load(), Layer::Rehearsal);
}
