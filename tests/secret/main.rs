//! Tests that no key material is printed, reported or left in memory.
//!
//! These tests have a process of their own. They set its panic hook and its `tracing` subscriber, and
//! they read its memory.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)] // reason: tests

#[path = "../common/mod.rs"]
mod common;

mod secret;
mod secret_reports;
