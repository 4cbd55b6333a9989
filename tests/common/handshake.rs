//! Handshakes in memory that the test drives, so that one can be interrupted half-way.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error as TlsError, HandshakeKind,
    ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
    SupportedProtocolVersion,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
};

use rustls_reload_testkit::{Authority, Pair};

use super::Generation;

/// A handshake between a server's configuration and a client's.
pub struct Handshake {
    client: Connection,
    server: Connection,
}

/// The results of a successful handshake.
#[derive(Debug)]
pub struct CompletedHandshake {
    /// The server's certificates, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The client's leaf, and all certificates that it presented.
    pub client: Option<CertificateDer<'static>>,
    pub client_chain: Vec<CertificateDer<'static>>,
    pub version: ProtocolVersion,
    pub alpn: Option<Vec<u8>>,
    pub resumed: bool,
}

impl CompletedHandshake {
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }
}

impl Handshake {
    /// Begins a handshake: the server has read the client's hello and has its answer ready, but not
    /// sent.
    pub fn begin(server: Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Result<Self, TlsError> {
        Self::begin_as(server, client, "localhost")
    }

    /// Begins a handshake of a client that sends this server name, or none.
    pub fn begin_as(
        server: Arc<ServerConfig>,
        client: &Arc<ClientConfig>,
        name: &str,
    ) -> Result<Self, TlsError> {
        let name = match name {
            "" => ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
            name => ServerName::try_from(name.to_owned()).unwrap(),
        };
        let mut handshake = Self {
            client: ClientConnection::new(Arc::clone(client), name).unwrap().into(),
            server: ServerConnection::new(server).unwrap().into(),
        };
        pass(&mut handshake.client, &mut handshake.server)?;
        assert!(handshake.server.wants_write() && handshake.client.is_handshaking());
        Ok(handshake)
    }

    /// Passes on all that one peer has to send, the server first.
    pub fn step(&mut self) -> Result<(), TlsError> {
        if !pass(&mut self.server, &mut self.client)? {
            pass(&mut self.client, &mut self.server)?;
        }
        Ok(())
    }

    /// Returns whether neither peer has anything to send.
    pub fn is_over(&self) -> bool {
        !self.server.wants_write() && !self.client.wants_write()
    }

    /// Completes the handshake, including session tickets.
    pub fn end(mut self) -> Result<CompletedHandshake, TlsError> {
        while !self.is_over() {
            self.step()?;
        }
        Ok(self.completed())
    }

    /// Returns the results of a handshake that is over.
    pub fn completed(self) -> CompletedHandshake {
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking(), "neither fails nor ends");
        CompletedHandshake {
            chain: owned(self.client.peer_certificates()).expect("a server presents a chain"),
            client: owned(self.server.peer_certificates()).map(|chain| chain[0].clone()),
            client_chain: owned(self.server.peer_certificates()).unwrap_or_default(),
            version: self.client.protocol_version().unwrap(),
            alpn: self.client.alpn_protocol().map(<[u8]>::to_vec),
            resumed: self.client.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

/// Makes a whole handshake.
pub fn handshake(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
) -> Result<CompletedHandshake, TlsError> {
    Handshake::begin(Arc::clone(server), client)?.end()
}

/// Makes a whole handshake of a client that sends this server name, or none.
pub fn handshake_as(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<CompletedHandshake, TlsError> {
    Handshake::begin_as(Arc::clone(server), client, name)?.end()
}

fn owned(chain: Option<&[CertificateDer<'_>]>) -> Option<Vec<CertificateDer<'static>>> {
    chain.map(|chain| chain.iter().map(|certificate| certificate.clone().into_owned()).collect())
}

/// Passes on everything that `from` has to send.
fn pass(from: &mut Connection, to: &mut Connection) -> Result<bool, TlsError> {
    let mut flight = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut flight).unwrap();
    }
    let mut rest = flight.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets()?;
    }
    Ok(!flight.is_empty())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A client that trusts the servers of these generations, and shows the certificate of the
/// generation whose CA the server names.
pub fn client(
    generations: &[Generation],
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let mut certificates = Vec::new();
    for generation in generations {
        roots.add(generation.ca.der().clone()).unwrap();
        let name = roots.subjects().pop().unwrap().as_ref().to_vec();
        let key = certified(&generation.client.leaf, generation.client.key_der());
        certificates.push((name, Arc::new(key)));
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(ByHint(certificates)));
    Arc::new(config)
}

/// A client that trusts the servers of one generation and always shows the certificate of another.
pub fn client_of(trusted: &Generation, shown: Option<&Generation>) -> Arc<ClientConfig> {
    client_showing(&[trusted], shown, rustls::ALL_VERSIONS)
}

/// A client that trusts the servers of several generations, with these TLS versions.
pub fn client_showing(
    trusted: &[&Generation],
    shown: Option<&Generation>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let trusted: Vec<_> = trusted.iter().map(|trusted| &trusted.ca).collect();
    client_with(&trusted, shown.map(|shown| &shown.client), versions)
}

/// A client that trusts the servers of these CAs and always shows this whole chain.
pub fn client_with(
    trusted: &[&Authority],
    shown: Option<&Pair>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for trusted in trusted {
        roots.add(trusted.der().clone()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match shown {
        None => config.with_no_client_auth(),
        Some(shown) => {
            let chain = rustls_reload::internal::pem::chain(shown.chain.as_bytes()).unwrap();
            let key = CertifiedKey::from_der(chain, shown.key_der(), &ring::default_provider()).unwrap();
            config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
    })
}

/// Returns the client with a clock that stands at `wall`. The client resumes no sessions, so that
/// it checks the dates at each handshake.
pub fn at_time(client: &Arc<ClientConfig>, wall: Duration) -> Arc<ClientConfig> {
    let mut config = client.as_ref().clone();
    config.time_provider = Arc::new(At(wall));
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

#[derive(Debug)]
struct At(Duration);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0))
    }
}

/// A client that accepts any chain whose key the server has, regardless of dates, and shows the
/// certificate that `shows` chooses.
pub fn client_of_any(
    shows: Arc<dyn ResolvesClientCert>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider(), std::sync::Mutex::default())))
        .with_client_cert_resolver(shows);
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Returns a pair in the form that a client shows.
pub fn certified(leaf: &CertificateDer<'static>, key: PrivateKeyDer<'static>) -> CertifiedKey {
    CertifiedKey::from_der(vec![leaf.clone()], key, &ring::default_provider()).unwrap()
}

/// Chooses a certificate by the CA names in the server's request.
#[derive(Debug)]
struct ByHint(Vec<(Vec<u8>, Arc<CertifiedKey>)>);

impl ResolvesClientCert for ByHint {
    fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let found = self.0.iter().find(|(name, _)| hints.contains(&name.as_slice()));
        found.map(|(_, key)| Arc::clone(key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Returns the chain that `server` presents to a client that accepts every chain and stops there.
pub fn presented_by(server: &Arc<ServerConfig>) -> Vec<CertificateDer<'static>> {
    let verifier = Arc::new(Any(provider(), std::sync::Mutex::default()));
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let mut handshake = Handshake::begin(Arc::clone(server), &Arc::new(config)).unwrap();
    pass(&mut handshake.server, &mut handshake.client).unwrap();
    std::mem::take(&mut *verifier.1.lock().unwrap())
}

/// Accepts and records any chain, once the server has proved that it has the key.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>, std::sync::Mutex<Vec<CertificateDer<'static>>>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let chain = std::iter::once(leaf).chain(rest).map(|certificate| certificate.clone().into_owned());
        *self.1.lock().unwrap() = chain.collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
