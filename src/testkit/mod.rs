//! Rotations for the tests of this crate and of embedders: a certificate factory, and the
//! publishers of the field as lists of atomic steps.
//!
//! Available with the feature `testkit`. Any release may change it.

pub mod armor;
mod certs;
#[cfg(not(loom))]
pub mod fuzz;
mod hooked;
mod leaks;
mod lists;
mod publish;
mod revocation;
#[cfg(not(loom))]
pub mod sim;
pub mod twin;

pub use crate::internal::RevocationPolicy;
pub use certs::{Authority, Identity, Pair, Subject};
pub use hooked::{Hook, Hooked, Verb};
pub use leaks::{WINDOW, Windows, leaks};
pub use lists::{Crl, Odd};
pub use publish::{Keyed, Op, kubelet_first, kubelet_update, wait_for_tick};
pub use revocation::{HOLD, ListSpec, client_verifiers};

use std::time::Duration;

use crate::event::{Fingerprint, Leaf};

/// Returns the watcher that a reloader has by default, so that a test can wrap it.
///
/// # Errors
/// [`Layer::Watch`](crate::Layer::Watch) if the system provides no watcher.
#[cfg(all(feature = "notify", not(loom)))]
pub fn native_watcher(hints: crate::watch::Hints) -> Result<Box<dyn crate::watch::Watcher>, crate::Error> {
    crate::watch::notify_watcher(hints)
}

/// Returns a leaf description without a certificate, for a [`Build`](crate::Build) of a test.
///
/// The dates are since the Unix epoch.
#[must_use]
pub fn described_leaf(digest: [u8; 32], not_before: Duration, not_after: Duration) -> Leaf {
    let (serial, names) = (String::new(), Vec::new());
    Leaf { fingerprint: Fingerprint(digest), serial, names, not_before, not_after }
}
