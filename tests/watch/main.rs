//! Tests of the way from a path to its file, and of the watching of that way.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)] // reason: tests

#[path = "../common/mod.rs"]
mod common;

#[cfg(unix)]
mod assumptions;
#[cfg(target_os = "linux")]
mod by_path;
#[cfg(target_os = "linux")]
mod kernel_paths;
#[cfg(unix)]
mod moving_paths;
mod watched;
mod watching_faults;
