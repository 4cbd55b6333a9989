//! The server that the checks of clients connect to.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
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
    RootCertStore, ServerConfig,
    pki_types::CertificateDer,
    server::{ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier},
};
use rustls_reload_testkit::{Authority, Pair};
use tokio::{
    io::{copy, split},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    peer::HEALTH_ANSWER,
    rows::{Case, Wire},
};

/// What the server saw of a handshake that ended well.
#[derive(Debug)]
pub struct Seen {
    /// The client's certificate; of a session that was resumed, that of its first handshake.
    pub leaf: Option<CertificateDer<'static>>,
    pub resumed: bool,
}

/// A server, whose certificate can be replaced.
pub struct Backend {
    case: Case,
    shared: Arc<Shared>,
    address: SocketAddr,
    quic: Option<Endpoint>,
}

struct Shared {
    config: Mutex<Arc<ServerConfig>>,
    /// Whether a session was found in this handshake: clients come one by one.
    found: Arc<AtomicBool>,
    seen: Mutex<Option<Seen>>,
}

impl Shared {
    fn note(&self, chain: Option<&[CertificateDer<'static>]>) {
        let leaf = chain.and_then(|chain| chain.first()).cloned();
        let resumed = self.found.load(Relaxed);
        *lock(&self.seen) = Some(Seen { leaf, resumed });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Backend {
    /// Starts a server with this certificate, for clients of this CA.
    pub async fn start(case: &Case, clients: &Authority, server: &Pair) -> Result<Self, AnyError> {
        let found = Arc::default();
        let config = Mutex::new(config(case, clients, server, &found)?);
        let shared = Arc::new(Shared { config, found, seen: Mutex::default() });
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, quic) = if case.row.wire == Wire::Quic {
            let endpoint = Endpoint::server(quic(Arc::clone(&lock(&shared.config)))?, local)?;
            tokio::spawn(accept_quic(endpoint.clone(), Arc::clone(&shared)));
            (endpoint.local_addr()?, Some(endpoint))
        } else {
            let listener = TcpListener::bind(local).await?;
            let address = listener.local_addr()?;
            tokio::spawn(accept_tcp(listener, Arc::clone(&shared)));
            (address, None)
        };
        Ok(Self { case: *case, shared, address, quic })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves another certificate, without the sessions of the one before.
    pub fn serve(&self, clients: &Authority, server: &Pair) -> Result<(), AnyError> {
        let config = config(&self.case, clients, server, &self.shared.found)?;
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
    case: &Case,
    clients: &Authority,
    server: &Pair,
    found: &Arc<AtomicBool>,
) -> Result<Arc<ServerConfig>, AnyError> {
    let mut roots = RootCertStore::empty();
    roots.add(clients.der().clone())?;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    let builder =
        ServerConfig::builder_with_protocol_versions(&[case.version]).with_client_cert_verifier(verifier);
    let mut config = builder.with_single_cert(vec![server.leaf.clone()], server.key_der())?;
    let sessions = Sessions { inner: ServerSessionMemoryCache::new(64), found: Arc::clone(found) };
    config.session_storage = Arc::new(sessions);
    let alpn = case.row.wire.alpn().iter();
    config.alpn_protocols = alpn.map(|name| name.as_bytes().to_vec()).collect();
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
    shared.found.store(false, Relaxed);
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
    shared.found.store(false, Relaxed);
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

/// Stores sessions, and notes that one was found.
#[derive(Debug)]
struct Sessions {
    inner: Arc<ServerSessionMemoryCache>,
    found: Arc<AtomicBool>,
}

impl Sessions {
    fn noted(&self, session: Option<Vec<u8>>) -> Option<Vec<u8>> {
        self.found.fetch_or(session.is_some(), Relaxed);
        session
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.inner.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.noted(self.inner.get(key))
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.noted(self.inner.take(key))
    }

    fn can_cache(&self) -> bool {
        true
    }
}
