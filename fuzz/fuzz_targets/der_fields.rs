//! See `rustls_reload::testkit::fuzz::der_fields`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rustls_reload::testkit::fuzz::der_fields(data));
