//! A tonic channel over a connector of rustls-reload. Each line of stdin is a call over a new
//! channel; a channel that is kept connects again by the same connector.
//!
//! `cargo run --example client_tonic -- ADDRESS CHAIN KEY ROOTS`

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Endpoint, Uri};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::service_fn;

#[tokio::main]
async fn main() -> Result<(), frameworks::AnyError> {
    let (address, builder) = frameworks::client(&["h2"]);
    // TLS: begin
    let reloader = builder.start_async().await?;
    let connector = reloader.connector();
    // TLS: end
    let connect = service_fn(move |_: Uri| {
        let connector = connector.clone();
        async move {
            let tcp = TcpStream::connect(address).await?;
            // TLS: begin
            let stream = connector.connect("localhost".try_into()?, tcp).await?.stream;
            // TLS: end
            Ok::<_, frameworks::AnyError>(TokioIo::new(stream))
        }
    });
    let requests = frameworks::for_each_line(async || {
        // The connector makes the TLS, so the scheme is `http`.
        let channel =
            Endpoint::from_static("http://localhost").connect_with_connector(connect.clone()).await?;
        HealthClient::new(channel).check(HealthCheckRequest::default()).await?;
        Ok(())
    });
    Ok(requests.await?)
}
