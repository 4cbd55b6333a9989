//! Each module is one race and is named after it: the model over the shipped code, and the wrong
//! design that the model must catch.
#![allow(clippy::unwrap_used, missing_docs)] // reason: what fails here is a failed model

mod callers_against_stop_and_start;
mod client_against_connections;
mod end_against_tasks;
mod hint_against_sleep;
mod late_observer_against_publish;
mod one_configuration_for_life;
mod panic_in_a_build;
mod reload_from_a_callback;
mod start_against_reload;
mod start_against_stop;
mod status_against_cell;
mod stop_while_loading;
mod swap_against_handshakes;
mod trust_against_handshakes;
mod two_reloads_and_a_reader;
mod waiters_on_a_generation;
