//! Updates that a publisher reverts before the settle time is over, or that leave a part of the set
//! in its place.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rustls_reload::Timing;
use rustls_reload_harness::sim::{
    CA, CHAIN, Events, InteractiveWorld, KEY, Set, SimWatcher, WorldConfig, full,
};
use rustls_reload_testkit::Op;

const NAMES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// Returns two generations with one key, so that their mixtures pass every check.
fn sets() -> [Set; 2] {
    [full(1, 1), [full(2, 1)[CHAIN].clone(), full(1, 1)[KEY].clone(), full(2, 1)[CA].clone()]]
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn write(path: impl AsRef<Path>, bytes: &[u8]) -> Vec<Op> {
    let path = path.as_ref().to_owned();
    vec![Op::Create(path.clone()), Op::Append(path, bytes.to_vec())]
}

fn mkdir(path: &str) -> Op {
    Op::Mkdir(path.into())
}

fn rename(from: &str, to: &str) -> Op {
    Op::Rename(from.into(), to.into())
}

fn world(paths: &[PathBuf], base: &[Op], config: WorldConfig) -> InteractiveWorld {
    let mut live = InteractiveWorld::new(paths, base, Timing::default(), config);
    let sim = live.sim().clone();
    live.load(Some(Box::new(move |hints| Ok(Box::new(SimWatcher::new(&sim, hints)))))).unwrap();
    live.start();
    live
}

fn apply(live: &InteractiveWorld, ops: &[Op]) {
    ops.iter().for_each(|op| live.sim().apply(op).unwrap());
}

/// Lets time pass, and asserts that nothing is published.
fn nothing_for(live: &mut InteractiveWorld, time: Duration, what: &str) {
    let generation = live.reloader().current().generation;
    let served = live.until(time, |reloader| reloader.current().generation != generation);
    assert!(!served, "{what}: {:?} was published", live.reloader().current().value);
}

fn serves(live: &InteractiveWorld, set: &Set) -> bool {
    live.reloader()
        .current()
        .value
        .files
        .iter()
        .zip(set)
        .all(|(file, wanted)| file.as_deref() == Some(wanted))
}

/// Renews chain and CAs and reverts both at once. No write follows the previous one by as much as
/// the settle time, and no event arrives. Two snapshots a settle time apart see the new chain and
/// the old CAs.
fn taken_back(what: &str, paths: &[PathBuf], base: &[Op], reuse: bool, moves: [Vec<Op>; 4]) {
    let mut live = world(paths, base, WorldConfig { events: Events::Lost, reuse, ..WorldConfig::default() });
    let [chain, ca, ca_back, chain_back] = moves;
    nothing_for(&mut live, Timing::default().poll - ms(50), what);
    let snapshots = live.reloader().status().snapshots;
    apply(&live, &chain);
    nothing_for(&mut live, ms(60), what);
    assert_eq!(live.reloader().status().snapshots, snapshots + 1, "{what}");
    nothing_for(&mut live, ms(300), what);
    apply(&live, &ca);
    nothing_for(&mut live, ms(10), what);
    apply(&live, &ca_back);
    nothing_for(&mut live, ms(300), what);
    assert_eq!(live.reloader().status().snapshots, snapshots + 2, "{what}");
    apply(&live, &chain_back);
    nothing_for(&mut live, Duration::from_secs(30), what);
    assert!(serves(&live, &sets()[0]), "{what}");
    assert_eq!(live.reloader().status().differs_since, None, "{what}");
}

/// Checks: INV-01 (b), INV-06, ASM-05. Bytes that are equal again were not stable, whatever path
/// leads to them.
#[test]
fn inv01_change_undone_between_two_snapshots_is_not_stable() {
    let [old, new] = sets();
    for reuse in [false, true] {
        // Links instead of files, as certbot makes them.
        let mut base = vec![mkdir("live"), mkdir("archive")];
        for (number, set) in [&old, &new].into_iter().enumerate() {
            base.extend((0..3).flat_map(|i| write(format!("archive/{number}-{}", NAMES[i]), &set[i])));
        }
        let to = |number: usize, name: &str| {
            Op::Symlink(format!("../archive/{number}-{name}").into(), format!("live/{name}").into())
        };
        base.extend(NAMES.iter().map(|name| to(0, name)));
        let relink = |number, name: &str| vec![Op::Unlink(format!("live/{name}").into()), to(number, name)];
        let paths: Vec<PathBuf> = NAMES.iter().map(|name| Path::new("/live").join(name)).collect();
        let moves =
            [relink(1, NAMES[CHAIN]), relink(1, NAMES[CA]), relink(0, NAMES[CA]), relink(0, NAMES[CHAIN])];
        taken_back(&format!("links, numbers used again: {reuse}"), &paths, &base, reuse, moves);
    }
    // A directory for each file, which is exchanged.
    let mut base = Vec::new();
    for (index, dir) in ["pair", "pair", "ca"].into_iter().enumerate() {
        if index != KEY {
            base.extend([mkdir(dir), mkdir(&format!("{dir}.new"))]);
        }
        base.extend(write(format!("{dir}/{}", NAMES[index]), &old[index]));
        base.extend(write(format!("{dir}.new/{}", NAMES[index]), &new[index]));
    }
    let paths = ["/pair/tls.crt", "/pair/tls.key", "/ca/ca.crt"].map(PathBuf::from);
    let there = |dir: &str| vec![rename(dir, &format!("{dir}.old")), rename(&format!("{dir}.new"), dir)];
    let back = |dir: &str| vec![rename(dir, &format!("{dir}.new")), rename(&format!("{dir}.old"), dir)];
    let moves = [there("pair"), there("ca"), back("ca"), back("pair")];
    taken_back("directories", &paths, &base, false, moves);
    // Plain files.
    let mut base = vec![mkdir("vol")];
    for (name, (old, new)) in NAMES.iter().zip(old.iter().zip(&new)) {
        base.extend(write(format!("vol/{name}"), old));
        base.extend(write(format!("vol/{name}.new"), new));
    }
    let paths: Vec<PathBuf> = NAMES.iter().map(|name| Path::new("/vol").join(name)).collect();
    let (chain, ca) = ("vol/tls.crt", "vol/ca.crt");
    let moves = [there(chain), there(ca), back(ca), back(chain)];
    taken_back("files", &paths, &base, false, moves);
}

/// Checks: INV-01 (b), ASM-05. A file that the moved link reaches outside of the new release, and
/// that is unchanged, may be written next.
#[test]
fn inv01_release_that_shares_a_file_with_the_last_commits_nothing() {
    let [old, new] = sets();
    let mut base = vec![mkdir("srv"), mkdir("srv/shared")];
    base.extend(write("srv/shared/ca.crt", &old[CA]));
    let release = |number: u32, set: &Set| {
        let dir = format!("srv/{number}");
        let mut ops = vec![mkdir(&dir)];
        ops.extend([CHAIN, KEY].iter().flat_map(|i| write(format!("{dir}/{}", NAMES[*i]), &set[*i])));
        ops.push(Op::Symlink("../shared/ca.crt".into(), format!("{dir}/ca.crt").into()));
        ops.push(Op::Symlink(number.to_string().into(), "srv/next".into()));
        ops
    };
    base.extend(release(1, &old));
    base.push(rename("srv/next", "srv/current"));
    let paths: Vec<PathBuf> = NAMES.iter().map(|name| Path::new("/srv/current").join(name)).collect();
    let mut live = world(&paths, &base, WorldConfig::default());
    apply(&live, &release(2, &new));
    nothing_for(&mut live, ms(20), "the new release");
    apply(&live, &[rename("srv/next", "srv/current")]);
    nothing_for(&mut live, ms(200), "the new release with the old CAs");
    apply(&live, &write("srv/shared/ca.crt", &new[CA]));
    assert!(live.until(ms(700), |reloader| reloader.current().generation == 2));
    assert!(serves(&live, &new));
}
