//! See `rustls_reload_harness::fuzz::machine_steps`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rustls_reload_harness::fuzz::machine_steps(data));
