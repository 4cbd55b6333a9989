//! See `rustls_reload::testkit::fuzz::redaction`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rustls_reload::testkit::fuzz::redaction(data));
