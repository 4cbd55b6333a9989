//! Tests of who is accepted, by handshakes: client CAs, pairs, file sets, warnings and claims.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)] // reason: tests

#[path = "../common/mod.rs"]
mod common;

mod access_claims;
mod chain_warnings;
mod client_cas;
mod file_sets;
mod handshake_failures;
#[cfg(unix)]
mod odd_material;
mod pairs;
mod publishers;
mod trust_rules;
#[cfg(unix)]
mod update_effects;
