//! Tests of the example `gateway`: each behaviour of the module whose interface it has, by a call or
//! by handshakes over TCP.
//!
//! The clients are those of the test kit: each handshake is a full one.
#![cfg(all(unix, not(loom)))]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)] // reason: tests

#[path = "../../examples/gateway.rs"]
mod gateway;

mod files;
mod log;
mod reloads;

use std::{net::SocketAddr, path::Path, sync::LazyLock, time::Duration};

use rustls::{AlertDescription, CipherSuite, Error as TlsError, crypto::ring};
use rustls_reload_testkit::{Authority, Client, Handshake, Pair, Volume};
use tokio::{io::AsyncWriteExt, net::TcpListener, runtime::Runtime};

use gateway::{Error, TlsAcceptor};

/// Generous, because the machine may be loaded.
const LIMIT: Duration = Duration::from_secs(60);

/// The only suite of the process default provider, which ring prefers to no other.
const RARE: CipherSuite = CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|suite| suite.suite() == RARE);
    provider.install_default().unwrap();
    log::install();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// A directory with the internal pair and the client CA.
struct Site {
    dir: tempfile::TempDir,
    ca: Authority,
    volume: Volume,
    internal: Pair,
}

impl Site {
    /// Publishes `tls.crt`, `tls.key` and `ca.crt` in place.
    fn new() -> Self {
        Self::published(Volume::in_place)
    }

    fn published(volume: impl FnOnce(std::path::PathBuf) -> Volume) -> Self {
        LazyLock::force(&RUNTIME);
        let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::root("internal CA"));
        let (volume, internal) = (volume(dir.path().join("internal")), ca.server("localhost"));
        volume.publish_with(&internal, &[("ca.crt", ca.pem.as_bytes())]).unwrap();
        Self { dir, ca, volume, internal }
    }

    /// Loads the internal pair alone.
    fn load(&self) -> Result<TlsAcceptor, Error> {
        self.load_with(None, false)
    }

    /// Loads the internal pair and this client CA.
    fn load_with(&self, client_ca: Option<&Path>, required: bool) -> Result<TlsAcceptor, Error> {
        let (chain, key) = (self.volume.chain(), self.volume.key());
        TlsAcceptor::from_files(&chain, &key, client_ca, required, None, None, Vec::new())
    }

    fn client(&self) -> Client {
        Client::new(&self.ca, "localhost")
    }
}

/// Serves on loopback, each connection with an acceptor of its own. Greets each client that it
/// accepts, and closes.
fn serve(acceptor: &TlsAcceptor) -> SocketAddr {
    let listener = RUNTIME.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let (address, acceptor) = (listener.local_addr().unwrap(), acceptor.clone());
    RUNTIME.spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.acceptor();
            tokio::spawn(async move {
                // A failure concerns the client alone, which reports it.
                if let Ok(mut tls) = acceptor.accept(tcp).await {
                    let _ = tls.write_all(b"hello").await;
                    let _ = tls.shutdown().await;
                }
            });
        }
    });
    address
}

/// Returns the alert by which the server rejected the client, or `None` where it accepted it.
fn rejection(handshake: &Handshake) -> Option<AlertDescription> {
    match &handshake.outcome {
        Ok(()) => None,
        Err(TlsError::AlertReceived(alert)) => Some(*alert),
        Err(error) => panic!("neither accepted nor rejected by the server: {error}"),
    }
}
