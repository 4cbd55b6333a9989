//! Time limits of a connection, by a clock that only the test moves. Checks: INV-12.
#![allow(clippy::unwrap_used)] // reason: a test

use std::{fs, sync::mpsc};

use rustls_reload::ClientAuth;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::{spawn_blocking, yield_now},
    time::advance,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        sign::{CertifiedKey, SingleCertAndKey},
    },
};

use super::*;
use crate::testkit::{Authority, Pair, PrivateKey, Subject};

const SECOND: Duration = Duration::from_secs(1);

/// A server with two client CAs, by a clock that stands still.
struct Bench {
    dir: tempfile::TempDir,
    server: Server,
    servers: Authority,
    kept: Authority,
    removed: Authority,
    /// Holds a blocking task until it is dropped. tokio does not advance a paused clock while one
    /// runs, also when all other tasks wait for a socket.
    _frozen: mpsc::Sender<()>,
}

impl Bench {
    async fn new() -> Self {
        let (frozen, end) = mpsc::channel();
        spawn_blocking(move || {
            let _ = end.recv();
        });
        let [servers, kept, removed] = ["servers", "kept", "removed"].map(Authority::root);
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let pair = servers.issue(&Subject::server("localhost"), &PrivateKey::p256());
        fs::write(path("tls.crt"), &pair.chain).unwrap();
        fs::write(path("tls.key"), &pair.key).unwrap();
        fs::write(path("ca.crt"), kept.pem.clone() + &removed.pem).unwrap();
        let builder = ServerReloader::builder(path("tls.crt"), path("tls.key"))
            .client_ca(path("ca.crt"), ClientAuth::Optional);
        let server = Server::start(builder, "127.0.0.1:0").await.unwrap();
        Self { dir, server, servers, kept, removed, _frozen: frozen }
    }

    fn client_of(&self, ca: &Authority) -> Pair {
        ca.issue(&Subject::client("client"), &PrivateKey::p256())
    }

    /// Connects with this protocol; the handshake is over then.
    async fn connect(&self, alpn: &str, shown: Option<&Pair>) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.servers.der().clone()).unwrap();
        let provider = ring::default_provider();
        let key = shown
            .map(|pair| CertifiedKey::from_der(vec![pair.leaf.clone()], pair.key_der(), &provider).unwrap());
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match key {
            Some(key) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let before = self.count("handshakes", "completed");
        let socket = TcpStream::connect(self.server.address).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect("localhost".try_into().unwrap(), socket).await.unwrap();
        // The next limit begins once the server knows of the end of the handshake too.
        while self.count("handshakes", "completed") == before {
            yield_now().await;
        }
        stream
    }

    /// Returns a counter of `/status`.
    fn count(&self, group: &str, name: &str) -> u64 {
        self.server.counters.to_json()[group][name].as_u64().unwrap_or(0)
    }

    fn open(&self) -> u64 {
        self.count("connections", "open")
    }

    async fn until_open(&self, count: u64) {
        while self.open() != count {
            yield_now().await;
        }
    }

    /// Asserts that the one connection is cut this long from now: it is open a second before, and
    /// closed a second after.
    async fn is_cut_at(&self, limit: Duration, what: &str) {
        pass(limit - SECOND).await;
        assert_eq!(self.open(), 1, "{what}: cut a second before {limit:?}");
        pass(2 * SECOND).await;
        assert_eq!(self.open(), 0, "{what}: not cut a second after {limit:?}");
    }

    /// Removes a client CA and waits until the reload is served.
    async fn shrink(&self) {
        let generation = self.server.reloader.status().generation;
        fs::write(self.dir.path().join("ca.crt"), &self.kept.pem).unwrap();
        self.server.reloader.reload().await;
        assert!(self.server.reloader.trust_reduced_since(generation));
    }
}

/// Advances the clock a second at a time, and lets all tasks run in between.
async fn pass(mut time: Duration) {
    while !time.is_zero() {
        advance(SECOND).await;
        time -= SECOND;
        for _ in 0..50 {
            yield_now().await;
        }
    }
}

/// Returns the first bytes of the answer to a request.
async fn answer(stream: &mut TlsStream<TcpStream>) -> String {
    let mut answer = vec![0; 1024];
    let read = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

/// The preface of an h2 client and its empty SETTINGS.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Returns the frame of `GET https://localhost/`, by the static table of HPACK (RFC 7541 appendix A).
fn h2_get(stream: u8) -> Vec<u8> {
    let head = [&[0x82, 0x87, 0x84, 0x41, 9][..], b"localhost"].concat();
    [&[0, 0, u8::try_from(head.len()).unwrap(), 1, 5, 0, 0, 0, stream][..], &head].concat()
}

/// Reads until an answer has come, which has to have this text, and returns all that was read.
async fn read_until(stream: &mut TlsStream<TcpStream>, text: &str) -> String {
    let mut bytes = Vec::new();
    loop {
        let read = String::from_utf8_lossy(&bytes).into_owned();
        // Waiting for another answer than the one that comes would have no end by this clock.
        if ["fingerprint: ", "connect again"].iter().any(|end| read.contains(end)) {
            assert!(read.contains(text), "no {text:?}: {read:?}");
            return read;
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "the end before an answer: {read:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn inv12_handshake_is_cut_at_its_limit() {
    let bench = Bench::new().await;
    for sent in [&b""[..], b"\x16\x03\x01"] {
        let mut client = TcpStream::connect(bench.server.address).await.unwrap();
        client.write_all(sent).await.unwrap();
        bench.until_open(1).await;
        let timeouts =
            bench.server.counters.to_json()["handshakes"]["failed"]["timeout"].as_u64().unwrap_or(0);
        bench.is_cut_at(Duration::from_secs(10), "a silent client").await;
        let failed = &bench.server.counters.to_json()["handshakes"]["failed"];
        assert_eq!(failed["timeout"].as_u64(), Some(timeouts + 1), "{failed}");
    }
}

#[tokio::test(start_paused = true)]
async fn inv12_silence_after_the_handshake_is_cut_at_its_limit() {
    let bench = Bench::new().await;
    for (alpn, sent) in [
        ("http/1.1", &b""[..]),
        ("http/1.1", b"GET / HTTP/1.1\r\nHost: l"),
        ("h2", b""),
        ("h2", b"PRI * HT"),
        ("h2", H2_PREFACE),
    ] {
        let mut client = bench.connect(alpn, None).await;
        client.write_all(sent).await.unwrap();
        bench.is_cut_at(Duration::from_secs(30), &format!("{alpn}, {sent:?}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn inv12_pause_after_an_answer_is_cut_at_its_limit() {
    let bench = Bench::new().await;
    let mut client = bench.connect("http/1.1", None).await;
    // The limit is for each pause, not for the connection.
    for _ in 0..3 {
        pass(20 * SECOND).await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
    }
    bench.is_cut_at(Duration::from_secs(30), "a pause").await;
}

#[tokio::test(start_paused = true)]
async fn inv12_h2_client_that_answers_no_ping_is_cut() {
    let bench = Bench::new().await;
    let mut client = bench.connect("h2", None).await;
    client.write_all(&[H2_PREFACE, &h2_get(1)].concat()).await.unwrap();
    read_until(&mut client, "fingerprint: ").await;
    bench.is_cut_at(Duration::from_secs(30 + 10), "no ping").await;
}

#[tokio::test(start_paused = true)]
async fn inv12_body_that_does_not_come_is_answered_at_its_limit() {
    let bench = Bench::new().await;
    let mut client = bench.connect("http/1.1", None).await;
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 100"));
    pass(9 * SECOND).await;
    assert_eq!(bench.open(), 1);
    let early = timeout(Duration::ZERO, client.read_u8()).await;
    assert!(early.is_err(), "answered a second before the limit: {early:?}");
    pass(2 * SECOND).await;
    // The body was not read, so the answer ends the connection.
    assert_eq!(bench.open(), 0, "not answered a second after the limit");
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 405"));
}

/// Of two connections that hang in a head, only the one with a client certificate is cut once trust
/// was reduced.
#[tokio::test(start_paused = true)]
async fn inv12_drained_connection_is_cut_at_its_limit() {
    let bench = Bench::new().await;
    let mut nobody = bench.connect("http/1.1", None).await;
    let mut client = bench.connect("http/1.1", Some(&bench.client_of(&bench.removed))).await;
    for stream in [&mut nobody, &mut client] {
        stream.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n").await.unwrap();
    }
    // The server has to read the heads first: a connection without a byte is closed at once.
    pass(SECOND).await;
    bench.shrink().await;
    pass(9 * SECOND).await;
    assert_eq!(bench.open(), 2, "cut a second before the limit");
    pass(2 * SECOND).await;
    assert_eq!(bench.open(), 1, "not cut a second after the limit");
    nobody.write_all(b"\r\n123456789").await.unwrap();
    assert!(answer(&mut nobody).await.starts_with("HTTP/1.1 405"), "a client without a certificate was cut");
}

/// An h2 client that answers no ping may open streams after GOAWAY.
#[tokio::test(start_paused = true)]
async fn inv09_requests_after_a_reduction_of_trust_are_not_answered() {
    let bench = Bench::new().await;
    let (of_kept, of_removed) = (bench.client_of(&bench.kept), bench.client_of(&bench.removed));
    let mut clients = [
        (bench.connect("h2", None).await, "fingerprint: "),
        (bench.connect("h2", Some(&of_kept)).await, "connect again"),
        (bench.connect("h2", Some(&of_removed)).await, "connect again"),
    ];
    for (client, _) in &mut clients {
        client.write_all(&[H2_PREFACE, &h2_get(1)].concat()).await.unwrap();
        read_until(client, "fingerprint: ").await;
    }
    bench.shrink().await;
    for (client, wanted) in &mut clients {
        client.write_all(&h2_get(3)).await.unwrap();
        let read = read_until(client, wanted).await;
        assert!(wanted == &"fingerprint: " || !read.contains("generation"), "{read:?}");
    }
    pass(11 * SECOND).await;
    assert_eq!(bench.open(), 1, "only the client without a certificate keeps its connection");
    // Over a new connection, a client that is still trusted is answered.
    let mut again = bench.connect("h2", Some(&of_kept)).await;
    again.write_all(&[H2_PREFACE, &h2_get(1)].concat()).await.unwrap();
    assert!(read_until(&mut again, "fingerprint: ").await.contains("generation: 2"));
}

#[tokio::test(start_paused = true)]
async fn inv12_client_that_reads_no_answer_is_cut() {
    let bench = Bench::new().await;
    let mut client = bench.connect("http/1.1", None).await;
    // The answers are more than the buffers of the sockets hold.
    let requests = "GET /metrics HTTP/1.1\r\nHost: l\r\n\r\n".repeat(8_000);
    let writing = tokio::spawn(async move { (client.write_all(requests.as_bytes()).await, client) });
    pass(29 * SECOND).await;
    assert_eq!(bench.open(), 1, "cut a second before the limit");
    // The limit begins once the buffers are full. The kernel fills them by its own clock, and many
    // seconds of the test's may pass meanwhile.
    let mut more = 0;
    while bench.open() > 0 {
        pass(SECOND).await;
        more += 1;
        assert!(more <= 600, "a client that reads nothing keeps its place");
    }
    drop(writing);
}

#[tokio::test(start_paused = true)]
async fn inv13_end_waits_for_requests_up_to_its_limit() {
    let bench = Bench::new().await;
    let mut client = bench.connect("http/1.1", None).await;
    client
        .write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
        .await
        .unwrap();
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 100"));
    let Bench { server, _frozen, .. } = bench;
    let counters = Arc::clone(&server.counters);
    let open = || counters.to_json()["connections"]["open"].as_u64().unwrap();
    let stopping = tokio::spawn(server.stop());
    pass(4 * SECOND).await;
    assert!(open() == 1 && !stopping.is_finished(), "cut a second before the limit");
    pass(2 * SECOND).await;
    stopping.await.unwrap();
    assert_eq!(open(), 0);
}
