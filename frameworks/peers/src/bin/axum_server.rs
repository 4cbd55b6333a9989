//! axum-server with its own `reload_from_pem_file`, called at SIGHUP.

use axum_server::tls_rustls::{RustlsConfig, from_tcp_rustls};
use rustls_reload_peers::{AnyError, app, arguments};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let (listener, chain, key) = arguments()?;
    // tls-hot-reload brings a second provider into this package, so that none is the default.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut hangups = signal(SignalKind::hangup())?;
    let config = RustlsConfig::from_pem_file(&chain, &key).await?;
    let served = config.clone();
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            if let Err(error) = served.reload_from_pem_file(&chain, &key).await {
                eprintln!("{error}");
            }
        }
    });
    Ok(from_tcp_rustls(listener, config)?.serve(app().into_make_service()).await?)
}
