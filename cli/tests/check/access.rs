//! Warnings about access to the files and about their file system.

use std::{
    fs::{self, File, Permissions},
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Command, Stdio},
};

use rustls_reload::Layer;

use crate::{BINARY, Ended, command, fuse::serve_links, pair, plain, run};

/// A user id that is neither root's nor the owner of any file in these tests.
const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Reports on stderr a check that was not possible here. The capture of passing tests does not hide
/// that.
fn not_done(what: &str) {
    let _ = writeln!(std::io::stderr(), "NOT DONE: {what}");
}

fn lets_everybody_through(dir: &Path) -> bool {
    dir.ancestors().all(|dir| fs::metadata(dir).unwrap().mode() & 0o001 != 0)
}

#[test]
fn a_key_that_everybody_can_read_is_a_warning() {
    let dir = plain(&pair(90));
    let (key, mode) = (dir.path().join("tls.key"), Permissions::from_mode);
    fs::set_permissions(&key, mode(0o644)).unwrap();
    let ended = run(&mut command(dir.path()));
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(0), ""),
        "nobody else gets to it: {}",
        ended.stdout
    );
    fs::set_permissions(dir.path(), mode(0o755)).unwrap();
    if !lets_everybody_through(dir.path()) {
        return not_done("a key that everybody can read: the temporary directory is private");
    }
    run(&mut command(dir.path())).warns(Layer::Key, &key, "every user");
    // The key of an SNI pair is a key like any other.
    let other = plain(&pair(90));
    let argument = format!("{},{}", dir.path().join("tls.crt").display(), key.display());
    run(command(other.path()).args(["--pair", &argument])).warns(Layer::Key, &key, "every user");
    // Two pairs with this key are warned of once.
    let [one, two] = ["one", "two"].map(|name| format!("{argument},{name}.localhost"));
    run(command(other.path()).args(["--pair", &one, "--pair", &two])).warns(Layer::Key, &key, "every user");
    fs::set_permissions(&key, mode(0o640)).unwrap();
    assert_eq!(run(&mut command(dir.path())).code, Some(0), "a group may read it");
}

#[test]
fn a_file_that_is_mounted_alone_is_a_warning() {
    let (dir, from) = (plain(&pair(90)), plain(&pair(90)));
    // The space in the name is escaped in the list of mounts.
    let path = dir.path().join("mounted alone.crt");
    fs::write(&path, "").unwrap();
    let source = from.path().join("tls.crt");
    fs::copy(dir.path().join("tls.crt"), &source).unwrap();
    // The shell only mounts, in a namespace that ends with it.
    let script = "mount --bind \"$1\" \"$2\" || exit 77; shift 2; exec \"$@\"";
    let mut inside = Command::new("unshare");
    inside.arg(if is_root() { "-m" } else { "-rm" }).args(["sh", "-c", script, "sh"]).args([&source, &path]);
    inside.args([BINARY, "check", "--cert"]).arg(&path).arg("--key").arg(dir.path().join("tls.key"));
    let Ok(output) = inside.output() else { return not_done("a file mounted alone: no unshare") };
    let ended = Ended::new(output);
    if ended.code == Some(77) || ended.stderr.starts_with("unshare:") {
        return not_done(&format!("a file mounted alone: {}", ended.stderr));
    }
    ended.warns(Layer::Watch, &path, "mounted alone");
    // The file at its original path causes no warning.
    assert_eq!(run(&mut command(dir.path())).code, Some(0));
}

/// Checks: INV-11. A file system that does not report remote changes is recognised.
#[test]
fn inv11_a_file_on_fuse_is_a_warning() {
    let dir = plain(&pair(90));
    let point = dir.path().join("fuse");
    fs::create_dir(&point).unwrap();
    let Ok(mut device) = File::options().read(true).write(true).open("/dev/fuse") else {
        return not_done("a file on FUSE: no /dev/fuse");
    };
    // The namespace ends with the check, and its end removes the mount.
    let script = "mount -i -n -t fuse -o fd=0,rootmode=40000,user_id=0,group_id=0 none \"$1\" || exit 77; \
                  echo mounted >&2; shift; exec timeout 60 \"$@\" </dev/null";
    let mut inside = Command::new("unshare");
    inside.args(["-m", "sh", "-c", script, "sh"]).arg(&point).args([BINARY, "check", "--cert"]);
    inside.arg(point.join("tls.crt")).arg("--key").arg(dir.path().join("tls.key"));
    inside.stdin(device.try_clone().unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut running) = inside.spawn() else { return not_done("a file on FUSE: no unshare") };
    // `inside` holds a copy of the device, with which the mount would outlive the check.
    drop(inside);
    let mut first = String::new();
    let mut stderr = BufReader::new(running.stderr.take().unwrap());
    stderr.read_line(&mut first).unwrap();
    if first != "mounted\n" {
        running.wait().unwrap();
        return not_done(&format!("a file on FUSE: {first}"));
    }
    let lookups = serve_links(&mut device, dir.path().join("tls.crt").to_str().unwrap()).unwrap();
    let mut ended = Ended::new(running.wait_with_output().unwrap());
    stderr.read_to_string(&mut ended.stderr).unwrap();
    assert!(lookups > 0);
    ended.warns(Layer::Watch, &point, "FUSE");
    assert!(ended.texts("watch").contains(&point.to_str().unwrap()), "{}", ended.stdout);
    let link = format!("{0}/tls.crt -> {1}/tls.crt", point.display(), dir.path().display());
    assert!(ended.texts("  link").contains(&link.as_str()), "{}", ended.stdout);
}

#[test]
fn directory_without_read_access_is_a_warning_if_it_holds_files() {
    let dir = plain(&pair(90));
    let (closed, inner) = (dir.path().join("closed"), dir.path().join("closed/inner"));
    fs::create_dir_all(&inner).unwrap();
    let binary = dir.path().join("binary");
    fs::copy(BINARY, &binary).unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    for name in ["tls.crt", "tls.key"] {
        fs::rename(dir.path().join(name), inner.join(name)).unwrap();
        mode(&inner.join(name), 0o600);
        if is_root() {
            std::os::unix::fs::chown(inner.join(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    mode(dir.path(), 0o755);
    mode(&inner, 0o755);
    mode(&closed, 0o311);
    if is_root() && !lets_everybody_through(dir.path()) {
        return not_done("a directory that cannot be read: the temporary directory is private");
    }
    let check = || {
        // Root can read every directory, so the check runs as another user.
        let mut command = Command::new(if is_root() { Path::new("setpriv") } else { &binary });
        if is_root() {
            command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
            command.arg("--clear-groups").arg(&binary);
        }
        command.arg("check").arg("--cert").arg(inner.join("tls.crt")).arg("--key").arg(inner.join("tls.key"));
        command.output().map(Ended::new)
    };
    let Ok(ended) = check() else { return not_done("a directory that cannot be read: no setpriv") };
    if ended.stderr.starts_with("setpriv:") {
        return not_done(&format!("a directory that cannot be read: {}", ended.stderr));
    }
    let why = "may be searched but not read";
    let [only] = ended.texts("unwatched")[..] else { panic!("{}{}", ended.stdout, ended.stderr) };
    assert!(only.starts_with(&format!("{}, {why}", closed.display())), "{only}");
    assert_eq!((ended.code, ended.texts("warning")), (Some(0), vec![]), "it holds none of the files");
    assert!(ended.texts("watch").contains(&inner.to_str().unwrap()), "{}", ended.stdout);
    mode(&inner, 0o311);
    let ended = check().unwrap();
    ended.warns(Layer::Watch, &inner, why);
    assert_eq!(ended.texts("unwatched").len(), 1, "{}", ended.stdout);
    let watched = ended.texts("watch");
    assert!(watched.contains(&"/") && !watched.contains(&inner.to_str().unwrap()), "{watched:?}");
}
