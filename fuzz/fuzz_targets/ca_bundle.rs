//! See `rustls_reload_harness::fuzz::ca_bundle`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rustls_reload_harness::fuzz::ca_bundle(data));
