//! Rotations for tests, this crate's and those of embedders: certificates made on the spot, and the publishers of the
//! field as lists of atomic steps.
//!
//! Feature `testkit`. What is here may change in any release.

mod certs;
pub mod fuzz;
mod hooked;
mod leaks;
mod publish;
#[cfg(not(loom))]
pub mod sim;

pub use certs::{Authority, Identity, Pair, Subject};
pub use hooked::{Hook, Hooked, Verb};
pub use leaks::{WINDOW, leaks};
pub use publish::{Keyed, Op, kubelet_first, kubelet_update, wait_for_tick};
