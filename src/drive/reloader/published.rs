//! Futures of publications, for any runtime.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use crate::{
    drive::{
        cell::Published,
        shared::{Shared, Waiting},
    },
    sync::Arc,
};

/// A future of the value that is served once a generation after the given one is published.
#[must_use]
pub struct PublishedAfter<T> {
    pub(super) shared: Arc<Shared<T>>,
    pub(super) waiting: Waiting<T>,
    pub(super) generation: u64,
}

impl<T: Send + Sync + 'static> Future for PublishedAfter<T> {
    type Output = Arc<Published<T>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shared, waiting, generation } = self.get_mut();
        waiting.poll(cx.waker(), |state| (state.status.generation > *generation).then(|| shared.cell.load()))
    }
}

/// A future of the latest generation that reduced the trust, once one after the given generation
/// has.
///
/// Handshakes get that generation by then. A stopped reloader publishes nothing, so nothing
/// resolves the future.
#[must_use]
pub struct TrustReduced<T> {
    pub(super) waiting: Waiting<T>,
    pub(super) generation: u64,
}

impl<T: Send + Sync + 'static> Future for TrustReduced<T> {
    type Output = u64;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        let Self { waiting, generation } = self.get_mut();
        waiting.poll(cx.waker(), |state| state.status.reduced_after(*generation))
    }
}

impl<T> fmt::Debug for PublishedAfter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishedAfter").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for TrustReduced<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustReduced").field("generation", &self.generation).finish_non_exhaustive()
    }
}
