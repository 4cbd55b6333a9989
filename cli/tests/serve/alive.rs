//! Nothing that happens to the process's log, signals or threads stops reloading or keeps it from
//! ending. Checks: INV-13, INV-15.

use std::{
    fs,
    io::{self, Read, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    common::{DEADLINE, Volume, at_once, client_of, generations},
    process::{Silent, begin_request, command, pair, text, until, untimed},
    signals::Rewriting,
};
use rustix::fs::{OFlags, fcntl_setfl};

/// Longest time from the signal to the end of a server that waits for nothing else.
const END: Duration = Duration::from_millis(6_500);
/// Longest time from a second signal to the end, whatever the server was waiting for.
const END_AT_ONCE: Duration = Duration::from_secs(4);

/// A server that has nothing to wait for. The time to its end is the delay that the machine adds to
/// every end.
struct Idle {
    server: Silent,
    _volume: Volume,
}

impl Idle {
    fn start() -> Self {
        let generations = generations(1);
        let volume = Volume::new(&pair(&generations[0]));
        let server = Silent::start(&volume, &[], Stdio::null());
        server.serves(&generations[0], "/");
        Self { server, _volume: volume }
    }

    /// Ends both servers by a signal. The other server has to end within `limit` plus four times
    /// the time of this one.
    fn ends_with(self, other: &mut Silent, limit: Duration, what: &str) {
        let [took, idle] = self.times(other);
        assert!(took < limit + 4 * idle, "{what}: {took:?}, idle: {idle:?}");
    }

    /// Ends both servers by a signal. Returns how long the other one took, and how long this one.
    fn times(mut self, other: &mut Silent) -> [Duration; 2] {
        std::thread::scope(|scope| {
            let ends = [other, &mut self.server].map(|server| {
                let start = Instant::now();
                server.signal("-TERM");
                scope.spawn(move || {
                    let (status, _) = server.ends();
                    assert!(status.success(), "{status}");
                    start.elapsed()
                })
            });
            ends.map(|end| end.join().unwrap())
        })
    }
}

/// Returns a pipe whose buffer is full.
fn full_pipe() -> (io::PipeReader, io::PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'.'; 4096]).is_ok() {}
    while writer.write(b".").is_ok() {}
    fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (reader, writer)
}

#[test]
fn inv15_full_stderr_pipe_stops_neither_reloads_nor_sigterm() {
    let generations = generations(3);
    let mut volume = Volume::new(&pair(&generations[0]));
    let (mut reader, writer) = full_pipe();
    let mut server = Silent::start(&volume, &[], writer);
    server.serves(&generations[0], "/");
    for next in &generations[1..] {
        volume.publish(&pair(next));
        server.serves(next, "/");
    }
    assert!(server.serves(&generations[2], "/healthz").ends_with("ok\n"));
    Idle::start().ends_with(&mut server, END, "a full pipe");
    // The pipe was not read until now, and no writer is left.
    let mut text = Vec::new();
    reader.read_to_end(&mut text).unwrap();
    assert!(text.iter().all(|byte| *byte == b'.'), "the pipe was not full");
}

#[test]
fn inv11_metrics_show_a_rejection_in_both_forms() {
    let generations = generations(3);
    let mut volume = Volume::new(&pair(&generations[0]));
    let server = Silent::start(&volume, &[], Stdio::null());
    let metrics = || server.serves(&generations[0], "/metrics");
    let set = format!("reloader=\"server\",set=\"{}\"", volume.path("tls.crt").display());
    let first = metrics();
    assert!(first.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{first}");
    for line in [
        "# TYPE tls_reload_refused gauge".to_owned(),
        format!("tls_reload_refused{{{set}}} 0"),
        "tls_generation{reloader=\"server\"} 1".to_owned(),
        "tls_connections_open 1".to_owned(),
        "tls_log_lines_lost_total 0".to_owned(),
    ] {
        assert!(first.contains(&format!("\n{line}\n")), "no {line} in {first}");
    }
    let [chain, _] = pair(&generations[1]);
    let [_, key] = pair(&generations[2]);
    volume.publish(&[chain, key]);
    until("the rejection shows", || metrics().contains(&format!("\ntls_reload_refused{{{set}}} 1\n")));
    let accept = "application/openmetrics-text; version=1.0.0";
    let mut stream = server.connect(&client_of(&generations[0], None), DEADLINE).unwrap();
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut open = String::new();
    stream.read_to_string(&mut open).unwrap();
    assert!(open.contains(&format!("\r\ncontent-type: {accept}; charset=utf-8\r\n")), "{open}");
    let count = format!("\ntls_reload_total{{{set},result=\"refused\",reason=\"match\"}} 1\n");
    assert!(open.contains(&count) && open.contains("\n# TYPE tls_reload counter\n"), "{open}");
    assert!(open.ends_with("\n# EOF\n"), "{open}");
}

#[test]
fn inv15_stderr_that_takes_nothing_does_not_end_the_server() {
    const NO_READER: &str = "nobody reads any more";
    let shell = |words: &str| ["sh".to_owned(), "-c".to_owned(), words.to_owned(), "sh".to_owned()];
    let cases = [
        ("no space left", shell("exec \"$@\" 2>/dev/full")),
        ("closed", shell("exec \"$@\" 2>&-")),
        ("all three closed", shell("exec \"$@\" <&- >&- 2>&-")),
        (NO_READER, shell("exec \"$@\"")),
        ("a file of no length", shell("ulimit -f 0; exec \"$@\"")),
    ];
    at_once(&cases, |(what, wrapper)| {
        let generations = generations(2);
        let mut volume = Volume::new(&pair(&generations[0]));
        let log = tempfile::NamedTempFile::new().unwrap();
        let wrapper = wrapper.each_ref().map(String::as_str);
        // The reader of the pipe is closed at once.
        let stderr: Stdio = match *what {
            NO_READER => io::pipe().unwrap().1.into(),
            _ => log.reopen().unwrap().into(),
        };
        let mut server = Silent::start(&volume, &wrapper, stderr);
        server.serves(&generations[0], "/");
        volume.publish(&pair(&generations[1]));
        server.serves(&generations[1], "/");
        Idle::start().ends_with(&mut server, END, what);
        assert_eq!(text(log.path()), "", "{what}: it had somewhere to write");
    });
}

#[test]
fn inv13_sigterm_blocked_by_the_parent_ends_loads_and_servers() {
    let generations = generations(1);
    let volume = Volume::new(&pair(&generations[0]));
    for (wrapper, first_load) in [
        (&[][..], true),
        (&["sh", "-c", "trap '' TERM INT; exec \"$@\"", "sh"][..], true),
        (&["sh", "-c", "trap '' TERM INT; exec \"$@\"", "sh"][..], false),
        (&["env", "--block-signal=TERM,INT,HUP"][..], true),
        (&["env", "--block-signal=TERM,INT,HUP"][..], false),
    ] {
        in_one_of_several_tries(&format!("{wrapper:?}, first load: {first_load}"), || {
            let log = tempfile::NamedTempFile::new().unwrap();
            let idle = Idle::start();
            let rewriting = first_load
                .then(|| Rewriting::start(volume.path("tls.crt"), generations[0].server.chain.clone()));
            let mut server = Silent::start(&volume, wrapper, log.reopen().unwrap());
            if first_load {
                server.catches(15);
            } else {
                server.serves(&generations[0], "/");
            }
            idle.ends_with(&mut server, END, &format!("{wrapper:?}"));
            drop(rewriting);
            text(log.path()).contains("listening") != first_load
        });
    }
}

#[test]
fn inv13_sighup_during_the_first_load_is_a_reload_after_it() {
    let generations = generations(1);
    let volume = Volume::new(&pair(&generations[0]));
    in_one_of_several_tries("SIGHUP", || {
        let log = tempfile::NamedTempFile::new().unwrap();
        let rewriting = Rewriting::start(volume.path("tls.crt"), generations[0].server.chain.clone());
        let server = Silent::start(&volume, &[], log.reopen().unwrap());
        server.catches(1);
        server.signal("-HUP");
        let in_time = !text(log.path()).contains("listening");
        drop(rewriting);
        until("the signal is answered", || text(log.path()).contains("SIGHUP: unchanged"));
        server.serves(&generations[0], "/");
        in_time
    });
}

/// Tries until the signal comes during the first load, which ends early where the writer of the
/// file is held up.
fn in_one_of_several_tries(what: &str, attempt: impl FnMut() -> bool) {
    assert!(std::iter::repeat_with(attempt).take(5).any(|in_time| in_time), "{what}: always loaded before");
}

/// Mounts a file system that answers no request on `$0`, where only the server sees it.
const HUNG: [&str; 7] = [
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "sh",
    "-c",
    "exec 9<>/dev/fuse && mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 none \"$0\" && exec \"$@\"",
];

#[test]
fn inv13_sigterm_ends_a_server_that_hangs_in_a_file_system() {
    let generations = generations(1);
    let volume = Volume::new(&pair(&generations[0]));
    let hung = tempfile::tempdir().unwrap();
    let wrapper = [&HUNG[..], &[hung.path().to_str().unwrap()]].concat();
    let probe = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        let line = "NOT CHECKED: a file system that hangs: FUSE is not permitted here\n";
        return io::stderr().lock().write_all(line.as_bytes()).unwrap();
    }
    // The cases: during a first load; during a manual reload and one of the driver; and with a
    // second signal.
    let attempt = |first_load: &bool, twice: &bool| {
        let dir = tempfile::tempdir().unwrap();
        let (link, good) = (dir.path().join("current"), volume.dir());
        let point = |to: &std::path::Path| {
            std::os::unix::fs::symlink(to, dir.path().join("next")).unwrap();
            fs::rename(dir.path().join("next"), &link).unwrap();
        };
        point(if *first_load { hung.path() } else { &good });
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut server = Silent::start_at(&link, &wrapper, log.reopen().unwrap());
        if *first_load {
            server.catches(15);
        } else {
            server.serves(&generations[0], "/");
            point(hung.path());
            server.signal("-HUP");
            // Handshakes succeed while the reload hangs.
            server.serves(&generations[0], "/healthz");
        }
        let idle = Idle::start();
        if *twice {
            let log = || text(log.path());
            server.signal("-TERM");
            until("the end has begun", || std::net::TcpStream::connect(&server.address).is_err());
            assert!(!log().contains("signal"), "{}", log());
        }
        let within = if *twice { END_AT_ONCE } else { END };
        let [took, idle] = idle.times(&mut server);
        // The server really hung: without that, the end takes less than a second.
        assert!(*first_load || *twice || took > Duration::from_secs(4), "{took:?}: {}", text(log.path()));
        took < within + 4 * idle
    };
    // The end is cut after 6 s, which is near the limit for a machine that is held up just then.
    at_once(&[(true, false), (false, false), (false, true)], |(first_load, twice)| {
        let in_time = (0..3).any(|_| attempt(first_load, twice));
        assert!(in_time, "first load: {first_load}, twice: {twice}: three times too late");
    });
}

#[test]
fn inv13_second_signal_ends_the_server_at_once() {
    let generations = generations(1);
    let volume = Volume::new(&pair(&generations[0]));
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut server = Silent::start(&volume, &[], log.reopen().unwrap());
    server.serves(&generations[0], "/");
    // The server waits for a request whose body never arrives.
    let mut open = server.connect(&client_of(&generations[0], None), DEADLINE).unwrap();
    let idle = Idle::start();
    begin_request(&mut open);
    server.signal("-TERM");
    let refused = || std::net::TcpStream::connect(&server.address).is_err();
    until("the end has begun", refused);
    assert!(server.process.try_wait().unwrap().is_none(), "it did not wait for the request");
    idle.ends_with(&mut server, END_AT_ONCE, "a second signal");
    assert!(text(log.path()).contains("second signal: the process ends at once"), "{}", text(log.path()));
}

/// With one thread the log cannot start, with two the runtime cannot, and so on. From some number
/// on the server starts.
#[test]
fn inv15_without_threads_a_start_is_one_line_and_exit_code_1() {
    let generations = generations(1);
    let volume = Volume::new(&pair(&generations[0]));
    let probe = ["setpriv", "--reuid=64400", "--regid=64400", "--clear-groups", "true"];
    if !Command::new(probe[0]).args(&probe[1..]).stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {
        let line = "NOT CHECKED: starts without threads: setpriv is not permitted here\n";
        return io::stderr().lock().write_all(line.as_bytes()).unwrap();
    }
    // The files are read only once all threads exist; the other user may then be unable to read
    // them.
    at_once(&[1, 2, 3, 4, 5, 6], |number| {
        let (uid, limit) = (format!("--reuid={}", 64_400 + number), format!("--nproc={number}"));
        let wrapper = ["setpriv", &uid, "--regid=64400", "--clear-groups", "prlimit", &limit, "--"];
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = command(&volume.dir(), &wrapper, "127.0.0.1:0");
        let mut process = command.stderr(log.reopen().unwrap()).spawn().unwrap();
        let mut ended = None;
        until("it serves or ends", || {
            ended = process.try_wait().unwrap();
            ended.is_some() || text(log.path()).contains("listening")
        });
        let _ = process.kill();
        let _ = process.wait();
        let text = text(log.path());
        assert!(!text.contains("panicked"), "{number} threads: {text}");
        if let Some(ended) = ended {
            assert_eq!((ended.code(), text.lines().count()), (Some(1), 1), "{number} threads: {text}");
        }
        if *number < 3 {
            assert!(
                untimed(&text).starts_with("rustls-reload: ") && text.contains("hread"),
                "{number}: {text}"
            );
        }
    });
}

/// `check` writes to a pipe that is not read to the end.
#[test]
fn inv15_check_into_a_closed_pipe_does_not_panic() {
    let generations = generations(1);
    let volume = Volume::new(&pair(&generations[0]));
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rustls-reload"));
    command.arg("check").arg("--cert").arg(volume.path("tls.crt")).arg("--key").arg(volume.path("tls.key"));
    let ended = command.stdout(writer).stderr(log.reopen().unwrap()).status().unwrap();
    let text = text(log.path());
    assert!(ended.code() == Some(1) && !text.contains("panicked"), "{ended}: {text}");
    assert!(text.contains("Broken pipe"), "{text}");
}
