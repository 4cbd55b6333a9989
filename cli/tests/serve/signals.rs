//! Every signal, once and twice, in every phase of the process. Checks: INV-13, INV-15.
//!
//! Each case ends in something observable of the process: a line of its log, an answer, its exit
//! code, or the signal that ended it.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustls::ClientConnection;

use crate::{
    Server,
    common::{DEADLINE, Generation, at_once, client_of, generations},
    process::{Stream, ask, begin_request, command, end_request, until},
};

const SIGNALS: [Signal; 6] =
    [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGPIPE];

/// Number of cases that run at a time.
const LANES: usize = 12;
/// A case whose signals were delivered later than this is run again.
const IN_TIME: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A file of the pair is still being written.
    FirstLoad,
    Serving,
    /// One of two files of an update is written.
    HalfUpdate,
    /// A client has sent half of its first message.
    HalfHandshake,
    /// A signal has requested the end, and a request is still being answered.
    Draining,
}

const PHASES: [Phase; 5] =
    [Phase::FirstLoad, Phase::Serving, Phase::HalfUpdate, Phase::HalfHandshake, Phase::Draining];

/// Effect of a signal on the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// One line for each signal that arrived alone, and the server goes on.
    Reloads,
    /// Exit code 0, with nothing cut off.
    Ends,
    /// Exit code 0, without waiting for any connection.
    EndsAtOnce,
    /// The system's default action for the signal.
    Kills,
    Nothing,
}

fn effect(phase: Phase, signal: Signal) -> Effect {
    match (signal, phase) {
        (Signal::SIGHUP, Phase::Draining) | (Signal::SIGPIPE, _) => Effect::Nothing,
        (Signal::SIGHUP, _) => Effect::Reloads,
        (Signal::SIGTERM | Signal::SIGINT, Phase::Draining) => Effect::EndsAtOnce,
        (Signal::SIGTERM | Signal::SIGINT, _) => Effect::Ends,
        _ => Effect::Kills,
    }
}

pub(crate) fn send(process: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(process).unwrap()), signal).unwrap();
}

/// Runs all jobs, `lanes` at a time.
pub(crate) fn in_lanes<J: Sync>(jobs: &[J], lanes: usize, run: impl Fn(&J) + Sync) {
    let next = Mutex::new(jobs.iter());
    at_once(&vec![(); lanes], |()| {
        loop {
            let Some(job) = next.lock().unwrap().next() else { break };
            run(job);
        }
    });
}

/// A server of the pair in a directory that is written in place.
struct Case {
    server: Server,
    dir: tempfile::TempDir,
    address: String,
}

impl Case {
    fn start(of: &Generation) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tls.crt"), &of.server.chain).unwrap();
        fs::write(dir.path().join("tls.key"), &of.server.key).unwrap();
        let mut command = command(dir.path(), &[], "127.0.0.1:0");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { server: Server::run(command), dir, address: String::new() }
    }

    fn serving(mut self) -> Self {
        self.address = self.server.address();
        self
    }

    fn id(&self) -> u32 {
        self.server.process.id()
    }

    fn connect(&self, of: &Generation) -> Stream {
        let name = "localhost".try_into().unwrap();
        let mut connection = ClientConnection::new(client_of(of, None), name).unwrap();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).unwrap();
        }
        Stream::new(connection, stream)
    }

    /// Sends the signal once or twice. The line of a reload shows that the signal has arrived.
    fn signal(&mut self, phase: Phase, signal: Signal, twice: bool) {
        for _ in 0..1 + usize::from(twice) {
            send(self.id(), signal);
            if effect(phase, signal) == Effect::Reloads && phase != Phase::FirstLoad {
                let line = self.server.line("SIGHUP: ");
                let wanted =
                    if phase == Phase::HalfUpdate { "SIGHUP: rejected: match" } else { "SIGHUP: unchanged" };
                assert!(line.starts_with(wanted), "{phase:?}: {line}");
            }
        }
    }

    /// Waits for the end. All output has been read by then.
    fn end(&mut self, what: &str) -> std::process::ExitStatus {
        let mut ended = None;
        until(what, || {
            ended = self.server.process.try_wait().unwrap();
            std::thread::sleep(Duration::from_millis(1));
            ended.is_some()
        });
        while let Ok(line) = self.server.lines.recv_timeout(DEADLINE) {
            self.server.reported += &(line + "\n");
        }
        ended.unwrap()
    }

    /// Asserts that the process ends as the effect requires. Returns false where the process goes
    /// on.
    fn ends(&mut self, effect: Effect, signal: Signal, what: &str) -> bool {
        match effect {
            Effect::Reloads | Effect::Nothing => return false,
            Effect::Kills => assert_eq!(self.end(what).signal(), Some(signal as i32), "{what}"),
            Effect::Ends | Effect::EndsAtOnce => {
                let status = self.end(what);
                let reported = &self.server.reported;
                assert_eq!(status.code(), Some(0), "{what}: {status}: {reported}");
                assert!(!reported.contains("did not end in time"), "{what}: {reported}");
                let at_once = reported.contains("second signal: the process ends at once");
                assert!(at_once || effect == Effect::Ends, "{what}: {reported}");
            }
        }
        assert!(!self.server.reported.contains("panicked"), "{what}: {}", self.server.reported);
        true
    }

    /// Asserts that the process serves this generation, and ends when it is asked to.
    fn goes_on(mut self, of: &Generation, what: &str) {
        let mut stream = self.connect(of);
        assert!(ask(&mut stream, "/").starts_with("HTTP/1.1 200"), "{what}");
        send(self.id(), Signal::SIGTERM);
        assert!(self.ends(Effect::Ends, Signal::SIGTERM, what));
    }
}

/// A thread that writes the same bytes to a file again and again, so that a first load waits for
/// its limit of five seconds. Dropping it ends the thread.
pub(crate) struct Rewriting {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Rewriting {
    pub(crate) fn start(path: PathBuf, bytes: String) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        fs::write(&path, &bytes).unwrap();
        let thread = std::thread::spawn({
            let done = Arc::clone(&done);
            move || {
                while !done.load(Ordering::Relaxed) {
                    fs::write(&path, &bytes).unwrap();
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        Self { done, thread: Some(thread) }
    }
}

impl Drop for Rewriting {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// Returns false where the machine was too slow to decide: a first load waits for five seconds.
fn first_load(generations: &[Generation], signal: Signal, twice: bool, what: &str) -> bool {
    let begun = Instant::now();
    let mut case = Case::start(&generations[0]);
    let writer = Rewriting::start(case.dir.path().join("tls.crt"), generations[0].server.chain.clone());
    until("the signals are caught", || {
        let status = fs::read_to_string(format!("/proc/{}/status", case.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
        let caught = u64::from_str_radix(caught, 16).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        [1, 2, 15].iter().all(|number| caught & 1 << (number - 1) != 0)
    });
    case.signal(Phase::FirstLoad, signal, twice);
    // The load ends early where the writer was held up.
    if begun.elapsed() > IN_TIME || case.server.lines.try_recv().is_ok() {
        return false;
    }
    let ends = case.ends(effect(Phase::FirstLoad, signal), signal, what);
    drop(writer);
    if ends {
        return !case.server.reported.contains("listening");
    }
    let mut case = case.serving();
    if signal == Signal::SIGHUP {
        case.server.line("SIGHUP: unchanged");
    }
    case.goes_on(&generations[0], what);
    true
}

fn half_update(generations: &[Generation], signal: Signal, twice: bool, what: &str) -> bool {
    let mut case = Case::start(&generations[0]).serving();
    fs::write(case.dir.path().join("tls.crt"), &generations[1].server.chain).unwrap();
    case.signal(Phase::HalfUpdate, signal, twice);
    if case.ends(effect(Phase::HalfUpdate, signal), signal, what) {
        return true;
    }
    fs::write(case.dir.path().join("tls.key"), &generations[1].server.key).unwrap();
    case.server.line("CONFIG:RELOADED ");
    case.goes_on(&generations[1], what);
    true
}

fn half_handshake(generations: &[Generation], signal: Signal, twice: bool, what: &str) -> bool {
    let mut case = Case::start(&generations[0]).serving();
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(client_of(&generations[0], None), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut stream = TcpStream::connect(&case.address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(&hello[..20]).unwrap();
    let mut other = case.connect(&generations[0]);
    until("both are open", || ask(&mut other, "/status").contains("\"open\": 2"));
    let begun = Instant::now();
    case.signal(Phase::HalfHandshake, signal, twice);
    if case.ends(effect(Phase::HalfHandshake, signal), signal, what) {
        assert!(matches!(stream.read(&mut [0; 16]), Ok(0) | Err(_)), "{what}: it was answered");
        return true;
    }
    // On a busy machine the time limit on handshakes may have ended this one.
    if begun.elapsed() < Duration::from_secs(5) {
        stream.write_all(&hello[20..]).unwrap();
        while client.is_handshaking() {
            client.complete_io(&mut stream).unwrap();
        }
    }
    case.goes_on(&generations[0], what);
    true
}

/// Returns false where the machine was too slow to decide: a drain ends after five seconds.
fn draining(generations: &[Generation], signal: Signal, twice: bool, what: &str) -> bool {
    let mut case = Case::start(&generations[0]).serving();
    let mut open = case.connect(&generations[0]);
    begin_request(&mut open);
    // A connection without a request holds no drain up.
    let _idle = case.connect(&generations[0]);
    let begun = Instant::now();
    send(case.id(), if twice { Signal::SIGINT } else { Signal::SIGTERM });
    until("the end has begun", || {
        // Each attempt takes a place while the drain has not begun; without a pause the last one
        // would wait for minutes.
        std::thread::sleep(Duration::from_millis(20));
        TcpStream::connect(&case.address).is_err()
    });
    case.signal(Phase::Draining, signal, twice);
    if begun.elapsed() > IN_TIME {
        return false;
    }
    if case.ends(effect(Phase::Draining, signal), signal, what) {
        return true;
    }
    let answer = end_request(&mut open);
    assert!(answer.starts_with("HTTP/1.1 405"), "{what}: {answer}");
    assert!(case.ends(Effect::Ends, signal, what));
    assert!(!case.server.reported.contains("SIGHUP"), "{what}: {}", case.server.reported);
    true
}

fn serving(generations: &[Generation], signal: Signal, twice: bool, what: &str) -> bool {
    let mut case = Case::start(&generations[0]).serving();
    let mut idle = case.connect(&generations[0]);
    assert!(ask(&mut idle, "/healthz").ends_with("ok\n"));
    case.signal(Phase::Serving, signal, twice);
    if case.ends(effect(Phase::Serving, signal), signal, what) {
        return true;
    }
    // The connection that was open before is still open.
    assert!(ask(&mut idle, "/healthz").ends_with("ok\n"), "{what}");
    case.goes_on(&generations[0], what);
    true
}

/// Engine: generated.
#[test]
fn inv13_inv15_each_signal_in_each_phase_has_its_effect() {
    let generations = generations(2);
    let cases: Vec<_> = PHASES
        .into_iter()
        .flat_map(|phase| SIGNALS.map(|signal| (phase, signal)))
        .flat_map(|(phase, signal)| [false, true].map(|twice| (phase, signal, twice)))
        .collect();
    in_lanes(&cases, LANES, |(phase, signal, twice)| {
        let run = match phase {
            Phase::FirstLoad => first_load,
            Phase::Serving => serving,
            Phase::HalfUpdate => half_update,
            Phase::HalfHandshake => half_handshake,
            Phase::Draining => draining,
        };
        let what = format!("{phase:?}, {signal}, twice: {twice}");
        assert!(
            (0..5).any(|_| run(&generations, *signal, *twice, &what)),
            "{what}: never within {IN_TIME:?}"
        );
    });
    println!("{} cases of {} signals in {} phases", cases.len(), SIGNALS.len(), PHASES.len());
}

/// The demo removes its directory, which holds keys, when a signal ends it.
#[test]
fn inv13_demo_ended_by_a_signal_leaves_no_directory() {
    at_once(&[Signal::SIGTERM, Signal::SIGINT], |signal| {
        let temporary = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rustls-reload"));
        command.args(["demo", "--keep"]).env("TMPDIR", temporary.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut server = Server::run(command);
        server.line("first load");
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
        send(server.process.id(), *signal);
        let mut ended = None;
        until("the demo ends", || {
            ended = server.process.try_wait().unwrap();
            std::thread::sleep(Duration::from_millis(1));
            ended.is_some()
        });
        assert!(ended.unwrap().code().is_some(), "{signal}: {ended:?}");
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "{signal}: {}", server.reported);
    });
}
