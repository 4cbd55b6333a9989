//! See `rustls_reload_harness::fuzz::plan_walk`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rustls_reload_harness::fuzz::plan_walk(data));
