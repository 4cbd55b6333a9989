//! Graphs of symlinks on the simulated disk, resolved by the reader and by a simple model.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::Script;
use rustls_reload::{
    PathSet, Timing,
    internal::{
        self, Walk,
        snapshot::{self, LINK_LIMIT, LOOKUP_LIMIT},
    },
};
use rustls_reload_testkit::Op;

use crate::sim::{self, Replay, Sim, WorldConfig};

/// Limit of nodes on one disk.
const NODE_LIMIT: usize = 64;

/// The names in use: few, so that paths meet.
const NAMES: [&str; 8] = ["a", "b", "c", "d", "..", ".", "a", "b"];

/// The entries of a disk, by their paths without symlinks.
type Tree = BTreeMap<PathBuf, Node>;
/// The names that were looked up, by directory.
type Lookups = BTreeMap<PathBuf, BTreeSet<OsString>>;

enum Node {
    Dir,
    File(Vec<u8>),
    Link(PathBuf),
    Fifo,
}

/// Makes directories, files, symlinks and FIFOs from the input, and reads some paths. The bytes,
/// the directories in which names were looked up, and the names have to agree with a simple model.
/// The watch plan has to hold each of these directories.
///
/// # Panics
/// If they disagree.
pub fn plan_walk(data: &[u8]) {
    let mut script = Script(data);
    let paths: Vec<PathBuf> =
        (0..=script.byte() % 3).map(|_| Path::new("/").join(path(&mut script))).collect();
    let (tree, sim) = grow(&mut script);
    let Ok(set) = PathSet::new(&paths) else { return };
    let snapshot = snapshot::take(&sim.fs(), &set);

    let mut lookups = Lookups::new();
    let resolved: Vec<_> = set.paths().iter().map(|path| real_path(&tree, path, &mut lookups)).collect();
    let walked = |walk: &Walk| -> Lookups {
        walk.dirs.iter().map(|dir| (dir.path.clone(), dir.names.clone())).collect()
    };
    assert_eq!(walked(&snapshot.walk), lookups, "other names were looked up: {paths:?}");
    let planned: BTreeSet<_> = internal::planned(&snapshot.walk).into_iter().collect();
    assert_eq!(
        planned,
        lookups.keys().cloned().collect(),
        "the plan misses a directory, or has one too many"
    );
    assert!(snapshot.walk.traces.iter().all(|trace| trace.len() <= LOOKUP_LIMIT + 1));

    match &snapshot.files {
        Ok(files) => {
            assert_eq!(files.iter().count(), paths.len());
            for ((path, bytes), real) in files.iter().zip(&resolved) {
                let Some(Node::File(content)) = real.as_ref().and_then(|real| tree.get(real)) else {
                    panic!("{} was read, and leads to no file", path.display());
                };
                assert_eq!(bytes, content, "{} leads elsewhere", path.display());
            }
        }
        Err(failure) => {
            assert!(!failure.is_torn(), "nothing moved: {failure}");
            assert!(resolved.contains(&None), "{failure}: {paths:?}");
        }
    }
    // Nothing has changed, so a second, cheaper snapshot has to be equal.
    if let Ok(files) = &snapshot.files {
        let again = snapshot::take_since(&sim.fs(), &set, Some((&snapshot.walk, files)));
        assert_eq!(again.files.as_ref(), Ok(files));
        assert_eq!(again.walk, snapshot.walk);
    }
}

/// Returns the file that `path` leads to, if there is one: path_resolution(7), one name at a time.
fn real_path(tree: &Tree, path: &Path, lookups: &mut Lookups) -> Option<PathBuf> {
    let names = |path: &Path| {
        // A trailing dot or slash requires a directory before it, and is not a component.
        let text = path.as_os_str().as_encoded_bytes();
        let dot = (text.ends_with(b"/") || text.ends_with(b"/.")).then(|| ".".into());
        let parts = path.components().rev().map(|part| part.as_os_str().to_owned());
        dot.into_iter().chain(parts).collect::<Vec<_>>()
    };
    let (mut at, mut rest) = (PathBuf::from("/"), names(path));
    let (mut links, mut looked_up) = (0, 0);
    while let Some(name) = rest.pop() {
        match name.to_str() {
            Some("/") => at = PathBuf::from("/"),
            Some(".") => {}
            Some("..") => drop(at.pop()),
            _ => {
                let next = at.join(&name);
                lookups.entry(at.clone()).or_default().insert(name);
                looked_up += 1;
                match tree.get(&next)? {
                    _ if looked_up > LOOKUP_LIMIT => return None,
                    Node::Link(_) if links == LINK_LIMIT => return None,
                    Node::Link(target) => {
                        links += 1;
                        rest.extend(names(target));
                    }
                    Node::File(_) if rest.is_empty() => return Some(next),
                    Node::Dir if !rest.is_empty() => at = next,
                    Node::Dir | Node::File(_) | Node::Fifo => return None,
                }
            }
        }
    }
    None
}

/// Makes the entries of the input, on a disk and in a tree.
#[allow(clippy::expect_used)] // reason: every step is made where it can be taken
fn grow(script: &mut Script<'_>) -> (Tree, Sim) {
    let config = WorldConfig::default();
    let stage = sim::Script::new(&[], &[], Vec::new(), &[], None, &config);
    let sim =
        Sim::new(&stage, Timing::default().settle, config, Arc::new(Mutex::new(Replay::new(Vec::new()))));
    let (mut tree, mut dirs) = (Tree::new(), vec![PathBuf::from("/")]);
    while !script.is_over() && tree.len() < NODE_LIMIT {
        let kind = script.byte();
        let at = script.pick(&dirs).join(NAMES[usize::from(kind >> 4) % 4]);
        if tree.contains_key(&at) {
            continue;
        }
        let (ops, node) = match kind % 8 {
            0..=1 => {
                dirs.push(at.clone());
                (vec![Op::Mkdir(at.clone())], Node::Dir)
            }
            2 => {
                let content = at.to_string_lossy().into_owned().into_bytes();
                (vec![Op::Create(at.clone()), Op::Append(at.clone(), content.clone())], Node::File(content))
            }
            3 => (vec![Op::Mkfifo(at.clone())], Node::Fifo),
            _ => {
                let target = path(script);
                let target = if kind & 8 == 0 { target } else { Path::new("/").join(target) };
                (vec![Op::Symlink(target.clone(), at.clone())], Node::Link(target))
            }
        };
        for op in &ops {
            sim.apply(op).expect("a step that can be taken");
        }
        tree.insert(at, node);
    }
    (tree, sim)
}

/// Reads a path of up to 32 parts, each from three bits.
fn path(script: &mut Script<'_>) -> PathBuf {
    let parts = 1 + script.byte() % 32;
    let mut path = PathBuf::new();
    for _ in 0..parts.div_ceil(2) {
        let two = script.byte();
        path.push(NAMES[usize::from(two & 7)]);
        path.push(NAMES[usize::from(two >> 4 & 7)]);
    }
    path
}
