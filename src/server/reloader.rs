//! The reloader of a server, and what its connections are accepted with.

use std::{path::Path, sync::Arc};

use rustls::{ServerConfig, server::ResolvesServerCert};

use super::{build::ServerTls, builder::ServerBuilder, resolver::Resolver};
use crate::drive::reloader::Reloader;

/// Keeps a `ServerConfig` up to date with its files, for as long as a clone, an `Incoming`, an acceptor
/// or a resolver of it exists.
pub type ServerReloader = Reloader<ServerTls>;

impl ServerReloader {
    /// Returns a builder for a server with this chain (leaf first) and its key, both in PEM. They
    /// may be one file.
    pub fn builder(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> ServerBuilder {
        ServerBuilder::new(chain.as_ref(), key.as_ref())
    }

    /// Returns the configuration to accept the next connection with. Waits for nothing (INV-07).
    /// [`current`](Self::current) returns it with its generation and leaf.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.with_current(|current| Arc::clone(&current.value.config))
    }

    /// Returns one configuration for a server that takes a `ServerConfig` once and keeps it
    /// (actix-web, trillium, xitca-web). Certificate, client CAs and CRLs rotate inside it.
    ///
    /// A server that takes a configuration for each connection should use [`config`](Self::config)
    /// instead. This one differs from it in three ways:
    ///
    /// - **No session resumes**, so each handshake verifies its client. A stored session or a ticket
    ///   would outlive the trust that it was made under.
    /// - One handshake can see two generations: the certificate of the one served when the server
    ///   reads the client's hello (the second hello, where the server asked for one), and the client
    ///   CAs and CRLs of that one or a later one. A client is never accepted by a trust that was
    ///   replaced before the handshake began. A connection does not know its generation: a server
    ///   that waits for [`trust_reduced`](Self::trust_reduced) has to take the generation of
    ///   [`current`](Self::current) before the handshake begins.
    /// - A client is sent no names of acceptable CAs. A client with several certificates has to know
    ///   which one to present.
    ///
    /// ALPN, protocol versions and further settings are those of the configuration served at this
    /// call. It keeps the reloader going, see [`Reloader`](crate::Reloader).
    #[must_use]
    pub fn rotating_config(&self) -> Arc<ServerConfig> {
        super::rotating::config(self)
    }

    /// Returns a certificate resolver for a `ServerConfig` of your own that is kept for life, where
    /// [`rotating_config`](Self::rotating_config) does not suit. It answers each handshake with the
    /// chain and key served at that moment.
    ///
    /// A reload changes certificates only. Client CAs, ALPN and session state belong to the
    /// `ServerConfig` that the resolver is put into and do not change with a reload.
    ///
    /// Not promised: sessions of that configuration go on resuming over every reload, a change of
    /// trust included. Where that matters, disable resumption: `NoServerSessionStorage` as its
    /// `session_storage`, and no ticketer.
    #[must_use]
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(Resolver(self.clone()))
    }

    /// Returns an acceptor of tokio connections.
    #[cfg(all(feature = "tokio", not(loom)))]
    #[must_use]
    pub fn acceptor(&self) -> super::Acceptor {
        super::acceptor::Acceptor::new(self.clone())
    }

    /// Accepts TLS connections from a `tokio::net::TcpListener` or another [`Listener`]: each
    /// handshake beside all others, with limits.
    ///
    /// [`Listener`]: super::Listener
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn incoming<L: super::Listener>(&self, listener: L) -> super::Incoming<L> {
        super::Incoming::new(listener, self.acceptor())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #[test]
    fn a_load_can_be_moved_off_an_async_executor() {
        fn is_send<T: Send + 'static>() -> usize {
            size_of::<T>()
        }
        assert!(is_send::<super::ServerBuilder>() > 0 && is_send::<super::ServerReloader>() > 0);
    }
}
