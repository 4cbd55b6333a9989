//! Tests of the documents: the table of the proof, the map, the messages, and the README.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)] // reason: tests

mod cycles;
mod map;
mod messages;
mod proof;
mod readme;
