//! Tests of the first load, of an inspection, and of files that are wrong in some way.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)] // reason: tests

#[path = "../common/mod.rs"]
mod common;

mod first_load;
mod inspect;
mod slow_sets;
mod strict;
#[cfg(unix)]
mod vectors;
