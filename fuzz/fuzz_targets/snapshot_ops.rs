//! See `rustls_reload_harness::fuzz::snapshot_ops`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rustls_reload_harness::fuzz::snapshot_ops(data));
