//! Tests of the readers of PEM, certificates, keys and CRLs, without a server.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)] // reason: tests

#[path = "../common/mod.rs"]
mod common;

mod corpus;
mod crl;
mod differential;
mod key_curves;
mod parse;
mod torn_bundles;
