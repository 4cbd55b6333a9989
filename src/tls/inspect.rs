//! What a first load does, told stage by stage: for an operator before a server is started or a set is published.
//!
//! It is the load itself, with the build step taking notes, and then a start: nothing is checked a second way.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    SignatureAlgorithm, SignatureScheme,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer},
    sign::SigningKey,
};

use super::{
    concerns,
    crl::Lists,
    server::{ServerBuilder, ServerTls},
};
use crate::{
    error::{Error, Layer},
    event::Event,
    fs::NativeFs,
    reloader::{Builder, Reloader},
    snapshot::{self, Files, PathSet, absolute},
    sync::{Deadline, Mutex, lock},
    walk::{Walk, WalkedDir},
};

/// A driver watches and looks once before it tells that it has started; only a file system that hangs takes this long.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Looks for the way to the very files that were loaded; a set that changes more often is told as changing.
const LOOK_LIMIT: usize = 3;

/// What each stage of a first load found, up to the one that refused.
///
/// It holds no key material: of the key file its length, of the key its kind.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The paths, absolute: chain, key and, where there are any, client CAs and revocation lists; behind them the
    /// directories of such lists, and what was found in these.
    pub paths: Vec<PathBuf>,
    /// The way to each of them, complete up to where it failed.
    pub walk: Walk,
    /// The lengths of the files of each set, which were read together; empty where they could not be.
    pub sizes: Vec<Vec<usize>>,
    /// The certificates of the chain, once all of them have parsed.
    pub chain: Vec<CertificateDer<'static>>,
    /// The kind of the key, once the crypto provider has taken it.
    pub key: Option<&'static str>,
    /// Whether the crypto provider compared key and leaf: where it cannot (`false`), the rehearsal decides. `None` where
    /// they do not match or it did not come to that.
    pub matched: Option<bool>,
    /// The client CAs that are trusted, once the bundle has been taken. A warning names each one that was left out.
    pub client_cas: Vec<CertificateDer<'static>>,
    /// The revocation lists that count, with the file that each is of, once all of them have been taken.
    pub crls: Vec<(PathBuf, CertificateRevocationListDer<'static>)>,
    /// The protocol versions whose rehearsal handshake passed.
    pub rehearsed: Vec<&'static str>,
    /// The directories that a server would watch, and did; empty where it would not start.
    pub watched: Vec<PathBuf>,
    /// As [`Status::unwatched`](crate::Status::unwatched). A directory of which events are missing otherwise is a warning.
    pub unwatched: Vec<PathBuf>,
    /// What refused: the error that a load returns.
    pub refused: Option<Error>,
    /// What refuses nothing and an operator should know; each names its layer and, where it has one, its path.
    pub warnings: Vec<Error>,
    /// Which of the paths is what.
    pub(super) named: Named,
}

/// The paths of single files, absolute.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) key: PathBuf,
    pub(super) client_ca: Option<PathBuf>,
}

impl ServerBuilder {
    /// Loads the files as a server would, starts to watch them, stops again, and tells what each stage found.
    ///
    /// It agrees with [`load`](Self::load) by construction: it calls it, so it waits as long as that does, and observers
    /// hear what they would hear. A leaf that expires within `soon` is a warning.
    ///
    /// Warnings also tell of a file mounted alone (Linux), a file system known to deliver no events
    /// ([`silent`](crate::watch::silent)), a directory that could not be watched, a key that everybody can read (Unix), a
    /// chain out of order, certificates and revocation lists outside their dates, and lists of nobody in the bundle. Not
    /// asked: whether a client trusts the chain, and whether its names fit.
    #[must_use]
    pub fn inspect(mut self, soon: Duration) -> Inspection {
        let notes = Arc::new(Mutex::new(Found::default()));
        self.found = Notes(Some(Arc::clone(&notes)));
        let set = self.layout().and_then(|layout| layout.inspected());
        let named = Named {
            key: absolute(&self.key).unwrap_or_default(),
            client_ca: self.client_ca.as_ref().and_then(|(path, _)| absolute(path).ok()),
        };
        let loaded = self.into_generic().and_then(Builder::load);
        // What a start builds is not taken down any more.
        let found = std::mem::take(&mut *lock(&notes));
        let (walk, same) = way(set.as_ref().ok(), &found.files);
        let lengths = |files: &Files| files.iter().map(|(_, bytes)| bytes.len()).collect();
        let mut inspection = Inspection {
            paths: set.map(|set| set.ways(&walk)).unwrap_or_default(),
            walk,
            sizes: found.files.iter().map(lengths).collect(),
            chain: found.chain,
            key: found.key,
            matched: found.matched,
            client_cas: found.client_cas,
            crls: found.crls.iter().map(|(path, der)| (path.to_owned(), der.clone())).collect(),
            rehearsed: found.rehearsed,
            watched: Vec::new(),
            unwatched: Vec::new(),
            refused: None,
            warnings: found.warnings,
            named,
        };
        match loaded {
            Err(error) => inspection.refused = Some(error),
            Ok(reloader) => inspection.watch(&reloader),
        }
        if !same && inspection.refused.is_none() {
            let why = "the files have changed since they were loaded: the way to them is another by now";
            inspection.warnings.push(Error::new(Layer::Changing, why));
        }
        let concerns = concerns::of(&inspection, &found.chains, found.provider.as_deref(), found.wall, soon);
        inspection.warnings.extend(concerns);
        inspection
    }
}

impl Inspection {
    /// Starts the driver, and stops it once it has said what it watches.
    fn watch(&mut self, reloader: &Reloader<ServerTls>) {
        let mut events = reloader.events();
        let deadline = Deadline::after(START_LIMIT);
        let started = reloader.start().is_ok()
            && std::iter::from_fn(|| events.next_within(deadline.left()?))
                .any(|told| matches!(*told.event, Event::Started));
        if !started {
            let why = format!("nothing was watched within {} s", START_LIMIT.as_secs());
            self.warnings.push(Error::new(Layer::Watch, why));
            return;
        }
        let status = reloader.status();
        // That it is stuck is a matter of the file system, and was told as that.
        let _ = reloader.stop();
        (self.watched, self.unwatched) = (status.watched, status.unwatched);
        let Some((fault, _)) = status.degraded else { return };
        // One fault stands for all; one without a path is the watcher's, and of all directories anyhow.
        if let Some(named) = fault.path() {
            let is_known =
                |dir: &WalkedDir| self.watched.contains(&dir.path) || self.unwatched.contains(&dir.path);
            // Two paths to one directory share one watch.
            let twin = |a: &WalkedDir, b: &WalkedDir| a.path == b.path || a.id == b.id && a.id.ino != 0;
            for dir in self.walk.dirs.iter().filter(|dir| dir.path != named) {
                if !self.walk.dirs.iter().any(|other| twin(dir, other) && is_known(other)) {
                    let why = format!("not watched either, as {}", named.display());
                    self.warnings.push(Error::new(Layer::Watch, why).at(&dir.path));
                }
            }
        }
        self.warnings.push(fault);
    }
}

/// The way to the files that were loaded, and whether they are still there.
fn way(set: Option<&PathSet>, loaded: &[Files]) -> (Walk, bool) {
    let Some(set) = set else { return (Walk::default(), true) };
    let mut look = snapshot::take(&NativeFs::default(), set);
    let same = |look: &snapshot::Look| {
        loaded.is_empty() || look.files.as_ref().is_ok_and(|files| is_same(files, loaded))
    };
    for _ in 1..LOOK_LIMIT {
        if same(&look) {
            break;
        }
        look = snapshot::take(&NativeFs::default(), set);
    }
    let same = same(&look);
    (look.walk, same)
}

/// Whether the files are those of all sets together, in whatever order.
fn is_same(files: &Files, sets: &[Files]) -> bool {
    let mut read: Vec<_> = files.iter().collect();
    let mut loaded: Vec<_> = sets.iter().flat_map(Files::iter).collect();
    read.sort_unstable();
    loaded.sort_unstable();
    read == loaded
}

/// What the stages of one build found.
#[derive(Default)]
pub(super) struct Found {
    /// Of each set that is inspected.
    pub(super) files: Vec<Files>,
    pub(super) wall: Duration,
    pub(super) provider: Option<Arc<CryptoProvider>>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Each chain with its path, in the order of the pairs.
    pub(super) chains: Vec<(PathBuf, Vec<CertificateDer<'static>>)>,
    pub(super) key: Option<&'static str>,
    pub(super) matched: Option<bool>,
    pub(super) client_cas: Vec<CertificateDer<'static>>,
    pub(super) crls: Lists,
    pub(super) warnings: Vec<Error>,
    pub(super) rehearsed: Vec<&'static str>,
}

/// Where a build step writes down what it found; nowhere unless somebody inspects.
#[derive(Clone, Default)]
pub(super) struct Notes(Option<Arc<Mutex<Found>>>);

impl Notes {
    pub(super) fn note(&self, note: impl FnOnce(&mut Found)) {
        if let Some(found) = &self.0 {
            note(&mut lock(found));
        }
    }
}

/// The kind of a key, by what it signs.
pub(super) fn kind(key: &dyn SigningKey) -> &'static str {
    let signs = |scheme| key.choose_scheme(&[scheme]).is_some();
    match key.algorithm() {
        SignatureAlgorithm::RSA => "RSA",
        SignatureAlgorithm::ED25519 => "Ed25519",
        SignatureAlgorithm::ED448 => "Ed448",
        SignatureAlgorithm::ECDSA if signs(SignatureScheme::ECDSA_NISTP256_SHA256) => "ECDSA P-256",
        SignatureAlgorithm::ECDSA if signs(SignatureScheme::ECDSA_NISTP384_SHA384) => "ECDSA P-384",
        SignatureAlgorithm::ECDSA if signs(SignatureScheme::ECDSA_NISTP521_SHA512) => "ECDSA P-521",
        SignatureAlgorithm::ECDSA => "ECDSA",
        _ => "of a kind without a name here",
    }
}
