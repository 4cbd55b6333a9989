//! Refused clients are counted by reason in `/status`, and each reason is logged at most once a
//! minute. Checks: INV-12, INV-16.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Stdio,
    time::{Duration, Instant, SystemTime},
};

use rustls::version::{TLS12, TLS13};

use crate::{
    Server,
    common::{DEADLINE, Generation, Volume, client_of, client_with},
    files,
    process::{Silent, command, pair, text, until},
};
use rustls_reload_testkit::{Authority, PrivateKey, Subject};

const DAY: Duration = Duration::from_secs(86_400);

/// Attempts of each client in each TLS version.
const TIMES: usize = 3;

#[test]
fn inv16_refused_clients_are_counted_and_logged_by_reason() {
    let of = Generation::new(0);
    let now = SystemTime::now();
    let revoked = of.ca.issue(&Subject::client("revoked"), &PrivateKey::p256());
    let window = (now - DAY, now + DAY);
    let crl = of.ca.crl(&[&revoked.leaf], window, 1).pem;
    let volume = Volume::new(&files(&of, &crl));
    let mut command = command(&volume.dir(), &[], "127.0.0.1:0");
    command.arg("--client-ca").arg(volume.path("ca.crt")).arg("--crl").arg(volume.path("ca.crl"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Server::run(command);
    let address = server.address();
    let issue = |subject| of.ca.issue(&subject, &PrivateKey::p256());
    let client = || Subject::client("client");
    let shown = [
        ("no_certificate", None),
        ("expired", Some(issue(client().valid(now - 2 * DAY, now - DAY)))),
        ("not_yet_valid", Some(issue(client().valid(now + DAY, now + 2 * DAY)))),
        ("wrong_purpose", Some(issue(Subject::server("client")))),
        ("unknown_issuer", Some(Authority::root("Other").issue(&client(), &PrivateKey::p256()))),
        ("revoked", Some(revoked)),
    ];
    let get = |config| {
        let connection = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(&address).unwrap());
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    for version in [&TLS12, &TLS13] {
        for (why, shown) in &shown {
            for _ in 0..TIMES {
                let ended = get(client_with(&[&of.ca], shown.as_ref(), &[version]));
                assert!(ended.is_err(), "{why}: it was let in: {ended:?}");
            }
        }
        for _ in 0..TIMES {
            // A client that does not trust the server.
            assert!(get(client_of(&Generation::new(1), None)).is_err());
            let mut plain = TcpStream::connect(&address).unwrap();
            plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            // The server sends an alert and closes the connection.
            let _ = plain.read_to_end(&mut Vec::new());
            drop(TcpStream::connect(&address).unwrap());
        }
    }
    let good = || client_with(&[&of.ca], Some(&of.client), &[&TLS13]);
    let wanted = 2 * TIMES;
    let deadline = Instant::now() + DEADLINE;
    let names = shown.iter().map(|(name, _)| *name).chain(["alert_unknown_ca", "not_tls", "connection_lost"]);
    let names: Vec<_> = names.collect();
    let mut asked = 0;
    let status = loop {
        let status = get(good()).unwrap();
        asked += 1;
        if names.iter().all(|name| status.contains(&format!("\"{name}\": {wanted}"))) {
            break status;
        }
        assert!(Instant::now() < deadline, "{names:?} are not {wanted} each: {status}");
    };
    assert!(status.contains(&format!("\"completed\": {asked},")), "{asked}: {status}");
    server.hang_up();
    server.line("SIGHUP: unchanged");
    for name in names {
        let lines = server.reported.matches(&format!("handshake failed: {name}: ")).count();
        assert_eq!(lines, usize::from(name != "connection_lost"), "{name}: {}", server.reported);
    }
}

/// The handshake limit is ten seconds, so this test takes that long.
#[test]
fn inv12_silent_client_is_cut_at_the_handshake_limit_and_counted() {
    let of = Generation::new(0);
    let volume = Volume::new(&pair(&of));
    let log = tempfile::NamedTempFile::new().unwrap();
    let server = Silent::start(&volume, &[], log.reopen().unwrap());
    server.serves(&of, "/");
    let start = Instant::now();
    let mut silent = TcpStream::connect(&server.address).unwrap();
    silent.set_read_timeout(Some(2 * DEADLINE)).unwrap();
    assert_eq!(silent.read_to_end(&mut Vec::new()).unwrap(), 0);
    let took = start.elapsed();
    let asking = Instant::now();
    server.serves(&of, "/status");
    // The time of one handshake with its answer measures the delay that the machine adds to the
    // limit.
    let most = Duration::from_secs(20) + 10 * asking.elapsed();
    assert!(took >= Duration::from_secs(9) && took < most, "{took:?}, at most {most:?}");
    // The connection is closed before it is counted.
    until("the time limit is counted", || server.serves(&of, "/status").contains("\"timeout\": 1"));
    let line =
        "handshake failed: timeout: the handshake took too long (1 since the last such line, 1 in all)";
    // The log has a thread of its own.
    until("the time limit is logged", || text(log.path()).contains(line));
}
