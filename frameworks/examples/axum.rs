//! axum, with its graceful shutdown by Ctrl-C.
//!
//! `cargo run --example axum -- CHAIN KEY [CLIENT_CA CRL]`

use axum::{Router, routing::get};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), frameworks::AnyError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    // TLS: begin
    let reloader = frameworks::server(&["h2", "http/1.1"]).start_async().await?;
    let incoming = reloader.incoming(listener);
    // TLS: end
    frameworks::listening(address);
    let app = Router::new().route("/", get(|| async { "hello" }));
    let serving = axum::serve(incoming, app).with_graceful_shutdown(async {
        // Without a signal handler the server goes on until it is killed.
        let _ = tokio::signal::ctrl_c().await;
    });
    Ok(serving.await?)
}
