//! A server as a process whose surroundings a test chooses: its stderr, its limits, its signals.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::common::{DEADLINE, Generation, Volume, client_of};

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A server whose address is known before the server prints it.
pub(crate) struct Silent {
    pub(crate) process: Child,
    pub(crate) address: String,
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns an address that nothing else takes. All of 127.0.0.0/8 is this machine, so the process has
/// an IP address of its own. A free port of 127.0.0.1 may be taken again before the server binds it.
fn own_address() -> SocketAddr {
    static STARTED: AtomicU16 = AtomicU16::new(0);
    let [_, a, b, c] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, a, b, c], 20_000 + STARTED.fetch_add(1, Ordering::Relaxed)))
}

impl Silent {
    /// Starts the server behind these words, which end in a command that runs the rest.
    pub(crate) fn start(volume: &Volume, wrapper: &[&str], stderr: impl Into<Stdio>) -> Self {
        Self::start_at(&volume.dir(), wrapper, stderr)
    }

    /// Starts the server with the files in this directory.
    pub(crate) fn start_at(dir: &Path, wrapper: &[&str], stderr: impl Into<Stdio>) -> Self {
        let address = own_address().to_string();
        let process = command(dir, wrapper, &address).stderr(stderr).spawn().unwrap();
        Self { process, address }
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(name).arg(self.process.id().to_string()).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until the process catches this signal.
    pub(crate) fn catches(&self, signal: u32) {
        let path = format!("/proc/{}/status", self.process.id());
        until("the signal is caught", || {
            let status = fs::read_to_string(&path).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
            u64::from_str_radix(caught, 16).unwrap() & 1 << (signal - 1) != 0
        });
    }

    /// Waits until a new connection gets this generation's certificate, and returns the answer on
    /// it.
    pub(crate) fn serves(&self, generation: &Generation, path: &str) -> String {
        let start = Instant::now();
        loop {
            match self.get(&client_of(generation, None), path) {
                Ok(answer) => return answer,
                Err(error) => assert!(start.elapsed() < DEADLINE, "{}: {error}", self.address),
            }
        }
    }

    /// Sends one request on a connection of its own.
    pub(crate) fn get(&self, client: &Arc<ClientConfig>, path: &str) -> std::io::Result<String> {
        let mut stream = self.connect(client, DEADLINE)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Returns a connection whose handshake is complete.
    pub(crate) fn connect(&self, client: &Arc<ClientConfig>, limit: Duration) -> std::io::Result<Stream> {
        let mut connection =
            ClientConnection::new(Arc::clone(client), "localhost".try_into().unwrap()).unwrap();
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(limit))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(connection, stream))
    }

    /// Waits for the end of the process, and returns how long that took.
    pub(crate) fn ends(&mut self) -> (ExitStatus, Duration) {
        let (start, mut ended) = (Instant::now(), None);
        until("the process ends", || {
            // A loop without a pause would delay the end.
            std::thread::sleep(Duration::from_millis(1));
            ended = self.process.try_wait().unwrap();
            ended.is_some()
        });
        (ended.unwrap(), start.elapsed())
    }
}

/// Sends a request on a connection that stays open, and returns the answer.
pub(crate) fn ask(stream: &mut Stream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    loop {
        let mut more = [0; 4096];
        let read = stream.read(&mut more).unwrap();
        assert!(read > 0, "cut off: {}", String::from_utf8_lossy(&answer));
        answer.extend(&more[..read]);
        let text = String::from_utf8_lossy(&answer);
        let head = text.split_once("\r\n\r\n");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if head.zip(length).is_some_and(|((_, body), length): (_, usize)| body.len() >= length) {
            return text.into_owned();
        }
    }
}

/// Begins a request whose body lacks its last five bytes, and returns once the server reads the
/// body. A request that the server has not read yet is not in progress: a drain closes its
/// connection.
pub(crate) fn begin_request(stream: &mut Stream) {
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = vec![0; interim.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), interim);
    stream.write_all(b"1234").unwrap();
}

/// Sends the rest of that body, and returns everything up to the end of the connection.
pub(crate) fn end_request(stream: &mut Stream) -> String {
    stream.write_all(b"56789").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The command of a server of the pair in the directory; the wrapper's last words run the rest of
/// it.
pub(crate) fn command(dir: &Path, wrapper: &[&str], listen: &str) -> Command {
    let binary = env!("CARGO_BIN_EXE_rustls-reload");
    let mut words = wrapper.to_vec();
    words.extend([binary, "serve", "--listen", listen]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg("--cert").arg(dir.join("tls.crt"));
    command.arg("--key").arg(dir.join("tls.key"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

pub(crate) fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::yield_now();
    }
}

/// Returns the pair's files without the client CA.
pub(crate) fn pair(of: &Generation) -> [crate::common::NamedFile<'_>; 2] {
    let [chain, key, _] = of.files();
    [chain, key]
}

/// Returns a line of the log without the time at its beginning, if it has one.
pub(crate) fn untimed(line: &str) -> &str {
    match line.split_once(' ') {
        Some((time, rest)) if is_time(time) => rest,
        _ => line,
    }
}

/// Returns whether a word is a time in UTC with milliseconds: `2026-01-31T23:59:59.999Z`.
pub(crate) fn is_time(word: &str) -> bool {
    let form = |c: char| if c.is_ascii_digit() { '0' } else { c };
    word.chars().map(form).eq("0000-00-00T00:00:00.000Z".chars())
}

/// The text of a file that a process writes.
pub(crate) fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}
