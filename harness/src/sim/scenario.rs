//! The publications of a simulated world: sets of marked files, and the publishers of the field
//! that write them.

use std::path::{Path, PathBuf};

use rustls_reload_testkit::{NamedFile, Op, kubelet_first, kubelet_update};

/// The bytes of a block. Files are whole numbers of blocks, so a file that is cut at a block
/// boundary is a valid shorter one.
pub const BLOCK: usize = 8;

/// The index of the chain in a set.
pub const CHAIN: usize = 0;
/// The index of the key in a set.
pub const KEY: usize = 1;
/// The index of the client CAs in a set.
pub const CA: usize = 2;

/// Chain, key and client CAs of one generation.
pub type Set = [Vec<u8>; 3];

/// The order in which a publisher writes its files.
pub type Order = [usize; 3];

/// All orders of three files.
pub const ORDERS: [Order; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// The files that a renewal changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Renewal {
    /// Everything, including the key.
    NewKey,
    /// Everything except the key.
    SameKey,
    /// The leaf alone.
    LeafOnly,
    /// The intermediate alone.
    ChainOnly,
    /// The client CAs alone.
    CaOnly,
    /// The client CAs, which lose the last one.
    Shrink,
    /// Nothing: equal bytes are written again.
    Nothing,
    /// Everything, with a key that does not belong to the leaf.
    Broken,
}

impl Renewal {
    /// The renewals that end in a set that can be served.
    pub const ALL: [Self; 7] = [
        Self::NewKey,
        Self::SameKey,
        Self::LeafOnly,
        Self::ChainOnly,
        Self::CaOnly,
        Self::Shrink,
        Self::Nothing,
    ];

    /// Returns the set that follows `old` as generation `number`.
    #[must_use]
    pub fn next(self, old: &Set, number: u32) -> Set {
        let old_key = number_of(&old[KEY]);
        let new = |key| full(number, key);
        let [chain, key, ca] = old.clone();
        match self {
            Self::NewKey => new(number),
            Self::SameKey => [new(old_key)[CHAIN].clone(), key, new(old_key)[CA].clone()],
            Self::LeafOnly => [[&new(old_key)[CHAIN][..BLOCK], &chain[BLOCK..]].concat(), key, ca],
            Self::ChainOnly => [[&chain[..BLOCK], &new(old_key)[CHAIN][BLOCK..]].concat(), key, ca],
            Self::CaOnly => [chain, key, new(old_key)[CA].clone()],
            Self::Shrink => {
                let len = ca.len() - BLOCK;
                [chain, key, ca[..len.max(BLOCK)].to_vec()]
            }
            Self::Nothing => old.clone(),
            Self::Broken => [new(number)[CHAIN].clone(), new(number + 500)[KEY].clone(), ca],
        }
    }
}

/// Makes a complete set: leaf and intermediate, key, three client CAs.
#[must_use]
pub fn full(number: u32, key: u32) -> Set {
    let block = |tag: char, n: u32| format!("{tag}{number:03}{n:03}\n");
    let chain = block('L', key) + &block('I', 1);
    let ca = block('C', 1) + &block('C', 2) + &block('C', 3);
    [chain.into_bytes(), format!("K{key:03}{key:03}\n").into_bytes(), ca.into_bytes()]
}

/// Returns the number that the leaf and the key must have in common.
fn number_of(block: &[u8]) -> u32 {
    block.get(4..7).and_then(|n| std::str::from_utf8(n).ok()?.parse().ok()).unwrap_or(u32::MAX)
}

/// Returns whether a set would pass every check. This oracle of every world does not know where the
/// bytes come from.
#[must_use]
pub fn is_valid(files: &[Option<impl AsRef<Vec<u8>>>]) -> bool {
    let blocks = |index: usize| -> Option<Vec<Vec<u8>>> {
        let bytes = files.get(index)?.as_ref()?.as_ref();
        let whole = !bytes.is_empty() && bytes.len().is_multiple_of(BLOCK);
        whole.then(|| bytes.chunks(BLOCK).map(<[u8]>::to_vec).collect())
    };
    let (Some(chain), Some(key), Some(ca)) = (blocks(CHAIN), blocks(KEY), blocks(CA)) else { return false };
    // All files of a directory in which every file counts.
    let mut listed = (CA + 1..files.len()).map(blocks);
    chain[0][0] == b'L'
        && chain[1..].iter().all(|block| block[0] == b'I')
        && key.len() == 1
        && key[0][0] == b'K'
        && number_of(&key[0]) == number_of(&chain[0])
        && ca.iter().all(|block| block[0] == b'C')
        && listed.all(|file| file.is_some_and(|blocks| blocks.iter().all(|block| block[0] == b'R')))
}

/// Leaves with these numbers have a date. The first is valid when a world begins, and each other
/// one ten minutes after its predecessor.
const DATED: std::ops::Range<u32> = 700..800;

/// Returns the number of a leaf that is valid from `tens` times ten minutes after the beginning of
/// a world.
///
/// # Panics
/// If `tens` is more than 99.
#[must_use]
pub fn dated(tens: u32) -> u32 {
    assert!(tens < DATED.end - DATED.start, "no leaf has such a date");
    DATED.start + tens
}

/// Returns the wall time from which the leaf of a valid set is valid, if it has a date.
#[must_use]
pub fn not_before(files: &[Option<impl AsRef<Vec<u8>>>]) -> Option<std::time::Duration> {
    let number = files.get(CHAIN)?.as_ref()?.as_ref().get(1..4)?;
    let number: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
    let tens = DATED.contains(&number).then(|| number - DATED.start)?;
    Some(super::EPOCH.wall + std::time::Duration::from_secs(600) * tens)
}

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

    /// Returns whether rewritten files get the modification times back that they had, as by `cp -p`.
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
                let ops = kubelet_update(vol, &old, &new, &pick(next, &[0, 1, 2]));
                let (late, mut ops): (Vec<_>, Vec<_>) =
                    ops.into_iter().partition(|op| matches!(op, Op::Chmod(..)));
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
            Self::LinkedVolume => kubelet_update(Path::new("csi"), &old, &new, &pick(next, &[0, 1, 2])),
            Self::Certbot => {
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
            Self::Release(absolute) => {
                let release = format!("releases/{number}");
                let mut ops = fill(&Path::new("srv").join(&release), next);
                let target = if absolute { format!("/srv/{release}") } else { release };
                ops.push(Op::Symlink(target.into(), "srv/current.tmp".into()));
                ops.push(Op::Rename("srv/current.tmp".into(), "srv/current".into()));
                ops
            }
            Self::DirSwapped => {
                let mut ops = fill(Path::new("next"), next);
                ops.push(Op::Rename(vol.into(), format!("old{number}").into()));
                ops.push(Op::Rename("next".into(), vol.into()));
                ops
            }
            Self::DirRemade => {
                let mut ops: Vec<_> = (0..3).map(|i| Op::Unlink(at(i))).collect();
                ops.push(Op::Rmdir(vol.into()));
                ops.push(Op::Mkdir(vol.into()));
                ops.extend((0..3).flat_map(|i| write(&at(i), &next[i], true)));
                ops
            }
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
