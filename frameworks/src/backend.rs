//! The server that the checks of clients connect to.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use frameworks::AnyError;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response,
    body::{Bytes, Incoming},
    header::HeaderValue,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use quinn::{Endpoint, crypto::rustls::QuicServerConfig};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error as TlsError, RootCertStore, ServerConfig,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_reload_testkit::{Authority, Pair};
use tokio::{
    io::{copy, split},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{peer::HEALTH_ANSWER, rows::Wire};

/// What the server saw of a handshake that ended well.
#[derive(Debug)]
pub struct Seen {
    /// The client's certificate; of a session that was resumed, that of its first handshake.
    pub leaf: Option<CertificateDer<'static>>,
    pub resumed: bool,
}

/// A server, whose certificate can be replaced.
pub struct Backend {
    wire: Wire,
    shared: Arc<Shared>,
    address: SocketAddr,
    quic: Option<Endpoint>,
}

struct Shared {
    config: Mutex<Arc<ServerConfig>>,
    /// Whether a client's certificate was verified in this handshake: clients come one by one.
    verified: Arc<Mutex<bool>>,
    seen: Mutex<Option<Seen>>,
}

impl Shared {
    fn note(&self, chain: Option<&[CertificateDer<'static>]>) {
        let leaf = chain.and_then(|chain| chain.first()).cloned();
        let resumed = !std::mem::take(&mut *lock(&self.verified));
        *lock(&self.seen) = Some(Seen { leaf, resumed });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Backend {
    /// Starts a server with this certificate, for clients of this CA.
    pub async fn start(wire: Wire, clients: &Authority, server: &Pair) -> Result<Self, AnyError> {
        let verified = Arc::default();
        let config = Mutex::new(config(wire, clients, server, &verified)?);
        let shared = Arc::new(Shared { config, verified, seen: Mutex::default() });
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, quic) = if wire == Wire::Quic {
            let endpoint = Endpoint::server(quic(Arc::clone(&lock(&shared.config)))?, local)?;
            tokio::spawn(accept_quic(endpoint.clone(), Arc::clone(&shared)));
            (endpoint.local_addr()?, Some(endpoint))
        } else {
            let listener = TcpListener::bind(local).await?;
            let address = listener.local_addr()?;
            tokio::spawn(accept_tcp(listener, Arc::clone(&shared)));
            (address, None)
        };
        Ok(Self { wire, shared, address, quic })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves another certificate, without the sessions of the one before.
    pub fn serve(&self, clients: &Authority, server: &Pair) -> Result<(), AnyError> {
        let config = config(self.wire, clients, server, &self.shared.verified)?;
        if let Some(endpoint) = &self.quic {
            endpoint.set_server_config(Some(quic(Arc::clone(&config))?));
        }
        *lock(&self.shared.config) = config;
        Ok(())
    }

    /// Returns the last handshake since the last call, and forgets it.
    pub fn take(&self) -> Option<Seen> {
        lock(&self.shared.seen).take()
    }
}

fn config(
    wire: Wire,
    clients: &Authority,
    server: &Pair,
    verified: &Arc<Mutex<bool>>,
) -> Result<Arc<ServerConfig>, AnyError> {
    let mut roots = RootCertStore::empty();
    roots.add(clients.der().clone())?;
    let inner = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    let verifier = Arc::new(Recorder { inner, verified: Arc::clone(verified) });
    let builder = ServerConfig::builder().with_client_cert_verifier(verifier);
    let mut config = builder.with_single_cert(vec![server.leaf.clone()], server.key_der())?;
    config.alpn_protocols = wire.alpn().iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

fn quic(config: Arc<ServerConfig>) -> Result<quinn::ServerConfig, AnyError> {
    Ok(quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config)?)))
}

async fn accept_tcp(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((tcp, _)) = listener.accept().await {
        // A client that refuses the server is its own affair.
        tokio::spawn(serve_tcp(tcp, Arc::clone(&shared)));
    }
}

async fn serve_tcp(tcp: TcpStream, shared: Arc<Shared>) -> Result<(), AnyError> {
    tcp.set_nodelay(true)?;
    *lock(&shared.verified) = false;
    let config = Arc::clone(&lock(&shared.config));
    let stream: TlsStream<TcpStream> = TlsAcceptor::from(config).accept(tcp).await?;
    shared.note(stream.get_ref().1.peer_certificates());
    if stream.get_ref().1.alpn_protocol().is_none() {
        let (mut from, mut to) = split(stream);
        copy(&mut from, &mut to).await?;
        return Ok(());
    }
    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service_fn(answer)).await
}

async fn answer(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    if !request.headers().contains_key("te") {
        return Ok(Response::new(Full::from("hello").boxed()));
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::from(HEALTH_ANSWER).with_trailers(async move { Some(Ok(trailers)) });
    let mut answer = Response::new(body.boxed());
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(answer)
}

async fn accept_quic(endpoint: Endpoint, shared: Arc<Shared>) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(serve_quic(incoming, Arc::clone(&shared)));
    }
}

async fn serve_quic(incoming: quinn::Incoming, shared: Arc<Shared>) -> Result<(), AnyError> {
    *lock(&shared.verified) = false;
    let connection = incoming.await?;
    let chain =
        connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    shared.note(chain.as_ref().map(|chain| chain.as_slice()));
    loop {
        let (mut to, mut from) = connection.accept_bi().await?;
        let bytes = from.read_to_end(1024).await?;
        to.write_all(&bytes).await?;
        to.finish()?;
    }
}

/// Verifies clients and notes that it was asked.
#[derive(Debug)]
struct Recorder {
    inner: Arc<dyn ClientCertVerifier>,
    verified: Arc<Mutex<bool>>,
}

impl ClientCertVerifier for Recorder {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        *lock(&self.verified) = true;
        self.inner.verify_client_cert(end_entity, intermediates, now)
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
