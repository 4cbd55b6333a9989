//! poem, with an acceptor of its trait around the incoming connections.
//!
//! `cargo run --example poem -- CHAIN KEY [CLIENT_CA CRL]`

use std::{future::pending, io, net::SocketAddr};

use poem::{
    Addr, Route, Server, get, handler,
    http::uri::Scheme,
    listener::Acceptor,
    web::{LocalAddr, RemoteAddr},
};
use rustls_reload::{Accepted, Incoming};
use tokio::net::{TcpListener, TcpStream};

// TLS: begin
struct Reloading(Incoming<TcpListener>, SocketAddr);

impl Acceptor for Reloading {
    type Io = Accepted<TcpStream, SocketAddr>;

    fn local_addr(&self) -> Vec<LocalAddr> {
        vec![LocalAddr(Addr::SocketAddr(self.1))]
    }

    async fn accept(&mut self) -> io::Result<(Self::Io, LocalAddr, RemoteAddr, Scheme)> {
        let Some(connection) = self.0.accept().await else { return pending().await };
        let peer = RemoteAddr(Addr::SocketAddr(connection.peer_addr));
        Ok((connection, LocalAddr(Addr::SocketAddr(self.1)), peer, Scheme::HTTPS))
    }
}
// TLS: end

#[handler]
fn hello() -> &'static str {
    "hello"
}

#[tokio::main]
async fn main() -> Result<(), frameworks::AnyError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    // TLS: begin
    let reloader = frameworks::server(&["h2", "http/1.1"]).start_async().await?;
    let acceptor = Reloading(reloader.incoming(listener), address);
    // TLS: end
    frameworks::listening(address);
    Ok(Server::new_with_acceptor(acceptor).run(Route::new().at("/", get(hello))).await?)
}
