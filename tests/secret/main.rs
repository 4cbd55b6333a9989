//! Tests that no key material is printed, reported or left in memory.
//!
//! In a process of their own: they set the panic hook and the subscriber of `tracing`, and read the memory
//! of the process.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)] // reason: tests

#[path = "../common/mod.rs"]
mod common;

mod secret;
mod secret_told;
