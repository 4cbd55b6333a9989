//! A client of quinn, which is given the configuration for each connection. Each line of stdin is a
//! request over a new connection.
//!
//! `cargo run --example client_quinn -- ADDRESS CHAIN KEY ROOTS`

use std::sync::Arc;

use quinn::{ClientConfig, Endpoint, crypto::rustls::QuicClientConfig};

#[tokio::main]
async fn main() -> Result<(), frameworks::AnyError> {
    let (address, builder) = frameworks::client(&["hello"]);
    let endpoint = Endpoint::client("127.0.0.1:0".parse()?)?;
    // TLS: begin
    let reloader = builder.start_async().await?;
    // TLS: end
    let requests = frameworks::for_each_line(async || {
        // TLS: begin
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(reloader.config())?));
        // TLS: end
        let connection = endpoint.connect_with(config, address, "localhost")?.await?;
        let (mut to, mut from) = connection.open_bi().await?;
        to.write_all(b"hello").await?;
        to.finish()?;
        from.read_to_end(1024).await?;
        Ok(())
    });
    Ok(requests.await?)
}
