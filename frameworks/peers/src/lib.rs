//! The arguments, the listener and the answer that the servers of this package have in common.

use std::{env, net::TcpListener};

use axum::{Router, routing::get};

/// Any error of a server.
pub type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Returns the listener, the path of the chain and that of the key, from the arguments
/// `PORT CHAIN KEY`.
pub fn arguments() -> Result<(TcpListener, String, String), AnyError> {
    let [port, chain, key] =
        env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "PORT CHAIN KEY")?;
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?))?;
    listener.set_nonblocking(true)?;
    Ok((listener, chain, key))
}

/// Returns a service that answers `GET /`.
pub fn app() -> Router {
    Router::new().route("/", get(|| async { "ok\n" }))
}
