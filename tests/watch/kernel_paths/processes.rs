//! Files of another process: in its working directory, and in its own mount namespace.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustls_reload::{ServerReloader, Timing};
use rustls_reload_testkit::Pair;

use super::{fd, read};
use crate::common::{
    DEADLINE, Volume, by_events_only, generations, quick, server_in, started, this_test, wait_for_leaf,
};

/// A process that sleeps until it is dropped.
struct Other(Child);

impl Other {
    /// Starts a process with this working directory.
    fn in_dir(dir: &Path) -> Self {
        Self(Command::new("sleep").arg("600").current_dir(dir).spawn().unwrap())
    }

    /// Starts a process in a mount namespace of its own, in which a file system in memory is
    /// mounted on `dir` with these options. Returns `None` and prints a line where that is not
    /// permitted.
    fn mounting(dir: &Path, options: &str) -> Option<Self> {
        let script = "mount -t tmpfs -o \"$1\" none \"$0\" && echo ready && exec sleep 600";
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(dir).arg(options);
        let mut other = Self(command.stdout(Stdio::piped()).spawn().ok()?);
        let mut line = String::new();
        BufReader::new(other.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line == "ready\n" {
            return Some(other);
        }
        let line = format!("NOT CHECKED: a mount with the options {options} is not permitted here\n");
        std::io::stderr().lock().write_all(line.as_bytes()).unwrap();
        None
    }

    /// Returns its link of this name in procfs.
    fn link(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.0.id().to_string()).join(name)
    }

    /// Returns a path as that process resolves it.
    fn root(&self, path: &Path) -> PathBuf {
        self.link("root").join(path.strip_prefix("/").unwrap())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Rotates `volume`, which the server gets as `dir`, by events alone, and checks it by handshakes.
fn rotates(volume: &mut Volume, dir: &Path) {
    let generations = generations(3);
    volume.publish(&generations[0].files());
    let reloader = server_in(dir).timing(by_events_only()).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    started(&mut events);
    wait_for_leaf(&reloader, &generations[0].server);
    for next in &generations[1..] {
        volume.publish(&next.files());
        wait_for_leaf(&reloader, &next.server);
    }
    assert_eq!(reloader.status().degraded, None, "each directory with files or links is watched");
    let inspection = server_in(dir).inspect(Duration::ZERO);
    let claims = inspection.warnings.iter().map(ToString::to_string).filter(|text| !text.contains("procfs"));
    assert_eq!(claims.collect::<Vec<_>>(), [""; 0], "nobody else gets through a link of procfs");
}

/// Checks: INV-05, INV-01.
#[test]
fn inv05_rotation_beneath_the_cwd_of_a_process_is_served_by_events() {
    let mut volume = Volume::of(&generations(1)[0]);
    let root = volume.dir().parent().unwrap().to_owned();
    let other = Other::in_dir(&root);
    rotates(&mut volume, &other.link("cwd").join("volume"));
    // The directory itself, and one whose parent only the kernel knows.
    let [direct, beside] = [root.join("volume"), root.join("beside")];
    fs::create_dir(&beside).unwrap();
    let other = Other::in_dir(&direct);
    rotates(&mut volume, &other.link("cwd"));
    let other = Other::in_dir(&beside);
    rotates(&mut volume, &other.link("cwd").join("../volume"));
}

/// Checks: INV-05, INV-01. Kubernetes documents `/proc/PID/root` for pods that share a process
/// namespace.
#[test]
fn inv05_rotation_in_another_mount_namespace_is_served_by_events() {
    let decoy = Volume::of(&generations(1)[0]);
    let root = decoy.dir().parent().unwrap().to_owned();
    let Some(other) = Other::mounting(&root, "mode=0755") else { return };
    // By the text of the link `root`, this path would lead to the decoy's directory.
    let inside = tempfile::Builder::new().prefix("inside").tempdir_in(other.root(&root)).unwrap();
    let mut volume = Volume::within(inside, &generations(1)[0].files());
    let dir = volume.dir();
    assert!(dir.starts_with("/proc"));
    rotates(&mut volume, &dir);
    // The path goes up to the root of that namespace, and no further.
    let up = other.root(&root).join("../".repeat(20)).join(dir.strip_prefix(other.link("root")).unwrap());
    rotates(&mut volume, &up);
    assert!(read(&other.root(&decoy.dir()).join("tls.crt")).is_err(), "there is none in that namespace");
    drop(volume);
}

/// Checks: INV-16. proc_pid_root(5): the link requires the rights of ptrace(2), which this user
/// does not have over process 1.
#[test]
fn inv16_link_of_a_process_out_of_reach_is_refused_by_its_cause() {
    const INSIDE: &str = "KERNEL_PATHS_NOBODY";
    if std::env::var_os(INSIDE).is_some() {
        return println!("SAID {}", read(Path::new("/proc/1/root/etc/passwd")).unwrap_err());
    }
    // The other user can read the copy there.
    let dir = tempfile::tempdir().unwrap();
    let exe = dir.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
    let root = fs::metadata(&exe).unwrap().uid() == 0;
    let nobody: &[&str] = if root { &["setpriv", "--reuid=65534", "--clear-groups"] } else { &["env"] };
    let mut command = Command::new(nobody[0]);
    command.args(&nobody[1..]).arg(&exe).args([&this_test!(), "--exact", "--nocapture"]).env(INSIDE, "1");
    // Another test may have started a process meanwhile that still holds the copy open for writing.
    let busy = |output: &Output| String::from_utf8_lossy(&output.stderr).contains("Text file busy");
    let deadline = Instant::now() + DEADLINE;
    let runs = std::iter::repeat_with(|| command.current_dir("/").output().unwrap());
    let output = runs.take_while(|_| Instant::now() < deadline).find(|output| !busy(output)).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = text.lines().find_map(|line| Some(line.split_once("SAID ")?.1)).unwrap_or(&text);
    let why = "cannot follow the link: Permission denied (os error 13): links of another process take the rights of \
               its user, or CAP_SYS_PTRACE (at /proc/1/root)";
    assert_eq!(said, format!("read: /proc/1/root/etc/passwd: {why}"));
}

/// Checks: INV-05, INV-11. No event arrives through a link of procfs to a file, and the status says
/// so.
#[test]
fn inv11_files_behind_descriptors_are_polled_and_reported_as_such() {
    let generations = generations(2);
    let dir = tempfile::tempdir().unwrap();
    let files = ["crt", "key"].map(|name| dir.path().join(name));
    let write = |pair: &Pair| {
        for (path, bytes) in files.iter().zip([&pair.chain, &pair.key]) {
            fs::write(path, bytes).unwrap();
        }
    };
    write(&generations[0].server);
    let open = files.each_ref().map(|path| fs::File::open(path).unwrap());
    let [crt, key] = open.each_ref().map(fd);
    let timing = Timing { degraded_poll: quick().degraded_poll, ..by_events_only() };
    let reloader = ServerReloader::builder(crt, key).timing(timing).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    started(&mut events);
    let (fault, _) = reloader.status().degraded.expect("it polls more often");
    assert_eq!(fault.to_string(), "watch: /proc/self/fd: procfs does not report changes made elsewhere");
    write(&generations[1].server);
    wait_for_leaf(&reloader, &generations[1].server);
}

/// Checks: INV-16. mount(2), MS_NOSYMFOLLOW.
#[test]
fn inv16_link_on_a_mount_with_nosymfollow_is_refused_as_by_open() {
    let dir = tempfile::tempdir().unwrap();
    let Some(other) = Other::mounting(dir.path(), "nosymfollow") else { return };
    let at = |name: &str| other.root(dir.path()).join(name);
    fs::write(at("file"), "text").unwrap();
    symlink("file", at("link")).unwrap();
    assert_eq!(read(&at("file")).unwrap(), b"text");
    assert!(fs::read(at("link")).is_err());
    let reported = read(&at("link")).unwrap_err().to_string();
    assert!(
        reported.contains("cannot follow the path as the system does: ") && reported.contains("nosymfollow"),
        "{reported}"
    );
}
