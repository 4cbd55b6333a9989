//! Tests of reloads on real files: publishers, writers and calendars.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)] // reason: tests

#[path = "../common/mod.rs"]
mod common;

mod calendar;
#[cfg(unix)]
mod file_regressions;
mod own_build;
mod races;
#[cfg(unix)]
mod recipes;
mod reload;
mod reported_once;
mod rotation;
mod torn_reads;
#[cfg(unix)]
mod unchanged;
#[cfg(windows)]
mod windows;
mod writers;
