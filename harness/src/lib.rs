//! The correctness harness of `rustls-reload`: a simulated world and its checkers ([`sim`]), the
//! reference model of the machine ([`twin`]), the bodies of the fuzz targets ([`fuzz`]), and
//! verifiers of client certificates by the policy.
#![cfg(not(loom))]

pub mod fuzz;
mod revocation;
pub mod sim;
pub mod twin;

pub use revocation::{RevocationPolicy, client_verifiers};
