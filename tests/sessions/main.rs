//! Tests of handshakes, sessions and open connections over reloads.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)] // reason: tests

#[path = "../common/mod.rs"]
mod common;

mod drain;
mod handshakes;
mod orders;
mod over_reloads;
mod renewals;
mod resumption;
mod rotating_clients;
mod rotating_config;
