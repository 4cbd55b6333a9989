//! Worlds with a directory of which every file counts: who keeps it adds a file, takes one away, replaces one.

use std::path::{Path, PathBuf};

use super::{Publisher, Renewal, Scenario, Script, Set, Stage, full};
use crate::testkit::{Keyed, Op, kubelet_first, kubelet_update};

/// How the files of a directory change together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keeper {
    /// A file comes by a rename, then another is replaced by one.
    Adds,
    /// A file is replaced by a rename, then another comes by one.
    AddsLast,
    /// A file is written under its own name, then another is written over.
    InPlace,
    /// A file goes, then another is replaced.
    Removes,
    /// A file goes and comes again while another is replaced twice.
    ComesAndGoes,
    /// A file comes and goes again while another is replaced twice.
    Passes,
    /// The directory is a Kubernetes volume that gets a file more.
    Volume,
    /// The directory moves with all other files behind one link, a file more in it.
    Release,
}

/// What is in the directory before an update and after it.
const LISTS: [&[u8]; 3] = [b"R001001\n", b"R002001\n", b"R002002\n"];

impl Keeper {
    /// All of them.
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

    /// The paths of the set, the directory among them.
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

    /// The world before the update: whatever is written beside has been written.
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

    /// The update.
    #[must_use]
    pub fn update(self) -> Vec<Op> {
        let at = |name: &str| Path::new("vol/crl.d").join(name);
        let rename = |from: &str, to: &str| Op::Rename(at(from), at(to));
        match self {
            Self::Adds => vec![rename(".3", "b"), rename(".2", "a")],
            Self::AddsLast => vec![rename(".2", "a"), rename(".3", "b")],
            Self::InPlace => [write("vol/crl.d/b", LISTS[2]), write("vol/crl.d/a", LISTS[1])].concat(),
            Self::Removes => vec![Op::Unlink(at("b")), rename(".2", "a")],
            // It ends with what it began with: what lies between was on disk, and is half of something.
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

    /// Sets it up once for many runs, in the weather that `weather` makes of the default one.
    #[must_use]
    pub fn prepare(self, set: impl FnOnce(&mut Scenario)) -> Stage {
        let shrinks = matches!(self, Self::Removes | Self::ComesAndGoes | Self::Passes);
        // Who publishes matters to nobody here; what may have shrunk has to hold still for longer.
        let renewal = if shrinks { Renewal::Shrink } else { Renewal::NewKey };
        let mut scenario = Scenario::new(Publisher::StepRenew, renewal);
        set(&mut scenario);
        let paths = self.paths();
        let script =
            Script::new(&paths, &self.base(), self.update(), &[0], scenario.crash, &scenario.weather);
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

fn release(dir: &str, set: &Set, lists: &[Keyed<'_>]) -> Vec<Op> {
    let mut ops = files(dir, set);
    ops.push(Op::Mkdir(format!("{dir}/crl.d").into()));
    ops.extend(lists.iter().flat_map(|(name, list)| write(&format!("{dir}/crl.d/{name}"), list)));
    ops
}

fn write(path: &str, bytes: &[u8]) -> Vec<Op> {
    vec![Op::Create(path.into()), Op::Append(path.into(), bytes.to_vec())]
}
