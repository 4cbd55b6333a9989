//! Internals, for the simulations and tests of this project and for its test kit.
//!
//! None of it is under semantic versioning: any release may change or remove it.

use std::{hash::Hasher, sync::Arc};

use crate::{Build, Builder, Error, Handle, Reloader, fs::Fs, watch::Hints};
pub use crate::{
    probe::{Probe, StateHash},
    shared::{ManualReload, Next, Shared, State, WorkerLoop},
    tls::{RevocationPolicy, client_verifiers},
};

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

/// Returns what all handles of a reloader and its driver share.
#[must_use]
pub fn shared<T: Send + Sync + 'static>(handle: &Handle<T>) -> &Arc<Shared<T>> {
    handle.shared()
}

/// Hashes what a watcher has reported and the driver has not taken or seen to yet.
pub fn hash_pending(hints: &Hints, state: &mut dyn Hasher) {
    hints.hash_pending(state);
}

/// Drops whatever is reported to `hints` while `muted`, so that nothing says that events are lost.
pub fn mute(hints: &Hints, muted: bool) {
    hints.mute(muted);
}
