//! Clients that accept any server, and keep their sessions for as long as a test offers them.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error as TlsError, HandshakeKind,
    NamedGroup, ServerConfig, ServerConnection, SignatureScheme, SupportedProtocolVersion,
    client::{
        ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::{CertifiedKey, SingleCertAndKey},
};

/// Returns a client that resumes nothing.
pub fn client(
    shown: Option<Arc<CertifiedKey>>,
    version: &'static SupportedProtocolVersion,
    provider: &Arc<CryptoProvider>,
) -> ClientConfig {
    let config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TakesAny(Arc::clone(provider))));
    let mut config = match shown {
        None => config.with_no_client_auth(),
        Some(shown) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown))),
    };
    config.resumption = Resumption::disabled();
    config
}

/// Returns the client with sessions of its own, which it offers to a server of any name.
pub fn remembering(client: &ClientConfig) -> (Arc<ClientConfig>, Arc<Sessions>) {
    let sessions = Arc::new(Sessions::default());
    let mut config = client.clone();
    config.resumption = Resumption::store(Arc::clone(&sessions) as Arc<dyn ClientSessionStore>);
    (Arc::new(config), sessions)
}

/// The sessions of one client with one server, for all names. A session of TLS 1.2 is offered
/// repeatedly, a ticket of TLS 1.3 once.
#[derive(Default)]
pub struct Sessions {
    tls12: Mutex<Option<Tls12ClientSessionValue>>,
    tls13: Mutex<Vec<Tls13ClientSessionValue>>,
    /// Whether further sessions are dropped, so that a session that was offered and refused remains
    /// one of the server that made it.
    sealed: Mutex<bool>,
}

impl Sessions {
    pub fn seal(&self) {
        *self.sealed.lock().unwrap() = true;
    }

    /// Returns whether there is a session to offer.
    pub fn is_left(&self) -> bool {
        self.tls12.lock().unwrap().is_some() || !self.tls13.lock().unwrap().is_empty()
    }

    fn is_sealed(&self) -> bool {
        *self.sealed.lock().unwrap()
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        if !self.is_sealed() {
            *self.tls12.lock().unwrap() = Some(value);
        }
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.tls12.lock().unwrap().clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        if !self.is_sealed() {
            self.tls13.lock().unwrap().push(value);
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tls13.lock().unwrap().pop()
    }
}

/// Makes a handshake in memory with this server name. Returns whether a session was resumed.
///
/// # Errors
/// The server's error, because a client that accepts any server has none before.
pub fn handshake(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<bool, TlsError> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client: Connection = ClientConnection::new(Arc::clone(client), name).unwrap().into();
    let mut server: Connection = ServerConnection::new(Arc::clone(server))?.into();
    let mut flight = Vec::new();
    loop {
        let asked = pass(&mut client, &mut server, &mut flight)?;
        let answered = pass(&mut server, &mut client, &mut flight).expect("a client that takes any server");
        if !asked && !answered {
            break;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking(), "neither fails nor ends");
    Ok(server.handshake_kind() == Some(HandshakeKind::Resumed))
}

/// Passes on everything that `from` has to send.
fn pass(from: &mut Connection, to: &mut Connection, flight: &mut Vec<u8>) -> Result<bool, TlsError> {
    flight.clear();
    while from.wants_write() {
        from.write_tls(flight).unwrap();
    }
    let mut rest = flight.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets()?;
    }
    Ok(!flight.is_empty())
}

/// Accepts any chain and any signature. Other tests check the server; these are about its clients.
#[derive(Debug)]
struct TakesAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakesAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
