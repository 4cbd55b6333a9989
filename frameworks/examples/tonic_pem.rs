//! tonic's own `ServerTlsConfig`, which rustls-reload cannot reload. It takes PEM text at the
//! start, makes its configuration from that once, and has no setting for CRLs.
//!
//! `cargo run --example tonic_pem -- CHAIN KEY [CLIENT_CA CRL]`

use std::{env::args_os, fs::read};

use tokio::net::TcpListener;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig, server::TcpIncoming};

#[tokio::main]
async fn main() -> Result<(), frameworks::AnyError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let files: Vec<_> = args_os().skip(1).collect();
    // TLS: begin
    let identity = Identity::from_pem(read(&files[0])?, read(&files[1])?);
    let mut config = ServerTlsConfig::new().identity(identity);
    if let Some(client_ca) = files.get(2) {
        config = config.client_ca_root(Certificate::from_pem(read(client_ca)?));
    }
    let mut server = Server::builder().tls_config(config)?;
    // TLS: end
    frameworks::listening(address);
    let (_reporter, health) = tonic_health::server::health_reporter();
    Ok(server.add_service(health).serve_with_incoming(TcpIncoming::from(listener)).await?)
}
