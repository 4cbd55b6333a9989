//! axum-server, which is given each new configuration.
//!
//! `cargo run --example axum_server -- CHAIN KEY [CLIENT_CA CRL]`

use std::{net::TcpListener, sync::Arc};

use axum::{Router, routing::get};
use axum_server::tls_rustls::{RustlsConfig, from_tcp_rustls};

#[tokio::main]
async fn main() -> Result<(), frameworks::AnyError> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // TLS: begin
    let reloader = frameworks::server(&["h2", "http/1.1"]).start_async().await?;
    let config = RustlsConfig::from_config(reloader.config());
    let served = config.clone();
    reloader.on_publish(move |new| served.reload_from_config(Arc::clone(&new.value.config)));
    // TLS: end
    frameworks::listening(address);
    let app = Router::new().route("/", get(|| async { "hello" }));
    Ok(from_tcp_rustls(listener, config)?.serve(app.into_make_service()).await?)
}
