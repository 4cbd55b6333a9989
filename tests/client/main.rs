//! Tests of clients: which server a client accepts and which certificate it shows, over reloads.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)] // reason: tests

#[path = "../common/mod.rs"]
mod common;

mod client_owners;
mod connector;
mod orders;
mod root_cas;
mod root_stores;
mod rotating;
mod settings;
mod trust_sequences;
mod trust_table;
mod updates;
mod world;
#[path = "../trust/client_cas/x509.rs"]
#[allow(dead_code)] // reason: it makes what the tests of client CAs need as well
mod x509;
