//! A TLS client that reloads its certificate and its roots: it sends a line every second, over a new
//! connection each time.
//!
//! `cargo run --features tokio,ring --example client -- HOST PORT tls.crt tls.key ca.crt`

use std::{env::args, error::Error, time::Duration};

use rustls_reload::ClientReloader;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};

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
    let (connector, address) = (tls.connector(), format!("{host}:{port}"));
    loop {
        let tcp = TcpStream::connect(&address).await?;
        // A server that sends nothing is given up after 10 s.
        match connector.connect(host.clone().try_into()?, tcp).await {
            Ok(mut tls) => tls.stream.write_all(b"hello\n").await?,
            // Its root may be gone, or still to come.
            Err(error) => eprintln!("{error}"),
        }
        sleep(Duration::from_secs(1)).await;
    }
}
