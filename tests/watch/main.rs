//! Tests of path resolution, and of watching the directories on a path.
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
