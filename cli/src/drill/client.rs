//! The drill's TLS client. It judges no chain: it notes what the server presents, and whether the
//! server has the key.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        AlertDescription, ClientConfig, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme,
        client::{
            Resumption,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
        version::{TLS12, TLS13},
    },
};

use super::{
    material::{Chains, NAME},
    model::{Lane, Outcome, Record, Shown, Version},
};
use crate::{Failure, testkit::Pair};

/// Limit for a handshake and the answer after it.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// Limit for the rest of an answer, which nobody needs.
const REST_LIMIT: Duration = Duration::from_secs(1);
/// The request of a client that connects once.
pub(super) const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A client of one kind. It makes one handshake at a time.
pub(super) struct Client {
    pub(super) lane: Lane,
    pub(super) config: Arc<ClientConfig>,
    noted: Arc<Noted>,
    chains: Arc<Chains>,
}

impl Client {
    pub(super) fn new(lane: Lane, identity: Option<&Pair>, chains: Arc<Chains>) -> Result<Self, Failure> {
        let provider = Arc::new(ring::default_provider());
        let noted = Arc::new(Noted { provider: Arc::clone(&provider), seen: Mutex::default() });
        let version = if lane.version == Version::Tls12 { &TLS12 } else { &TLS13 };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&noted) as _);
        let mut config = match identity {
            Some(pair) => builder.with_client_auth_cert(vec![pair.leaf.clone()], pair.key_der())?,
            None => builder.with_no_client_auth(),
        };
        if !lane.resuming {
            config.resumption = Resumption::disabled();
        }
        Ok(Self { lane, config: Arc::new(config), noted, chains })
    }

    /// Makes a handshake and a request. Times count from `origin`.
    pub(super) async fn handshake(&self, address: SocketAddr, origin: Instant) -> Record {
        let begun = origin.elapsed();
        self.noted.clear();
        let mut resumed = false;
        let outcome = match timeout(LIMIT, self.attempt(address, &mut resumed)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Failed(format!("no answer within {} s", LIMIT.as_secs())),
        };
        self.record((begun, origin.elapsed()), resumed, outcome)
    }

    /// Returns the record of a handshake from what the verifier has noted.
    pub(super) fn record(
        &self,
        (begun, ended): (Duration, Duration),
        resumed: bool,
        outcome: Outcome,
    ) -> Record {
        let seen = self.noted.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = self.chains.identify(&seen.presented);
        let shown = match shown {
            Shown::Chain(number) if seen.wrong_key => Shown::WrongKey(Some(number)),
            _ if seen.wrong_key => Shown::WrongKey(None),
            shown => shown,
        };
        Record { lane: self.lane, begun, ended, resumed, shown, outcome }
    }

    async fn attempt(&self, address: SocketAddr, resumed: &mut bool) -> Outcome {
        let mut stream = match self.connect(address).await {
            Ok(stream) => stream,
            Err(error) => return self.failure(&error),
        };
        *resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        if let Err(error) = stream.write_all(REQUEST).await {
            return self.after(&error);
        }
        let mut answer = Vec::with_capacity(1024);
        while answer.len() < 12 {
            match stream.read_buf(&mut answer).await {
                Ok(0) => return closed(&answer),
                Ok(_) => {}
                Err(error) => return self.after(&error),
            }
        }
        // A server that is not read to the end may lose the session.
        let mut rest = Vec::new();
        let _ = timeout(REST_LIMIT, stream.read_to_end(&mut rest)).await;
        answered(&answer)
    }

    /// Connects and makes a handshake, without a request.
    pub(super) async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }

    /// Classifies an error of the handshake.
    pub(super) fn failure(&self, error: &io::Error) -> Outcome {
        let is_tls = error.get_ref().is_some_and(|inner| inner.is::<Error>());
        let seen = self.noted.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // The server has shown its certificate, so a client without reason given may be refused.
        let is_late = !seen.presented.is_empty() && !seen.wrong_key;
        drop(seen);
        if is_tls || !is_late { refusal(error) } else { Outcome::Closed(error.to_string()) }
    }

    /// Classifies an error after the client's part of the handshake.
    pub(super) fn after(&self, error: &io::Error) -> Outcome {
        match refusal(error) {
            Outcome::Failed(why) => Outcome::Closed(why),
            refused => refused,
        }
    }
}

/// Classifies an error by what the server said.
fn refusal(error: &io::Error) -> Outcome {
    use AlertDescription as Alert;
    let about_certificates = [
        Alert::HandshakeFailure,
        Alert::NoCertificate,
        Alert::BadCertificate,
        Alert::UnsupportedCertificate,
        Alert::CertificateRevoked,
        Alert::CertificateExpired,
        Alert::CertificateUnknown,
        Alert::UnknownCA,
        Alert::AccessDenied,
        Alert::CertificateRequired,
    ];
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(alert)) if about_certificates.contains(alert) => {
            Outcome::Refused(format!("alert {alert:?}"))
        }
        _ => Outcome::Failed(error.to_string()),
    }
}

fn closed(answer: &[u8]) -> Outcome {
    Outcome::Closed(format!("the connection ended after {} bytes of an answer", answer.len()))
}

/// Classifies the begin of an answer. nginx refuses a client by the status 400, others by 401 or
/// 403.
pub(super) fn answered(answer: &[u8]) -> Outcome {
    match answer.get(9..12) {
        Some(status @ (b"400" | b"401" | b"403")) => {
            Outcome::Refused(format!("status {}", String::from_utf8_lossy(status)))
        }
        _ if answer.starts_with(b"HTTP/") => Outcome::Accepted,
        _ => Outcome::Failed("the answer is no HTTP".to_owned()),
    }
}

/// A verifier that accepts every chain and notes it.
#[derive(Debug)]
struct Noted {
    provider: Arc<CryptoProvider>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    presented: Vec<CertificateDer<'static>>,
    /// Whether the signature in the handshake was made by another key.
    wrong_key: bool,
}

impl Noted {
    fn clear(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
    }

    fn signed(
        &self,
        verified: Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        if verified.is_err() {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).wrong_key = true;
        }
        verified
    }
}

impl ServerCertVerifier for Noted {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = [leaf].into_iter().chain(rest).map(|one| one.clone().into_owned()).collect();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).presented = presented;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.signed(verify_tls12_signature(message, leaf, signature, algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.signed(verify_tls13_signature(message, leaf, signature, algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
