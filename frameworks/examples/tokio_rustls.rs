//! tokio and tokio-rustls: a task for each connection.
//!
//! `cargo run --example tokio_rustls -- CHAIN KEY [CLIENT_CA CRL]`

use tokio::{
    io::{AsyncRead, AsyncWrite, copy, split},
    net::TcpListener,
};

#[tokio::main]
async fn main() -> Result<(), frameworks::AnyError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    // TLS: begin
    let reloader = frameworks::server(&[]).start_async().await?;
    let mut incoming = reloader.incoming(listener);
    // TLS: end
    frameworks::listening(address);
    while let Some(connection) = incoming.accept().await {
        tokio::spawn(echo(connection));
    }
    Ok(())
}

async fn echo(connection: impl AsyncRead + AsyncWrite) {
    let (mut from, mut to) = split(connection);
    // A failure here concerns only the client.
    let _ = copy(&mut from, &mut to).await;
}
