//! The reloader of a server.

use std::sync::Arc;

use rustls::ServerConfig;

use super::build::ServerTls;
use crate::drive::reloader::Reloader;

/// Keeps a `ServerConfig` up to date with its files, for as long as a clone, an `Incoming`, an
/// acceptor, a resolver or a configuration for life of it exists.
pub type ServerReloader = Reloader<ServerTls>;

impl ServerReloader {
    /// Returns the configuration to accept the next connection with. Waits for nothing (INV-07).
    /// [`current`](Self::current) returns it with its generation and leaf.
    ///
    /// Ask again for each connection: a configuration that is kept never changes, and does not keep
    /// the reloader going. A server that keeps one takes
    /// [`rotating_config`](Self::rotating_config).
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.with_current(|current| Arc::clone(&current.value.config))
    }
}
