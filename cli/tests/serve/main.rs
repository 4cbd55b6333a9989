//! Tests `rustls-reload serve` as a process: neither its stdout, its stderr nor its status has key
//! material, over everything that a read or a check refuses, at the start and while it runs.
//! Checks: INV-10.
//! The modules: `alive` tests the process in its surroundings, `descriptors` its limit on
//! descriptors, `clients` and `drained` its treatment of clients, `places` its limit on
//! connections, `signals` each signal in each phase, `flags` each flag, `log_forms` the forms of
//! the log, `watch` the steps that `rustls-reload watch` reports.
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)] // reason: a test may panic and print

mod alive;
mod clients;
#[path = "../../../tests/common/mod.rs"]
mod common;
mod descriptors;
mod drained;
mod flag_world;
mod flags;
mod log_forms;
mod places;
mod process;
mod signals;
mod watch;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant, SystemTime},
};

use common::{
    DEADLINE, Generation, InvalidUpdate, NamedFile, Volume, client_of, client_with, invalid_crl_updates,
    invalid_updates,
};
use rustls::{ClientConnection, StreamOwned};
use rustls_reload::Layer;
use rustls_reload_testkit::{PrivateKey, Subject, Windows};

fn serve(volume: &Volume) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rustls-reload"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--client-auth", "optional"]);
    for (flag, name) in
        [("--client-ca", "ca.crt"), ("--crl", "ca.crl"), ("--cert", "tls.crt"), ("--key", "tls.key")]
    {
        command.arg(flag).arg(volume.path(name));
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn list(of: &Generation) -> String {
    let now = SystemTime::now();
    of.ca.crl(&[], (now - Duration::from_secs(3600), now + Duration::from_secs(86_400)), 1).pem
}

fn files<'a>(of: &'a Generation, list: &'a str) -> [NamedFile<'a>; 4] {
    let [chain, key, ca] = of.files();
    [chain, key, ca, ("ca.crl", list.as_bytes())]
}

fn refusals() -> impl Iterator<Item = InvalidUpdate> {
    invalid_updates().into_iter().chain(invalid_crl_updates())
}

fn windows(of: &Generation) -> Windows {
    Windows::of(&of.server.key_der(), &of.server.key)
}

/// A running server, and everything that it has printed.
struct Server {
    process: Child,
    lines: mpsc::Receiver<String>,
    reported: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start(volume: &Volume) -> Self {
        Self::run(serve(volume))
    }

    fn run(mut command: Command) -> Self {
        let mut process = command.spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(process.stdout.take().unwrap()), Box::new(process.stderr.take().unwrap())];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines() {
                    let _ = sender.send(process::untimed(&line.unwrap()).to_owned());
                }
            });
        }
        Self { process, lines, reported: String::new() }
    }

    /// Returns the next line that begins with `wanted`.
    fn line(&mut self, wanted: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let next = self.lines.recv_timeout(left);
            let line = next.unwrap_or_else(|_| panic!("no {wanted:?} in {}", self.reported));
            self.reported += &line;
            self.reported.push('\n');
            if line.starts_with(wanted) {
                return line;
            }
        }
    }

    /// Returns the address that the server listens on.
    fn address(&mut self) -> String {
        let line = self.line("listening on https://");
        line.split("https://").nth(1).unwrap().split(' ').next().unwrap().to_owned()
    }

    /// Requests the status over TLS, as a client that trusts the CA of `served`.
    fn status(&mut self, address: &str, served: &Generation) {
        let name = "localhost".try_into().unwrap();
        let connection = ClientConnection::new(client_of(served, None), name).unwrap();
        let mut stream = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"refused\": {"), "{answer}");
        self.reported += &answer;
    }

    fn hang_up(&self) {
        let sent = Command::new("kill").arg("-HUP").arg(self.process.id().to_string()).status();
        assert!(sent.unwrap().success());
    }
}

#[test]
fn inv10_running_server_prints_no_window_of_any_key() {
    let first = Generation::new(0);
    let mut volume = Volume::new(&files(&first, &list(&first)));
    let mut server = Server::start(&volume);
    let address = server.address();
    let mut keys = vec![windows(&first)];
    let mut layers = BTreeSet::new();
    let mut good = first;
    for (number, InvalidUpdate { what, layer, invalidate, .. }) in refusals().enumerate() {
        let bad = Generation::new(2 * number + 1);
        keys.push(windows(&bad));
        volume.publish_invalid(&files(&bad, &list(&bad)), |payload| invalidate(payload));
        let line = server.line("CONFIG:RELOAD_FAILED ");
        assert!(line.contains(&format!("failed: {}: ", layer.name())), "{what}: {line}");
        layers.insert(layer);
        server.hang_up();
        server.line("SIGHUP: rejected: ");
        server.status(&address, &good);
        good = Generation::new(2 * number + 2);
        keys.push(windows(&good));
        volume.publish(&files(&good, &list(&good)));
        server.line("CONFIG:RELOADED ");
    }
    for (number, key) in keys.iter().enumerate() {
        assert!(!key.occur_in(server.reported.as_bytes()), "key {number} is in {}", server.reported);
    }
    println!("{} bytes searched for {} keys, refused by {layers:?}", server.reported.len(), keys.len());
    assert!(layers.len() >= 8 && keys.len() > 60, "{layers:?}");
}

/// No list exists for the intermediate above the client, because the root has issued none.
#[test]
fn flag_exempts_intermediates_from_needing_a_crl() {
    let of = Generation::new(0);
    let between = of.ca.intermediate("between");
    let client = between.issue_with_chain(&Subject::client("client"), &PrivateKey::p256());
    let now = SystemTime::now();
    let window = (now - Duration::from_secs(3600), now + Duration::from_secs(3600));
    let volume = Volume::new(&files(&of, &between.crl(&[], window, 1).pem));
    for (flag, lets_in) in [(None, false), (Some("--crl-leaf-only"), true)] {
        let mut command = serve(&volume);
        command.args(flag);
        let mut server = Server::run(command);
        let shown = client_with(&[&of.ca], Some(&client), rustls::ALL_VERSIONS);
        let connection = ClientConnection::new(shown, "localhost".try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(connection, TcpStream::connect(server.address()).unwrap());
        let mut answer = String::new();
        let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answered = asked.and_then(|()| stream.read_to_string(&mut answer));
        assert_eq!(answered.is_ok() && answer.starts_with("HTTP/1.1 200"), lets_in, "{flag:?}: {answered:?}");
    }
}

/// Starts on invalid files. Returns how each start ended, and whether its output held a window of
/// the key.
fn starts(mut command: impl FnMut(&Volume) -> Command) -> Vec<(String, Layer, Output, bool)> {
    let running = refusals().enumerate().map(|(number, InvalidUpdate { what, layer, invalidate, .. })| {
        let (first, next) = (Generation::new(2 * number), Generation::new(2 * number + 1));
        let mut volume = Volume::new(&files(&first, &list(&first)));
        volume.publish_invalid(&files(&next, &list(&next)), |payload| invalidate(payload));
        let mut process = command(&volume).spawn().unwrap();
        let mut begun = Vec::new();
        if layer == Layer::Validity {
            // The server starts with a warning.
            let mut stderr = BufReader::new(process.stderr.take().unwrap());
            stderr.read_until(b'\n', &mut begun).unwrap();
            process.kill().unwrap();
            stderr.read_to_end(&mut begun).unwrap();
        }
        (what.to_owned(), layer, next, volume, process, begun)
    });
    let ended =
        running.collect::<Vec<_>>().into_iter().map(|(what, layer, next, _volume, process, begun)| {
            let output = process.wait_with_output().unwrap();
            let leaks = windows(&next).occur_in(&[&output.stdout[..], &output.stderr, &begun].concat());
            (what, layer, output, leaks)
        });
    ended.collect()
}

#[test]
fn inv10_no_start_that_is_refused_prints_a_window_of_the_key() {
    let mut refused = 0;
    for (what, layer, output, leaks) in starts(serve) {
        let reported = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!leaks, "{what}: {reported}");
        if layer != Layer::Validity {
            refused += 1;
            assert_eq!(output.status.code(), Some(1), "{what}: {reported}");
            assert!(reported.contains(&format!("rustls-reload: {}: ", layer.name())), "{what}: {reported}");
        }
    }
    println!("{refused} starts were refused");
    assert!(refused >= 30);
}

/// Breaks: INV-10. A server that prints what it could not read.
#[test]
fn a_start_that_prints_the_key_is_found() {
    let prints = |volume: &Volume| {
        let mut command = Command::new("sh");
        let key: &Path = &volume.path("tls.key");
        command.args(["-c", "test -f \"$0\" && cat \"$0\" >&2; exit 1"]).arg(key);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let found = starts(prints).into_iter().filter(|(.., leaks)| *leaks).count();
    println!("the key was found in the output of {found} starts");
    assert!(found >= 15, "{found}");
}
