//! See `rustls_reload_harness::fuzz::server_names`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rustls_reload_harness::fuzz::server_names(data));
