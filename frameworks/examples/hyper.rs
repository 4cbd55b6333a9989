//! hyper, HTTP/1.1 and HTTP/2. When a client CA has gone, or a CRL names another
//! client, each older connection ends after the answers under way: its client has to connect again.
//!
//! `cargo run --example hyper -- CHAIN KEY [CLIENT_CA CRL]`

use std::{convert::Infallible, net::SocketAddr, pin::pin};

use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use rustls_reload::Accepted;
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> Result<(), frameworks::AnyError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    // TLS: begin
    let reloader = frameworks::server(&["h2", "http/1.1"]).start_async().await?;
    let mut incoming = reloader.incoming(listener);
    // TLS: end
    frameworks::listening(address);
    while let Some(connection) = incoming.accept().await {
        tokio::spawn(serve(connection));
    }
    Ok(())
}

async fn serve(connection: Accepted<TcpStream, SocketAddr>) {
    // TLS: begin
    let Accepted { stream, trust_reduced, .. } = connection;
    // TLS: end
    let builder = Builder::new(TokioExecutor::new());
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service_fn(hello)));
    // A failure here concerns only the client.
    // TLS: begin
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = trust_reduced => serving.as_mut().graceful_shutdown(),
    }
    // TLS: end
    let _ = serving.await;
}

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("hello")))
}
