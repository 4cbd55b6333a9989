//! Decodes the base64 (RFC 4648 section 4) of private keys into one buffer of the final size.
//!
//! `rustls-pki-types` decodes everything else. It would leave the whole text of a key in a buffer
//! that grows and is not wiped (INV-10).

/// Decodes `text`; `None` if it is not base64. White space is skipped, and the padding may be
/// missing altogether.
///
/// The buffer is allocated once, at its final length, and no other copy is made: the caller has the
/// only one. The running time depends on the length of the text and the places of white space and
/// padding, but not on digits.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (mut digits, mut padding) = (0_usize, 0_usize);
    for byte in text {
        match value(*byte) {
            SPACE => {}
            PADDING => padding += 1,
            0..=63 if padding == 0 => digits += 1,
            _ => return None,
        }
    }
    let ends = match padding {
        0 => digits % 4 != 1,
        1 | 2 => (digits + padding).is_multiple_of(4),
        _ => false,
    };
    if !ends {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits * 6 / 8);
    let (mut bits, mut held) = (0_u32, 0);
    for value in text.iter().map(|byte| value(*byte)).filter(|value| *value <= 63) {
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

const SPACE: u8 = 0x80;
const PADDING: u8 = 0x81;
const NOTHING: u8 = 0x82;

/// Returns the value of a character, without a branch or a table whose timing would reveal it.
fn value(byte: u8) -> u8 {
    // All ones if the byte lies in the range.
    let within = |low: u8, high: u8| {
        let outside = (u16::from(byte).wrapping_sub(u16::from(low))
            | u16::from(high).wrapping_sub(u16::from(byte)))
            >> 15;
        (outside as u8).wrapping_sub(1)
    };
    let upper = within(b'A', b'Z');
    let lower = within(b'a', b'z');
    let digit = within(b'0', b'9');
    let (plus, slash, padding) = (within(b'+', b'+'), within(b'/', b'/'), within(b'=', b'='));
    let space = within(b'\t', b'\r') | within(b' ', b' ');
    let other = !(upper | lower | digit | plus | slash | padding | space);
    (upper & byte.wrapping_sub(b'A'))
        | (lower & byte.wrapping_sub(b'a').wrapping_add(26))
        | (digit & byte.wrapping_sub(b'0').wrapping_add(52))
        | (plus & 62)
        | (slash & 63)
        | (space & SPACE)
        | (padding & PADDING)
        | (other & NOTHING)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

    use super::*;

    /// Decodes the text with `rustls-pki-types`.
    fn theirs(text: &[u8]) -> Option<Vec<u8>> {
        let pem = [b"-----BEGIN PRIVATE KEY-----\n", text, b"\n-----END PRIVATE KEY-----\n"].concat();
        PrivatePkcs8KeyDer::from_pem_slice(&pem).ok().map(|key| key.secret_pkcs8_der().to_vec())
    }

    fn same(text: &[u8]) -> bool {
        let ours = decode(text);
        assert_eq!(ours, theirs(text), "{:?}", String::from_utf8_lossy(text));
        assert!(ours.as_ref().is_none_or(|bytes| bytes.capacity() == bytes.len()), "not of its final size");
        ours.is_some()
    }

    /// Checks: INV-02. Engine: generated.
    #[test]
    fn short_texts_and_all_characters_agree_with_another_decoder() {
        let (mut taken, mut tried) = (0, 0);
        let alphabet = b"A/z= *";
        for length in 0..=6_u32 {
            for mut number in 0..alphabet.len().pow(length) {
                let mut text = Vec::new();
                for _ in 0..length {
                    text.push(alphabet[number % alphabet.len()]);
                    number /= alphabet.len();
                }
                tried += 1;
                taken += usize::from(same(&text));
            }
        }
        for byte in 0..=255 {
            // The sections handle a line that is a marker or split in two.
            for text in [[b'A', b'Q', byte, b'Z'], [byte, b'/', b'9', b'+'], [b'0', b'a', b'k', byte]] {
                tried += 1;
                taken += usize::from(same(&text));
            }
        }
        let long: Vec<u8> = (0..400_u32).map(|i| b"QUJDabc0189+/xyz"[(i * i % 16) as usize]).collect();
        for length in 0..long.len() {
            tried += 1;
            taken += usize::from(same(&long[..length]));
        }
        assert!(taken > 2000 && tried - taken > 2000, "{taken} of {tried} are base64");
    }
}
