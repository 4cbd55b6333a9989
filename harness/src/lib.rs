//! The correctness harness of `rustls-reload`: a simulated world and its checkers ([`sim`]), the
//! reference model of the machine ([`reference_model`]), the bodies of the fuzz targets ([`fuzz`]), and
//! verifiers of client certificates by the policy, and the environment variables that
//! select how much a test does ([`settings`]).
#![cfg(not(loom))]

pub mod fuzz;
pub mod reference_model;
mod revocation;
pub mod settings;
pub mod sim;

pub use revocation::{RevocationPolicy, client_verifiers};
