//! Tests of the documents: the table of the proof, and what the README shows.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)] // reason: tests

mod map;
mod proof;
mod readme;
