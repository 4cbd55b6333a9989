//! Limits on descriptors: reloads and directories have theirs when clients take all others. Checks:
//! INV-15.

use std::{
    fs,
    io::{self, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    common::{DEADLINE, Volume, client_of, generations},
    process::{Silent, ask, pair, text, until},
};

/// Opens as many connections as the server accepts at a time.
fn take_all(server: &Silent, client: &std::sync::Arc<rustls::ClientConfig>) -> Vec<crate::process::Stream> {
    let mut taken = vec![server.connect(client, DEADLINE).unwrap()];
    loop {
        let status = ask(&mut taken[0], "/status");
        if status.contains(&format!("\"limit\": {},", taken.len())) {
            return taken;
        }
        taken.push(server.connect(client, DEADLINE).unwrap());
        assert!(taken.len() < 128, "there is no limit: {status}");
    }
}

#[test]
fn inv15_reload_has_descriptors_when_clients_take_all_places() {
    let generations = generations(2);
    let mut volume = Volume::new(&pair(&generations[0]));
    let log = tempfile::NamedTempFile::new().unwrap();
    let server = Silent::start(&volume, &["prlimit", "--nofile=128:128"], log.reopen().unwrap());
    server.serves(&generations[0], "/");
    let client = client_of(&generations[0], None);
    let mut taken = take_all(&server, &client);
    let status = ask(&mut taken[0], "/status");
    let counts = format!("\"limit\": {0},\n    \"open\": {0}", taken.len());
    assert!(status.contains(&counts) && taken.len() > 30, "{}: {status}", taken.len());
    volume.publish(&pair(&generations[1]));
    until("the update is served", || ask(&mut taken[0], "/status").contains("\"generation\": 2"));
    // A place becomes free when a connection ends, and not before.
    assert!(server.connect(&client_of(&generations[1], None), Duration::from_millis(300)).is_err());
    drop(taken.pop());
    server.serves(&generations[1], "/");
    assert!(!text(log.path()).contains("cannot accept"), "{}", text(log.path()));
}

/// Creates a directory this many levels below `root`.
fn deep(root: &std::path::Path, levels: usize) -> std::path::PathBuf {
    let dir = root.join(["d"].repeat(levels).join("/"));
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// A snapshot holds every directory on the path open, and none of them is watched.
#[test]
fn inv15_unwatched_directories_keep_their_descriptors() {
    let words = ["unshare", "--user", "--map-root-user", "sh", "-c"];
    let none = "echo 0 > /proc/sys/user/max_inotify_instances";
    let probe = Command::new(words[0]).args(&words[1..]).arg(none).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        let line = "NOT CHECKED: descriptors of unwatched directories: unshare is not permitted here\n";
        return io::stderr().lock().write_all(line.as_bytes()).unwrap();
    }
    let generations = generations(2);
    let root = tempfile::tempdir().unwrap();
    let dir = deep(root.path(), 150);
    let write = |number: usize| {
        for (name, bytes) in pair(&generations[number]) {
            fs::write(dir.join(name), bytes).unwrap();
        }
    };
    write(0);
    let log = tempfile::NamedTempFile::new().unwrap();
    let limited = format!("{none}; exec prlimit --nofile=512:512 \"$@\"");
    let wrapper = [&words[..], &[&limited, "sh"]].concat();
    let server = Silent::start_at(&dir, &wrapper, log.reopen().unwrap());
    server.serves(&generations[0], "/");
    let mut taken = Vec::new();
    let client = client_of(&generations[0], None);
    until("the limit is logged", || text(log.path()).contains("at most "));
    let said = text(log.path());
    let most = said.split_once("at most ").unwrap().1.split_once(' ').unwrap().0;
    for _ in 0..most.parse::<usize>().unwrap() {
        taken.push(server.connect(&client, DEADLINE).unwrap());
        // A connection without a request for 30 s is cut.
        if taken.len().is_multiple_of(20) {
            ask(&mut taken[0], "/healthz");
        }
    }
    assert!(said.contains("degraded") && taken.len() > 150, "{}: {said}", taken.len());
    write(1);
    until("the update is served", || ask(&mut taken[0], "/status").contains("\"generation\": 2"));
    let text = text(log.path());
    assert!(!text.contains("Too many open files (os error 24) (at"), "{text}");
}

#[test]
fn inv15_check_raises_the_limit_on_descriptors_as_serve_does() {
    let generations = generations(1);
    let root = tempfile::tempdir().unwrap();
    let dir = deep(root.path(), 100);
    for (name, bytes) in pair(&generations[0]) {
        fs::write(dir.join(name), bytes).unwrap();
    }
    let check = |limits: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{limits}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_rustls-reload")]);
        command.arg("check").arg("--cert").arg(dir.join("tls.crt")).arg("--key").arg(dir.join("tls.key"));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, why) = check("ulimit -Sn 64 && ulimit -Hn 4096");
    assert!(code != Some(1), "{why}");
    // Where the limit may not be raised, the error names the lack of descriptors.
    let (code, why) = check("ulimit -n 64");
    assert!(code == Some(1) && why.contains("Too many open files"), "{code:?}: {why}");
}

/// The address is taken, so that no start ends in another way than by an error.
#[test]
fn inv15_start_without_descriptors_names_what_fails() {
    let generations = generations(1);
    let volume = Volume::new(&pair(&generations[0]));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let mut lacking = 0;
    for limit in 4..=16 {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={limit}:{limit}")).arg(env!("CARGO_BIN_EXE_rustls-reload"));
        command.args(["serve", "--listen", &listen]).arg("--cert").arg(volume.path("tls.crt"));
        let output = command.arg("--key").arg(volume.path("tls.key")).output().unwrap();
        let why = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && why.contains(": cannot "), "{limit}: {why}");
        lacking += u32::from(!why.contains("cannot listen on"));
    }
    assert!(lacking > 4, "only {lacking} starts lacked descriptors");
}

#[test]
fn inv12_accepting_that_fails_is_logged_when_it_begins_and_ends() {
    let generations = generations(1);
    let volume = Volume::new(&pair(&generations[0]));
    let log = tempfile::NamedTempFile::new().unwrap();
    let server = Silent::start(&volume, &[], log.reopen().unwrap());
    server.serves(&generations[0], "/");
    let allow = |descriptors: &str| {
        let pid = format!("--pid={}", server.process.id());
        let limited = Command::new("prlimit").args([pid, format!("--nofile={descriptors}")]).status();
        assert!(limited.unwrap().success());
    };
    let client = client_of(&generations[0], None);
    let mut open = server.connect(&client, DEADLINE).unwrap();
    // A time without clients is no failure.
    std::thread::sleep(Duration::from_secs(1));
    let limited = Instant::now();
    allow("3:");
    let _waits = std::net::TcpStream::connect(&server.address).unwrap();
    until("some attempts failed", || {
        let status = ask(&mut open, "/status");
        (4..100).any(|count| status.contains(&format!("\"accept_failures\": {count},")))
    });
    allow("512:");
    server.serves(&generations[0], "/");
    until("the end is logged", || text(log.path()).contains("accepting connections again, after "));
    let text = text(log.path());
    assert_eq!(text.matches("cannot accept connections: ").count(), 1, "{text}");
    let (_, end) = text.split_once("accepting connections again, after ").unwrap();
    assert!(!end.contains("accepting connections again"), "{text}");
    let (_, seconds) = end.split_once(" failures in ").unwrap();
    let seconds: f32 = seconds.split_once(" s").unwrap().0.parse().unwrap();
    assert!(seconds < limited.elapsed().as_secs_f32() + 0.1, "{text}");
}
