//! The server that is drilled: a process of each scenario, or one that runs already.

use std::{
    env, fs, io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use super::{
    model::{Files, Scenario},
    publisher::Layout,
};
use crate::Failure;

/// Limit for the command of `--on-change`, and for a server to end after SIGTERM.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);
const END_LIMIT: Duration = Duration::from_secs(2);
/// Ports below those that systems give to clients, so that no client takes one in between.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// What is drilled, and how it learns of a change.
pub(super) struct Target {
    pub(super) server: Server,
    pub(super) on_change: Option<OnChange>,
}

pub(super) enum Server {
    /// This executable's `serve`.
    Own,
    /// A command with placeholders.
    Command(String),
    /// A server that runs already and reads these files.
    Running { address: SocketAddr, dir: PathBuf, files: Files },
}

#[derive(Clone)]
pub(super) enum OnChange {
    Hangup,
    Command(String),
}

impl Target {
    /// Returns why a scenario cannot be played on this server.
    pub(super) fn lacks(&self, scenario: &Scenario) -> Option<String> {
        let needs = scenario.start.files;
        let (has, what) = match &self.server {
            Server::Own => (Files::Lists, ""),
            Server::Command(command) => (files_of(command), "the server command has no"),
            Server::Running { files, .. } => (*files, "the directory has no"),
        };
        let is_running = matches!(self.server, Server::Running { .. });
        let names = if is_running { ["ca.crt", "ca.crl"] } else { ["{ca}", "{crl}"] };
        match needs {
            Files::Trust if has < needs => Some(format!("{what} {}", names[0])),
            Files::Lists if has < needs => Some(format!("{what} {}", names[1])),
            _ if is_running && !scenario.is_flat() => {
                Some("its publisher changes the directory itself".to_owned())
            }
            _ => None,
        }
    }

    /// Returns the files of the sets of a scenario. A server with placeholders for more gets more.
    pub(super) fn files(&self, scenario: &Scenario) -> Files {
        match &self.server {
            Server::Own => scenario.start.files,
            Server::Command(command) => files_of(command),
            Server::Running { files, .. } => *files,
        }
    }

    /// Starts the server of a scenario, whose files lie in `root`.
    pub(super) fn start(&self, root: &Path, layout: Layout, files: Files) -> Result<Process, Failure> {
        let (port, reserved) = free_port()?;
        let values = Values { root: root.to_owned(), layout, port };
        let mut command = match &self.server {
            Server::Running { address, .. } => {
                return Ok(Process { child: None, address: *address, values, _reserved: reserved });
            }
            Server::Own => values.own(files)?,
            Server::Command(template) => values.shell(&format!("exec {template}"), None),
        };
        let log = fs::File::create(values.log())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn().map_err(|error| format!("cannot start the server: {error}"))?;
        let address = ([127, 0, 0, 1], port).into();
        Ok(Process { child: Some(child), address, values, _reserved: reserved })
    }
}

/// Returns the files for which a command has placeholders.
fn files_of(command: &str) -> Files {
    match (command.contains("{ca}"), command.contains("{crl}")) {
        (true, true) => Files::Lists,
        (true, false) => Files::Trust,
        _ => Files::Pair,
    }
}

/// Returns a port on which nobody listens, and its reservation.
///
/// The UDP port of that number is the reservation: scenarios of this drill and of others that run
/// beside it pass it over, and the server can have the TCP port.
fn free_port() -> io::Result<(u16, UdpSocket)> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in PORTS {
        // Two drills at a time begin at different ports.
        let offset = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add((process::id() % 9_973) as u16);
        let port = PORTS.start + offset % (PORTS.end - PORTS.start);
        let Ok(reserved) = UdpSocket::bind(("127.0.0.1", port)) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok((port, reserved));
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no port between 20000 and 30000 is free"))
}

/// The values of the placeholders.
struct Values {
    root: PathBuf,
    layout: Layout,
    port: u16,
}

impl Values {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(self.layout.path(name))
    }

    fn log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    fn own(&self, files: Files) -> io::Result<Command> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["serve", "--listen", &format!("127.0.0.1:{}", self.port)]);
        command.arg("--cert").arg(self.path("tls.crt")).arg("--key").arg(self.path("tls.key"));
        if files >= Files::Trust {
            command.arg("--client-ca").arg(self.path("ca.crt"));
        }
        if files >= Files::Lists {
            command.arg("--crl").arg(self.path("ca.crl"));
        }
        Ok(command)
    }

    /// Returns a shell that runs the command with its placeholders filled.
    fn shell(&self, template: &str, pid: Option<u32>) -> Command {
        let mut text = template.to_owned();
        let names = [("{cert}", "tls.crt"), ("{key}", "tls.key"), ("{ca}", "ca.crt"), ("{crl}", "ca.crl")];
        for (placeholder, name) in names {
            text = text.replace(placeholder, &quoted(&self.path(name)));
        }
        text = text.replace("{dir}", &quoted(&self.root)).replace("{port}", &self.port.to_string());
        text = text.replace("{pid}", &pid.map_or_else(String::new, |pid| pid.to_string()));
        let mut command = Command::new("sh");
        command.arg("-c").arg(text);
        command
    }
}

/// Returns a path as a word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

/// A running server. Dropping it ends it, and whatever it started in its process group.
pub(super) struct Process {
    child: Option<Child>,
    pub(super) address: SocketAddr,
    values: Values,
    _reserved: UdpSocket,
}

impl Process {
    /// Returns how the process ended, if it has.
    pub(super) fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(format!("the server ended: {status}"))
    }

    /// Returns the end of what the server has printed.
    pub(super) fn log(&self) -> String {
        let text = fs::read(self.values.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]);
        text.lines().skip(usize::from(text.len() >= 2000)).collect::<Vec<_>>().join("\n")
    }

    /// Notifies the server of a change, in the way that the target names. Returns whether the
    /// command of that succeeded.
    pub(super) fn notify(&self, on_change: &OnChange) -> Result<bool, Failure> {
        let pid = self.child.as_ref().map(Child::id);
        match (on_change, pid) {
            (OnChange::Hangup, Some(pid)) => Ok(kill(pid_of(pid), Signal::SIGHUP).map(|()| true)?),
            (OnChange::Hangup, None) => Err("a server that runs already cannot be sent SIGHUP".into()),
            (OnChange::Command(template), pid) => {
                let mut command = self.values.shell(template, pid);
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
                let mut child = command.spawn()?;
                let group = pid_of(child.id());
                let Some(status) = wait(&mut child, COMMAND_LIMIT)? else {
                    let _ = killpg(group, Signal::SIGKILL);
                    let _ = child.wait();
                    let limit = COMMAND_LIMIT.as_secs();
                    return Err(format!("the command of --on-change goes on for more than {limit} s").into());
                };
                Ok(status.success())
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        let group = pid_of(child.id());
        let _ = killpg(group, Signal::SIGTERM);
        let _ = wait(child, END_LIMIT);
        // The group outlives its first process where that has left children.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = child.wait();
    }
}

fn pid_of(id: u32) -> Pid {
    Pid::from_raw(id.cast_signed())
}

/// Waits for the end of a process; `None` if it goes on for longer than the limit.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<process::ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() >= deadline {
            return Ok(status);
        }
        // std has no wait with a limit.
        thread::sleep(Duration::from_millis(2));
    }
}
