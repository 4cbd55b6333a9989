//! Encodes PEM (RFC 7468).

/// Encodes blocks as sections with this label, with 64 characters in a line.
#[must_use]
pub fn encode(label: &str, blocks: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut text = Vec::new();
    for block in blocks {
        text.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
        for line in base64(block.as_ref()).chunks(64) {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        text.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    }
    text
}

/// Encodes bytes as base64, without line breaks.
#[must_use]
pub fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place > group.len() { b'=' } else { digit });
        }
    }
    text
}
