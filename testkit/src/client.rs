//! A TLS client without a session, which shows what a server serves to a client that it has never
//! seen.

use std::{
    error::Error,
    io,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error as TlsError, ProtocolVersion, RootCertStore,
    SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    sign::CertifiedKey,
};
use rustls_reload::{
    Fingerprint,
    internal::{default_provider, der, sha256},
};

use super::{Authority, Pair};

/// Longest time of one connection.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// Pause of [`Client::until_served`] between two connections.
const PAUSE: Duration = Duration::from_millis(10);

/// A TLS client that makes a full handshake each time: it keeps no session, so it sees what the
/// server serves now. (A client that resumes sees the certificate of the handshake that made its
/// session.)
///
/// Its crypto provider is the one [given](Self::provider), or else the one that a server of
/// `rustls-reload` would choose: the process default, or the one compiled in. It installs no
/// default.
///
/// Its calls block. In a test of tokio they belong into `spawn_blocking`, or a runtime of one
/// thread cannot answer them.
#[derive(Clone, Debug)]
pub struct Client {
    root: CertificateDer<'static>,
    server_name: String,
    identity: Option<Pair>,
    alpn: Vec<Vec<u8>>,
    provider: Option<Arc<CryptoProvider>>,
}

/// The results of one handshake, as the client saw them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Handshake {
    /// The server's leaf, whether the client trusts it or not; `None` if the server showed none.
    pub leaf: Option<CertificateDer<'static>>,
    /// The protocol that was agreed on by ALPN.
    pub alpn: Option<Vec<u8>>,
    /// `Ok` if each side accepted the other. A server's rejection is
    /// [`AlertReceived`](TlsError::AlertReceived); the client's own is mostly
    /// [`InvalidCertificate`](TlsError::InvalidCertificate); a connection that ended without either
    /// is [`General`](TlsError::General).
    pub outcome: Result<(), TlsError>,
}

impl Client {
    /// Makes a client that trusts this authority, and asks for this server name.
    #[must_use]
    pub fn new(ca: &Authority, server_name: &str) -> Self {
        let (root, server_name) = (ca.der().clone(), server_name.to_owned());
        Self { root, server_name, identity: None, alpn: Vec::new(), provider: None }
    }

    /// Authenticates the client with this certificate where the server asks for one.
    #[must_use]
    pub fn identity(mut self, pair: &Pair) -> Self {
        self.identity = Some(pair.clone());
        self
    }

    /// Offers these protocols by ALPN, the preferred one first.
    #[must_use]
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        self
    }

    /// Uses this crypto provider.
    #[must_use]
    pub fn provider(mut self, provider: Arc<CryptoProvider>) -> Self {
        self.provider = Some(provider);
        self
    }

    /// Makes a full handshake, and closes the connection. Returns what the server showed.
    ///
    /// In TLS 1.3 a client learns only after its handshake whether the server accepts it: by a
    /// session ticket, data, `close_notify`, or an alert. The call waits for the first of these, for
    /// at most 10 s. A server that asked for no certificate has nothing to reject, so it may be
    /// silent.
    ///
    /// # Errors
    /// `InvalidInput` where the client's settings cannot be used; the system's own error where there
    /// is no connection. All later errors are the [`outcome`](Handshake::outcome).
    pub fn connect(&self, server: SocketAddr) -> io::Result<Handshake> {
        let deadline = Instant::now() + CONNECTION_LIMIT;
        let asked = Arc::new(AtomicBool::new(false));
        let invalid = |error: &dyn std::fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("the test's client: {error}"))
        };
        let (config, observer) = self.config(&asked).map_err(|error| invalid(&error))?;
        let name = ServerName::try_from(self.server_name.clone()).map_err(|error| invalid(&error))?;
        let mut tls = ClientConnection::new(Arc::new(config), name).map_err(|error| invalid(&error))?;
        let mut tcp = TcpStream::connect(server)?;
        let outcome = match exchange(&mut tls, &mut tcp, deadline) {
            Ended::Accepted => Ok(()),
            // A server that asked for no certificate cannot reject one.
            Ended::Silent(_) if !tls.is_handshaking() && !asked.load(Ordering::Relaxed) => Ok(()),
            Ended::Silent(why) => Err(TlsError::General(format!(
                "neither accepted nor rejected: {why}; an async test has to call the client in `spawn_blocking`"
            ))),
            Ended::Failed(error) => Err(error),
        };
        Ok(Handshake { leaf: observer.take(), alpn: tls.alpn_protocol().map(<[u8]>::to_vec), outcome })
    }

    /// Connects again and again, until the server shows the leaf of `pair` and each side accepts the
    /// other. Returns that handshake.
    ///
    /// # Errors
    /// `TimedOut` after `limit`, once the connection has ended that has begun by then: the message
    /// says what the server showed instead, or why there was no handshake. `InvalidInput` as
    /// [`connect`](Self::connect).
    pub fn until_served(&self, server: SocketAddr, pair: &Pair, limit: Duration) -> io::Result<Handshake> {
        let deadline = Instant::now() + limit;
        let mut count = 0u64;
        loop {
            count += 1;
            let last = self.connect(server);
            match &last {
                Ok(last) if last.leaf.as_ref() == Some(&pair.leaf) && last.outcome.is_ok() => {
                    return Ok(last.clone());
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return last,
                _ if Instant::now() < deadline => {}
                _ => {
                    let why = format!(
                        "{server} did not serve {} within {limit:?}: the last of {count} connections {}",
                        described(&pair.leaf),
                        seen(&last, pair),
                    );
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
            }
            // A server of somebody else raises no event that could be awaited.
            thread::sleep(PAUSE);
        }
    }

    /// Returns the configuration of one connection, which notes whether the client was `asked` for a
    /// certificate, and its verifier.
    fn config(&self, asked: &Arc<AtomicBool>) -> Result<(ClientConfig, Arc<Observer>), Box<dyn Error>> {
        let provider = match &self.provider {
            Some(provider) => Arc::clone(provider),
            None => default_provider()?,
        };
        let observer = Arc::new(Observer::new(&self.root, Arc::clone(&provider))?);
        let certified = self.identity.as_ref().map(|pair| {
            let chain =
                CertificateDer::pem_slice_iter(pair.chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
            let key = provider.key_provider.load_private_key(pair.key_der())?;
            Ok::<_, Box<dyn Error>>(Arc::new(CertifiedKey::new(chain, key)))
        });
        let identity = Identity { certified: certified.transpose()?, asked: Arc::clone(asked) };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&observer) as _)
            .with_client_cert_resolver(Arc::new(identity));
        config.resumption = Resumption::disabled();
        config.alpn_protocols.clone_from(&self.alpn);
        Ok((config, observer))
    }
}

/// The end of a connection.
enum Ended {
    /// The server has accepted the client.
    Accepted,
    /// One side has rejected the other.
    Failed(TlsError),
    /// The connection ended before that, or the time.
    Silent(String),
}

/// Makes the handshake, closes the client's side, and waits until the server has accepted or
/// rejected the client.
fn exchange(tls: &mut ClientConnection, tcp: &mut TcpStream, deadline: Instant) -> Ended {
    let (mut is_closing, mut has_answered) = (false, false);
    loop {
        if !tls.is_handshaking() && !is_closing {
            // In one flight with the client's last message, or an alert of the server could be lost
            // to a reset.
            tls.send_close_notify();
            is_closing = true;
        }
        while tls.wants_write() {
            if let Err(error) = tls.write_tls(tcp) {
                return Ended::Silent(error.to_string());
            }
        }
        if !tls.is_handshaking() && (has_answered || has_accepted(tls)) {
            return Ended::Accepted;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        // A timeout of zero is an error.
        let read =
            tcp.set_read_timeout(Some(left.max(Duration::from_millis(1)))).and_then(|()| tls.read_tls(tcp));
        match read {
            Ok(0) => return Ended::Silent("the server closed the connection".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Ended::Silent(error.to_string()),
            Ok(_) => {}
        }
        match tls.process_new_packets() {
            Ok(state) => has_answered |= state.plaintext_bytes_to_read() > 0 || state.peer_has_closed(),
            Err(error) => {
                // The alert is for the server's log. The outcome is known without it.
                while tls.wants_write() && tls.write_tls(tcp).is_ok_and(|sent| sent > 0) {}
                return Ended::Failed(error);
            }
        }
    }
}

/// Returns whether the handshake shows that the server accepts the client.
fn has_accepted(tls: &ClientConnection) -> bool {
    // In TLS 1.2 the server's last message comes after the client's.
    tls.protocol_version() == Some(ProtocolVersion::TLSv1_2) || tls.tls13_tickets_received() > 0
}

/// Says what the last connection of a client that waits for `pair` has seen.
fn seen(last: &io::Result<Handshake>, pair: &Pair) -> String {
    match last {
        Err(error) => format!("failed: {error}"),
        Ok(Handshake { leaf: None, outcome, .. }) => format!("showed no certificate: {}", ended(outcome)),
        Ok(Handshake { leaf: Some(leaf), outcome, .. }) if *leaf == pair.leaf => {
            format!("showed it, and failed: {}", ended(outcome))
        }
        Ok(Handshake { leaf: Some(leaf), outcome, .. }) => {
            format!("showed {} instead: {}", described(leaf), ended(outcome))
        }
    }
}

fn ended(outcome: &Result<(), TlsError>) -> String {
    outcome.as_ref().map_or_else(ToString::to_string, |()| "accepted by both sides".to_owned())
}

/// Describes a certificate as the events of a reloader do.
fn described(leaf: &CertificateDer<'_>) -> String {
    let names = der::fields(leaf).map_or_else(Vec::new, |fields| fields.names);
    format!("the certificate {} of {}", Fingerprint(sha256(leaf)), names.join(", "))
}

/// Verifies a server as every client of rustls does, and notes its leaf first.
#[derive(Debug)]
pub struct Observer {
    inner: Arc<WebPkiServerVerifier>,
    shown: Mutex<Option<CertificateDer<'static>>>,
}

impl Observer {
    /// Makes a verifier that trusts this root.
    ///
    /// # Errors
    /// The error of rustls about the root or the provider.
    pub fn new(root: &CertificateDer<'_>, provider: Arc<CryptoProvider>) -> Result<Self, Box<dyn Error>> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        Ok(Self { inner, shown: Mutex::default() })
    }

    /// Returns the leaf that a server showed last, and forgets it; `None` if none did since the last
    /// call.
    pub fn take(&self) -> Option<CertificateDer<'static>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ServerCertVerifier for Observer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(leaf.clone().into_owned());
        self.inner.verify_server_cert(leaf, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The client's certificate, and whether the server has asked for it.
#[derive(Debug)]
struct Identity {
    certified: Option<Arc<CertifiedKey>>,
    asked: Arc<AtomicBool>,
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.certified.clone()
    }

    fn has_certs(&self) -> bool {
        self.certified.is_some()
    }
}
