//! A publisher process, which publishes as fast as it can until it is killed or asked to end.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rustls_reload_harness::sim::{KEY, Publisher, Set};
use rustls_reload_testkit::Op;

use super::{
    publishers,
    sets::{self, Dice},
};

/// Takes a step beneath `root`, absolute links included. A step that fails is skipped: a killed
/// predecessor may have left things behind.
fn take(root: &Path, op: &Op) {
    let _ = op.beneath(root).apply(root);
}

/// Removes everything and publishes as if for the first time.
pub(crate) fn anew(root: &Path, publisher: Publisher, set: &Set) {
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let is_dir = path.symlink_metadata().unwrap().is_dir();
        if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }
    publisher.base(set).iter().for_each(|op| take(root, op));
}

/// Replaces a file of the set by something else, or makes it unreadable, for a while, and restores
/// it.
fn fault(root: &Path, publisher: Publisher, dice: &mut Dice) {
    let index = usize::try_from(dice.roll(3)).unwrap();
    let kind = usize::try_from(dice.roll(5)).unwrap();
    let unreadable = kind == 4;
    let path: PathBuf = publisher.paths()[index].strip_prefix("/").unwrap().to_owned();
    let mut pause = || thread::sleep(Duration::from_millis(dice.roll(900)));
    if unreadable {
        take(root, &Op::Chmod(path.clone(), 0));
        pause();
        return take(root, &Op::Chmod(path, 0o644));
    }
    let aside = path.with_extension("aside");
    take(root, &Op::Rename(path.clone(), aside.clone()));
    let other =
        [Op::Mkdir(path.clone()), Op::Mkfifo(path.clone()), Op::Symlink("nowhere".into(), path.clone())];
    other.get(kind).iter().for_each(|op| take(root, op));
    pause();
    let gone = if kind == 0 { Op::Rmdir(path.clone()) } else { Op::Unlink(path.clone()) };
    take(root, &gone);
    take(root, &Op::Rename(aside, path));
}

/// Publishes until `end` is set. Prints a line for each action.
pub(crate) fn run(root: &Path, name: &str, seed: u64, end: &AtomicBool) {
    let publisher = publishers().into_iter().find(|publisher| publisher.name() == name).unwrap();
    let (dir, mut dice) = (root.join(name), Dice(seed));
    let sets = sets::count();
    let mut set = dice.roll(sets);
    // Each publisher process begins by emptying its directory.
    anew(&dir, publisher, &sets::read(root, publisher, set));
    let mut number = 1;
    while !end.load(Ordering::Relaxed) {
        set = (set + 1 + dice.roll(sets - 1)) % sets;
        let mut next = sets::read(root, publisher, set);
        let broken = dice.roll(7) == 0;
        if broken {
            next[KEY] = sets::read(root, Publisher::Certbot, (set + 1) % sets)[KEY].clone();
        }
        number += 1;
        publisher.update(number, &next).iter().for_each(|op| take(&dir, op));
        if broken && publisher == Publisher::StepRenew {
            // This publisher writes no key, so only a chain of another key makes its set
            // inconsistent.
            continue;
        }
        let mut out = std::io::stdout().lock();
        let reported = writeln!(out, "{}", if broken { "broken" } else { "rotation" });
        if reported.and(out.flush()).is_err() {
            return;
        }
        // A publisher without a commit by rename has to pause for the settle time, or no set is
        // ever published.
        let rest = if publisher.commits_by_rename() { dice.roll(40) } else { 600 + dice.roll(400) };
        thread::sleep(Duration::from_millis(rest));
        if dice.roll(20) == 0 {
            fault(&dir, publisher, &mut dice);
            let _ = writeln!(out, "fault");
        }
        if dice.roll(50) == 0 {
            number = 1;
            anew(&dir, publisher, &sets::read(root, publisher, set));
            let _ = writeln!(out, "fault");
        }
    }
}
