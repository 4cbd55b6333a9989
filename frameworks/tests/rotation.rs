//! A test of one's own server, to copy: a renewal reaches new clients, and nothing sleeps.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use axum::{Router, routing::get};
use frameworks::AnyError;
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use rustls_reload::{Reload, ServerReloader};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

fn write(dir: &Path, pair: &Pair) -> Result<(), AnyError> {
    fs::write(dir.join("tls.crt"), &pair.chain)?;
    Ok(fs::write(dir.join("tls.key"), &pair.key)?)
}

/// Returns the certificate that a new client sees. A client that resumes a session sees none.
async fn shown(address: SocketAddr, ca: &Authority) -> Result<CertificateDer<'static>, AnyError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone())?;
    let config = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
    let tcp = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(config).connect("localhost".try_into()?, tcp).await?;
    let chain = stream.get_ref().1.peer_certificates();
    Ok(chain.and_then(|chain| chain.first()).ok_or("no certificate")?.clone())
}

#[tokio::test]
async fn renewal_reaches_a_new_client_and_a_broken_one_does_not() -> Result<(), AnyError> {
    let (dir, ca) = (tempfile::tempdir()?, Authority::root("CA"));
    let [first, second, third] =
        [(); 3].map(|()| ca.issue(&Subject::server("localhost"), &PrivateKey::p256()));
    write(dir.path(), &first)?;

    // The server under test.
    let [chain, key] = ["tls.crt", "tls.key"].map(|name| dir.path().join(name));
    let reloader = ServerReloader::builder(chain, key).start_async().await?;
    let incoming = reloader.incoming(TcpListener::bind("127.0.0.1:0").await?);
    let address = incoming.local_addr()?;
    tokio::spawn(
        async move { axum::serve(incoming, Router::new().route("/", get(|| async { "hello" }))).await },
    );

    assert_eq!(shown(address, &ca).await?, first.leaf);
    write(dir.path(), &second)?;
    // Nothing has to settle: the writing is over. `Unchanged`: the reloader was faster. A server whose
    // reloader the test does not have is asked until the certificate changes.
    let reloaded = reloader.reload().await;
    assert!(matches!(reloaded, Reload::Reloaded | Reload::Unchanged), "{reloaded:?}");
    assert_eq!(shown(address, &ca).await?, second.leaf);

    write(dir.path(), &Pair { key: second.key.clone(), ..third })?;
    let rejected = reloader.reload().await;
    assert!(matches!(rejected, Reload::Refused(_)), "{rejected:?}");
    assert_eq!(shown(address, &ca).await?, second.leaf);
    Ok(())
}
