//! Tests of the documents (the table of the proof, the map, the messages, the README), and of the
//! shape of the code.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)] // reason: tests

mod cycles;
mod file_length;
mod map;
mod messages;
mod proof;
mod readme;
