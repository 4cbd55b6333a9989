//! Rotations for tests, this crate's and those of embedders: certificates made on the spot, and the publishers of the
//! field as lists of atomic steps.
//!
//! Feature `testkit`. What is here may change in any release.

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

pub use certs::{Authority, Identity, Pair, Subject};
pub use hooked::{Hook, Hooked, Verb};
pub use leaks::{WINDOW, Windows, leaks};
pub use lists::{Crl, Odd};
pub use publish::{Keyed, Op, kubelet_first, kubelet_update, wait_for_tick};
pub use revocation::{HOLD, ListSpec, RevocationPolicy, client_verifiers};

use std::time::Duration;

use crate::event::{Fingerprint, Leaf};

/// The watcher that a reloader has where none is given: to be wrapped by one that fails.
///
/// # Errors
/// [`Layer::Watch`](crate::Layer::Watch) where the system has no watcher left.
#[cfg(all(feature = "notify", not(loom)))]
pub fn native_watcher(hints: crate::watch::Hints) -> Result<Box<dyn crate::watch::Watcher>, crate::Error> {
    crate::watch::notify_watcher(hints)
}

/// Returns the description of a leaf that no certificate stands behind, for a
/// [`Build`](crate::Build) of a test.
///
/// The dates are since the Unix epoch.
#[must_use]
pub fn described_leaf(digest: [u8; 32], not_before: Duration, not_after: Duration) -> Leaf {
    let (serial, names) = (String::new(), Vec::new());
    Leaf { fingerprint: Fingerprint(digest), serial, names, not_before, not_after }
}
