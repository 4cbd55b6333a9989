//! A process of its own for a test: the test binary once more, behind a command that changes a limit, the user or a
//! namespace.

use std::{
    ffi::OsStr,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Set in the process of its own: to the name of the test that runs there.
const INSIDE: &str = "LIMITS_INSIDE";

/// A user namespace in which one is root: its limits on inotify are one's own.
pub(crate) const USER: &[&str] = &["unshare", "--user", "--map-root-user"];
/// The same and a mount namespace: what is mounted is gone when the process is.
pub(crate) const MOUNTS: &[&str] = &["unshare", "--user", "--map-root-user", "--mount"];

/// Whether the test that says this is in the process of its own. If not, it is run there, behind the command given, and
/// has nothing more to do here; what a shell in that place must be able to do comes last.
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

/// Runs the test in a process of its own, and fails if it fails there. Where that process is not permitted, says so.
pub(crate) fn run(name: &str, wrapper: &[&str], exe: &Path, probe: &str) {
    if !permitted(name, wrapper, probe) {
        return;
    }
    // What hangs there would hang here for ever.
    let wrapper = [&["timeout", "--kill-after=5", "300"], wrapper].concat();
    let output = command(name, &wrapper, exe).output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    let ran = output.status.success() && text.contains("1 passed");
    assert!(ran, "in a process of its own ({}):\n{text}", output.status);
    println!("{text}");
}

/// Starts the test in a process of its own, to be talked to.
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

/// Whether a shell can do what `probe` says behind this command; if not, that is told where nothing captures it.
pub(crate) fn permitted(name: &str, wrapper: &[&str], probe: &str) -> bool {
    let words = [wrapper, &["sh", "-c", probe]].concat();
    let why = match Command::new(words[0]).args(&words[1..]).output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let line = format!("NOT CHECKED: {name}: {} is not permitted here: {why}\n", words.join(" "));
    // Not by eprintln, which the test binary captures of tests that pass.
    std::io::stderr().lock().write_all(line.as_bytes()).unwrap();
    false
}
