//! Paths that are longer than the system accepts, or nearly so.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rustls_reload::{Event, ServerReloader};
use rustls_reload_testkit::{Authority, PrivateKey, Subject};

use super::read;
use crate::common::DEADLINE;

/// Returns a path to the directory that `open(2)` does not accept.
fn long(dir: &Path) -> PathBuf {
    let name = "d".repeat(250);
    fs::create_dir(dir.join(&name)).unwrap();
    let mut long = dir.to_owned();
    while long.as_os_str().len() < 4100 {
        long.push(&name);
        long.push("..");
    }
    long
}

/// Checks: INV-01. Only a path lookup shows whether the system would follow a link (`nosymfollow`,
/// `fs.protected_symlinks`).
#[test]
fn inv01_link_on_a_path_longer_than_the_system_takes_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().canonicalize().unwrap();
    fs::create_dir(dir.join("to")).unwrap();
    fs::write(dir.join("to/file"), "text").unwrap();
    symlink("to/file", dir.join("link")).unwrap();
    symlink("to", dir.join("dirs")).unwrap();
    symlink("link", dir.join("twice")).unwrap();
    let long = long(&dir);
    assert!(fs::File::open(long.join("to/file")).is_err());
    assert_eq!(read(&long.join("to/file")), Ok(b"text".to_vec()));
    for name in ["link", "dirs/file", "twice"] {
        assert_eq!(read(&dir.join(name)), Ok(b"text".to_vec()));
        let why = read(&long.join(name)).unwrap_err().to_string();
        assert!(why.contains("longer than the system accepts"), "{name}: {why}");
    }
}

/// Checks: INV-05. A watch whose name within notify would be too long uses the path itself.
#[test]
fn inv05_directory_with_a_path_of_nearly_4096_bytes_is_watched() {
    let root = tempfile::tempdir().unwrap();
    let mut dir = root.path().canonicalize().unwrap();
    while dir.as_os_str().len() < 3900 {
        dir.push("d".repeat(20));
    }
    fs::create_dir_all(&dir).unwrap();
    let pair = Authority::root("CA").issue(&Subject::server("localhost"), &PrivateKey::p256());
    let (chain, key) = (dir.join("tls.crt"), dir.join("tls.key"));
    fs::write(&chain, &pair.chain).unwrap();
    fs::write(&key, &pair.key).unwrap();
    let reloader = ServerReloader::builder(&chain, &key).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    loop {
        match &*events.next_within(DEADLINE).unwrap().event {
            Event::Degraded { error } => panic!("{error}"),
            Event::Started { .. } => break,
            _ => {}
        }
    }
    // The drop stops the worker. On a busy machine a step takes longer here than a stop waits.
    assert!(reloader.status().watched.contains(&dir));
}
