//! Mounts over watched directories: no event reports a mount, so the poll finds it. Changes inside
//! of a mount are reported by events.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use rustls_reload::{Layer, Reload, ServerReloader, internal::lacks_remote_events};

use crate::{
    Reported,
    common::{Generation, Volume, by_events_only, generations, quick, replace, server_in},
    fill, is_served,
    own::MOUNTS,
    serves, until,
};

const PROBE: &str = "mount -t tmpfs none /tmp && mkdir /tmp/a && mount --bind /proc /tmp/a && umount /tmp/a";

fn mount(arguments: &[&str], at: &Path) {
    let output = Command::new("mount").args(arguments).arg(at).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Removes the mount, even while a snapshot has a directory in it open.
fn unmount(at: &Path) {
    let output = Command::new("umount").arg("--lazy").arg(at).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A directory with plain files of the generation.
fn plain(root: &Path, name: &str, generation: &Generation) -> PathBuf {
    let dir = root.join(name);
    fs::create_dir(&dir).unwrap();
    fill(&dir, generation);
    dir
}

#[test]
fn inv05_mount_over_the_watched_directory_and_its_end_are_served() {
    if !alone!(MOUNTS, PROBE) {
        return;
    }
    let generations = generations(3);
    let root = tempfile::tempdir().unwrap();
    let dir = plain(root.path(), "tls", &generations[0]);
    let other = plain(root.path(), "other", &generations[1]);
    let (server, reported) = Reported::by(server_in(&dir).timing(quick()));
    let reloader = server.load().unwrap();
    reloader.start().unwrap();
    reported.wait("started", 1);
    for _ in 0..3 {
        mount(&["--bind", other.to_str().unwrap()], &dir);
        serves(&reloader, &generations[1]);
        unmount(&dir);
        serves(&reloader, &generations[0]);
    }
    // Mounts one directory over the other, removes both, and mounts one over the parent.
    mount(&["--bind", other.to_str().unwrap()], &dir);
    serves(&reloader, &generations[1]);
    mount(&["-t", "tmpfs", "none"], &dir);
    fill(&dir, &generations[2]);
    serves(&reloader, &generations[2]);
    unmount(&dir);
    serves(&reloader, &generations[1]);
    unmount(&dir);
    serves(&reloader, &generations[0]);
    assert_eq!((reported.count("degraded"), reported.count("still changing")), (0, 0), "{}", reported.text());
}

#[test]
fn inv03_inv11_empty_mount_over_the_directory_is_rejected_once() {
    if !alone!(MOUNTS, PROBE) {
        return;
    }
    let generations = generations(2);
    let root = tempfile::tempdir().unwrap();
    let dir = plain(root.path(), "tls", &generations[0]);
    let filled = plain(root.path(), "filled", &generations[1]);
    let (server, reported) = Reported::by(server_in(&dir).timing(quick()));
    let reloader = server.load().unwrap();
    reloader.start().unwrap();
    reported.wait("started", 1);
    mount(&["-t", "tmpfs", "none"], &dir);
    reported.wait("refused", 1);
    assert_eq!(reported.last_error().layer(), Layer::Read, "{}", reported.last_error());
    let count = || reloader.status().refused.map_or(0, |refused| refused.count);
    let first = count();
    until("two more refusals", || count() >= first + 2, || reported.text());
    assert!(is_served(&reloader, &generations[0]));
    unmount(&dir);
    reported.is(0, &["started", "refused", "recovered"]);
    mount(&["-t", "tmpfs", "none"], &dir);
    reported.wait("refused", 2);
    // All files come at once, so that no part of them is refused.
    mount(&["--bind", filled.to_str().unwrap()], &dir);
    reported.is(3, &["refused", "published, recovered"]);
    assert!(is_served(&reloader, &generations[1]));
}

/// Loads a server that polls once an hour, so that it notices updates by events unless it is asked.
fn by_events(dir: &Path) -> (ServerReloader, Reported) {
    let (server, reported) = Reported::by(server_in(dir).timing(by_events_only()));
    let reloader = server.load().unwrap();
    reloader.start().unwrap();
    reported.wait("started", 1);
    (reloader, reported)
}

#[test]
fn inv05_events_follow_the_files_over_a_mount_and_its_end() {
    if !alone!(MOUNTS, PROBE) {
        return;
    }
    let generations = generations(7);
    let mut below = Volume::of(&generations[0]);
    let dir = below.dir();
    let (reloader, reported) = by_events(&dir);
    let mut above = Volume::of(&generations[1]);
    mount(&["--bind", above.dir().to_str().unwrap()], &dir);
    // A manual reload replaces the poll, which needs no event either.
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    for next in &generations[2..4] {
        above.publish(&next.files());
        serves(&reloader, next);
    }
    unmount(&dir);
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    assert!(is_served(&reloader, &generations[0]));
    for next in &generations[4..6] {
        below.publish(&next.files());
        serves(&reloader, next);
    }
    // Changes in the directory that is no longer mounted there do not concern the server.
    above.publish(&generations[6].files());
    assert_eq!(reloader.reload_now(), Reload::Unchanged);
    let published = ["published"; 6];
    reported.is(1, &published);
}

#[test]
fn inv08_file_mounted_alone_is_found_by_the_poll_and_stays() {
    if !alone!(MOUNTS, PROBE) {
        return;
    }
    let generations = generations(3);
    let both = |generation: &Generation| generation.server.chain.clone() + &generation.server.key;
    let root = tempfile::tempdir().unwrap();
    let [file, source] = ["tls.pem", "source.pem"].map(|name| root.path().join(name));
    fs::write(&file, both(&generations[0])).unwrap();
    fs::write(&source, both(&generations[1])).unwrap();
    let (server, reported) =
        Reported::by(rustls_reload::ServerReloader::builder(&file, &file).timing(quick()));
    let reloader = server.load().unwrap();
    reloader.start().unwrap();
    reported.wait("started", 1);
    mount(&["--bind", source.to_str().unwrap()], &file);
    serves(&reloader, &generations[1]);
    // The file is replaced at its source, as kubelet does. The mount keeps the old file, so the
    // server sees no change.
    replace(&source, both(&generations[2]).as_bytes());
    assert_eq!(reloader.reload_now(), Reload::Unchanged);
    assert_eq!(reloader.status().differs_since, None);
    unmount(&file);
    serves(&reloader, &generations[0]);
    reported.is(0, &["started", "published", "published"]);
}

const FUSE: &[&str] = &["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0", "none"];
const FUSE_PROBE: &str = "mount -t tmpfs none /tmp && mkdir /tmp/a && \
    mount -i -t fuse -o fd=0,rootmode=40000,user_id=0,group_id=0 none /tmp/a 0<>/dev/fuse";

/// Serves a FUSE mount until it ends. The file system only reports its size (`linux/fuse.h`).
fn stands_behind(mut device: File) {
    const STATFS: u32 = 17;
    const INIT: u32 = 26;
    let mut request = vec![0; 1 << 17];
    while let Ok(length) = device.read(&mut request) {
        let number = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        assert_eq!(number(0) as usize, length);
        let (error, answer) = match number(4) {
            // Version 7.12, and the most bytes that one request may write.
            INIT => (0_i32, [7_u32, 12, 0, 0, 0, 4096].map(u32::to_ne_bytes).concat()),
            STATFS => (0, vec![0; 80]),
            _ => (-38, Vec::new()),
        };
        let length = 16 + answer.len() as u32;
        let answer = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &request[8..16], &answer].concat();
        // Nobody waits for the reply once the mount has ended.
        let _ = device.write(&answer);
    }
}

/// Checks: INV-11. Watches there are accepted, but no event reports a change by the serving
/// process.
#[test]
fn inv11_a_fuse_mount_is_silent_and_what_it_lies_over_is_not() {
    if !alone!(MOUNTS, FUSE_PROBE) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(lacks_remote_events(dir.path()), None);
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
    let mut command = Command::new("mount");
    command.args(FUSE).arg(dir.path()).stdin(device.try_clone().unwrap());
    let output = command.output().unwrap();
    // `command` holds a descriptor of the device. The device ends with the mount only once that is
    // closed.
    drop(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let behind = thread::spawn(move || stands_behind(device));
    assert_eq!(lacks_remote_events(dir.path()), Some("FUSE"));
    unmount(dir.path());
    behind.join().unwrap();
    assert_eq!(lacks_remote_events(dir.path()), None);
}
