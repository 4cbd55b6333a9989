//! smol and futures-rustls, on async-io: no tokio.
//!
//! `cargo run --example smol -- CHAIN KEY [CLIENT_CA CRL]`

use std::{io, time::Duration};

use futures_rustls::TlsAcceptor;
use smol::{
    Timer,
    future::or,
    io::{copy, split},
    net::{TcpListener, TcpStream},
};

fn main() -> Result<(), frameworks::AnyError> {
    // TLS: begin
    let reloader = frameworks::server(&[]).start()?;
    // TLS: end
    smol::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        frameworks::listening(listener.local_addr()?);
        loop {
            let Ok((tcp, _)) = listener.accept().await else {
                // No descriptor is free, for example. Open connections go on, and may end.
                Timer::after(Duration::from_millis(100)).await;
                continue;
            };
            // TLS: begin
            let acceptor = TlsAcceptor::from(reloader.config());
            // TLS: end
            // A failure concerns only this client.
            smol::spawn(serve(tcp, acceptor)).detach();
        }
    })
}

async fn serve(tcp: TcpStream, acceptor: TlsAcceptor) -> io::Result<u64> {
    tcp.set_nodelay(true)?;
    // A client that sends nothing is given up.
    let limit = async {
        Timer::after(Duration::from_secs(10)).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    // TLS: begin
    let stream = or(acceptor.accept(tcp), limit).await?;
    // TLS: end
    let (from, to) = split(stream);
    copy(from, to).await
}
