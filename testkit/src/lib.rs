//! Test kit for servers that embed [`rustls_reload`]: certificates made on the spot, revocation
//! lists, the publishers of the field as lists of atomic steps, and a file system that fails when a
//! test says so.
//!
//! Any release may change any of it.

pub mod armor;
mod certs;
mod hooked;
mod leaks;
mod lists;
mod publish;
mod revocation;

pub use certs::{Authority, Pair, PrivateKey, Subject};
pub use hooked::{Hook, InterceptFs, Verb};
pub use leaks::{WINDOW, Windows, leaks};
pub use lists::{Crl, CrlVariant, value};
pub use publish::{NamedFile, Op, kubelet_first, kubelet_update, wait_for_tick};
pub use revocation::{HOLD, ListSpec};
pub use rustls_reload::internal::described_leaf;
