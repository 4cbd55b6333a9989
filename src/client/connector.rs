//! Connects over tokio with the configuration that is served at that moment.
#![cfg(all(feature = "tokio", not(loom)))]

use std::{io, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{build::ClientTls, builder::ClientReloader};
use crate::{
    drive::{cell::Published, reloader::TrustReduced},
    server::acceptor::HANDSHAKE_LIMIT,
};

/// Makes TLS connections to servers, each with the configuration that is served when its handshake
/// begins.
///
/// Clones share one reloader. A later publication changes no connection that was made before it.
///
/// It keeps the reloader going, see [`Reloader`](crate::Reloader).
#[derive(Clone, Debug)]
pub struct Connector {
    reloader: ClientReloader,
    limit: Duration,
}

impl ClientReloader {
    /// Returns a connector for tokio.
    #[must_use]
    pub fn connector(&self) -> Connector {
        Connector { reloader: self.clone(), limit: HANDSHAKE_LIMIT }
    }
}

/// A TLS connection to a server and the publication that it was made with.
#[derive(Debug)]
#[non_exhaustive]
pub struct Connected<IO> {
    /// The TLS stream, with its handshake complete.
    pub stream: TlsStream<IO>,
    /// The publication that the connection was made with. A reload does not change it.
    pub served: Arc<Published<ClientTls>>,
    /// Resolves once a publication after [`served`](Self::served) removes a root, also one during
    /// the handshake. The server of this connection may be one that is trusted no more.
    pub trust_reduced: TrustReduced<ClientTls>,
}

impl<IO> Connected<IO> {
    /// Returns the generation that the connection was made with.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.served.generation
    }

    /// Returns the trust epoch that the server was verified under: [`ClientTls::trust_epoch`].
    #[must_use]
    pub fn trust_epoch(&self) -> u64 {
        self.served.value.trust_epoch()
    }
}

impl Connector {
    /// Sets the time after which a handshake is given up; [`HANDSHAKE_LIMIT`] without it.
    #[must_use]
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Returns the reloader.
    pub fn reloader(&self) -> &ClientReloader {
        &self.reloader
    }

    /// Performs the handshake of a connection to the server of this name.
    ///
    /// # Errors
    /// The error of the handshake. [`io::ErrorKind::TimedOut`] if it has not ended within the
    /// [limit](Self::handshake_timeout).
    ///
    /// # Panics
    /// Outside of a tokio runtime with its timer.
    pub async fn connect<IO>(&self, name: ServerName<'static>, stream: IO) -> io::Result<Connected<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        self.reloader.note_handshake();
        let served = self.reloader.current();
        let connector = TlsConnector::from(Arc::clone(&served.value.config));
        let stream =
            tokio::time::timeout(self.limit, connector.connect(name, stream)).await.map_err(|_| {
                let why = format!("the handshake did not end within {:?}", self.limit);
                io::Error::new(io::ErrorKind::TimedOut, why)
            })??;
        let trust_reduced = self.reloader.trust_reduced(served.generation);
        Ok(Connected { stream, served, trust_reduced })
    }
}
