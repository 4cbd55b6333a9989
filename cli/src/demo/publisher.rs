//! The demo's publisher: makes good and broken pairs, and puts them on disk as kubelet does.

use std::{
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::testkit::{
    Authority, Op, Pair, PrivateKey, Subject, kubelet_first, kubelet_update, wait_for_tick,
};

/// Kinds of updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// A chain and its key.
    Good,
    /// A chain and the key of another pair.
    ForeignKey,
    /// A chain that ends in the middle, and its key.
    CutChain,
}

impl Update {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Good => "good update",
            Self::ForeignKey => "broken: key of another pair",
            Self::CutChain => "broken: chain cut off",
        }
    }
}

pub(super) struct Publisher {
    root: PathBuf,
    authority: Authority,
    /// Counts updates, the first publication included.
    number: u64,
}

impl Publisher {
    /// Makes the CA and publishes the first pair beneath `root`.
    pub(super) fn first(root: &Path) -> io::Result<(Self, Pair)> {
        let publisher =
            Self { root: root.to_owned(), authority: Authority::root("rustls-reload demo CA"), number: 1 };
        std::fs::write(publisher.ca_file(), &publisher.authority.pem)?;
        std::fs::create_dir(publisher.dir())?;
        let pair = publisher.pair();
        publisher.apply(&kubelet_first(Path::new(DIR), &stamp(1), &files(&pair)))?;
        Ok((publisher, pair))
    }

    /// Returns the directory of the served files.
    pub(super) fn dir(&self) -> PathBuf {
        self.root.join(DIR)
    }

    /// Returns the path of the CA's certificate, for clients.
    pub(super) fn ca_file(&self) -> PathBuf {
        self.root.join("ca.pem")
    }

    /// Returns the CA's certificate.
    pub(super) fn authority(&self) -> CertificateDer<'static> {
        self.authority.der().clone()
    }

    /// Publishes an update. Returns its pair and the time of the commit. The pair is the one that
    /// the update was made from: its chain is whole, and its key is its own.
    pub(super) fn publish(&mut self, update: Update) -> io::Result<(Pair, Instant)> {
        let pair = self.pair();
        let mut broken = pair.clone();
        match update {
            Update::Good => {}
            Update::ForeignKey => broken.key = PrivateKey::p256().pem(),
            Update::CutChain => broken.chain.truncate(pair.chain.len() / 2),
        }
        let old = stamp(self.number);
        self.number += 1;
        let ops = kubelet_update(Path::new(DIR), &old, &stamp(self.number), &files(&broken));
        let commit = ops.iter().position(|op| matches!(op, Op::Rename(..))).unwrap_or_default();
        let (before, after) = ops.split_at(commit);
        self.apply(before)?;
        // Without this pause the rename could fall into the same tick of the file system's clock as
        // the writes. The reload would then wait for a second snapshot (`Timing::tie_recheck`).
        wait_for_tick(&self.root)?;
        let committed = Instant::now();
        self.apply(after)?;
        Ok((pair, committed))
    }

    fn pair(&self) -> Pair {
        self.authority.issue(&Subject::server("localhost"), &PrivateKey::p256())
    }

    fn apply(&self, ops: &[Op]) -> io::Result<()> {
        ops.iter().try_for_each(|op| op.apply(&self.root))
    }
}

/// Name of the served directory beneath the root.
const DIR: &str = "tls";

fn stamp(number: u64) -> String {
    format!("..{number}")
}

fn files(pair: &Pair) -> [(&'static str, &[u8]); 2] {
    [("tls.crt", pair.chain.as_bytes()), ("tls.key", pair.key.as_bytes())]
}
