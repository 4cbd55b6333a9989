//! Tests of clients: which server a client accepts and which certificate it shows, over reloads.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)] // reason: tests

#[path = "../common/mod.rs"]
mod common;

mod client_owners;
mod connector;
mod root_cas;
mod rotating;
mod settings;
mod trust_table;
mod updates;
mod world;
