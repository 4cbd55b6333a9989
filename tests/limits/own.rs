//! Runs a test in a process of its own: the test binary again, behind a command that changes a
//! limit, the user or a namespace.

use std::{
    ffi::OsStr,
    io::Write,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Instant,
};

use crate::common::DEADLINE;

/// Set in the child process: the name of the test that runs there.
const INSIDE: &str = "LIMITS_INSIDE";

/// A user namespace in which the process is root and has its own limits on inotify.
pub(crate) const USER: &[&str] = &["unshare", "--user", "--map-root-user"];
/// A user namespace and a mount namespace, so that mounts end with the process.
pub(crate) const MOUNTS: &[&str] = &["unshare", "--user", "--map-root-user", "--mount"];

/// Returns whether the calling test is in its child process. If not, runs the test there, behind
/// the given command, and the caller has nothing more to do. The last argument is a shell command
/// that has to succeed there.
macro_rules! alone {
    ($wrapper:expr, $probe:expr) => {{
        let name = $crate::common::this_test!();
        $crate::own::is_inside(&name) || {
            $crate::own::run(&name, $wrapper, &std::env::current_exe().unwrap(), $probe);
            false
        }
    }};
}

pub(crate) fn is_inside(name: &str) -> bool {
    std::env::var_os(INSIDE).is_some_and(|inside| inside == name)
}

/// Runs the test in a child process, and fails if it fails there. Where that process is not
/// permitted, says so.
pub(crate) fn run(name: &str, wrapper: &[&str], exe: &Path, probe: &str) {
    if !permitted(name, wrapper, probe) {
        return;
    }
    // The time limit ends a child process that hangs.
    let wrapper = [&["timeout", "--kill-after=5", "300"], wrapper].concat();
    // Another test may have started a process meanwhile that still holds a copy of the test binary
    // open for writing.
    let busy = |output: &Output| String::from_utf8_lossy(&output.stderr).contains("Text file busy");
    let deadline = Instant::now() + DEADLINE;
    let mut output = command(name, &wrapper, exe).output().unwrap();
    while busy(&output) && Instant::now() < deadline {
        output = command(name, &wrapper, exe).output().unwrap();
    }
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    let ran = output.status.success() && text.contains("1 passed");
    assert!(ran, "in a process of its own ({}):\n{text}", output.status);
    println!("{text}");
}

/// Starts the test in a child process with piped stdin and stdout.
pub(crate) fn start(name: &str, wrapper: &[&str]) -> Child {
    let mut command = command(name, wrapper, &std::env::current_exe().unwrap());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn command(name: &str, wrapper: &[&str], exe: &Path) -> Command {
    let words = wrapper.iter().map(OsStr::new).chain([exe.as_os_str()]).collect::<Vec<_>>();
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .args([name, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(INSIDE, name);
    command
}

/// Returns whether the shell command `probe` succeeds behind this command. If not, reports that
/// past the capture of output.
pub(crate) fn permitted(name: &str, wrapper: &[&str], probe: &str) -> bool {
    let words = [wrapper, &["sh", "-c", probe]].concat();
    let why = match Command::new(words[0]).args(&words[1..]).output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let line = format!("NOT CHECKED: {name}: {} is not permitted here: {why}\n", words.join(" "));
    // `eprintln` would be captured in a test that passes.
    std::io::stderr().lock().write_all(line.as_bytes()).unwrap();
    false
}
