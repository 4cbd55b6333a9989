//! A TLS echo server that reloads its certificate: the block that the README shows, and what it
//! needs around it.
//!
//! `cargo run --features tokio,ring --example embed -- tls.crt tls.key`

use std::{env::args_os, error::Error};

use rustls_reload::ServerReloader;
use tokio::{io::copy, net::TcpListener};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<_> = args_os().skip(1).collect();
    let [chain, key] = files.as_slice() else { return Err("usage: embed CHAIN KEY".into()) };

    // README: begin
    let reloader = ServerReloader::builder(chain, key)
        .alpn(["http/1.1"])
        .on_event(|event| eprintln!("{event}"))
        .start_async()
        .await?;
    let listener = TcpListener::bind("127.0.0.1:8443").await?;
    // Neither callback may block, as `eprintln!` does while nobody reads a full pipe: nothing is
    // reloaded while the first blocks, and nothing is accepted while the second does.
    let mut incoming = reloader.incoming(listener).on_failed_handshake(|failed| {
        eprintln!("{}: {}", failed.peer_addr, failed.reason);
    });
    // Handshakes run beside each other. A client that sends nothing is given up after 10 s.
    while let Some(connection) = incoming.accept().await {
        tokio::spawn(serve(connection));
    }
    // README: end
    Ok(())
}

/// Echoes: a stand-in for the purpose of the server.
async fn serve(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite) {
    let (mut from, mut to) = tokio::io::split(stream);
    // A failure here concerns only the client.
    let _ = copy(&mut from, &mut to).await;
}
