//! An example that runs as a process of its own.

use std::{env::current_exe, ffi::OsStr, path::PathBuf, process::Stdio, time::Duration};

use frameworks::AnyError;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{self, ChildStdin, ChildStdout, Command},
    sync::watch,
    time::timeout,
};

/// The longest wait for a line. It is generous, because the machine may be loaded.
const LIMIT: Duration = Duration::from_secs(60);

/// A process, which is killed when it is dropped.
pub struct Child {
    _process: process::Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    /// The lines of stderr until now: one for each event of the reloader.
    stderr: watch::Receiver<Vec<String>>,
}

impl Child {
    /// Starts an example that lies beside this program.
    pub fn start<S: AsRef<OsStr>>(example: &str, wrong: Option<&str>, args: &[S]) -> Result<Self, AnyError> {
        let path = current_exe()?.parent().map(|dir| dir.join("examples").join(example));
        let mut command = Command::new(path.unwrap_or_else(|| PathBuf::from(example)));
        command.args(args).envs(wrong.map(|wrong| ("WRONG", wrong))).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().map_err(|error| format!("{example}: {error}"))?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (process.stdin.take(), process.stdout.take(), process.stderr.take())
        else {
            return Err("the process has no pipes".into());
        };
        let (sender, receiver) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|lines| lines.push(line));
            }
        });
        Ok(Self { _process: process, stdin, stdout: BufReader::new(stdout).lines(), stderr: receiver })
    }

    /// Returns the next line of stdout.
    pub async fn line(&mut self) -> Result<String, AnyError> {
        match timeout(LIMIT, self.stdout.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) => Err(format!("the process ended; stderr: {:?}", *self.stderr.borrow()).into()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(format!("no line within {LIMIT:?}; stderr: {:?}", *self.stderr.borrow()).into()),
        }
    }

    /// Writes an empty line to stdin.
    pub async fn enter(&mut self) -> Result<(), AnyError> {
        Ok(self.stdin.write_all(b"\n").await?)
    }

    /// Waits until so many events of this kind were reported.
    pub async fn reports(&mut self, kind: &str, count: usize) -> Result<(), String> {
        let has = |lines: &Vec<String>| lines.iter().filter(|line| line.contains(kind)).count() >= count;
        if let Ok(Ok(_)) = timeout(LIMIT, self.stderr.wait_for(has)).await {
            return Ok(());
        }
        Err(format!("not {count} times {kind}; stderr: {:?}", *self.stderr.borrow()))
    }
}
