//! One race a module, named after it: the model over the shipped code, and the wrong design that it must catch.
#![allow(clippy::unwrap_used, missing_docs)] // reason: what fails here is a failed model

mod swap_against_handshakes;
mod two_reloads_and_a_reader;
