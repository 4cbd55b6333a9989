//! Incoming connections as a listener for `axum::serve`.
#![cfg(all(feature = "axum", not(loom)))]

use std::{
    future::{pending, poll_fn},
    io,
    sync::Arc,
};

use ::axum::{
    extract::connect_info::Connected,
    serve::{self, IncomingStream},
};
use rustls::pki_types::CertificateDer;

use super::{
    accepted::Accepted,
    incoming::{Incoming, Listener},
};

impl<L> serve::Listener for Incoming<L>
where
    L: Listener + Send + 'static,
    L::Addr: Clone,
{
    type Io = Accepted<L::Io, L::Addr>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match poll_fn(|cx| self.poll_accepted(cx)).await {
            Some(accepted) => {
                let peer = accepted.peer_addr.clone();
                (accepted, peer)
            }
            // It was closed before axum got it.
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        Self::local_addr(self)
    }
}

/// A connection as handlers of axum see it. They extract `ConnectInfo<ConnectionInfo>` where the
/// router is served by `into_make_service_with_connect_info::<ConnectionInfo>()`.
///
/// Whether trust was reduced since the connection was accepted is
/// [`trust_reduced_since`](crate::Reloader::trust_reduced_since) of its generation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo<Addr = std::net::SocketAddr> {
    /// The client's address.
    pub peer_addr: Addr,
    /// See [`Accepted::peer_certificates`].
    pub peer_certificates: Option<Arc<[CertificateDer<'static>]>>,
    /// See [`Accepted::alpn`].
    pub alpn: Option<Arc<[u8]>>,
    /// See [`Accepted::server_name`].
    pub server_name: Option<Arc<str>>,
    /// See [`Accepted::generation`].
    pub generation: u64,
}

impl<L> Connected<IncomingStream<'_, Incoming<L>>> for ConnectionInfo<L::Addr>
where
    L: Listener + Send + 'static,
    L::Addr: Clone + Sync,
{
    fn connect_info(stream: IncomingStream<'_, Incoming<L>>) -> Self {
        let accepted = stream.io();
        Self {
            peer_addr: accepted.peer_addr.clone(),
            peer_certificates: accepted.peer_certificates().map(Arc::from),
            alpn: accepted.alpn().map(Arc::from),
            server_name: accepted.server_name().map(Arc::from),
            generation: accepted.generation(),
        }
    }
}
