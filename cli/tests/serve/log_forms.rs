//! The forms of the log: in each, every line of a server's life has that form, whatever the paths
//! are. Checks: INV-10, INV-11, INV-16.

#[path = "../../../tests/ocsf/schema.rs"]
mod schema;

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Stdio,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    common::{DEADLINE, Generation, client_of},
    process::{Silent, command, is_time, text, until},
    signals::send,
    windows,
};

/// A name of a directory that would end a line, a field of text or a string of JSON.
const NAME: &str = "a\nb \"c\" [d]\\ {e}\u{1b}[0m \u{e9}";

fn put(dir: &Path, chain: &Generation, key: &Generation) {
    fs::write(dir.join("tls.crt"), &chain.server.chain).unwrap();
    fs::write(dir.join("tls.key"), &key.server.key).unwrap();
}

/// Runs a server through a reload, a rejection, reloads by signal, a failed handshake and its end.
/// Returns its log, in which `message` finds the text of a line.
fn life(form: &str, of: &[Generation; 3], message: impl Fn(&str) -> Option<String>) -> String {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join(NAME);
    fs::create_dir(&dir).unwrap();
    put(&dir, &of[0], &of[0]);
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = command(&dir, &[], "127.0.0.1:0");
    let process = command.args(["--log", form]).stderr(log.reopen().unwrap()).spawn().unwrap();
    let mut server = Silent { process, address: String::new() };
    // The last line may be half written.
    let lines = || {
        let text = text(log.path());
        let whole = text.rsplit_once('\n').map(|(whole, _)| whole.to_owned()).unwrap_or_default();
        whole.lines().filter_map(&message).collect::<Vec<_>>()
    };
    let has = |wanted: &str| until(wanted, || lines().iter().any(|line| line.contains(wanted)));
    has("listening on https://");
    let line = lines().into_iter().find(|line| line.contains("listening on https://")).unwrap();
    server.address = line.split("https://").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    put(&dir, &of[1], &of[1]);
    has("reloaded successfully");
    put(&dir, &of[1], &of[2]);
    has("reload failed: match");
    send(server.process.id(), Signal::SIGHUP);
    has("SIGHUP: rejected: match");
    TcpStream::connect(&server.address).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    has("handshake failed: not_tls");
    let mut answer = String::new();
    let mut stream = server.connect(&client_of(&of[1], None), DEADLINE).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");
    send(server.process.id(), Signal::SIGTERM);
    assert_eq!(server.ends().0.code(), Some(0));
    let log = text(log.path());
    for generation in of {
        assert!(!windows(generation).occur_in(log.as_bytes()), "{form}: {log}");
    }
    log
}

fn message(line: &str) -> Option<String> {
    let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    object["message"].as_str().map(str::to_owned)
}

/// Returns all lines of a log, and asserts that nothing in them controls a terminal.
fn lines(log: &str) -> Vec<&str> {
    assert!(log.ends_with('\n'), "{log}");
    let lines: Vec<_> = log.lines().collect();
    assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{log}");
    assert!(lines.len() > 10, "{log}");
    lines
}

fn generations() -> [Generation; 3] {
    [0, 1, 2].map(Generation::new)
}

#[test]
fn inv11_each_line_of_text_begins_with_its_time() {
    let log = life("text", &generations(), |line| Some(line.to_owned()));
    let times: Vec<_> = lines(&log).into_iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(times.iter().all(|time| is_time(time)) && times.is_sorted(), "{log}");
    assert!(log.contains("Z CONFIG:RELOADED [INFO]") && log.contains("Z listening on"), "{log}");
}

#[test]
fn inv10_inv11_each_line_is_one_flat_object_of_json() {
    let log = life("json", &generations(), message);
    let objects: Vec<Value> = lines(&log).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut kinds = BTreeSet::new();
    for object in &objects {
        assert!(is_time(object["time"].as_str().unwrap()) && object["severity"].is_string(), "{object}");
        kinds.extend(object.get("event").map(|kind| kind.as_str().unwrap()));
        let rejected = object["message"].as_str().unwrap().starts_with("SIGHUP: rejected");
        assert!(!rejected || object["severity"] == "Medium", "{object}");
    }
    assert!(kinds.is_superset(&["published", "refused", "started", "stopped"].into()), "{kinds:?}");
    let refused = objects.iter().find(|object| object["event"] == "refused").unwrap();
    assert_eq!((&refused["layer"], &refused["severity"]), (&json!("match"), &json!("Medium")));
    let name = r#"a\nb "c" [d]\ {e}\u{1b}[0m é"#;
    assert!(refused["path"].as_str().unwrap().ends_with(&format!("/{name}/tls.key")), "{refused}");
}

#[test]
fn inv10_inv11_each_line_is_a_valid_event_of_ocsf() {
    let log = life("ocsf", &generations(), message);
    let mut classes = BTreeSet::new();
    for line in lines(&log) {
        // scripts/ocsf reads these lines.
        println!("{line}");
        assert_eq!(schema::faults(line), [""; 0], "{line}");
        let event: Value = serde_json::from_str(line).unwrap();
        let hostname = event["device"]["hostname"].as_str();
        assert_eq!(hostname.is_some(), event["class_uid"] == 5019, "{line}");
        assert!(
            hostname.is_none_or(|name| rustix::system::uname().nodename().to_str() == Ok(name)),
            "{line}"
        );
        classes.insert(event["class_uid"].as_u64().unwrap());
    }
    assert_eq!(classes, BTreeSet::from([0, 5019]), "{log}");
}

/// The error of a start is a line like any other.
#[test]
fn inv16_a_rejected_start_has_one_line_in_each_form() {
    let [first, second, _] = generations();
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &first, &second);
    let wanted = format!("rustls-reload: match: {}: ", dir.path().join("tls.key").display());
    for form in ["text", "json", "ocsf"] {
        let mut command = command(dir.path(), &[], "127.0.0.1:0");
        let output = command.args(["--log", form]).stderr(Stdio::piped()).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), log.lines().count()), (Some(1), 1), "{log}");
        let line = log.trim_end();
        match form {
            "text" => {
                let (time, text) = line.split_once(' ').unwrap();
                assert!(is_time(time) && text.starts_with(&wanted), "{log}");
            }
            _ => assert!(message(line).unwrap().starts_with(&wanted), "{log}"),
        }
        assert!(form != "ocsf" || schema::faults(line).is_empty(), "{log}");
    }
}
