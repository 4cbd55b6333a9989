//! Tests in simulated worlds, nearly all of them generated: publishers beside the reader, each run judged by
//! the invariants or by a model, and wrong designs, which the same checks catch.
//!
//! Most of them compute, on every core: a test that has to be in time belongs elsewhere.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)] // reason: tests

#[path = "../common/mod.rs"]
mod common;

#[cfg(unix)]
mod faults;
mod interleave;
mod listing;
mod machine;
mod mutants;
mod regressions;
#[cfg(target_os = "linux")]
mod sequences;
mod sets;
mod several_sets;
mod taken_back;
mod volumes;
