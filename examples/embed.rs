//! A TLS echo server that takes up renewed certificates: the block that the README shows, and what it needs around it.
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
    let tls = ServerReloader::builder(chain, key).alpn(["http/1.1"]).start_async().await?;
    let (acceptor, listener) = (tls.acceptor(), TcpListener::bind("127.0.0.1:8443").await?);
    loop {
        let (tcp, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            serve(tls.stream).await;
        });
    }
    // README: end
}

/// Whatever the server is for.
async fn serve(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite) {
    let (mut from, mut to) = tokio::io::split(stream);
    // The client's business.
    let _ = copy(&mut from, &mut to).await;
}
