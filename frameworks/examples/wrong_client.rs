//! Clients with the mistakes that people make, so that the checks are checked: each has to fail
//! exactly those that its line in the harness names.
//!
//! `WRONG=KIND cargo run --example wrong_client -- ADDRESS CHAIN KEY ROOTS`

use std::{env::var, sync::Arc};

use rustls::client::Resumption;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

#[tokio::main]
async fn main() -> Result<(), frameworks::AnyError> {
    let (address, builder) = frameworks::client(&[]);
    let reloader = builder.start_async().await?;
    let config = match &*var("WRONG")? {
        // Takes the configuration at the start.
        "frozen" => reloader.config(),
        // Keeps sessions in a configuration for life.
        "sessions" => {
            let mut config = reloader.rotating_config();
            config.resumption = Resumption::default();
            Arc::new(config)
        }
        wrong => return Err(format!("unknown kind: {wrong}").into()),
    };
    let connector = TlsConnector::from(config);
    let requests = frameworks::for_each_line(async || {
        let tcp = TcpStream::connect(address).await?;
        let mut stream = connector.connect("localhost".try_into()?, tcp).await?;
        stream.write_all(b"hello").await?;
        stream.read_exact(&mut [0; 5]).await?;
        Ok(())
    });
    Ok(requests.await?)
}
