//! Tests in simulated worlds, most of them generated. Publishers run beside the reader, and the
//! invariants or a model check each run. The same checks catch wrong designs.
//!
//! Most of these tests keep every core busy, so a test that measures time belongs elsewhere.
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

/// The runs of a simulated world allocate in each step, which takes glibc a quarter of the time.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
