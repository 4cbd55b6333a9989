//! tonic, whose requests know the client's address and certificates.
//!
//! `cargo run --example tonic -- CHAIN KEY [CLIENT_CA CRL]`

use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tonic::transport::Server;

#[tokio::main]
async fn main() -> Result<(), frameworks::AnyError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    // TLS: begin
    let reloader = frameworks::server(&["h2"]).start_async().await?;
    let incoming = reloader.incoming(listener).map(|next| next.map(|connection| connection.stream));
    // TLS: end
    frameworks::listening(address);
    let (_reporter, health) = tonic_health::server::health_reporter();
    Ok(Server::builder().add_service(health).serve_with_incoming(incoming).await?)
}
