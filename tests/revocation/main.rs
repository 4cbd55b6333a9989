//! Tests of CRLs, by handshakes.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)] // reason: tests

#[path = "../common/mod.rs"]
mod common;

#[cfg(unix)]
mod crl_dir;
#[cfg(unix)]
mod crl_dir_limits;
#[cfg(unix)]
mod revocation;
mod revocation_shards;
mod revocation_signers;
mod revocation_worlds;
