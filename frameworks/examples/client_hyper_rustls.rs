//! hyper with hyper-rustls, which takes one configuration for life. It resumes no session. Each
//! line of stdin is a request over a new connection.
//!
//! `cargo run --example client_hyper_rustls -- ADDRESS CHAIN KEY ROOTS`

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

#[tokio::main]
async fn main() -> Result<(), frameworks::AnyError> {
    // hyper-rustls sets ALPN by itself.
    let (address, builder) = frameworks::client(&[]);
    // TLS: begin
    let reloader = builder.start_async().await?;
    let https = HttpsConnectorBuilder::new().with_tls_config(reloader.rotating_config());
    // TLS: end
    let https = https.https_only().enable_all_versions().build();
    let client =
        Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build::<_, Full<Bytes>>(https);
    let requests = frameworks::for_each_line(async || {
        let url = format!("https://localhost:{}/", address.port());
        let answer = client.get(url.parse()?).await?;
        answer.into_body().collect().await?;
        Ok(())
    });
    Ok(requests.await?)
}
