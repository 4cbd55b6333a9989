//! A test of one's own server, to copy: a renewal reaches new clients, and nothing sleeps.

use std::net::SocketAddr;

use axum::{Router, routing::get};
use frameworks::AnyError;
use rustls::pki_types::CertificateDer;
use rustls_reload::{Reload, ServerReloader};
use rustls_reload_testkit::{Authority, Client, Pair, Volume};
use tokio::{net::TcpListener, task::spawn_blocking};

/// Returns the certificate that a new client sees.
async fn shown(address: SocketAddr, ca: &Authority) -> Result<CertificateDer<'static>, AnyError> {
    let client = Client::new(ca, "localhost");
    let handshake = spawn_blocking(move || client.connect(address)).await??;
    handshake.outcome?;
    Ok(handshake.leaf.ok_or("no certificate")?)
}

#[tokio::test]
async fn renewal_reaches_a_new_client_and_a_broken_one_does_not() -> Result<(), AnyError> {
    let (dir, ca) = (tempfile::tempdir()?, Authority::root("CA"));
    let [first, second, third] = [(); 3].map(|()| ca.server("localhost"));
    let volume = Volume::in_place(dir.path());
    volume.publish(&first)?;

    // The server under test.
    let reloader = ServerReloader::builder(volume.chain(), volume.key()).start_async().await?;
    let incoming = reloader.incoming(TcpListener::bind("127.0.0.1:0").await?);
    let address = incoming.local_addr()?;
    tokio::spawn(
        async move { axum::serve(incoming, Router::new().route("/", get(|| async { "hello" }))).await },
    );

    assert_eq!(shown(address, &ca).await?, first.leaf);
    volume.publish(&second)?;
    // Nothing has to settle: the writing is over. `Unchanged`: the reloader was faster. A server whose
    // reloader the test does not have is asked until the certificate changes.
    let reloaded = reloader.reload().await;
    assert!(matches!(reloaded, Reload::Reloaded | Reload::Unchanged), "{reloaded:?}");
    assert_eq!(shown(address, &ca).await?, second.leaf);

    volume.publish(&Pair { key: second.key.clone(), ..third })?;
    let rejected = reloader.reload().await;
    assert!(matches!(rejected, Reload::Refused(_)), "{rejected:?}");
    assert_eq!(shown(address, &ca).await?, second.leaf);
    Ok(())
}
