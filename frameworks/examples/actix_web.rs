//! actix-web, which takes one configuration for life. It resumes no session.
//!
//! `cargo run --example actix_web -- CHAIN KEY [CLIENT_CA CRL]`

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix_web::{App, HttpServer, web};

async fn hello() -> &'static str {
    "hello"
}

#[actix_web::main]
async fn main() -> Result<(), frameworks::AnyError> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // TLS: begin
    let reloader = frameworks::server(&[]).start_async().await?;
    let config = Arc::unwrap_or_clone(reloader.rotating_config());
    // TLS: end
    let server = HttpServer::new(|| App::new().route("/", web::get().to(hello)))
        .keep_alive(Duration::from_secs(75))
        .listen_rustls_0_23(listener, config)?;
    frameworks::listening(address);
    Ok(server.run().await?)
}
