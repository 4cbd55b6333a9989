//! tls-hot-reload, which watches the files itself.

use std::sync::Arc;

use axum_server::tls_rustls::{RustlsConfig, from_tcp_rustls};
use rustls_reload_peers::{AnyError, app, arguments};

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let (listener, chain, key) = arguments()?;
    let config = tls_hot_reload::load_server_config(key, chain).await;
    let config = RustlsConfig::from_config(Arc::new(config));
    Ok(from_tcp_rustls(listener, config)?.serve(app().into_make_service()).await?)
}
