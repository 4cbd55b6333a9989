//! A client of tokio and tokio-rustls. Each line of stdin is a request over a new connection.
//!
//! `cargo run --example client_tokio -- ADDRESS CHAIN KEY ROOTS`

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::main]
async fn main() -> Result<(), frameworks::AnyError> {
    let (address, builder) = frameworks::client(&[]);
    // TLS: begin
    let reloader = builder.start_async().await?;
    let connector = reloader.connector();
    // TLS: end
    let requests = frameworks::for_each_line(async || {
        let tcp = TcpStream::connect(address).await?;
        // TLS: begin
        let mut stream = connector.connect("localhost".try_into()?, tcp).await?.stream;
        // TLS: end
        stream.write_all(b"hello").await?;
        stream.read_exact(&mut [0; 5]).await?;
        Ok(())
    });
    Ok(requests.await?)
}
