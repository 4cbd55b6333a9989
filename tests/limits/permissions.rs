//! Tests as a user other than root, for whom files and directories can be unreadable.

use std::{
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustls_reload::{Layer, Reload, ServerReloader, StartError, Timing};

use crate::{
    Reported,
    common::{DEADLINE, Volume, by_events_only, generations, server_in, started, this_test},
    fill, is_served, own, serves, until,
};

/// The user `nobody`.
const NOBODY: &[&str] = &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
/// Set to a directory that the test made as root.
const DIR: &str = "LIMITS_DIR";

/// Returns whether the test runs as the other user. If not, runs it as that user: from a copy of
/// the test binary that the user can read, with a directory that `prepare` has filled as root.
fn is_nobody(name: &str, prepare: impl FnOnce(&Path)) -> bool {
    is_user(name, NOBODY, prepare)
}

fn is_user(name: &str, user: &[&str], prepare: impl FnOnce(&Path)) -> bool {
    if own::is_inside(name) {
        return true;
    }
    if !own::permitted(name, user, "test \"$(id -u)\" != 0") {
        return false;
    }
    let root = tempfile::tempdir().unwrap();
    chmod(root.path(), 0o711);
    let exe = root.path().join("limits");
    fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let dir = root.path().join("dir");
    fs::create_dir(&dir).unwrap();
    prepare(&dir);
    let assignment = format!("{DIR}={}", dir.display());
    own::run(name, &[user, &["env", &assignment]].concat(), &exe, "true");
    false
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn dir() -> PathBuf {
    std::env::var_os(DIR).unwrap().into()
}

/// Publishes a key that cannot be read, and makes it readable later. The mode is changed by another
/// name of the file, in a directory that is not watched. `met` waits until the server has tried to
/// read it.
///
/// Returns the volume too, because files that are removed while the reloader runs are reported.
fn unreadable_key(
    timing: Timing,
    met: impl Fn(&ServerReloader, &Reported),
) -> (Volume, ServerReloader, Reported) {
    let generations = generations(3);
    let mut volume = Volume::of(&generations[0]);
    let (server, reported) = Reported::by(volume.server().timing(timing));
    let reloader = server.load().unwrap();
    reloader.start().unwrap();
    reported.wait("started", 1);
    let elsewhere = tempfile::tempdir().unwrap();
    let key = elsewhere.path().join("key");
    volume.publish_invalid(&generations[1].files(), |payload| {
        fs::hard_link(payload.join("tls.key"), &key).unwrap();
        chmod(&key, 0);
    });
    assert!(fs::read(&key).is_err(), "the key is to be unreadable");
    met(&reloader, &reported);
    assert!(is_served(&reloader, &generations[0]));
    chmod(&key, 0o600);
    serves(&reloader, &generations[1]);
    volume.publish(&generations[2].files());
    serves(&reloader, &generations[2]);
    (volume, reloader, reported)
}

#[test]
fn inv05_key_unreadable_for_a_moment_is_read_without_an_event() {
    if !is_nobody(&this_test!(), |_| {}) {
        return;
    }
    // The long settle time keeps the failure from being reported first, unless the machine is very
    // loaded.
    let timing = Timing { settle: std::time::Duration::from_secs(2), ..by_events_only() };
    let (_volume, _running, reported) = unreadable_key(timing, |reloader, _| {
        let met = || reloader.status().refused.is_some_and(|refused| refused.count >= 2);
        until("two attempts to read it", met, || format!("{:#?}", reloader.status()));
    });
    if reported.count("refused") == 0 {
        reported.is(0, &["started", "published", "published"]);
    } else {
        reported.is(0, &["started", "refused", "published, recovered", "published"]);
    }
}

#[test]
fn inv05_inv11_unreadable_key_is_reported_once_and_read_later() {
    if !is_nobody(&this_test!(), |_| {}) {
        return;
    }
    let (_volume, _running, reported) = unreadable_key(by_events_only(), |reloader, reported| {
        reported.wait("refused", 1);
        assert_eq!(reported.last_error().layer(), Layer::Read, "{}", reported.last_error());
        println!("reported: {}", reported.last_error());
        let count = || reloader.status().refused.map_or(0, |refused| refused.count);
        let first = count();
        until("two more attempts", || count() >= first + 2, || format!("{:#?}", reloader.status()));
    });
    reported.is(0, &["started", "refused", "published, recovered", "published"]);
}

#[test]
fn inv05_inv11_unlistable_ancestor_is_reported_once() {
    let prepare = |dir: &Path| {
        let inner = dir.join("inner");
        fs::create_dir(&inner).unwrap();
        chown(&inner, Some(65534), Some(65534)).unwrap();
        chmod(dir, 0o711);
    };
    if !is_nobody(&this_test!(), prepare) {
        return;
    }
    assert!(fs::read_dir(dir()).is_err(), "it is not to be listed");
    let generations = generations(4);
    let tls = dir().join("inner/tls");
    let link = dir().join("inner/next");
    for (i, generation) in generations.iter().enumerate() {
        let release = dir().join(format!("inner/release-{i}"));
        fs::create_dir(&release).unwrap();
        fill(&release, generation);
    }
    symlink("release-0", &tls).unwrap();
    // There is no poll, so that changes beneath that directory are noticed by events.
    let timing = by_events_only();
    let timing = Timing { degraded_poll: timing.poll, ..timing };
    let (server, reported) = Reported::by(server_in(&tls).timing(timing));
    let reloader = server.load().unwrap();
    reloader.start().unwrap();
    reported.wait("started", 1);
    // The directory of the copied binary cannot be listed either.
    let unlisted = [dir().parent().unwrap().to_owned(), dir()];
    assert_eq!(reloader.status().unwatched, unlisted);
    println!("reported:\n{}", reported.text());
    for (i, next) in generations.iter().enumerate().skip(1) {
        symlink(format!("release-{i}"), &link).unwrap();
        fs::rename(&link, &tls).unwrap();
        serves(&reloader, next);
    }
    reported.is(0, &["warning", "warning", "started", "published", "published", "published"]);
    let status = reloader.status();
    assert_eq!((status.degraded, &status.unwatched[..]), (None, &unlisted[..]));
}

#[test]
fn inv05_inv11_poll_finds_a_link_repointed_in_an_unlistable_dir() {
    let prepare = |dir: &Path| chown(dir, Some(65534), Some(65534)).unwrap();
    if !is_nobody(&this_test!(), prepare) {
        return;
    }
    let generations = generations(4);
    for (i, generation) in generations.iter().enumerate() {
        let release = dir().join(format!("release-{i}"));
        fs::create_dir(&release).unwrap();
        fill(&release, generation);
    }
    let (tls, link) = (dir().join("tls"), dir().join("next"));
    symlink("release-0", &tls).unwrap();
    chmod(&dir(), 0o311);
    assert!(fs::read_dir(dir()).is_err(), "it is not to be listed");
    let (server, reported) = Reported::by(server_in(&tls).timing(by_events_only()));
    let reloader = server.load().unwrap();
    reloader.start().unwrap();
    reported.wait("started", 1);
    for (i, next) in generations.iter().enumerate().skip(1) {
        symlink(format!("release-{i}"), &link).unwrap();
        fs::rename(&link, &tls).unwrap();
        serves(&reloader, next);
    }
    // The directory of the copied binary is only traversed.
    reported.is(0, &["warning", "degraded", "started", "published", "published", "published"]);
    assert_eq!(reloader.status().unwatched, [dir().parent().unwrap()]);
    assert_eq!(reloader.reload_now(), Reload::Unchanged);
    chmod(&dir(), 0o711);
}

/// A user without any other process, because a user's threads are counted together.
const LONELY: &[&str] = &["setpriv", "--reuid=64317", "--regid=64317", "--clear-groups"];

/// Returns the command that limits the threads of this process's user.
fn allow_threads(number: usize) -> String {
    format!("prlimit --pid {} --nproc={number}:", std::process::id())
}

#[test]
fn inv05_inv11_start_without_a_watcher_thread_recovers() {
    if !is_user(&this_test!(), LONELY, |_| {}) {
        return;
    }
    let generations = generations(3);
    let mut volume = Volume::of(&generations[0]);
    let (server, reported) = Reported::by(volume.server().timing(by_events_only()));
    let reloader = server.load().unwrap();
    // This command waits for a line on stdin to raise the limit, because no process can be started
    // without threads.
    let later = format!("read _ && exec {}", allow_threads(1_000));
    let mut later = Command::new("sh").args(["-c", &later]).stdin(Stdio::piped()).spawn().unwrap();
    // Allows the present threads and the driver's.
    let threads = fs::read_dir("/proc/self/task").unwrap().count() + 1;
    let now = Command::new("sh").args(["-c", &format!("exec {}", allow_threads(threads + 1))]).status();
    assert!(now.unwrap().success());
    reloader.start().unwrap();
    reported.wait("started", 1);
    volume.publish(&generations[1].files());
    serves(&reloader, &generations[1]);
    println!("reported:\n{}", reported.text());
    reported.is(0, &["degraded", "started", "published"]);
    later.stdin.take().unwrap().write_all(b"now\n").unwrap();
    assert!(later.wait().unwrap().success());
    reported.wait("restored", 1);
    volume.publish(&generations[2].files());
    serves(&reloader, &generations[2]);
    reloader.stop().unwrap();
    reported.is(3, &["restored", "published", "stopped"]);
}

/// Checks: INV-13, INV-15. In this state tokio's own threads for blocking work would panic.
#[test]
fn inv13_inv15_lack_of_threads_rejects_starts_and_reloads() {
    // This test uses another user, because the threads of all processes of a user are counted
    // together.
    let user = ["setpriv", "--reuid=64318", "--regid=64318", "--clear-groups"];
    if !is_user(&this_test!(), &user, |_| {}) {
        return;
    }
    let volume = Volume::of(&generations(1)[0]);
    let [one, other] = [0, 1].map(|_| volume.server().load().unwrap());
    let mut events = one.events();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (shutdown, receiver) = tokio::sync::watch::channel(false);
        let worker = one.spawn_worker(receiver.clone()).unwrap();
        started(&mut events);
        // Allows no further thread. A user without capabilities cannot raise the limit again, and
        // need not.
        let now = Command::new("sh").args(["-c", &format!("exec {}", allow_threads(1))]).status();
        assert!(now.unwrap().success());
        let Reload::Refused(error) = one.reload().await else { panic!("a thread all the same") };
        assert_eq!(error.layer(), Layer::Process, "{error}");
        assert!(error.why().starts_with("no thread for a manual reload: "), "{error}");
        for refused in [other.start().unwrap_err(), other.spawn_worker(receiver).unwrap_err()] {
            let StartError::NoThread(error) = refused else { panic!("{refused}") };
            assert!(error.why().starts_with("no thread for the reload worker: "), "{error}");
        }
        assert_eq!(other.reload_now(), Reload::Unchanged, "a start that failed changes nothing");
        shutdown.send(true).unwrap();
        tokio::time::timeout(DEADLINE, worker).await.unwrap().unwrap();
        assert!(!one.status().running);
        assert_eq!(one.reload_now(), Reload::Stopped);
    });
}
