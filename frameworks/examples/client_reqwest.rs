//! reqwest, which takes one configuration for life. It resumes no session. Each line of stdin is a
//! request over a new connection.
//!
//! `cargo run --example client_reqwest -- ADDRESS CHAIN KEY ROOTS`

#[tokio::main]
async fn main() -> Result<(), frameworks::AnyError> {
    let (address, builder) = frameworks::client(&["h2", "http/1.1"]);
    // TLS: begin
    let reloader = builder.start_async().await?;
    let config = reloader.rotating_config();
    // TLS: end
    let client = reqwest::Client::builder()
        // TLS: begin
        .tls_backend_preconfigured(config)
        // TLS: end
        .resolve("localhost", address)
        .no_proxy()
        .pool_max_idle_per_host(0)
        .build()?;
    let requests = frameworks::for_each_line(async || {
        let url = format!("https://localhost:{}/", address.port());
        let answer = client.get(url).send().await?.error_for_status()?;
        answer.text().await?;
        Ok(())
    });
    Ok(requests.await?)
}
