//! The publishers of the field: the files of a set as system calls, in their order.

mod plan;

use std::path::{Path, PathBuf};

pub(super) use self::plan::{Content, FileSet, Plan};
use self::plan::{clear, fill, put};
use super::model::Times;
use crate::testkit::Op;

/// A way to lay files out and to replace them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// kubelet's `AtomicWriter`: a new directory, and one rename of the link `..data`.
    Kubelet,
    /// Links into such a volume.
    LinkedVolume,
    /// A new directory `releases/N`, and one rename of the link `current`.
    Release,
    /// The same, with the link two levels above the files.
    ReleaseAbove,
    /// A new directory takes the place of the old one by two renames.
    Exchange,
    /// The directory is removed, made again and filled.
    Remake,
    /// Each changed file is truncated and written.
    InPlace,
    /// The same, the key before the chain.
    InPlaceKeyFirst,
    /// The same, in pieces of 128 bytes.
    Pieces,
    /// Each changed file is written under another name and renamed.
    Rename,
    /// The same, the key before the chain.
    RenameKeyFirst,
    /// Each changed file is removed and created.
    Unlink,
    /// Each changed file is renamed to a backup, and created.
    Backup,
    /// New versions in `archive`, then each link in `live` is removed and made again.
    Certbot,
    /// New versions beside the links, then each link is replaced by a rename, the key's first.
    Relink,
    /// Links that stay, to files that are truncated and written.
    LinkTarget,
    /// Chain and key in one file, which is renamed into place.
    OneFile,
    /// Chain and key in one file, which is truncated and written.
    OneFileInPlace,
}

impl Layout {
    /// Returns the path of a file, as a server has to be given it.
    pub(super) fn path(self, name: &str) -> PathBuf {
        let dir = match self {
            Self::LinkedVolume => "etc",
            Self::Release => "current",
            Self::ReleaseAbove => "srv/current/tls",
            Self::Certbot => "live",
            Self::OneFile | Self::OneFileInPlace if name.starts_with("tls.") => return "tls/tls.pem".into(),
            _ => "tls",
        };
        Path::new(dir).join(name)
    }

    /// Returns whether one rename commits an update.
    pub(super) fn is_atomic(self) -> bool {
        matches!(self, Self::Kubelet | Self::LinkedVolume | Self::Release | Self::ReleaseAbove)
    }

    /// Returns whether the files are plain files in one directory that stays, so that they can
    /// replace those of a server that runs already.
    pub(super) fn is_flat(self) -> bool {
        matches!(
            self,
            Self::InPlace
                | Self::InPlaceKeyFirst
                | Self::Pieces
                | Self::Rename
                | Self::RenameKeyFirst
                | Self::Unlink
                | Self::Backup
        )
    }

    /// Returns the steps of the first publication into an empty directory.
    pub(super) fn first(self, files: &FileSet) -> Vec<Op> {
        let mkdir = |path: &str| Op::Mkdir(path.into());
        let link = |target: PathBuf, name: &str| Op::Symlink(target, self.path(name));
        let names = || files.iter().map(|(name, _)| *name);
        let mut ops = Vec::new();
        match self {
            Self::Kubelet | Self::LinkedVolume => {
                ops = first_volume(self.volume(), files);
                if self == Self::LinkedVolume {
                    ops.push(mkdir("etc"));
                    ops.extend(names().map(|name| link(Path::new("../csi").join(name), name)));
                }
            }
            Self::Release => {
                ops.push(mkdir("releases"));
                ops.extend(fill(Path::new("releases/1"), files));
                ops.push(Op::Symlink("releases/1".into(), "current".into()));
            }
            Self::ReleaseAbove => {
                ops.extend([mkdir("srv"), mkdir("srv/1")]);
                ops.extend(fill(Path::new("srv/1/tls"), files));
                ops.push(Op::Symlink("1".into(), "srv/current".into()));
            }
            Self::Certbot => {
                ops.extend([mkdir("archive"), mkdir("live")]);
                for (name, content) in files {
                    ops.extend(put(&archived(name, 1), content));
                    ops.push(link(Path::new("..").join(archived(name, 1)), name));
                }
            }
            Self::Relink => {
                ops.push(mkdir("tls"));
                for (name, content) in files {
                    ops.extend(put(&self.path(&versioned(name, 1)), content));
                    ops.push(link(versioned(name, 1).into(), name));
                }
            }
            Self::LinkTarget => {
                ops.extend(fill(Path::new("store"), files));
                ops.push(mkdir("tls"));
                ops.extend(names().map(|name| link(Path::new("../store").join(name), name)));
            }
            Self::OneFile | Self::OneFileInPlace => ops.extend(fill(Path::new("tls"), &joined(files))),
            _ => ops.extend(fill(Path::new("tls"), files)),
        }
        ops
    }

    /// Returns the steps of update `number` (the first publication is 1), which replaces `old` and
    /// its number. Publishers of single files leave alone those that do not change, except that
    /// they write all where none changes.
    pub(super) fn update(
        self,
        number: usize,
        (replaced, old): (usize, &FileSet),
        new: &FileSet,
        times: Times,
    ) -> Plan {
        let mut plan = Plan::default();
        match self {
            Self::Kubelet | Self::LinkedVolume => {
                self.swap_volume(&mut plan, number, new, times);
                plan.extend(clear(&stamp(self.volume(), replaced), old));
            }
            Self::Release => {
                let dir = format!("releases/{number}");
                plan.fill(Path::new(&dir), new, times);
                plan.relink(&dir, "current");
            }
            Self::ReleaseAbove => {
                plan.push(Op::Mkdir(format!("srv/{number}").into()));
                plan.fill(Path::new(&format!("srv/{number}/tls")), new, times);
                plan.relink(&number.to_string(), "srv/current");
            }
            Self::Exchange => {
                plan.fill(Path::new("new"), new, times);
                plan.push(Op::Rename("tls".into(), "old".into()));
                plan.end(Op::Rename("new".into(), "tls".into()));
                plan.extend(clear(Path::new("old"), old));
            }
            Self::Remake => {
                plan.extend(clear(Path::new("tls"), old));
                plan.push(Op::Mkdir("tls".into()));
                for (name, content) in new {
                    plan.put(&self.path(name), content, times);
                    plan.end_here();
                }
            }
            Self::OneFile | Self::OneFileInPlace => {
                let (old, new) = (joined(old), joined(new));
                self.each_file(&mut plan, number, &old, &new, times);
            }
            _ => self.each_file(&mut plan, number, old, new, times),
        }
        plan
    }

    /// Returns the steps that put links to new files in the place of plain files.
    pub(super) fn into_links(self, new: &FileSet) -> Plan {
        let mut plan = Plan::default();
        plan.fill(Path::new("elsewhere"), new, Times::Now);
        for (name, _) in new {
            let (path, target) = (self.path(name), Path::new("../elsewhere").join(name));
            let temporary = path.with_file_name(format!(".{name}.link"));
            plan.push(Op::Symlink(target, temporary.clone()));
            plan.end(Op::Rename(temporary, path));
        }
        plan
    }

    /// Returns the pause of the publisher after each of its system calls.
    pub(super) fn pause_ms(self) -> u64 {
        if self == Self::Pieces { 8 } else { 0 }
    }

    fn volume(self) -> &'static str {
        if self == Self::LinkedVolume { "csi" } else { "tls" }
    }

    fn swap_volume(self, plan: &mut Plan, number: usize, new: &FileSet, times: Times) {
        let dir = self.volume();
        plan.fill(&stamp(dir, number), new, times);
        let (temporary, data) = (Path::new(dir).join("..data_tmp"), Path::new(dir).join("..data"));
        plan.push(Op::Symlink(format!("..{number}").into(), temporary.clone()));
        plan.end(Op::Rename(temporary, data));
    }

    /// Replaces the changed files one by one.
    fn each_file(self, plan: &mut Plan, number: usize, old: &FileSet, new: &FileSet, times: Times) {
        let is_changed = |file: &&(&'static str, Content)| !old.contains(file);
        let mut changed: Vec<_> = new.iter().filter(is_changed).collect();
        if changed.is_empty() {
            changed = new.iter().collect();
        }
        if matches!(self, Self::InPlaceKeyFirst | Self::RenameKeyFirst | Self::Relink) {
            changed.sort_by_key(|(name, _)| *name != "tls.key");
        }
        if self == Self::Certbot {
            for (name, content) in &changed {
                plan.put(&archived(name, number), content, times);
            }
        }
        for (name, content) in changed {
            let was = old.iter().find(|file| file.0 == *name).map(|file| &file.1);
            self.replace(plan, number, name, (was, content), times);
            plan.end_here();
        }
    }

    fn replace(
        self,
        plan: &mut Plan,
        number: usize,
        name: &str,
        (old, new): (Option<&Content>, &Content),
        times: Times,
    ) {
        let path = self.path(name);
        let beside = |name: &str| path.with_file_name(name);
        match self {
            Self::Rename | Self::RenameKeyFirst | Self::OneFile => {
                let temporary = beside(&format!(".{name}.tmp"));
                plan.put(&temporary, new, times);
                plan.push(Op::Rename(temporary, path));
            }
            Self::Backup => {
                plan.push(Op::Rename(path.clone(), beside(&format!("{name}~"))));
                plan.put(&path, new, times);
            }
            Self::Unlink => {
                plan.push(Op::Unlink(path.clone()));
                plan.put(&path, new, times);
            }
            Self::Certbot => {
                plan.push(Op::Unlink(path.clone()));
                plan.push(Op::Symlink(Path::new("..").join(archived(name, number)), path));
            }
            Self::Relink => {
                let version = versioned(name, number);
                plan.put(&beside(&version), new, times);
                let temporary = beside(&format!(".{name}.link"));
                plan.push(Op::Symlink(version.into(), temporary.clone()));
                plan.push(Op::Rename(temporary, path));
            }
            Self::LinkTarget => plan.put(&Path::new("store").join(name), new, times),
            Self::Pieces => plan.put_in_pieces(&path, new, times),
            _ => {
                plan.extend(old.into_iter().filter(|old| !old.is_file()).flat_map(|old| old.removal(&path)));
                plan.put(&path, new, times);
            }
        }
    }
}

/// Returns the steps that make a volume: a directory of the files, the link to it, and a link for
/// each name.
fn first_volume(dir: &str, files: &FileSet) -> Vec<Op> {
    let at = |name: &str| Path::new(dir).join(name);
    let mut ops = vec![Op::Mkdir(dir.into())];
    ops.extend(fill(&stamp(dir, 1), files));
    ops.push(Op::Symlink("..1".into(), at("..data")));
    ops.extend(files.iter().map(|(name, _)| Op::Symlink(Path::new("..data").join(name), at(name))));
    ops
}

fn stamp(dir: &str, number: usize) -> PathBuf {
    Path::new(dir).join(format!("..{number}"))
}

fn archived(name: &str, number: usize) -> PathBuf {
    Path::new("archive").join(versioned(name, number))
}

fn versioned(name: &str, number: usize) -> String {
    format!("{name}.{number}")
}

/// Returns the files with the key behind the chain, in one file.
fn joined(files: &FileSet) -> FileSet {
    let pair: Vec<_> = files[..2].iter().flat_map(|(_, content)| content.bytes().to_vec()).collect();
    let mut joined = vec![("tls.pem", Content::Bytes(pair))];
    joined.extend_from_slice(&files[2..]);
    joined
}

#[cfg(test)]
mod tests;
