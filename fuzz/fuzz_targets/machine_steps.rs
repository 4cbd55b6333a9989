//! See `rustls_reload::testkit::fuzz::machine_steps`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rustls_reload::testkit::fuzz::machine_steps(data));
