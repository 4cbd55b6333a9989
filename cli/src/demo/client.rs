//! The demo's client: it trusts the demo's CA alone, and keeps the leaf that it is shown.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        client::Resumption,
        pki_types::{CertificateDer, ServerName},
    },
};

use crate::Failure;

pub(super) struct Client {
    connector: TlsConnector,
    name: ServerName<'static>,
    server: SocketAddr,
}

/// A connection that stays open.
pub(super) struct Connection {
    /// The leaf that the server presented, verified.
    pub(super) leaf: CertificateDer<'static>,
    requests: http1::SendRequest<Empty<Bytes>>,
}

impl Client {
    pub(super) fn new(
        trusted: CertificateDer<'static>,
        name: &'static str,
        server: SocketAddr,
    ) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted)?;
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A resumed connection would not be shown the certificate.
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(name)?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name, server })
    }

    /// Connects and verifies the chain that the server presents.
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(self.server).await?;
        let stream = self.connector.connect(self.name.clone(), stream).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let leaf = chain.first().ok_or("the server presented no certificate")?.clone().into_owned();
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The task ends when `requests` is dropped.
        tokio::spawn(connection);
        Ok(Connection { leaf, requests })
    }
}

impl Connection {
    /// Returns the body of `GET /`, which names the certificate that this connection was served.
    pub(super) async fn get(&mut self) -> Result<String, Failure> {
        let request = Request::get("/").header(HOST, "localhost").body(Empty::new())?;
        self.requests.ready().await?;
        let response = self.requests.send_request(request).await?;
        if !response.status().is_success() {
            return Err(format!("the server answered {}", response.status()).into());
        }
        let body = response.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8(body.to_vec())?)
    }
}
