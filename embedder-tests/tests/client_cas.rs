//! Client CAs by the provider of this build: a CA is accepted exactly where rustls with that
//! provider accepts clients of that CA.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)] // reason: a test may panic and print

use std::{fs, path::Path, process::Command, sync::Arc, time::Duration};

use embedder_tests::{compiled_in, handshake, pair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use rustls_reload::{ClientAuth, Layer, ServerReloader, Timing};

/// Each CA: its key by `genpkey`, whether the key is written again with a compressed point, and
/// whether ring and aws-lc-rs verify its clients.
const CAS: [(&str, bool, [bool; 2]); 12] = [
    ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", false, [true, true]),
    ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", true, [false, true]),
    ("-algorithm EC -pkeyopt ec_paramgen_curve:P-384", false, [true, true]),
    ("-algorithm EC -pkeyopt ec_paramgen_curve:P-384", true, [false, true]),
    ("-algorithm EC -pkeyopt ec_paramgen_curve:P-521", false, [false, true]),
    ("-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", false, [false, false]),
    ("-algorithm RSA -pkeyopt rsa_keygen_bits:1024", false, [false, false]),
    ("-algorithm RSA -pkeyopt rsa_keygen_bits:2040", false, [false, false]),
    ("-algorithm RSA -pkeyopt rsa_keygen_bits:2048", false, [true, true]),
    ("-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", false, [false, false]),
    ("-algorithm ED25519", false, [true, true]),
    ("-algorithm ED448", false, [false, false]),
];

fn openssl(dir: &Path, args: &str) {
    let output = Command::new("openssl").args(args.split_whitespace()).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes `ca.crt`, and `client.crt` with `client.key`, in the directory.
fn make(dir: &Path, key: &str, compressed: bool) {
    let extensions = "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=clientAuth\n";
    fs::write(dir.join("ext"), extensions).unwrap();
    openssl(dir, &format!("genpkey {key} -out ca.key"));
    if compressed {
        openssl(dir, "ec -in ca.key -conv_form compressed -out ca.key");
    }
    openssl(dir, "req -x509 -new -key ca.key -subj /CN=CA -days 9 -out ca.crt");
    openssl(
        dir,
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout client.key -subj /CN=c -out csr",
    );
    openssl(
        dir,
        "x509 -req -in csr -CA ca.crt -CAkey ca.key -set_serial 7 -days 9 -extfile ext -out client.crt",
    );
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

fn lets_in(server: ServerConfig, dir: &Path, provider: &Arc<CryptoProvider>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&dir.join("tls.crt"))).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![certificate(&dir.join("client.crt"))],
            PrivateKeyDer::from_pem_file(dir.join("client.key")).unwrap(),
        )
        .unwrap();
    handshake(&Arc::new(server), client).is_ok()
}

/// The configuration of rustls alone, with the CA as a trust anchor.
fn bare(dir: &Path, provider: &Arc<CryptoProvider>) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&dir.join("ca.crt"))).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![certificate(&dir.join("tls.crt"))],
            PrivateKeyDer::from_pem_file(dir.join("tls.key")).unwrap(),
        )
        .unwrap()
}

/// Checks: INV-14, INV-16.
#[test]
fn inv14_inv16_client_ca_is_taken_if_the_provider_verifies_clients() {
    let Some(provider) = compiled_in() else { return };
    let provider = Arc::new(provider);
    let dir = tempfile::tempdir().unwrap();
    pair(dir.path(), "-newkey ec -pkeyopt ec_paramgen_curve:P-256");
    // With the default settle time, a load would wait for files that were just written. Here no
    // writer is left.
    let at_once = Timing { settle: Duration::ZERO, ..Timing::default() };
    for (key, compressed, [ring, aws_lc_rs]) in CAS {
        make(dir.path(), key, compressed);
        let path = |name| dir.path().join(name);
        let server = ServerReloader::builder(path("tls.crt"), path("tls.key"))
            .client_ca(path("ca.crt"), ClientAuth::Required)
            .timing(at_once)
            .load();
        let by_rustls = lets_in(bare(dir.path(), &provider), dir.path(), &provider);
        let wanted = if cfg!(feature = "ring") { ring } else { aws_lc_rs };
        assert_eq!(by_rustls, wanted, "{key}, compressed: {compressed}");
        match server {
            Ok(server) => {
                assert!(by_rustls, "{key}, compressed: {compressed}: taken, and it can let no client in");
                assert!(lets_in((*server.config()).clone(), dir.path(), &provider), "{key}");
            }
            Err(error) => {
                assert!(!by_rustls, "{key}, compressed: {compressed}: {error}");
                assert_eq!((error.layer(), error.path()), (Layer::ClientCa, Some(path("ca.crt").as_path())));
                assert!(
                    error.why().ends_with("the crypto provider verifies no signature by such a key"),
                    "{error}"
                );
                println!("{error}");
            }
        }
    }
}
