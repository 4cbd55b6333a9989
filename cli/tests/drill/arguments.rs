//! Every argument of the command has the effect that its help states, and nothing is left behind.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustls_reload_testkit::{Authority, PrivateKey, Subject};

use crate::{BINARY, code, drill, results, run, stdout};

/// Each argument, and the test here that shows its effect.
const TESTED: [&str; 12] = [
    "--list",
    "--only",
    "--strict",
    "--server",
    "--on-change",
    "--connect",
    "--dir",
    "--json",
    "--junit",
    "--report",
    "--jobs",
    "--help",
];

/// Returns `serve` as a command for `--server` that writes its log to this file.
fn serve(log: &Path) -> String {
    let log = log.display();
    format!("'{BINARY}' serve --listen 127.0.0.1:{{port}} --cert {{cert}} --key {{key}} 2>>'{log}'")
}

#[test]
fn every_argument_is_tested_here() {
    let help = stdout(&run(drill(&["--help"])));
    let words = help.lines().map(str::trim).map(|line| line.strip_prefix("-h, ").unwrap_or(line));
    let arguments = words.filter(|line| line.starts_with("--")).map(|line| line.split(' ').next().unwrap());
    assert_eq!(arguments.collect::<BTreeSet<_>>(), TESTED.into());
}

#[test]
fn list_prints_the_chosen_scenarios_and_runs_none() {
    let all = run(drill(&["--list"]));
    let some = run(drill(&["--list", "--only", "torn/", "--only", "publishers/certbot"]));
    assert_eq!((code(&all), code(&some)), (0, 0));
    let count = |text: &str, begin: &str| text.lines().filter(|line| line.starts_with(begin)).count();
    assert!(count(&stdout(&all), "    source: ") >= 60);
    let groups = ["torn/", "publishers/certbot-links", "trust/"].map(|begin| count(&stdout(&some), begin));
    assert!(groups[0] > 10 && groups[1..] == [1, 0], "{groups:?}");
    let json: serde_json::Value = serde_json::from_str(&stdout(&run(drill(&["--list", "--json"])))).unwrap();
    assert_eq!(json.as_array().unwrap().len(), count(&stdout(&all), "    source: "));
    assert_eq!(code(&run(drill(&["--only", "no such scenario"]))), 2);
}

#[test]
fn results_go_to_lines_json_junit_and_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let [junit, page] = ["junit.xml", "report.html"].map(|name| dir.path().join(name));
    let mut command = drill(&["--only", "publishers/release-link", "--jobs", "1"]);
    command.arg("--junit").arg(&junit).arg("--report").arg(&page);
    let output = run(command);
    let (lines, page) = (stdout(&output), fs::read_to_string(page).unwrap());
    assert_eq!(code(&output), 0, "{lines}");
    for name in ["release-link", "release-link-above"] {
        assert!(
            lines.lines().any(|line| line.starts_with(&format!("passed   publishers/{name} "))),
            "{lines}"
        );
        assert!(page.contains(&format!("<section id=\"publishers/{name}\">")));
        assert!(fs::read_to_string(&junit).unwrap().contains(&format!("name=\"{name}\"")));
    }
    assert!(page.matches("class=\"gap\"").count() == 4, "each update has a gap");
    assert!(lines.ends_with(" s\n") && lines.contains("2 scenarios on rustls-reload serve: 2 passed in "));
}

/// Each server counts the servers that run as it starts.
#[test]
fn jobs_run_beside_each_other() {
    let most = |jobs: &str| {
        let dir = tempfile::tempdir().unwrap();
        let [pids, counts, script] = ["pids", "counts", "script"].map(|name| dir.path().join(name));
        fs::create_dir(&pids).unwrap();
        let count = format!(
            "cd '{}'; touch $$; n=0; for pid in *; do kill -0 $pid 2>/dev/null && n=$((n+1)); done; echo $n >>'{}'",
            pids.display(),
            counts.display()
        );
        let serve = format!("exec '{BINARY}' serve --listen 127.0.0.1:$1 --cert \"$2\" --key \"$3\"");
        fs::write(&script, format!("{count}\n{serve}\n")).unwrap();
        let server = format!("sh '{}' {{port}} {{cert}} {{key}}", script.display());
        let only = ["--only", "publishers/kubelet", "--only", "publishers/release-link"];
        let mut command = drill(&["--server", &server, "--jobs", jobs]);
        command.args(only);
        assert_eq!(code(&run(command)), 0);
        let counts = fs::read_to_string(counts).unwrap();
        counts.lines().map(|line| line.parse::<usize>().unwrap()).max()
    };
    assert_eq!(most("1"), Some(1));
    let four = most("4");
    assert!(four > Some(1) && four <= Some(4), "{four:?}");
    assert_eq!(code(&run(drill(&["--jobs", "0", "--list"]))), 2);
}

#[test]
fn scenario_without_files_is_skipped_and_fails_with_strict() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(&dir.path().join("log"));
    let arguments =
        ["--server", &server, "--only", "trust/ca-added-in-place", "--only", "revocation/released"];
    let output = run(drill(&arguments));
    assert_eq!(code(&output), 0);
    let lines = stdout(&output);
    assert!(lines.contains("the server command has no {ca}"), "{lines}");
    assert!(lines.contains("the server command has no {crl}"), "{lines}");
    let mut strict = drill(&arguments);
    strict.arg("--strict");
    assert_eq!(code(&run(strict)), 1);
}

#[test]
fn on_change_runs_for_each_change() {
    let dir = tempfile::tempdir().unwrap();
    let [log, notified] = ["log", "notified"].map(|name| dir.path().join(name));
    let server = serve(&log);
    let arguments = |how: &'static str| ["--only", "publishers/kubelet-volume", "--on-change", how];
    let mut hangup = drill(&arguments("sighup"));
    hangup.args(["--server", &server]);
    assert_eq!(code(&run(hangup)), 0);
    let log = fs::read_to_string(log).unwrap();
    assert_eq!(log.matches("SIGHUP: ").count(), 2, "{log}");
    let mut command = drill(&["--only", "publishers/kubelet-volume", "--server", &server]);
    command.arg("--on-change").arg(format!("echo {{pid}} {{port}} {{cert}} >>'{}'", notified.display()));
    assert_eq!(code(&run(command)), 0);
    let notified = fs::read_to_string(notified).unwrap();
    let words: Vec<_> = notified.lines().map(|line| line.split(' ').collect::<Vec<_>>()).collect();
    assert_eq!(words.len(), 2, "{notified}");
    assert!(words.iter().all(|words| words[0].parse::<u32>().is_ok() && words[2].ends_with("/tls.crt")));
}

#[test]
fn a_server_that_does_not_start_ends_the_drill_with_2() {
    let missing = run(drill(&["--server", "server {cert} {key}"]));
    assert_eq!(code(&missing), 2);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("the command has no {port}"));
    let server = "sh -c 'echo no such luck; exit 3' {cert} {key} {port}";
    let output = run(drill(&["--server", server, "--only", "publishers/kubelet-volume"]));
    assert_eq!(code(&output), 2);
    let lines = stdout(&output);
    assert!(lines.contains("broken   publishers/kubelet-volume"), "{lines}");
    assert!(lines.contains("exit status: 3") && lines.contains("no such luck"), "{lines}");
}

/// A running server of files in a directory.
struct Running {
    process: Child,
    address: String,
    dir: tempfile::TempDir,
}

impl Running {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pair = Authority::root("CA").issue(&Subject::server("localhost"), &PrivateKey::p256());
        fs::write(dir.path().join("tls.crt"), &pair.chain).unwrap();
        fs::write(dir.path().join("tls.key"), &pair.key).unwrap();
        let mut command = Command::new(BINARY);
        command.args(["serve", "--listen", "127.0.0.1:0"]).stderr(Stdio::piped());
        command.arg("--cert").arg(dir.path().join("tls.crt"));
        command.arg("--key").arg(dir.path().join("tls.key"));
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            Some(line.split_once("listening on https://")?.1.split(' ').next()?.to_owned())
        });
        // A pipe without a reader would lose the server's lines.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address: address.unwrap(), dir }
    }

    /// The names in the directory with their bytes.
    fn files(&self) -> BTreeSet<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap());
        let file =
            |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        entries.map(file).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_running_server_is_drilled_and_gets_its_files_back() {
    let server = Running::start();
    let before = server.files();
    let dir = server.dir.path().to_str().unwrap();
    let mut command = drill(&["--connect", &server.address, "--dir", dir]);
    let (notified, other) = (tempfile::NamedTempFile::new().unwrap(), server.dir.path().join("ocsp.der"));
    let copy = format!("cp {{cert}} '{}'; : >'{}'", notified.path().display(), other.display());
    command.args(["--on-change", &copy]);
    for name in ["in-place", "backup-and-create", "kubelet-volume", "projected-volume"] {
        command.args(["--only", &format!("publishers/{name}")]);
    }
    let results = results(command);
    let names = |wanted: &str| {
        let of = results.iter().filter(|(_, (result, _))| result == wanted).map(|(name, _)| name.as_str());
        of.collect::<Vec<_>>()
    };
    let passed = ["publishers/backup-and-create", "publishers/in-place", "publishers/in-place-key-first"];
    assert_eq!(names("passed"), passed);
    assert_eq!(names("skipped"), ["publishers/kubelet-volume", "publishers/projected-volume"]);
    // A file of another program is left alone.
    fs::remove_file(other).unwrap();
    assert_eq!(server.files(), before);
    // The server is notified of its own files last.
    let chain = fs::read(server.dir.path().join("tls.crt")).unwrap();
    assert_eq!(fs::read(notified.path()).unwrap(), chain);
}

#[test]
fn a_running_server_is_notified_also_where_a_file_cannot_come_back() {
    let server = Running::start();
    let (chain, key) = (server.dir.path().join("tls.crt"), server.dir.path().join("tls.key"));
    let original = fs::read(&chain).unwrap();
    let notified = tempfile::NamedTempFile::new().unwrap();
    let spoil = format!(
        "cp {{cert}} '{}'; rm -f '{key}' 2>/dev/null; mkdir -p '{key}/full'",
        notified.path().display(),
        key = key.display()
    );
    let dir = server.dir.path().to_str().unwrap();
    let mut command = drill(&["--connect", &server.address, "--dir", dir, "--on-change", &spoil]);
    let process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !key.join("full").exists() {
        assert!(begun.elapsed() < LIMIT, "no set is written");
    }
    // Otherwise the scenario waits for a server that cannot take this set.
    let pid = process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let output = process.wait_with_output().unwrap();
    assert_eq!(code(&output), 2, "{output:?}");
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(why.contains("tls.key is not the server's own"), "{why}");
    assert_eq!(fs::read(&chain).unwrap(), original);
    assert_eq!(fs::read(notified.path()).unwrap(), original, "not notified: {why}");
}

#[test]
fn links_of_a_running_server_are_not_overwritten() {
    let server = Running::start();
    let (key, other) = (server.dir.path().join("tls.key"), server.dir.path().join("other.key"));
    fs::rename(&key, &other).unwrap();
    symlink("other.key", &key).unwrap();
    let dir = server.dir.path().to_str().unwrap();
    let output = run(drill(&["--connect", &server.address, "--dir", dir]));
    assert_eq!(code(&output), 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("tls.key is no plain file"), "{output:?}");
    assert!(fs::symlink_metadata(&key).unwrap().is_symlink());
    let unknown = run(drill(&["--connect", &server.address, "--dir", dir, "--on-change", "sighup"]));
    assert_eq!(code(&unknown), 2);
}

/// Returns the processes whose command line names this directory.
fn processes(dir: &Path) -> usize {
    let dir = dir.to_str().unwrap();
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let mut line = Vec::new();
        fs::File::open(entry.ok()?.path().join("cmdline")).ok()?.read_to_end(&mut line).ok()?;
        Some(String::from_utf8_lossy(&line).into_owned())
    });
    all.filter(|line| line.contains(dir)).count()
}

/// Longest time in which the drill starts a server, or ends after a signal.
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_signal_puts_the_files_of_a_running_server_back() {
    for signal in ["-HUP", "-INT", "-TERM"] {
        let server = Running::start();
        let before = server.files();
        let dir = server.dir.path().to_str().unwrap();
        let notified = tempfile::NamedTempFile::new().unwrap();
        let copy = format!("cp {{cert}} '{}'", notified.path().display());
        let mut command = drill(&["--connect", &server.address, "--dir", dir, "--on-change", &copy]);
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        // The command runs once the first set is written.
        while fs::metadata(notified.path()).unwrap().len() == 0 {
            assert!(begun.elapsed() < LIMIT && process.try_wait().unwrap().is_none(), "no set is written");
        }
        let pid = process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert_eq!(process.wait().unwrap().code(), Some(2), "{signal}");
        assert_eq!(server.files(), before, "{signal}");
        let chain = fs::read(server.dir.path().join("tls.crt")).unwrap();
        assert_eq!(fs::read(notified.path()).unwrap(), chain, "{signal}");
    }
}

#[test]
fn a_server_that_does_not_take_its_files_again_is_no_success() {
    let server = Running::start();
    let before = server.files();
    let dir = server.dir.path().to_str().unwrap();
    let only = ["--only", "publishers/in-place", "--on-change", "exit 3"];
    let output = run(drill(&[&["--connect", &server.address, "--dir", dir][..], &only].concat()));
    assert_eq!(code(&output), 2);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("may not have taken its own files again"), "{said}");
    assert!(stdout(&output).contains("publishers/in-place"), "the results are printed");
    assert_eq!(server.files(), before);
}

#[test]
fn a_signal_leaves_neither_servers_nor_directories() {
    for signal in ["-INT", "-TERM"] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = drill(&["--only", "torn/"]);
        command.env("TMPDIR", dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        // Kept open: a drill that can print no result ends.
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        // The first result may come before another scenario has started its server.
        let begun = Instant::now();
        while processes(dir.path()) == 0 {
            assert!(begun.elapsed() < LIMIT && process.try_wait().unwrap().is_none(), "no server runs");
        }
        assert!(fs::read_dir(dir.path()).unwrap().count() > 0, "directories are there");
        let pid = process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let begun = Instant::now();
        assert_eq!(process.wait().unwrap().code(), Some(2));
        assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
        assert_eq!(processes(dir.path()), 0, "{signal}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{signal}");
    }
}
