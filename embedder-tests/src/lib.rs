//! Shared by the tests: the provider of this build, a pair of files made by OpenSSL, a handshake.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
    sync::Arc,
    thread::{self, JoinHandle},
};

use rustls::{
    CipherSuite, ClientConfig, ClientConnection, Connection, HandshakeKind, ProtocolVersion, RootCertStore,
    ServerConfig, ServerConnection, SupportedProtocolVersion,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

/// Returns the provider that the crate is expected to choose by itself, or none where none is
/// compiled in.
#[must_use]
pub fn compiled_in() -> Option<CryptoProvider> {
    #[cfg(feature = "ring")]
    return Some(rustls::crypto::ring::default_provider());
    #[cfg(all(feature = "aws-lc-rs", not(feature = "ring")))]
    return Some(rustls::crypto::aws_lc_rs::default_provider());
    #[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
    None
}

/// Writes `tls.crt` and `tls.key` of a self-signed pair for `localhost`, made by `openssl req` with
/// these arguments.
#[allow(clippy::expect_used)] // reason: tests cannot go on without a pair
pub fn pair(dir: &Path, key: &str) {
    let args = "req -x509 -days 30 -nodes -keyout tls.key -out tls.crt -subj /CN=localhost \
                -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE";
    let mut command = Command::new("openssl");
    let made = command.args(args.split_whitespace()).args(key.split_whitespace()).current_dir(dir);
    let made = made.output().expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Makes a handshake as a client that trusts the pair in `dir` and uses `provider`. Returns what
/// was negotiated.
#[allow(clippy::expect_used)] // reason: a test fails by it
pub fn handshake_using(
    server: &Arc<ServerConfig>,
    provider: &Arc<CryptoProvider>,
    version: &'static SupportedProtocolVersion,
    dir: &Path,
) -> Result<(ProtocolVersion, HandshakeKind), rustls::Error> {
    let mut roots = RootCertStore::empty();
    let leaf = CertificateDer::from_pem_file(dir.join("tls.crt")).expect("the pair's certificate");
    roots.add(leaf).expect("a trust anchor");
    let config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[version])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    handshake(server, config)
}

/// Makes a handshake as this client. Returns what was negotiated.
#[allow(clippy::expect_used)] // reason: a test fails by it
pub fn handshake(
    server: &Arc<ServerConfig>,
    client: ClientConfig,
) -> Result<(ProtocolVersion, HandshakeKind), rustls::Error> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client: Connection = ClientConnection::new(Arc::new(client), name)?.into();
    let mut server: Connection = ServerConnection::new(Arc::clone(server))?.into();
    while pass(&mut client, &mut server)? | pass(&mut server, &mut client)? {}
    assert!(!client.is_handshaking() && !server.is_handshaking(), "neither fails nor ends");
    Ok((server.protocol_version().expect("a version"), server.handshake_kind().expect("a kind")))
}

/// Passes on everything that `from` has to send.
#[allow(clippy::expect_used)] // reason: in memory nothing fails
fn pass(from: &mut Connection, to: &mut Connection) -> Result<bool, rustls::Error> {
    let mut flight = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut flight).expect("memory");
    }
    let mut rest = flight.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).expect("memory");
        to.process_new_packets()?;
    }
    Ok(!flight.is_empty())
}

/// Serves one connection on loopback. Returns the address, and the thread that returns the cipher
/// suite of the handshake.
#[allow(clippy::expect_used)] // reason: a test fails by it
#[must_use]
pub fn serve_once(config: Arc<ServerConfig>) -> (SocketAddr, JoinHandle<CipherSuite>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = thread::spawn(move || {
        let (mut tcp, _) = listener.accept().expect("a client");
        let mut tls = ServerConnection::new(config).expect("a connection");
        tls.complete_io(&mut tcp).expect("a handshake");
        tls.negotiated_cipher_suite().expect("a suite").suite()
    });
    (address, server)
}
