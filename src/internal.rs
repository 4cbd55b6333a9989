//! Internals, for the simulations and tests of this project and for its test kit.
//!
//! None of it is under semantic versioning: any release may change or remove it.

use std::{
    hash::Hasher,
    path::{Path, PathBuf},
    sync::Arc,
};

#[cfg(feature = "rustls")]
pub use crate::server::{RevocationPolicy, ServerBuild, client_verifiers, covered_certificates};
use crate::{
    Build, Builder, Error, PathSet, Reloader,
    fs::Fs,
    watch::{self, Hints},
};
pub use crate::{
    decide::trust::{Epoch, Trust},
    drive::{
        cell::Cell,
        shared::{ManualReload, Next, Shared, State, WorkerLoop},
    },
    probe::{Probe, StateHash},
    read::{
        secret::Secret,
        walk::{ChangeKind, Entry, Lookup, Step, Walk, WalkedDir},
    },
    report::{
        event::{WARNING_LIMIT, described_leaf},
        line::{LINE_LIMIT, TEXT_LIMIT, one_line, shortened},
    },
};

/// Returns the provider of a server that is given none.
///
/// # Errors
/// [`Layer::Settings`](crate::Layer::Settings) where the process has no default and none is compiled in.
#[cfg(feature = "rustls")]
pub fn default_provider() -> Result<Arc<rustls::crypto::CryptoProvider>, Error> {
    crate::server::settings::default_provider()
}

/// Returns the SHA-256 digest that fingerprints are.
#[cfg(feature = "rustls")]
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    hmac_sha256::Hash::hash(bytes)
}

/// The reader of CRLs.
#[cfg(feature = "rustls")]
pub mod crl {
    pub use crate::pki::crl::*;
}

/// The reader of certificates, and of DER.
#[cfg(feature = "rustls")]
pub mod der {
    pub use crate::pki::der::*;
}

/// Log lines of the binary as JSON.
#[cfg(feature = "ocsf")]
pub mod json {
    pub use crate::report::{
        json::{event_line, note_line},
        ocsf::note_line as ocsf_note_line,
    };
}

/// The machine, which decides when to look, to build and to publish.
pub mod machine {
    pub use crate::decide::machine::*;
}

/// The names that clients ask for, and the pairs that hold them.
#[cfg(feature = "rustls")]
pub mod pairs {
    pub use crate::server::pairs::{Names, normalize_dns_name};
}

/// The reader of PEM files.
#[cfg(feature = "rustls")]
pub mod pem {
    pub use crate::pki::pem::*;
}

/// One attempt to read a set of files.
pub mod snapshot {
    pub use crate::read::snapshot::*;
}

/// As [`Builder::load_from`], with a probe that learns what the reader keeps.
///
/// # Errors
/// As [`Builder::load`].
pub fn load_probed<B, F, P>(builder: Builder<B>, fs: F, probe: P) -> Result<Reloader<B::Value>, Error>
where
    B: Build,
    F: Fs<Dir: Send, File: Send>,
    P: Probe,
{
    builder.load_probed(fs, probe)
}

/// Puts another build step around the one of a builder.
pub fn around<B, C>(builder: Builder<B>, around: impl FnOnce(B) -> C) -> Builder<C>
where
    B: Build,
    C: Build<Value = B::Value>,
{
    builder.around(around)
}

/// Returns what all clones of a reloader and its driver share.
#[must_use]
pub fn shared<T: Send + Sync + 'static>(reloader: &Reloader<T>) -> &Arc<Shared<T>> {
    reloader.shared()
}

/// Makes the watcher that a reloader has where none is given.
///
/// # Errors
/// [`Layer::Watch`](crate::Layer::Watch) where the system has no watcher left.
#[cfg(all(feature = "notify", not(loom)))]
pub fn native_watcher(hints: Hints) -> Result<Box<dyn watch::Watcher>, Error> {
    watch::notify_watcher(hints)
}

/// Returns the kind of the file system of `dir`, if it does not report changes made elsewhere.
#[must_use]
pub fn lacks_remote_events(dir: &Path) -> Option<&'static str> {
    watch::lacks_remote_events(dir)
}

/// Hashes what a watcher has reported and the driver has not taken or seen to yet.
pub fn hash_pending(hints: &Hints, state: &mut dyn Hasher) {
    hints.hash_pending(state);
}

/// Drops whatever is reported to `hints` while `muted`, so that nothing says that events are lost.
pub fn mute(hints: &Hints, muted: bool) {
    hints.mute(muted);
}

/// Returns the directories that are watched for whoever went this way.
#[must_use]
pub fn planned(walk: &Walk) -> Vec<PathBuf> {
    watch::plan(&walk.dirs, |_| None).into_iter().map(|dir| dir.path).collect()
}

/// Returns the path of each file of a set, as this walk went to it.
#[must_use]
pub fn ways(set: &PathSet, walk: &Walk) -> Vec<PathBuf> {
    set.ways(walk)
}

/// Returns the builder of the generic reloader that this server is.
///
/// # Errors
/// [`Layer::Settings`](crate::Layer::Settings) where the settings contradict each other.
#[cfg(feature = "rustls")]
pub fn generic(server: crate::ServerBuilder) -> Result<Builder<ServerBuild>, Error> {
    server.into_generic()
}

/// Returns the builder of the generic reloader that this client is.
///
/// # Errors
/// [`Layer::Settings`](crate::Layer::Settings) where the settings contradict each other.
#[cfg(feature = "rustls")]
pub fn generic_client(
    client: crate::ClientBuilder,
) -> Result<Builder<impl Build<Value = crate::ClientTls>>, Error> {
    client.into_generic()
}

/// Returns the walk to each of the paths of an inspection, complete up to the step that failed.
#[cfg(feature = "rustls")]
#[must_use]
pub fn inspected_walk(inspection: &crate::Inspection) -> &Walk {
    &inspection.walk
}
