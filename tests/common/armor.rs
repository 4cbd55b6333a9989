//! PEM of any label and any bytes.

use rustls_reload_testkit::armor;

/// Encodes a PEM block with 64 characters in a line.
pub fn block(label: &str, der: &[u8]) -> String {
    String::from_utf8(armor::encode(label, &[der])).unwrap()
}

pub fn base64(bytes: &[u8]) -> String {
    String::from_utf8(armor::base64(bytes)).unwrap()
}
