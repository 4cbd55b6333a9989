//! The client with which the checks inspect a server.

use std::{error::Error as StdError, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use frameworks::{AnyError, reasons};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use quinn::{ConnectionError, Endpoint, crypto::rustls::QuicClientConfig};
use rustls::{
    ClientConfig, Error as TlsError,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use rustls_reload_testkit::{Authority, Observer, Pair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::rows::{Case, Wire};

/// The longest wait for a handshake or an answer.
const LIMIT: Duration = Duration::from_secs(30);

/// The bytes to send, and those that an HTTP server answers.
const HELLO: &[u8] = b"hello";
/// A call of the health service without arguments: flags and a length of 0.
const HEALTH_REQUEST: &[u8] = &[0; 5];
/// Its answer `SERVING`: flags, a length of 2, field 1, the value 1.
pub const HEALTH_ANSWER: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

/// The reason why a connection gave no answer.
#[derive(Debug)]
pub enum Failure {
    /// The server refused the client by an alert.
    Refused(String),
    /// The connection ended without an alert.
    Closed(String),
    /// Anything else, a time limit and a wrong answer included.
    Broken(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Closed(why) => write!(f, "closed: {why}"),
            Self::Broken(why) => write!(f, "neither let in nor refused: {why}"),
        }
    }
}

impl Failure {
    fn of(error: &(dyn StdError + 'static)) -> Self {
        match tls_error(error) {
            Some(TlsError::AlertReceived(_)) => Self::Refused(reasons(error)),
            None => Self::Closed(reasons(error)),
            Some(_) => Self::Broken(reasons(error)),
        }
    }

    fn of_quic(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::ConnectionClosed(_) => Self::Refused(reasons(error)),
            _ => Self::Broken(reasons(error)),
        }
    }
}

/// Returns the error of rustls that an error is about, if it is about one.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // The source of an `io::Error` is that of the error inside, not the error inside.
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inside.map(|inside| inside as &(dyn StdError + 'static)).or_else(|| error.source());
    }
    None
}

/// A client, which keeps the sessions that a server gives it.
pub struct Client {
    wire: Wire,
    address: SocketAddr,
    config: Arc<ClientConfig>,
    observer: Arc<Observer>,
}

impl Client {
    pub fn new(
        case: &Case,
        address: SocketAddr,
        root: &Authority,
        identity: Option<&Pair>,
    ) -> Result<Self, AnyError> {
        let provider = Arc::new(ring::default_provider());
        let observer = Observer::new(root.der(), Arc::clone(&provider));
        let observer = Arc::new(observer.map_err(|error| error.to_string())?);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[case.version])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&observer) as _);
        let mut config = match identity {
            Some(pair) => builder.with_client_auth_cert(vec![pair.leaf.clone()], pair.key_der())?,
            None => builder.with_no_client_auth(),
        };
        let wire = case.row.wire;
        config.alpn_protocols = wire.alpn().iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Self { wire, address, config: Arc::new(config), observer })
    }

    /// Connects, and waits for the first answer.
    pub async fn connect(&self) -> Result<Open, Failure> {
        self.observer.take();
        let opening = async {
            let conversation = match self.wire {
                Wire::Quic => Conversation::quic(self).await?,
                _ => Conversation::tcp(self).await?,
            };
            let mut open = Open { conversation, leaf: self.observer.take() };
            open.asked().await?;
            Ok::<_, Failure>(open)
        };
        timeout(LIMIT, opening).await.unwrap_or_else(|_| Err(Failure::Broken("no answer in time".into())))
    }

    /// Connects and asks nothing, and returns how the server ends that.
    ///
    /// A server that closes while the client's request is unread resets the connection. The reset
    /// can overtake its alert, and `h2` keeps the text of an error alone. Here there is no request.
    pub async fn end_without_a_request(&self) -> Failure {
        let reading = async {
            let mut tls = self.handshake().await?;
            match tls.read(&mut [0]).await {
                Ok(_) => Err(Failure::Closed("the server said something else".into())),
                Err(error) => Err(Failure::of(&error)),
            }
        };
        let ended: Result<Result<(), _>, _> = timeout(LIMIT, reading).await;
        match ended {
            Ok(Err(failure)) => failure,
            Ok(Ok(())) | Err(_) => Failure::Broken("the server waits for a request".into()),
        }
    }

    async fn handshake(&self) -> Result<TlsStream<TcpStream>, Failure> {
        let broken = |error: io::Error| Failure::Broken(error.to_string());
        let tcp = TcpStream::connect(self.address).await.map_err(broken)?;
        tcp.set_nodelay(true).map_err(broken)?;
        let name = ServerName::try_from("localhost").map_err(|error| Failure::of(&error))?;
        let tls = TlsConnector::from(Arc::clone(&self.config)).connect(name, tcp).await;
        tls.map_err(|error| Failure::of(&error))
    }
}

/// An open connection.
pub struct Open {
    conversation: Conversation,
    /// The certificate that the server showed; `None` if the handshake resumed a session.
    pub leaf: Option<CertificateDer<'static>>,
}

impl Open {
    /// Asks once more over this connection.
    pub async fn ask(&mut self) -> Result<(), Failure> {
        let answer = timeout(LIMIT, self.asked()).await;
        answer.unwrap_or_else(|_| Err(Failure::Broken("no answer in time".into())))
    }

    async fn asked(&mut self) -> Result<(), Failure> {
        let (answer, wanted) = self.conversation.ask().await?;
        let text = String::from_utf8_lossy(&answer);
        if answer == wanted { Ok(()) } else { Err(Failure::Broken(format!("the answer is {text:?}"))) }
    }
}

enum Conversation {
    Echo(Box<TlsStream<TcpStream>>),
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
    Grpc(http2::SendRequest<Full<Bytes>>),
    Quic(quinn::Connection),
}

impl Conversation {
    async fn tcp(client: &Client) -> Result<Self, Failure> {
        let tls = client.handshake().await?;
        let http = |error: hyper::Error| Failure::of(&error);
        match client.wire {
            Wire::Http1 => {
                let (sender, connection) = http1::handshake(TokioIo::new(tls)).await.map_err(http)?;
                tokio::spawn(connection);
                Ok(Self::Http1(sender))
            }
            Wire::Http2 | Wire::Grpc => {
                let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(tls));
                let (sender, connection) = handshake.await.map_err(http)?;
                tokio::spawn(connection);
                Ok(if client.wire == Wire::Grpc { Self::Grpc(sender) } else { Self::Http2(sender) })
            }
            Wire::Echo | Wire::Quic => Ok(Self::Echo(Box::new(tls))),
        }
    }

    async fn quic(client: &Client) -> Result<Self, Failure> {
        let broken = |error: AnyError| Failure::Broken(error.to_string());
        let config = QuicClientConfig::try_from(Arc::clone(&client.config)).map_err(|e| broken(e.into()))?;
        let config = quinn::ClientConfig::new(Arc::new(config));
        let endpoint =
            Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(|e| broken(e.into()))?;
        let connecting = endpoint.connect_with(config, client.address, "localhost");
        let connecting = connecting.map_err(|error| broken(error.into()))?;
        let connection = connecting.await.map_err(|error| Failure::of_quic(&error))?;
        // The endpoint goes on for as long as it has a connection.
        Ok(Self::Quic(connection))
    }

    /// Asks, and returns the answer and the one that is wanted.
    async fn ask(&mut self) -> Result<(Vec<u8>, &'static [u8]), Failure> {
        let http = |error: hyper::Error| Failure::of(&error);
        match self {
            Self::Echo(stream) => {
                let io = |error: io::Error| Failure::of(&error);
                let mut answer = vec![0; 5];
                stream.write_all(HELLO).await.map_err(io)?;
                stream.flush().await.map_err(io)?;
                stream.read_exact(&mut answer).await.map_err(io)?;
                Ok((answer, HELLO))
            }
            Self::Http1(sender) => {
                sender.ready().await.map_err(http)?;
                let request = Request::get("/").header("host", "localhost").body(Full::default());
                Ok((body(sender.send_request(valid(request)?).await.map_err(http)?).await?, HELLO))
            }
            Self::Http2(sender) => {
                sender.ready().await.map_err(http)?;
                let request = Request::get("https://localhost/").body(Full::default());
                Ok((body(sender.send_request(valid(request)?).await.map_err(http)?).await?, HELLO))
            }
            Self::Grpc(sender) => {
                sender.ready().await.map_err(http)?;
                let request = Request::post("https://localhost/grpc.health.v1.Health/Check")
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .body(Full::from(HEALTH_REQUEST));
                let answer = sender.send_request(valid(request)?).await.map_err(http)?;
                Ok((body(answer).await?, HEALTH_ANSWER))
            }
            Self::Quic(connection) => {
                let answer =
                    quic_answer(connection).await.map_err(|error| match connection.close_reason() {
                        Some(why) => Failure::of_quic(&why),
                        None => Failure::Broken(reasons(&*error)),
                    })?;
                Ok((answer, HELLO))
            }
        }
    }
}

fn valid<T>(request: hyper::http::Result<T>) -> Result<T, Failure> {
    request.map_err(|error| Failure::Broken(error.to_string()))
}

async fn body(answer: Response<Incoming>) -> Result<Vec<u8>, Failure> {
    if !answer.status().is_success() {
        return Err(Failure::Broken(format!("the answer has the status {}", answer.status())));
    }
    let body = answer.into_body().collect().await.map_err(|error| Failure::of(&error))?;
    Ok(body.to_bytes().to_vec())
}

async fn quic_answer(connection: &quinn::Connection) -> Result<Vec<u8>, AnyError> {
    let (mut to, mut from) = connection.open_bi().await?;
    to.write_all(HELLO).await?;
    to.finish()?;
    Ok(from.read_to_end(1024).await?)
}
