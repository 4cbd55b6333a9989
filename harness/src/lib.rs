//! The correctness harness: a simulated world and its checkers ([`sim`]), the machine's reference model ([`twin`]), the
//! bodies of the fuzz targets ([`fuzz`]), and verifiers of client certificates by the policy.
#![cfg(not(loom))]

pub mod fuzz;
mod revocation;
pub mod sim;
pub mod twin;

pub use revocation::{RevocationPolicy, client_verifiers};
