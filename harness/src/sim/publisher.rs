//! The publishers of the field: the system calls by which each writes its files.

use std::path::{Path, PathBuf};

use super::scenario::{BLOCK, CA, CHAIN, KEY, ORDERS, Order, Set};
use rustls_reload_testkit::{NamedFile, Op, kubelet_first, kubelet_update};

/// A way in which a set gets to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publisher {
    /// kubelet's `AtomicWriter`, with its files in this order.
    Kubelet(Order),
    /// kubelet's `AtomicWriter` after a crash, which left a stale `..data_tmp` and an orphan
    /// directory.
    KubeletAfterCrash,
    /// kubelet's `AtomicWriter` before kubernetes#114464, which set permissions after the rename.
    KubeletLateChmod,
    /// Files reached through symlinks into a volume: `tls.crt -> /csi/tls.crt -> ..data/tls.crt`.
    LinkedVolume,
    /// `certbot renew`.
    Certbot,
    /// acme.sh, spiffe-helper, `cp`: truncate and write each file, block by block.
    InPlace(Order),
    /// `cp -p`: truncate and write each file, then restore an old modification time.
    InPlaceOldTimes,
    /// `step renew`: the chain alone, in place.
    StepRenew,
    /// Vault Agent, consul-template: a temporary name and a rename per file.
    RenamePerFile(Order),
    /// rsync, editors: a rename per file, with the old file kept under a backup name.
    RenameWithBackup,
    /// `current -> releases/7`, with the symlink replaced; if true, its target is
    /// `/srv/releases/7`.
    Release(bool),
    /// The directory is renamed away, and another one is renamed in.
    DirSwapped,
    /// The directory is removed, made again and filled.
    DirRemade,
    /// The server pair and the client CAs are in two volumes, updated one after the other.
    Volumes,
}

impl Publisher {
    /// Returns one publisher of each kind, with all orders if `all` is set.
    #[must_use]
    pub fn all(all: bool) -> Vec<Self> {
        let orders = &ORDERS[..if all { 6 } else { 1 }];
        let mut publishers: Vec<_> = orders.iter().map(|order| Self::Kubelet(*order)).collect();
        publishers.extend([Self::KubeletAfterCrash, Self::KubeletLateChmod, Self::LinkedVolume]);
        publishers.push(Self::Certbot);
        publishers.extend(orders.iter().map(|order| Self::InPlace(*order)));
        publishers.extend([Self::InPlaceOldTimes, Self::StepRenew]);
        publishers.extend(orders.iter().map(|order| Self::RenamePerFile(*order)));
        publishers.extend([Self::RenameWithBackup, Self::Release(false), Self::Release(true)]);
        publishers.extend([Self::DirSwapped, Self::DirRemade, Self::Volumes]);
        publishers
    }

    /// Returns the name in printed tables and replay lines.
    #[must_use]
    pub fn name(self) -> String {
        let order = |order: Order| order.map(|index| ["chain", "key", "ca"][index]).join("-");
        match self {
            Self::Kubelet(files) => format!("kubelet:{}", order(files)),
            Self::KubeletAfterCrash => "kubelet-after-crash".to_owned(),
            Self::KubeletLateChmod => "kubelet-late-chmod".to_owned(),
            Self::LinkedVolume => "linked-volume".to_owned(),
            Self::Certbot => "certbot".to_owned(),
            Self::InPlace(files) => format!("in-place:{}", order(files)),
            Self::InPlaceOldTimes => "in-place-old-times".to_owned(),
            Self::StepRenew => "step-renew".to_owned(),
            Self::RenamePerFile(files) => format!("rename-per-file:{}", order(files)),
            Self::RenameWithBackup => "rename-with-backup".to_owned(),
            Self::Release(absolute) => format!("release{}", if absolute { ":absolute" } else { "" }),
            Self::DirSwapped => "dir-swapped".to_owned(),
            Self::DirRemade => "dir-remade".to_owned(),
            Self::Volumes => "volumes".to_owned(),
        }
    }

    /// Returns whether rewritten files get their earlier modification times back, as by `cp -p`.
    #[must_use]
    pub fn restores_times(self) -> bool {
        self == Self::InPlaceOldTimes
    }

    /// Returns whether one rename commits an update (ASM-06); otherwise it is written name by name
    /// (ASM-05).
    #[must_use]
    pub fn commits_by_rename(self) -> bool {
        matches!(
            self,
            Self::Kubelet(_)
                | Self::KubeletAfterCrash
                | Self::KubeletLateChmod
                | Self::LinkedVolume
                | Self::Release(_)
                | Self::DirSwapped
                | Self::Volumes
        )
    }

    /// Returns the indices of the files of each volume.
    #[must_use]
    pub fn volumes(self) -> Vec<Vec<usize>> {
        if self == Self::Volumes { vec![vec![CHAIN, KEY], vec![CA]] } else { vec![vec![CHAIN, KEY, CA]] }
    }

    /// Returns the paths of the set.
    #[must_use]
    pub fn paths(self) -> Vec<PathBuf> {
        let at = |dir: &str| NAMES.iter().map(|name| Path::new(dir).join(name)).collect();
        match self {
            Self::Certbot => LIVE.iter().map(|name| Path::new("/live").join(format!("{name}.pem"))).collect(),
            Self::Release(_) => at("/srv/current"),
            Self::Volumes => vec!["/pair/tls.crt".into(), "/pair/tls.key".into(), "/trust/ca.crt".into()],
            Self::LinkedVolume => at("/etc/tls"),
            _ => at("/vol"),
        }
    }

    /// Returns the steps of the first publication.
    #[must_use]
    pub fn base(self, set: &Set) -> Vec<Op> {
        let vol = Path::new("vol");
        let mkdir = |path: &str| Op::Mkdir(path.into());
        match self {
            Self::Kubelet(_) | Self::KubeletLateChmod => kubelet_base(vol, &pick(set, &[0, 1, 2])),
            Self::KubeletAfterCrash => {
                let mut ops = kubelet_base(vol, &pick(set, &[0, 1, 2]));
                ops.extend([
                    mkdir("vol/..9"),
                    Op::Create("vol/..9/tls.crt".into()),
                    Op::Symlink("..9".into(), "vol/..data_tmp".into()),
                ]);
                ops
            }
            Self::LinkedVolume => {
                let mut ops = kubelet_base(Path::new("csi"), &pick(set, &[0, 1, 2]));
                ops.extend([mkdir("etc"), mkdir("etc/tls")]);
                ops.extend(
                    NAMES.iter().map(|name| {
                        Op::Symlink(Path::new("/csi").join(name), Path::new("etc/tls").join(name))
                    }),
                );
                ops
            }
            Self::Certbot => {
                let mut ops = vec![mkdir("archive"), mkdir("live")];
                for index in CERTBOT {
                    ops.extend(write(&archive(index, 1), &set[index], false));
                    ops.push(Op::Symlink(Path::new("..").join(archive(index, 1)), live(index)));
                }
                ops
            }
            Self::Release(_) => {
                let mut ops = vec![mkdir("srv"), mkdir("srv/releases")];
                ops.extend(fill(Path::new("srv/releases/1"), set));
                ops.push(Op::Symlink("releases/1".into(), "srv/current".into()));
                ops
            }
            Self::Volumes => {
                let mut ops = kubelet_base(Path::new("pair"), &pick(set, &[0, 1]));
                ops.extend(kubelet_base(Path::new("trust"), &pick(set, &[2])));
                ops
            }
            _ => fill(vol, set),
        }
    }

    /// Returns the steps of the update to `next` as generation `number`.
    #[must_use]
    pub fn update(self, number: u32, next: &Set) -> Vec<Op> {
        let vol = Path::new("vol");
        let (old, new) = (format!("..{}", number - 1), format!("..{number}"));
        let at = |index: usize| vol.join(NAMES[index]);
        match self {
            Self::Kubelet(order) => kubelet_update(vol, &old, &new, &pick(next, &order)),
            Self::KubeletAfterCrash => {
                let mut ops = kubelet_update(vol, &old, &new, &pick(next, &[0, 1, 2]));
                if number == 2 {
                    ops.insert(0, Op::Unlink("vol/..data_tmp".into()));
                }
                ops
            }
            Self::KubeletLateChmod => {
                chmod_after_commit(kubelet_update(vol, &old, &new, &pick(next, &[0, 1, 2])))
            }
            Self::LinkedVolume => kubelet_update(Path::new("csi"), &old, &new, &pick(next, &[0, 1, 2])),
            Self::Certbot => renew_links(number, next),
            Self::InPlace(order) => order.iter().flat_map(|i| write(&at(*i), &next[*i], true)).collect(),
            Self::InPlaceOldTimes => [0, 1, 2]
                .iter()
                .flat_map(|i| {
                    let mut ops = write(&at(*i), &next[*i], true);
                    ops.push(Op::Modified(at(*i), std::time::Duration::from_secs(1_700_000_000)));
                    ops
                })
                .collect(),
            Self::StepRenew => write(&at(CHAIN), &next[CHAIN], true),
            Self::RenamePerFile(order) => order.iter().flat_map(|i| replace(&at(*i), &next[*i])).collect(),
            Self::RenameWithBackup => [0, 1, 2]
                .iter()
                .flat_map(|i| {
                    let mut ops = replace(&at(*i), &next[*i]);
                    let backup = at(*i).with_extension("orig");
                    ops.insert(ops.len() - 1, Op::Rename(at(*i), backup));
                    ops
                })
                .collect(),
            Self::Release(absolute) => release(number, next, absolute),
            Self::DirSwapped => swap_directory(vol, number, next),
            Self::DirRemade => remake_directory(vol, next),
            Self::Volumes => {
                let mut ops = kubelet_update(Path::new("pair"), &old, &new, &pick(next, &[0, 1]));
                ops.extend(kubelet_update(Path::new("trust"), &old, &new, &pick(next, &[2])));
                ops
            }
        }
    }
}

const NAMES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];
const LIVE: [&str; 3] = ["fullchain", "privkey", "chain"];
/// The order in which certbot re-points its symlinks.
const CERTBOT: [usize; 3] = [KEY, CA, CHAIN];

fn pick<'a>(set: &'a Set, order: &[usize]) -> Vec<NamedFile<'a>> {
    order.iter().map(|index| (NAMES[*index], &set[*index][..])).collect()
}

fn kubelet_base(dir: &Path, files: &[NamedFile<'_>]) -> Vec<Op> {
    let mut ops = vec![Op::Mkdir(dir.to_owned())];
    ops.extend(kubelet_first(dir, "..1", files));
    ops
}

fn archive(index: usize, number: u32) -> PathBuf {
    Path::new("archive").join(format!("{}{number}.pem", LIVE[index]))
}

fn live(index: usize) -> PathBuf {
    Path::new("live").join(format!("{}.pem", LIVE[index]))
}

/// Moves the permissions of the files behind the rename that commits them. Until then the files
/// have none.
fn chmod_after_commit(ops: Vec<Op>) -> Vec<Op> {
    let (late, mut ops): (Vec<_>, Vec<_>) = ops.into_iter().partition(|op| matches!(op, Op::Chmod(..)));
    for chmod in &late {
        let Op::Chmod(path, _) = chmod else { continue };
        let create = ops.iter().position(|op| matches!(op, Op::Append(at, _) if at == path));
        if let Some(create) = create {
            ops.insert(create + 1, Op::Chmod(path.clone(), 0));
        }
    }
    let commit = ops.iter().position(|op| matches!(op, Op::Rename(..))).unwrap_or(0);
    ops.splice(commit + 1..commit + 1, late);
    ops
}

/// Returns the steps of `certbot renew`: the new files, then each symlink.
fn renew_links(number: u32, next: &Set) -> Vec<Op> {
    let mut ops = Vec::new();
    for index in CERTBOT {
        ops.extend(write(&archive(index, number), &next[index], false));
    }
    for index in CERTBOT {
        ops.push(Op::Unlink(live(index)));
        ops.push(Op::Symlink(Path::new("..").join(archive(index, number)), live(index)));
    }
    ops
}

/// Returns the steps that fill a new directory and rename it to `vol`.
fn swap_directory(vol: &Path, number: u32, next: &Set) -> Vec<Op> {
    let mut ops = fill(Path::new("next"), next);
    ops.push(Op::Rename(vol.into(), format!("old{number}").into()));
    ops.push(Op::Rename("next".into(), vol.into()));
    ops
}

/// Returns the steps that remove `vol`, make it anew, and write its files in place.
fn remake_directory(vol: &Path, next: &Set) -> Vec<Op> {
    let at = |index: usize| vol.join(NAMES[index]);
    let mut ops: Vec<_> = (0..3).map(|i| Op::Unlink(at(i))).collect();
    ops.push(Op::Rmdir(vol.into()));
    ops.push(Op::Mkdir(vol.into()));
    ops.extend((0..3).flat_map(|i| write(&at(i), &next[i], true)));
    ops
}

/// Returns the steps of a release: a new directory, and a symlink that is renamed over the old one.
fn release(number: u32, next: &Set, absolute: bool) -> Vec<Op> {
    let release = format!("releases/{number}");
    let mut ops = fill(&Path::new("srv").join(&release), next);
    let target = if absolute { format!("/srv/{release}") } else { release };
    ops.push(Op::Symlink(target.into(), "srv/current.tmp".into()));
    ops.push(Op::Rename("srv/current.tmp".into(), "srv/current".into()));
    ops
}

/// Returns the steps that truncate and write a file; `in_blocks` makes one step per block.
fn write(path: &Path, bytes: &[u8], in_blocks: bool) -> Vec<Op> {
    let size = if in_blocks { BLOCK } else { bytes.len() };
    let mut ops = vec![Op::Create(path.to_owned())];
    ops.extend(bytes.chunks(size).map(|block| Op::Append(path.to_owned(), block.to_vec())));
    ops
}

/// Returns the steps that write a file under another name and rename it.
fn replace(path: &Path, bytes: &[u8]) -> Vec<Op> {
    let beside = path.with_extension("tmp");
    let mut ops = write(&beside, bytes, false);
    ops.push(Op::Rename(beside, path.to_owned()));
    ops
}

fn fill(dir: &Path, set: &Set) -> Vec<Op> {
    let mut ops = vec![Op::Mkdir(dir.to_owned())];
    ops.extend((0..3).flat_map(|i| write(&dir.join(NAMES[i]), &set[i], false)));
    ops
}
