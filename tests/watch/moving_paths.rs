//! A path whose every component is moved, removed, re-pointed and changed in kind at random. Only
//! events report it.
//!
//! Engine: generated.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::common::{self, DEADLINE, at_once, by_events_only, started};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustls_reload::{Build, Builder, Built, Context, Error, Files, Layer, Timing};
use rustls_reload_harness::settings;

/// A build step whose value is the number in both files.
struct Number;

impl Build for Number {
    type Value = u64;

    fn build(&mut self, files: &Files, _: &Context<'_, u64>) -> Result<Built<u64>, Error> {
        let number = |index| std::str::from_utf8(files.get(index)?.1).ok()?.parse::<u64>().ok();
        match (number(0), number(1)) {
            (Some(crt), Some(key)) if crt == key => Ok(Built::new(crt)),
            numbers => Err(Error::new(Layer::Match, format!("{numbers:?}"))),
        }
    }
}

const HOPS: [&str; 3] = ["a", "b", "c"];
const FILES: [&str; 2] = ["crt", "key"];

/// A change of the path. Each ends with the next number in both files.
#[derive(Clone, Copy, Debug)]
enum Act {
    Rewrite,
    Replace,
    ByLinks,
    Exchange(usize),
    MoveIn(usize),
    Remake(usize),
    Link(usize, Target),
    Revive(usize),
    AwayAndBack(usize),
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Absolute,
    Relative,
    Hop,
    Dots,
}

struct Tree {
    root: PathBuf,
    number: u64,
    names: u64,
    /// The directories that were moved away, each with its component.
    old: Vec<(usize, PathBuf)>,
}

impl Tree {
    fn new(root: PathBuf) -> Self {
        let mut tree = Self { root, number: 0, names: 0, old: Vec::new() };
        fs::create_dir(tree.root.join("store")).unwrap();
        tree.fill(&tree.hop(0), 0);
        tree.number += 1;
        tree
    }

    /// Returns the path up to this component.
    fn hop(&self, hop: usize) -> PathBuf {
        HOPS[..=hop].iter().fold(self.root.clone(), |path, name| path.join(name))
    }

    fn files(&self) -> [PathBuf; 2] {
        FILES.map(|name| self.hop(2).join(name))
    }

    fn fresh(&mut self, kind: &str) -> PathBuf {
        self.names += 1;
        self.root.join("store").join(format!("{kind}{}", self.names))
    }

    /// Makes the directory of a component with everything beneath it.
    fn fill(&self, dir: &Path, hop: usize) {
        fs::create_dir(dir).unwrap();
        if hop < 2 {
            return self.fill(&dir.join(HOPS[hop + 1]), hop + 1);
        }
        FILES.iter().for_each(|name| fs::write(dir.join(name), self.number.to_string()).unwrap());
    }

    fn filled(&mut self, hop: usize) -> PathBuf {
        let dir = self.fresh("tree");
        self.fill(&dir, hop);
        dir
    }

    fn move_away(&mut self, hop: usize) {
        let old = self.fresh("old");
        fs::rename(self.hop(hop), &old).unwrap();
        self.old.push((hop, old));
    }

    fn remove(&self, hop: usize) {
        let path = self.hop(hop);
        if path.is_symlink() { fs::remove_file(path) } else { fs::remove_dir_all(path) }.unwrap();
    }

    fn act(&mut self, act: Act) {
        self.number += 1;
        let number = self.number.to_string();
        match act {
            Act::Rewrite => self.files().iter().for_each(|file| fs::write(file, &number).unwrap()),
            Act::Replace => self.files().iter().for_each(|file| common::replace(file, number.as_bytes())),
            Act::ByLinks => {
                for file in self.files() {
                    let (target, beside) = (self.fresh("file"), file.with_extension("next"));
                    fs::write(&target, &number).unwrap();
                    symlink(target, &beside).unwrap();
                    fs::rename(beside, file).unwrap();
                }
            }
            Act::Exchange(hop) => {
                let next = self.filled(hop);
                renameat_with(CWD, &next, CWD, self.hop(hop), RenameFlags::EXCHANGE).unwrap();
                self.old.push((hop, next));
            }
            Act::MoveIn(hop) => {
                let next = self.filled(hop);
                self.move_away(hop);
                fs::rename(next, self.hop(hop)).unwrap();
            }
            Act::Remake(hop) => {
                self.remove(hop);
                self.fill(&self.hop(hop), hop);
            }
            Act::Link(hop, target) => {
                let next = self.filled(hop);
                let target = self.target(&next, target);
                let beside = self.fresh("link");
                symlink(target, &beside).unwrap();
                if !self.hop(hop).is_symlink() {
                    self.move_away(hop);
                }
                fs::rename(beside, self.hop(hop)).unwrap();
            }
            Act::Revive(hop) => {
                let found = self.old.iter().position(|(old, _)| *old == hop);
                let Some((_, old)) = found.map(|index| self.old.swap_remove(index)) else {
                    return self.rewrite(&number);
                };
                self.move_away(hop);
                fs::rename(old, self.hop(hop)).unwrap();
                self.rewrite(&number);
            }
            Act::AwayAndBack(hop) => {
                let away = self.fresh("away");
                fs::rename(self.hop(hop), &away).unwrap();
                fs::rename(away, self.hop(hop)).unwrap();
                self.rewrite(&number);
            }
        }
    }

    /// Writes the files that the change may have removed.
    fn rewrite(&self, number: &str) {
        for file in self.files() {
            if fs::write(&file, number).is_err() {
                let _ = fs::remove_file(&file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(&file, number).unwrap();
            }
        }
    }

    /// Returns the target of a link that leads to `dir`, for a link in any component. Relative
    /// targets start at a directory of their own.
    fn target(&mut self, dir: &Path, target: Target) -> PathBuf {
        let name = dir.file_name().unwrap();
        match target {
            Target::Absolute => dir.to_owned(),
            Target::Hop => {
                let hop = self.fresh("hop");
                symlink(name, &hop).unwrap();
                hop
            }
            Target::Dots => self.root.join("store").join("..").join("store").join(name),
            Target::Relative => {
                let hop = self.fresh("around");
                symlink(Path::new("../store").join(name), &hop).unwrap();
                hop
            }
        }
    }
}

/// splitmix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn pick(state: &mut u64) -> Act {
    let mut below = |n: u64| usize::try_from(random(state) % n).unwrap();
    let hop = below(3);
    match below(9) {
        0 => Act::Rewrite,
        1 => Act::Replace,
        2 => Act::ByLinks,
        3 => Act::Exchange(hop),
        4 => Act::MoveIn(hop),
        5 => Act::Remake(hop),
        6 => Act::Link(hop, [Target::Absolute, Target::Relative, Target::Hop, Target::Dots][below(4)]),
        7 => Act::Revive(hop),
        _ => Act::AwayAndBack(hop),
    }
}

/// Checks: INV-05, INV-12. After each change the next one is noticed, no watch is left behind, and
/// no change takes longer than a settle time. There is no poll.
#[test]
fn inv05_path_that_changes_at_each_hop_is_followed_by_events() {
    let rounds = settings::number("TREE_ROUNDS", 75);
    let first = settings::number("TREE_SEED", 1);
    let seeds: Vec<u64> = (first..first + 6).collect();
    let slowest = at_once(&seeds, |&seed| {
        let mut slowest = Duration::ZERO;
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::new(dir.path().canonicalize().unwrap());
        let timing = Timing { settle: Duration::from_millis(30), ..by_events_only() };
        let reloader = Builder::new(tree.files(), Number).timing(timing).load().unwrap();
        let mut events = reloader.events();
        reloader.start().unwrap();
        started(&mut events);
        let mut state = seed;
        for round in 0..rounds {
            let acts: Vec<Act> = (0..=random(&mut state) % 3).map(|_| pick(&mut state)).collect();
            acts.iter().for_each(|act| tree.act(*act));
            let start = Instant::now();
            let mut current = reloader.current();
            while current.value != tree.number {
                let left = DEADLINE.saturating_sub(start.elapsed());
                current = reloader.wait_published(current.generation, left).unwrap_or_else(|| {
                    panic!("seed {seed}, round {round}: {acts:?} is not served: {:#?}", reloader.status())
                });
            }
            slowest = slowest.max(start.elapsed());
        }
        assert_eq!(reloader.status().degraded, None);
        slowest
    });
    println!("slowest: {slowest:?}");
}
