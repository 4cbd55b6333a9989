//! A successful rotation emits no record at WARN or above, from any crate. `tests/detection` checks
//! this as well.

#[path = "../common/records.rs"]
mod records;

use std::{fs, os::unix::fs::symlink, path::Path};

use crate::common::{Generation, Volume, by_events_only, generations, server_in, started, wait_for_leaf};
use records::{LOG, TRACING, listen};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustls_reload::ServerReloader;

fn serve(dir: &Path) -> ServerReloader {
    let reloader = server_in(dir).timing(by_events_only()).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    started(&mut events);
    reloader
}

/// Makes a directory with the files of a generation.
fn make(dir: &Path, generation: &Generation) {
    fs::create_dir_all(dir).unwrap();
    for (name, bytes) in generation.files() {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

/// Each rotation removes a directory with its files. The events of that removal arrive before those
/// of the next rotation, which the test waits for. After the last rotation nothing is removed.
///
/// Checks: INV-11, INV-08.
#[test]
fn inv11_good_rotations_log_no_warning_through_log_or_tracing() {
    if !alone!(&["env"], "true") {
        return;
    }
    listen();
    let generations = generations(2);
    let next = |round: usize| &generations[round % 2];
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);

    // A volume as kubelet makes it.
    let mut volume = Volume::of(next(0));
    let reloader = serve(&volume.dir());
    for round in 1..12 {
        volume.publish(&next(round).files());
        wait_for_leaf(&reloader, &next(round).server);
    }
    reloader.stop().unwrap();

    // A link to a release in which the files are two directories deep. The last release is removed
    // at once.
    let release = |round: usize| at("releases").join(round.to_string());
    make(&release(0).join("etc/tls"), next(0));
    symlink(release(0), at("current")).unwrap();
    let reloader = serve(&at("current/etc/tls"));
    for round in 1..8 {
        make(&release(round).join("etc/tls"), next(round));
        symlink(release(round), at("link")).unwrap();
        fs::rename(at("link"), at("current")).unwrap();
        fs::remove_dir_all(release(round - 1)).unwrap();
        wait_for_leaf(&reloader, &next(round).server);
    }
    reloader.stop().unwrap();

    // A directory replaces another one, which is then removed from its new place.
    make(&at("live/tls"), next(0));
    let reloader = serve(&at("live/tls"));
    for round in 1..8 {
        make(&at("new/tls"), next(round));
        renameat_with(CWD, at("new"), CWD, at("live"), RenameFlags::EXCHANGE).unwrap();
        fs::remove_dir_all(at("new")).unwrap();
        wait_for_leaf(&reloader, &next(round).server);
    }
    reloader.stop().unwrap();

    assert!(LOG.count() > 100, "notify traces each watch and each event: {}", LOG.count());
    assert!(TRACING.count() > 20, "each publication is an event: {}", TRACING.count());
    assert_eq!(LOG.warnings(""), [""; 0]);
    assert_eq!(TRACING.warnings(""), [""; 0]);
}
