//! Compares random small trees of directories, files, links and open descriptors with `open(2)`.
//!
//! Engine: generated.

use std::{
    fs::{self, File},
    os::{fd::AsRawFd, unix::fs::symlink},
    path::{Path, PathBuf},
};

use rustls_reload::fs::{Fs, NativeFs};
use rustls_reload_harness::settings;

use super::{ByText, snapshot};

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

/// A tree and its open files.
struct Tree {
    root: PathBuf,
    open: Vec<File>,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

impl Tree {
    fn new(root: PathBuf, random: &mut Random) -> Self {
        fs::create_dir(&root).unwrap();
        let mut tree = Self { root: root.clone(), open: Vec::new() };
        let mut dirs = vec![root];
        for number in 0..14 {
            let dir = random.of(&dirs);
            let path = dir.join(random.of(&NAMES));
            if path.symlink_metadata().is_ok() {
                continue;
            }
            match random.below(10) {
                0..3 => {
                    fs::create_dir(&path).unwrap();
                    if random.below(3) == 0 {
                        tree.open.push(File::open(&path).unwrap());
                    }
                    dirs.push(path);
                }
                3..6 => {
                    fs::write(&path, number.to_string()).unwrap();
                    if random.below(2) == 0 {
                        tree.open.push(File::open(&path).unwrap());
                        Self::replace(&path, random);
                    }
                }
                _ => symlink(tree.path(random), path).unwrap(),
            }
        }
        tree
    }

    /// Replaces a file. The open file keeps its content, and its name may get another one.
    fn replace(path: &Path, random: &mut Random) {
        let kind = random.below(4);
        if kind < 3 {
            fs::remove_file(path).unwrap();
        }
        if kind == 1 {
            fs::write(path, "another").unwrap();
        }
        if kind == 2 {
            // The text of the descriptor's link is this path.
            fs::write(format!("{} (deleted)", path.display()), "decoy").unwrap();
        }
    }

    /// Returns a path from any place to any place: for a link or to be opened.
    fn path(&self, random: &mut Random) -> PathBuf {
        let root = self.root.display();
        let mut path = match random.below(8) {
            0 => format!("{root}/"),
            1 => format!("/proc/self/root{root}/"),
            2 => format!("/proc/self/cwd/{}{}/", "../".repeat(12), &root.to_string()[1..]),
            3 | 4 if !self.open.is_empty() => {
                let file = self.open[random.below(self.open.len())].as_raw_fd();
                let path = format!("{}/{file}", random.of(&["/proc/self/fd", "/dev/fd"]));
                if random.below(2) == 0 {
                    return path.into();
                }
                path + "/"
            }
            _ => String::new(),
        };
        for _ in 0..=random.below(4) {
            path += random.of(&["a", "b", "c", "d", "a", "b", "..", "."]);
            path += random.of(&["/", "/", "/", "//", "/./"]);
        }
        if random.below(8) > 0 {
            path.truncate(path.trim_end_matches(['/', '.']).len());
        }
        if path.is_empty() { "..".into() } else { path.into() }
    }
}

/// Counts of snapshots of a port in comparison with the kernel.
#[derive(Debug, Default)]
struct Tally {
    read: usize,
    /// Paths that the kernel reads through procfs.
    magic: usize,
    refused: usize,
    /// Paths beyond the limit of looked-up names.
    limited: usize,
    /// Paths for which the snapshot has another file's bytes.
    wrong: Vec<String>,
    /// Paths that only the kernel or only the snapshot can read.
    differ: Vec<String>,
}

fn compare<F: Fs>(fs: &F, trees: usize, seed: u64) -> Tally {
    // In memory, because the disk does not matter here.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (mut tally, mut random) = (Tally::default(), Random(seed));
    for number in 0..trees {
        let tree = Tree::new(dir.path().join(number.to_string()), &mut random);
        for _ in 0..8 {
            let path = tree.root.join(tree.path(&mut random));
            let (bytes, walk) = snapshot(fs, &path);
            let case = || format!("seed {seed}, tree {number}, {}: {bytes:?}", path.display());
            match (fs::read(&path), &bytes) {
                (Ok(kernel), Ok(bytes)) if kernel == *bytes => {
                    tally.read += 1;
                    let magic = walk.entries.iter().any(|entry| entry.path.starts_with("/proc"));
                    tally.magic += usize::from(magic);
                }
                (Ok(_), Ok(_)) => tally.wrong.push(case()),
                (Err(_), Err(_)) => tally.refused += 1,
                (_, Err(error)) if error.why().contains("names to look up") => tally.limited += 1,
                _ => tally.differ.push(case()),
            }
        }
    }
    tally
}

/// Checks: INV-01.
#[test]
fn inv01_generated_path_is_read_as_by_open_or_refused_by_both() {
    let trees = settings::number("TREES", 2_000);
    let tally = compare(&NativeFs::default(), trees, 1);
    assert!(tally.wrong.is_empty() && tally.differ.is_empty(), "{tally:#?}");
    assert!(tally.read > trees && tally.magic > trees / 4 && tally.refused > trees, "{tally:#?}");
    assert!(tally.limited < 10, "{tally:#?}");
    println!("{trees} trees: {tally:?}");
}

/// The text of a magic link is not its target.
// Breaks: INV-01
#[test]
fn inv01_magic_links_taken_by_their_text_are_caught() {
    let tally = compare(&ByText { fs: NativeFs::default(), asks: false }, 400, 1);
    assert!(!tally.wrong.is_empty() && !tally.differ.is_empty(), "{tally:#?}");
}

/// Checks: INV-01. Whatever the walk does not know about links, its result is compared with the
/// file that the kernel reaches.
#[test]
fn inv01_walk_that_misreads_links_never_serves_another_file() {
    let tally = compare(&ByText { fs: NativeFs::default(), asks: true }, 400, 1);
    assert!(tally.wrong.is_empty(), "{tally:#?}");
    assert!(tally.read > 200 && !tally.differ.is_empty(), "{tally:#?}");
}
