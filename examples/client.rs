//! A TLS client that reloads its certificate and its roots: it sends a line to an echo server every
//! second, over a new connection each time.
//!
//! `cargo run --features tokio,ring --example client -- HOST PORT tls.crt tls.key ca.crt`

use std::{env::args, error::Error, time::Duration};

use rustls_reload::{ClientReloader, Connector};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// Time limit for one connection.
const LIMIT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = args().skip(1).collect();
    let [host, port, chain, key, roots] = args.as_slice() else {
        return Err("usage: client HOST PORT CHAIN KEY ROOTS".into());
    };
    let tls = ClientReloader::builder()
        .identity(chain, key)
        .roots(roots)
        .on_event(|event| eprintln!("{event}"))
        .start_async()
        .await?;
    loop {
        // The server may be away, its root gone or still to come: the next attempt may succeed.
        match timeout(LIMIT, greet(&tls.connector(), host, port)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("{error}"),
            Err(_) => eprintln!("no answer within {LIMIT:?}"),
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Sends a line and waits for its echo. Without reading, a client of TLS 1.3 does not learn that the
/// server rejects its certificate.
async fn greet(connector: &Connector, host: &str, port: &str) -> Result<(), Box<dyn Error>> {
    let tcp = TcpStream::connect(format!("{host}:{port}")).await?;
    let mut stream = connector.connect(host.to_owned().try_into()?, tcp).await?.stream;
    stream.write_all(b"hello\n").await?;
    stream.read_exact(&mut [0; 6]).await?;
    Ok(())
}
