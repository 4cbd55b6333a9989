//! The files that `flags` passes to the commands, and what an outside observer sees of each
//! command.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, ClientConnection, StreamOwned,
    client::Resumption,
    pki_types::ServerName,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS12,
};
use rustls_reload::internal::der;
use serde_json::Value;

use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

use crate::{
    common::{DEADLINE, client_of_any},
    process::untimed,
};

const BINARY: &str = env!("CARGO_BIN_EXE_rustls-reload");
const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);

/// Everything observed of a command, by name.
pub(crate) type Seen = BTreeMap<String, String>;

/// Files of every kind, and the clients that go with them.
pub(crate) struct World {
    root: tempfile::TempDir,
    clients: Vec<(&'static str, Arc<ClientConfig>)>,
}

fn pair(ca: &Authority, name: &str, window: (SystemTime, SystemTime)) -> Pair {
    ca.issue(&Subject::server(name).valid(window.0, window.1), &PrivateKey::p256())
}

/// A client that accepts any server certificate, shows this chain when asked for one, and resumes
/// no session.
///
/// The client uses TLS 1.2, in which a server reports a refusal within the handshake.
fn client(shown: Option<&Pair>) -> Arc<ClientConfig> {
    let ring = rustls::crypto::ring::default_provider();
    Arc::new(match shown {
        None => {
            let any = client_of_any(Arc::new(Nothing), &TLS12);
            ClientConfig::clone(&any)
        }
        Some(shown) => {
            let chain = rustls_reload::internal::pem::chain(shown.chain.as_bytes()).unwrap();
            let key = CertifiedKey::from_der(chain, shown.key_der(), &ring).unwrap();
            let mut config =
                ClientConfig::clone(&client_of_any(Arc::new(SingleCertAndKey::from(key)), &TLS12));
            config.resumption = Resumption::disabled();
            config
        }
    })
}

/// Shows no certificate.
#[derive(Debug)]
struct Nothing;

impl rustls::client::ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let (root, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
        // Without this, everybody could read the keys, which is a warning.
        fs::set_permissions(root.path(), Permissions::from_mode(0o700)).unwrap();
        let write = |name: &str, bytes: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let servers = Authority::root("servers");
        let (short, long) = (now + 10 * DAY + DAY / 2, now + 90 * DAY);
        for (name, window) in [
            ("a", (now - HOUR, short)),
            ("b", (now - HOUR, long)),
            ("c", (now - HOUR, long)),
            ("late", (now - 29 * DAY, now + DAY / 2)),
            ("later", (now - HOUR, now + 14 * DAY + DAY / 2)),
        ] {
            let pair = pair(&servers, &format!("{name}.test"), window);
            write(&format!("{name}.crt"), &pair.chain);
            write(&format!("{name}.key"), &pair.key);
        }
        let [good, expired, unlisted, above, foreign] =
            ["good", "expired", "unlisted", "above", "foreign"].map(Authority::root);
        let below = above.intermediate("below");
        let issue = |ca: &Authority| ca.issue(&Subject::client("client"), &PrivateKey::p256());
        let revoked = issue(&good);
        let known = [&good, &expired, &unlisted, &above].map(|ca| ca.pem.as_str());
        write("ca.crt", &known.concat());
        write("good-ca.crt", &good.pem);
        let fresh = (now - HOUR, now + 90 * DAY);
        write("lists/good.crl", &good.crl(&[&revoked.leaf], fresh, 1).pem);
        write("lists/expired.crl", &expired.crl(&[], (now - 2 * HOUR, now - HOUR), 1).pem);
        write("lists/below.crl", &below.crl(&[], fresh, 1).pem);
        write("more-lists/unlisted.crl", &unlisted.crl(&[], fresh, 1).pem);
        let clients = vec![
            ("nobody", client(None)),
            ("good", client(Some(&issue(&good)))),
            ("revoked", client(Some(&revoked))),
            ("of an expired list", client(Some(&issue(&expired)))),
            ("without a list", client(Some(&issue(&unlisted)))),
            (
                "below a CA without a list",
                client(Some(&below.issue_with_chain(&Subject::client("client"), &PrivateKey::p256()))),
            ),
            ("of another CA", client(Some(&issue(&foreign)))),
        ];
        Self { root, clients }
    }

    /// Returns a word of a command line with the files of the world as paths.
    pub(crate) fn word(&self, word: &str) -> String {
        word.replace('@', &format!("{}/", self.root.path().display()))
    }

    /// Returns the text with paths in the world replaced by their names.
    fn named(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.root.path().display()), "@")
    }
}

/// A process that is killed when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a command that failed has ended: its exit code, and the layer and path that it blames.
fn ended(world: &World, output: &Output) -> Seen {
    let code = output.status.code().map_or_else(|| "by a signal".to_owned(), |code| code.to_string());
    let reported = String::from_utf8_lossy(&output.stderr).into_owned();
    let blamed = reported.lines().find_map(|line| {
        let (layer, rest) = untimed(line).strip_prefix("rustls-reload: ")?.split_once(": ")?;
        Some(format!(": {layer}: {}", world.named(rest.split(": ").next()?)))
    });
    Seen::from([(
        "ends".to_owned(),
        code + &blamed.filter(|_| output.status.code() == Some(1)).unwrap_or_default(),
    )])
}

/// Runs `serve` with these words and observes it from outside.
pub(crate) fn serve(world: &World, words: &[String]) -> Seen {
    let mut command = Command::new(BINARY);
    command.arg("serve").args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = Running(command.spawn().unwrap());
    let (mut reported, mut address) = (String::new(), None);
    let mut stderr = BufReader::new(process.0.stderr.take().unwrap());
    while address.is_none() && stderr.read_line(&mut reported).unwrap() > 0 {
        let last = reported.lines().last().unwrap();
        let rest = last.split_once("listening on https://");
        address = rest.map(|(_, rest)| rest.split(' ').next().unwrap().to_owned());
    }
    let Some(address) = address else {
        let status = process.0.wait().unwrap();
        if let Some((_, rest)) = reported.split_once("cannot listen on ") {
            // The port is taken by another process of this machine.
            let address = rest.split(": ").next().unwrap();
            return Seen::from([("address".to_owned(), address.to_owned())]);
        }
        return ended(world, &Output { status, stdout: Vec::new(), stderr: reported.into_bytes() });
    };
    let mut seen = Seen::new();
    let (host, port) = address.rsplit_once(':').unwrap();
    if port == "8443" {
        return Seen::from([("address".to_owned(), address)]);
    }
    seen.insert("address".to_owned(), host.to_owned());
    let mut asks = None;
    for (name, client) in &world.clients {
        let outcome = handshake(&address, client, "a.test");
        if let Ok(mut stream) = handshake(&address, client, "a.test") {
            asks = asks.or_else(|| ask(&mut stream));
        }
        seen.insert(format!("client {name}"), outcome.map_or_else(|why| why, |_| "in".to_owned()));
    }
    let good = &world.clients[1].1;
    for name in ["a.test", "b.test", "given.test", "x.wild.test", "unknown.test", "none"] {
        let served = handshake(&address, good, name).map(|stream| {
            let leaf = stream.conn.peer_certificates().unwrap()[0].clone();
            der::fields(&leaf).unwrap().names[0].clone()
        });
        seen.insert(format!("name {name}"), served.unwrap_or_else(|why| why));
    }
    let status = asks.unwrap_or_else(|| panic!("nobody is let in: {seen:#?}"));
    let sets =
        status["sets"].as_array().unwrap().iter().map(|set| world.named(set["path"].as_str().unwrap()));
    let sets: Vec<_> = sets.map(|set| set.trim_start_matches('@').to_owned()).collect();
    seen.insert("sets".to_owned(), sets.join(", "));
    let within = status["expiring"]["within_seconds"].as_u64();
    seen.insert("expiring".to_owned(), within.map_or_else(|| "-".to_owned(), |within| format!("{within} s")));
    seen.insert("warned of dates".to_owned(), skew(&reported));
    seen.insert("log".to_owned(), form(reported.lines().last().unwrap()).to_owned());
    seen
}

/// The form of a line of the log.
fn form(line: &str) -> &'static str {
    match serde_json::from_str::<Value>(line) {
        Ok(object) if object["class_uid"] == 0 => "ocsf",
        Ok(object) if object["message"].is_string() => "json",
        Ok(_) => "another object",
        Err(_) if untimed(line) != line => "text",
        Err(_) => "text without a time",
    }
}

/// The clock error that a warning names.
fn skew(reported: &str) -> String {
    let at = reported.find("may be wrong by").map(|at| reported[at..].lines().next().unwrap().to_owned());
    at.unwrap_or_else(|| "-".to_owned())
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Makes a whole handshake as a client that asks for this name. Returns the alert if the server
/// refuses.
fn handshake(address: &str, client: &Arc<ClientConfig>, name: &str) -> Result<Stream, String> {
    let name = match name {
        "none" => ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
        name => ServerName::try_from(name.to_owned()).unwrap(),
    };
    let mut connection = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut stream) {
            let why = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            return Err(match why {
                Some(rustls::Error::AlertReceived(alert)) => format!("{alert:?}"),
                _ => format!("{error:?}"),
            });
        }
    }
    Ok(StreamOwned::new(connection, stream))
}

/// Returns the answer to `GET /status`.
fn ask(stream: &mut Stream) -> Option<Value> {
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// Runs `check` with these words. Its report is read from its lines or from its object.
pub(crate) fn check(world: &World, words: &[String]) -> Seen {
    let output = Command::new(BINARY).arg("check").args(words).stdin(Stdio::null()).output().unwrap();
    let mut seen = ended(world, &output);
    let text = String::from_utf8(output.stdout).unwrap();
    if text.starts_with('{') {
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["result"], if output.status.code() == Some(3) { "warnings" } else { "passed" });
        return Seen::from([("form".to_owned(), "an object".to_owned())]);
    }
    if !matches!(output.status.code(), Some(0 | 3)) || !text.starts_with("path ") {
        return seen;
    }
    let of = |label: &str| {
        let label = format!("{label:<10} ");
        text.lines().filter_map(|line| Some(world.named(line.strip_prefix(&label)?))).collect::<Vec<_>>()
    };
    seen.insert("form".to_owned(), "lines".to_owned());
    let paths = of("path").into_iter().map(|path| path.trim_start_matches('@').to_owned());
    seen.insert("paths".to_owned(), paths.collect::<Vec<_>>().join(", "));
    let leaf = of("chain")
        .into_iter()
        .find_map(|line| Some(line.split_once("names: ")?.1.split(';').next()?.to_owned()));
    seen.insert("leaf".to_owned(), leaf.unwrap_or_default());
    seen.insert("sets".to_owned(), of("snapshot").len().to_string());
    seen.insert("client CAs".to_owned(), of("client-ca").len().to_string());
    seen.insert("lists".to_owned(), of("crl").len().to_string());
    let mut warned: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for warning in of("warning") {
        let file = warning.split('@').nth(1).and_then(|rest| rest.split(": ").next()).unwrap_or_default();
        let effect = warning.rsplit(": ").next().unwrap_or_default();
        let (name, text) = match warning.as_str() {
            text if text.contains("the leaf expires at ") => ("ends soon", file),
            text if text.contains("may be wrong by 3700 s") => ("dates for a clock an hour off", file),
            text if text.contains(" of CN=expired") => ("an expired list", effect),
            text if text.contains("no CRL of CN=unlisted ") => ("no list", effect),
            text if text.contains("no CRL of CN=above ") => ("no list above", effect),
            text if text.contains("of none of the client CAs") => ("a list of nobody", file),
            text => ("another warning", text),
        };
        warned.entry(name).or_default().push(text.to_owned());
    }
    seen.extend(warned.into_iter().map(|(name, texts)| (name.to_owned(), texts.join(", "))));
    seen
}

/// Runs `demo` with these words until it ends. Interrupts it where it prints that it goes on.
pub(crate) fn demo(words: &[String]) -> Seen {
    let mut command = Command::new(BINARY);
    command.arg("demo").args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Running(command.spawn().unwrap());
    let mut reported = String::new();
    let mut stdout = BufReader::new(process.0.stdout.take().unwrap());
    let mut seen = Seen::new();
    while stdout.read_line(&mut reported).unwrap() > 0 {
        if reported.lines().last().unwrap().starts_with("publishing every 3 s") {
            seen.insert("goes on".to_owned(), "yes".to_owned());
            super::signals::send(process.0.id(), nix::sys::signal::Signal::SIGINT);
        }
    }
    let rows = |what: &str| reported.lines().filter(|line| line.starts_with(what)).count();
    for (name, line) in [("good updates", "good update"), ("broken updates", "broken: ")] {
        let count = rows(line);
        seen.extend((count > 0).then(|| (name.to_owned(), count.to_string())));
    }
    let status = process.0.wait().unwrap();
    seen.insert(
        "ends".to_owned(),
        status.code().map_or_else(|| "by a signal".to_owned(), |code| code.to_string()),
    );
    seen
}

/// Returns the flags in the help of a command, and the possible values of each flag that lists
/// them.
pub(crate) fn flags(command: &str) -> BTreeMap<String, Vec<String>> {
    let output = Command::new(BINARY).args([command, "--help"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last = None;
    for line in text.lines().map(str::trim) {
        let words = line.strip_prefix("-h, ").unwrap_or(line);
        if words.starts_with("--") {
            let flag = words.split([' ', '<']).next().unwrap().to_owned();
            flags.entry(flag.clone()).or_default();
            last = Some(flag);
        } else if let (Some(value), Some(flag)) = (line.strip_prefix("- "), &last) {
            flags.get_mut(flag).unwrap().extend(value.split(':').next().map(str::to_owned));
        }
    }
    flags
}
