//! Tests of starting, stopping, waiting and reporting: callers, tasks, clocks and stalls.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)] // reason: tests

#[path = "../common/mod.rs"]
mod common;

mod async_tasks;
mod callers;
mod cell;
mod clocks;
mod embedding;
mod incoming;
mod late_observers;
mod lifecycle;
mod panics;
mod stalled;
mod start;
mod status;
mod tokio_worker;
mod waiting;
mod worker_runs;
