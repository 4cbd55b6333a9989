//! Worlds with a directory in which every file counts, whose publisher adds, removes and replaces
//! files.

use std::path::{Path, PathBuf};

use super::{Publisher, Renewal, Scenario, Script, Set, Stage, full};
use rustls_reload_testkit::{NamedFile, Op, kubelet_first, kubelet_update};

/// A combination of changes to the files of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DirectoryPublisher {
    /// A rename adds a file, then another one replaces a file.
    Adds,
    /// A rename replaces a file, then another one adds a file.
    AddsLast,
    /// A file is written under its own name, then another one is overwritten.
    InPlace,
    /// A file is removed, then another one is replaced.
    Removes,
    /// A file is removed and added again while another one is replaced twice.
    ComesAndGoes,
    /// A file is added and removed again while another one is replaced twice.
    Passes,
    /// The directory is a Kubernetes volume that gets one more file.
    Volume,
    /// The directory, with one more file, moves together with all other files behind one symlink.
    Release,
}

/// Contents of the files in the directory, before and after an update.
const LISTS: [&[u8]; 3] = [b"R001001\n", b"R002001\n", b"R002002\n"];

impl DirectoryPublisher {
    /// All variants.
    pub const ALL: [Self; 8] = [
        Self::Adds,
        Self::AddsLast,
        Self::InPlace,
        Self::Removes,
        Self::ComesAndGoes,
        Self::Passes,
        Self::Volume,
        Self::Release,
    ];

    /// Returns the paths of the set, including the directory.
    #[must_use]
    pub fn paths(self) -> Vec<PathBuf> {
        let (vol, dir) = match self {
            Self::Release => ("/srv/current", "/srv/current/crl.d/"),
            Self::Volume => ("/vol", "/crl/"),
            _ => ("/vol", "/vol/crl.d/"),
        };
        let mut paths: Vec<_> =
            ["tls.crt", "tls.key", "ca.crt"].iter().map(|name| Path::new(vol).join(name)).collect();
        paths.push(dir.into());
        paths
    }

    /// Returns the steps that make the world before the update, including everything that the
    /// update renames into place.
    #[must_use]
    pub fn base(self) -> Vec<Op> {
        let set = full(1, 1);
        match self {
            Self::Release => {
                let mut ops = vec![Op::Mkdir("srv".into())];
                ops.extend(release("srv/1", &set, &[("a", LISTS[0])]));
                ops.extend(release("srv/2", &full(2, 2), &[("a", LISTS[1]), ("b", LISTS[2])]));
                ops.push(Op::Symlink("1".into(), "srv/current".into()));
                ops.push(Op::Symlink("2".into(), "srv/next".into()));
                ops
            }
            Self::Volume => {
                let mut ops = files("vol", &set);
                ops.push(Op::Mkdir("crl".into()));
                ops.extend(kubelet_first(Path::new("crl"), "..1", &[("a", LISTS[0])]));
                ops
            }
            _ => {
                let mut ops = files("vol", &set);
                ops.push(Op::Mkdir("vol/crl.d".into()));
                ops.push(Op::Mkdir("vol/crl.d/lost+found".into()));
                ops.extend(write("vol/crl.d/a", LISTS[0]));
                ops.extend(
                    [".1", ".2", ".3"]
                        .iter()
                        .zip(LISTS)
                        .flat_map(|(name, list)| write(&format!("vol/crl.d/{name}"), list)),
                );
                if matches!(self, Self::Removes | Self::ComesAndGoes) {
                    ops.extend(write("vol/crl.d/b", LISTS[2]));
                }
                ops
            }
        }
    }

    /// Returns the steps of the update.
    #[must_use]
    pub fn update(self) -> Vec<Op> {
        let at = |name: &str| Path::new("vol/crl.d").join(name);
        let rename = |from: &str, to: &str| Op::Rename(at(from), at(to));
        match self {
            Self::Adds => vec![rename(".3", "b"), rename(".2", "a")],
            Self::AddsLast => vec![rename(".2", "a"), rename(".3", "b")],
            Self::InPlace => [write("vol/crl.d/b", LISTS[2]), write("vol/crl.d/a", LISTS[1])].concat(),
            Self::Removes => vec![Op::Unlink(at("b")), rename(".2", "a")],
            // The update ends with the bytes that it began with. The bytes in between were on disk,
            // but are half of an update.
            Self::ComesAndGoes => {
                vec![rename("b", ".b"), rename(".2", "a"), rename(".b", "b"), rename(".1", "a")]
            }
            Self::Passes => vec![rename(".1", "b"), rename(".2", "a"), rename(".3", "a"), rename("b", ".1")],
            Self::Volume => {
                let mut ops =
                    kubelet_update(Path::new("crl"), "..1", "..2", &[("a", LISTS[1]), ("b", LISTS[2])]);
                // The old payload has one file less.
                ops.retain(|op| *op != Op::Unlink("crl/..1/b".into()));
                let commit = ops.iter().position(|op| matches!(op, Op::Rename(..))).unwrap_or(0);
                ops.insert(commit + 1, Op::Symlink("..data/b".into(), "crl/b".into()));
                ops
            }
            Self::Release => vec![Op::Rename("srv/next".into(), "srv/current".into())],
        }
    }

    /// Prepares the world once for many runs, in a scenario that `set` modifies.
    #[must_use]
    pub fn prepare(self, set: impl FnOnce(&mut Scenario)) -> Stage {
        let shrinks = matches!(self, Self::Removes | Self::ComesAndGoes | Self::Passes);
        // The publisher does not matter here. A set that may have shrunk has to be stable for
        // longer.
        let renewal = if shrinks { Renewal::Shrink } else { Renewal::NewKey };
        let mut scenario = Scenario::new(Publisher::StepRenew, renewal);
        set(&mut scenario);
        let paths = self.paths();
        let script = Script::new(&paths, &self.base(), self.update(), &[0], scenario.crash, &scenario.config);
        Stage { scenario, sets: Vec::new(), paths, script }
    }
}

fn files(dir: &str, set: &Set) -> Vec<Op> {
    let mut ops = vec![Op::Mkdir(dir.into())];
    ops.extend(
        ["tls.crt", "tls.key", "ca.crt"]
            .iter()
            .zip(set)
            .flat_map(|(name, bytes)| write(&format!("{dir}/{name}"), bytes)),
    );
    ops
}

fn release(dir: &str, set: &Set, lists: &[NamedFile<'_>]) -> Vec<Op> {
    let mut ops = files(dir, set);
    ops.push(Op::Mkdir(format!("{dir}/crl.d").into()));
    ops.extend(lists.iter().flat_map(|(name, list)| write(&format!("{dir}/crl.d/{name}"), list)));
    ops
}

fn write(path: &str, bytes: &[u8]) -> Vec<Op> {
    vec![Op::Create(path.into()), Op::Append(path.into(), bytes.to_vec())]
}
