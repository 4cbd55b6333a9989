//! A TLS echo server that ends the connections of clients whose CA may have gone, and no other.
//!
//! `cargo run --features tokio,ring --example drain -- tls.crt tls.key ca.crt`

use std::{env::args_os, error::Error};

use rustls_reload::{ClientAuth, ServerReloader};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<_> = args_os().skip(1).collect();
    let [chain, key, ca] = files.as_slice() else { return Err("usage: drain CHAIN KEY CLIENT_CA".into()) };
    let tls = ServerReloader::builder(chain, key)
        .client_ca(ca, ClientAuth::Required)
        .on_event(|event| eprintln!("{event}"))
        .start_async()
        .await?;
    draining::serve(tls.incoming(TcpListener::bind("127.0.0.1:8443").await?)).await;
    Ok(())
}

/// Used by a test as well.
pub(crate) mod draining {
    use rustls_reload::{Accepted, Incoming};
    use std::time::Duration;

    use tokio::{
        io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy},
        net::TcpListener,
        time::timeout,
    };

    /// Serves each connection in a task of its own.
    pub(crate) async fn serve(mut incoming: Incoming<TcpListener>) {
        while let Some(Accepted { stream, trust_reduced, .. }) = incoming.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = tokio::io::split(stream);
                tokio::select! {
                    () = echo(&mut from, &mut to) => {}
                    // A renewal does not end the connection, a reduction of trust does. A client
                    // that is still trusted can connect again.
                    _ = trust_reduced => {}
                }
                // A client that does not read would hold its connection. A failure concerns only it.
                let _ = timeout(Duration::from_secs(1), to.shutdown()).await;
            });
        }
    }

    /// Echoes: a stand-in for the purpose of the server.
    async fn echo(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) {
        let _ = copy(from, to).await;
    }
}
