//! See `rustls_reload_harness::fuzz::pem_parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rustls_reload_harness::fuzz::pem_parse(data));
