//! Steps of one publication, and where it is finished.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    drill::model::{Cut, Times},
    testkit::Op,
};

/// The content of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::drill) enum Content {
    Bytes(Vec<u8>),
    Missing,
    Fifo,
    Directory,
}

impl Content {
    pub(in crate::drill) fn bytes(&self) -> &[u8] {
        if let Self::Bytes(bytes) = self { bytes } else { &[] }
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::Bytes(_))
    }

    /// Returns the step that removes it.
    pub(super) fn removal(&self, path: &Path) -> Option<Op> {
        match self {
            Self::Bytes(_) | Self::Fifo => Some(Op::Unlink(path.to_owned())),
            Self::Directory => Some(Op::Rmdir(path.to_owned())),
            Self::Missing => None,
        }
    }
}

/// The files of a set: chain, key, and perhaps client CAs and lists.
pub(in crate::drill) type FileSet = Vec<(&'static str, Content)>;

/// The time of every version of every file where a publisher copies times.
const FIXED: Duration = Duration::from_secs(1_700_000_000);
const DAY: Duration = Duration::from_secs(86_400);
/// Bytes in a piece.
const PIECE: usize = 128;

impl Times {
    fn modified(self) -> Option<Duration> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match self {
            Self::Now => None,
            Self::Fixed => Some(FIXED),
            Self::Past => Some(now - DAY),
            Self::Future => Some(now + DAY),
        }
    }
}

/// The steps of a publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::drill) struct Plan {
    pub(in crate::drill) ops: Vec<Op>,
    /// The steps that finish a file each; the last of them finishes the publication.
    ends: Vec<usize>,
}

impl Plan {
    pub(super) fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    pub(super) fn extend(&mut self, ops: impl IntoIterator<Item = Op>) {
        self.ops.extend(ops);
    }

    pub(super) fn end(&mut self, op: Op) {
        self.push(op);
        self.end_here();
    }

    /// Notes that the last step finished a file.
    pub(super) fn end_here(&mut self) {
        self.ends.push(self.ops.len() - 1);
    }

    pub(super) fn put(&mut self, path: &Path, content: &Content, times: Times) {
        self.extend(put(path, content));
        self.set_times(path, content, times);
    }

    pub(super) fn put_in_pieces(&mut self, path: &Path, content: &Content, times: Times) {
        self.push(Op::Create(path.to_owned()));
        let pieces = content.bytes().chunks(PIECE);
        self.extend(pieces.map(|piece| Op::Append(path.to_owned(), piece.to_vec())));
        self.set_times(path, content, times);
    }

    fn set_times(&mut self, path: &Path, content: &Content, times: Times) {
        let modified = times.modified().filter(|_| content.is_file());
        self.extend(modified.map(|modified| Op::Modified(path.to_owned(), modified)));
    }

    pub(super) fn fill(&mut self, dir: &Path, files: &FileSet, times: Times) {
        self.push(Op::Mkdir(dir.to_owned()));
        for (name, content) in files {
            self.put(&dir.join(name), content, times);
        }
    }

    /// Makes the link `at` point to `target` by one rename.
    pub(super) fn relink(&mut self, target: &str, at: &str) {
        let temporary = PathBuf::from(format!("{at}.tmp"));
        self.push(Op::Symlink(target.into(), temporary.clone()));
        self.end(Op::Rename(temporary, at.into()));
    }

    /// Returns the index of the step that finishes the publication.
    pub(in crate::drill) fn commit(&self) -> usize {
        self.ends.last().copied().unwrap_or_default()
    }

    /// Splits the plan where `cut` interrupts it. The second part is finished where the whole is.
    pub(in crate::drill) fn interrupt(self, cut: Cut) -> (Vec<Op>, Self) {
        let appends = || {
            let appends = self.ops.iter().enumerate().filter(|(_, op)| matches!(op, Op::Append(..)));
            appends.map(|(at, _)| at)
        };
        let (at, bytes) = match cut {
            Cut::Files(count) => (self.ends[count - 1] + 1, None),
            Cut::BeforeCommit => (self.commit(), None),
            Cut::Empty(file) => (appends().nth(file).unwrap_or_default(), None),
            Cut::Middle(file) | Cut::FirstSection(file) => {
                let at = appends().nth(file).unwrap_or_default();
                (at, Some(matches!(cut, Cut::Middle(_))))
            }
        };
        let commit = self.commit();
        let (mut ops, mut rest) = (self.ops, Vec::new());
        rest.extend(ops.drain(at..));
        if let (Some(is_half), Some(Op::Append(path, all))) = (bytes, rest.first().cloned()) {
            let (now, later) = all.split_at(if is_half { all.len() / 2 } else { first_section(&all) });
            ops.push(Op::Append(path.clone(), now.to_vec()));
            rest[0] = Op::Append(path, later.to_vec());
        }
        let ends = vec![commit.saturating_sub(at)];
        (ops, Self { ops: rest, ends })
    }
}

/// Returns the length of the first PEM section.
fn first_section(bytes: &[u8]) -> usize {
    let end = b"-----END CERTIFICATE-----\n";
    let found = bytes.windows(end.len()).position(|window| window == end);
    found.map_or(bytes.len(), |at| at + end.len())
}

/// Returns the steps that make a file under a name that is free, or rewrite it.
pub(super) fn put(path: &Path, content: &Content) -> Vec<Op> {
    let path = path.to_owned();
    match content {
        Content::Bytes(bytes) => vec![Op::Create(path.clone()), Op::Append(path, bytes.clone())],
        Content::Missing => Vec::new(),
        Content::Fifo => vec![Op::Mkfifo(path)],
        Content::Directory => vec![Op::Mkdir(path)],
    }
}

/// Returns the steps that make a directory and fill it.
pub(super) fn fill(dir: &Path, files: &FileSet) -> Vec<Op> {
    let mut ops = vec![Op::Mkdir(dir.to_owned())];
    ops.extend(files.iter().flat_map(|(name, content)| put(&dir.join(name), content)));
    ops
}

/// Returns the steps that remove the files and the directory.
pub(super) fn clear(dir: &Path, files: &FileSet) -> Vec<Op> {
    let removals = files.iter().filter_map(|(name, content)| content.removal(&dir.join(name)));
    removals.chain([Op::Rmdir(dir.to_owned())]).collect()
}
