//! Paths and files that only Windows has: other spellings of a name, devices, long paths, and files
//! that are kept open. `scripts/windows` runs these tests.

use std::{
    fs::{self, File, OpenOptions},
    io::{Seek, Write},
    os::windows::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::common::{self, Generation, by_events_only, replace};
use rustls_reload::{Event, Layer, ServerReloader};

/// A directory with the pair of a generation.
struct Pair {
    root: tempfile::TempDir,
    dir: PathBuf,
}

impl Pair {
    fn of(generation: &Generation, dir: impl AsRef<Path>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let pair = Self { dir: root.path().join(dir), root };
        fs::create_dir_all(&pair.dir).unwrap();
        pair.publish(generation);
        pair
    }

    fn publish(&self, generation: &Generation) {
        for (name, bytes) in &generation.files()[..2] {
            replace(&self.dir.join(name), bytes);
        }
    }
}

/// Asserts that two updates are served without a poll, where the server gets the pair's directory
/// by this path.
fn is_followed(pair: &Pair, dir: &Path, names: [&str; 2]) {
    let [chain, key] = names.map(|name| dir.join(name));
    let server = ServerReloader::builder(chain, key).timing(by_events_only()).load().unwrap();
    let mut events = server.events();
    server.start().unwrap();
    common::started(&mut events);
    for number in 1..3 {
        let next = Generation::new(number);
        pair.publish(&next);
        common::wait_for_leaf(&server, &next.server);
    }
    assert_eq!(server.status().degraded, None);
}

const NAMES: [&str; 2] = ["tls.crt", "tls.key"];

/// Checks: INV-05, INV-06. Events name a file in the spelling of its directory.
#[test]
fn inv05_names_in_another_case_are_followed_by_events() {
    let pair = Pair::of(&Generation::new(0), "Dir");
    is_followed(&pair, &pair.root.path().join("dIR"), ["TLS.crt", "tls.KEY"]);
}

/// Checks: INV-05.
#[test]
fn inv05_a_directory_remade_in_another_case_is_followed() {
    let pair = Pair::of(&Generation::new(0), "Dir");
    let dir = pair.root.path().join("dir");
    let server = ServerReloader::builder(dir.join("tls.crt"), dir.join("tls.key"));
    let server = server.timing(by_events_only()).load().unwrap();
    let mut events = server.events();
    server.start().unwrap();
    common::started(&mut events);
    for number in 1..4 {
        let (next, aside) = (Generation::new(number), pair.root.path().join(number.to_string()));
        fs::rename(&pair.dir, aside).unwrap();
        fs::create_dir(&pair.dir).unwrap();
        pair.publish(&next);
        common::wait_for_leaf(&server, &next.server);
        // The update happens in the new directory, which is watched.
        let next = Generation::new(number + 10);
        pair.publish(&next);
        common::wait_for_leaf(&server, &next.server);
    }
}

/// Checks: INV-05. A directory with a longer path cannot be opened by its plain name.
#[test]
fn inv05_files_beyond_260_characters_are_followed_by_events() {
    let long: PathBuf = std::iter::repeat_n("x".repeat(100), 4).collect();
    let pair = Pair::of(&Generation::new(0), long);
    assert!(pair.dir.as_os_str().len() > 400);
    is_followed(&pair, &pair.dir, NAMES);
}

/// Checks: INV-05, INV-11. A verbatim path is another spelling; messages show the plain one.
#[test]
fn inv05_a_literal_path_is_followed_and_shown_plain() {
    let pair = Pair::of(&Generation::new(0), "dir");
    let literal = pair.dir.canonicalize().unwrap();
    assert!(literal.to_str().unwrap().starts_with(r"\\?\"));
    is_followed(&pair, &literal, NAMES);
    fs::remove_file(pair.dir.join("tls.key")).unwrap();
    let refused =
        ServerReloader::builder(literal.join("tls.crt"), literal.join("tls.key")).load().unwrap_err();
    assert_eq!(refused.path(), Some(&*pair.dir.join("tls.key")), "{refused}");
}

/// Checks: INV-12. A device may be endless, and opening a pipe uses up a connection of its server.
#[test]
fn inv12_devices_and_pipes_are_refused_and_never_opened() {
    let pair = Pair::of(&Generation::new(0), "dir");
    for device in [
        "NUL",
        "nul",
        "CON",
        "COM1",
        r"\\.\COM1",
        r"\\.\pipe\key",
        r"\\?\pipe\key",
        r"\\localhost\pipe\key",
        r"\\?\UNC\localhost\PIPE\key",
        r"\\.\PhysicalDrive0",
    ] {
        let refused = ServerReloader::builder(pair.dir.join("tls.crt"), device).load().unwrap_err();
        assert_eq!(refused.layer(), Layer::Read, "{device}: {refused}");
        let text = refused.to_string();
        assert!(text.contains("names a device or a pipe"), "{device}: {text}");
    }
}

/// Checks: INV-12. Whether a name in a directory is a device depends on the version of Windows. A
/// verbatim path names no device.
#[test]
fn inv12_a_device_name_in_a_directory_is_no_device() {
    let pair = Pair::of(&Generation::new(0), "dir");
    for name in ["NUL", "COM1.pem", "con.key"] {
        let key = pair.dir.join(name);
        let refused = ServerReloader::builder(pair.dir.join("tls.crt"), key).load().unwrap_err();
        assert_eq!(refused.layer(), Layer::Read, "{name}: {refused}");
    }
}

/// Checks: INV-03, INV-05. A writer may lock a file while it writes, which is no refusal.
#[test]
fn inv05_a_file_kept_open_by_its_publisher_is_served_once_closed() {
    let (old, new) = (Generation::new(0), Generation::new(1));
    let pair = Pair::of(&old, "dir");
    let (chain, key) = (pair.dir.join("tls.crt"), pair.dir.join("tls.key"));
    let server = ServerReloader::builder(&chain, &key).timing(by_events_only()).load().unwrap();
    let mut events = server.events();
    server.start().unwrap();
    common::started(&mut events);
    let alone = |path: &Path| OpenOptions::new().write(true).share_mode(0).open(path).unwrap();
    let mut open = alone(&key);
    assert_eq!(File::open(&key).unwrap_err().raw_os_error(), Some(32), "a sharing violation");
    replace(&chain, new.server.chain.as_bytes());
    open.set_len(0).unwrap();
    open.rewind().unwrap();
    open.write_all(new.server.key.as_bytes()).unwrap();
    drop(open);
    common::wait_for_leaf(&server, &new.server);
    for event in common::drain(&mut events) {
        assert!(matches!(&*event, Event::Published { .. }), "{event}");
    }
}

/// Checks: INV-05. The first load waits for a writer, as it does for files that change.
#[test]
fn inv05_a_first_load_waits_for_a_file_kept_open_by_its_publisher() {
    let pair = Pair::of(&Generation::new(0), "dir");
    let [chain, key] = NAMES.map(|name| pair.dir.join(name));
    let open = OpenOptions::new().write(true).share_mode(0).open(&key).unwrap();
    let closing = thread::spawn(move || {
        // Long enough for the first snapshot, and shorter than the settle time.
        thread::sleep(Duration::from_millis(100));
        drop(open);
    });
    let server = ServerReloader::builder(chain, key).load();
    closing.join().unwrap();
    assert!(server.is_ok(), "{:?}", server.err());
}

/// Checks: INV-05. Without POSIX renames a file cannot be replaced while it is read. The read is
/// over before a publisher's next attempt.
#[test]
fn inv05_a_pair_replaced_without_pause_keeps_no_publisher_waiting() {
    let pair = Pair::of(&Generation::new(0), "dir");
    let [chain, key] = NAMES.map(|name| pair.dir.join(name));
    let server = ServerReloader::builder(chain, key).timing(common::quick()).load().unwrap();
    server.start().unwrap();
    let generations = common::generations(20);
    // Fails where a file cannot be replaced for a second.
    (0..200).for_each(|round| pair.publish(&generations[round % 20]));
    common::wait_for_leaf(&server, &generations[19].server);
}
