//! The assumptions of the invariants about the file system, tested on the real one.

use std::{
    fs,
    io::Read,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use rustls_reload::{
    PathSet,
    fs::NativeFs,
    internal::{ChangeKind, Walk, snapshot},
};
use rustls_reload_testkit::wait_for_tick;

/// Runs `write` repeatedly while `read` does, until both have run often enough. Returns how often
/// each ran.
fn against(write: impl Fn(u64) + Sync, read: impl Fn()) -> (u64, u64) {
    let writes = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                write(writes.load(Ordering::Relaxed));
                writes.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut reads = 0;
        // A file system may flush at each rename, so the writer can be slow.
        while reads < 20_000 || writes.load(Ordering::Relaxed) < 200 {
            read();
            reads += 1;
        }
        done.store(true, Ordering::Relaxed);
        (reads, writes.load(Ordering::Relaxed))
    })
}

#[test]
fn asm01_name_renamed_over_is_never_missing_or_in_part() {
    let dir = tempfile::tempdir().unwrap();
    let (name, next) = (dir.path().join("name"), dir.path().join("next"));
    fs::write(&name, [0; 4096]).unwrap();
    let (reads, writes) = against(
        |count| {
            fs::write(&next, [u8::try_from(count % 251).unwrap(); 4096]).unwrap();
            fs::rename(&next, &name).unwrap();
        },
        || {
            let bytes = fs::read(&name).unwrap();
            assert!(bytes.len() == 4096 && bytes.iter().all(|byte| *byte == bytes[0]));
        },
    );
    println!("files renamed over: {writes}, reads: {reads}");
}

#[test]
fn asm01_link_renamed_over_always_leads_to_one_of_its_targets() {
    let dir = tempfile::tempdir().unwrap();
    let (name, next) = (dir.path().join("name"), dir.path().join("next"));
    symlink("0", &name).unwrap();
    let (reads, writes) = against(
        |count| {
            symlink((count % 7).to_string(), &next).unwrap();
            fs::rename(&next, &name).unwrap();
        },
        || {
            let target = fs::read_link(&name).unwrap();
            assert!(target.to_str().unwrap().parse::<u64>().unwrap() < 7);
        },
    );
    println!("links renamed over: {writes}, reads: {reads}");
}

#[test]
fn asm02_open_file_keeps_its_bytes_after_its_name_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("name");
    fs::write(&name, "old").unwrap();
    let mut open = fs::File::open(&name).unwrap();
    fs::write(dir.path().join("next"), "new").unwrap();
    fs::rename(dir.path().join("next"), &name).unwrap();
    fs::remove_file(&name).unwrap();
    let mut bytes = String::new();
    open.read_to_string(&mut bytes).unwrap();
    assert_eq!(bytes, "old");
}

fn walk(dir: &Path) -> Walk {
    let set = PathSet::new([dir.join("current/crt"), dir.join("current/key")]).unwrap();
    let snapshot = snapshot::take(&NativeFs::default(), &set);
    assert!(snapshot.files.is_ok(), "{:?}", snapshot.files);
    snapshot.walk
}

fn release(dir: &Path, number: u32) {
    let release = dir.join(number.to_string());
    fs::create_dir(&release).unwrap();
    fs::write(release.join("crt"), number.to_string()).unwrap();
    fs::write(release.join("key"), number.to_string()).unwrap();
}

fn repoint(dir: &Path, number: u32) {
    symlink(number.to_string(), dir.join("next")).unwrap();
    fs::rename(dir.join("next"), dir.join("current")).unwrap();
}

#[test]
fn asm06_link_to_a_finished_release_shows_as_committed() {
    let dir = tempfile::tempdir().unwrap();
    release(dir.path(), 1);
    repoint(dir.path(), 1);
    let served = walk(dir.path());
    release(dir.path(), 2);
    wait_for_tick(dir.path()).unwrap();
    repoint(dir.path(), 2);
    assert_eq!(walk(dir.path()).change_since(&served), ChangeKind::Atomic);
}

#[test]
fn asm06_absolute_link_to_a_finished_release_shows_as_committed() {
    let dir = tempfile::tempdir().unwrap();
    // The path to the release leads through the link's directory again, which changes with the
    // link.
    let point = |number: u32| {
        symlink(dir.path().join(number.to_string()), dir.path().join("next")).unwrap();
        fs::rename(dir.path().join("next"), dir.path().join("current")).unwrap();
    };
    release(dir.path(), 1);
    point(1);
    let served = walk(dir.path());
    release(dir.path(), 2);
    wait_for_tick(dir.path()).unwrap();
    point(2);
    assert_eq!(walk(dir.path()).change_since(&served), ChangeKind::Atomic);
}

#[test]
fn asm06_link_to_an_unfinished_release_is_not_committed() {
    let dir = tempfile::tempdir().unwrap();
    release(dir.path(), 1);
    repoint(dir.path(), 1);
    let served = walk(dir.path());
    release(dir.path(), 2);
    repoint(dir.path(), 2);
    wait_for_tick(dir.path()).unwrap();
    fs::write(dir.path().join("2/key"), "late").unwrap();
    assert_eq!(walk(dir.path()).change_since(&served), ChangeKind::InPlace);
}

#[test]
fn asm06_directory_made_again_and_filled_is_never_committed() {
    let dir = tempfile::tempdir().unwrap();
    release(dir.path(), 1);
    fs::rename(dir.path().join("1"), dir.path().join("current")).unwrap();
    let served = walk(dir.path());
    fs::rename(dir.path().join("current"), dir.path().join("old")).unwrap();
    fs::create_dir(dir.path().join("current")).unwrap();
    for name in ["crt", "key"] {
        wait_for_tick(dir.path()).unwrap();
        fs::write(dir.path().join("current").join(name), "new").unwrap();
    }
    assert_eq!(walk(dir.path()).change_since(&served), ChangeKind::InPlace);
}

#[test]
fn asm06_finished_directory_renamed_in_has_to_settle() {
    let dir = tempfile::tempdir().unwrap();
    release(dir.path(), 1);
    fs::rename(dir.path().join("1"), dir.path().join("current")).unwrap();
    let served = walk(dir.path());
    release(dir.path(), 2);
    fs::rename(dir.path().join("current"), dir.path().join("old")).unwrap();
    wait_for_tick(dir.path()).unwrap();
    fs::rename(dir.path().join("2"), dir.path().join("current")).unwrap();
    assert_eq!(walk(dir.path()).change_since(&served), ChangeKind::InPlace);
}
