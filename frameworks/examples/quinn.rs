//! quinn: QUIC, whose endpoint is given each new configuration.
//!
//! `cargo run --example quinn -- CHAIN KEY [CLIENT_CA CRL]`

use std::sync::Arc;

use quinn::{Endpoint, Incoming, crypto::rustls::QuicServerConfig};

#[tokio::main]
async fn main() -> Result<(), frameworks::AnyError> {
    // TLS: begin
    let reloader = frameworks::server(&["hello"]).start_async().await?;
    let endpoint = Endpoint::server(quic(reloader.config())?, "127.0.0.1:0".parse()?)?;
    let served = endpoint.clone();
    reloader.on_publish(move |new| match quic(Arc::clone(&new.value.config)) {
        Ok(config) => served.set_server_config(Some(config)),
        // The provider has no suite of QUIC, which would have shown at the start.
        Err(error) => eprintln!("{error}"),
    });
    // TLS: end
    frameworks::listening(endpoint.local_addr()?);
    while let Some(connection) = endpoint.accept().await {
        // A failure concerns only this client.
        tokio::spawn(echo(connection));
    }
    Ok(())
}

// TLS: begin
fn quic(config: Arc<rustls::ServerConfig>) -> Result<quinn::ServerConfig, frameworks::AnyError> {
    Ok(quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config)?)))
}
// TLS: end

async fn echo(connection: Incoming) -> Result<(), frameworks::AnyError> {
    let connection = connection.await?;
    loop {
        let (mut to, mut from) = connection.accept_bi().await?;
        let bytes = from.read_to_end(1024).await?;
        to.write_all(&bytes).await?;
        to.finish()?;
    }
}
