//! Searches output for key material.

use std::collections::HashSet;

use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::PrivateKeyDer;

/// Length in bytes of a run of key bytes that counts as a leak (INV-10).
pub const WINDOW: usize = 12;

/// The windows of one private key: every run of [`WINDOW`] bytes in it. They are found raw, as in
/// the key's PEM, in hexadecimal with or without separators, and as a list of numbers, as `Debug`
/// prints bytes.
///
/// The PEM's `BEGIN` and `END` lines are not secret, nor is the public key, which a key's DER holds
/// beside the private one. In other forms than PKCS #8 the public key is not identified, and a
/// certificate may be taken for a leak.
///
/// Line breaks within the base64 are removed on both sides, so that a window across two lines is
/// found however the output is wrapped.
pub struct Windows {
    raw: HashSet<[u8; WINDOW]>,
    base64: HashSet<[u8; WINDOW]>,
}

impl Windows {
    /// Returns the windows of this key.
    #[must_use]
    pub fn of(key: &PrivateKeyDer<'_>, key_pem: &str) -> Self {
        let lines = key_pem.lines().filter(|line| !line.starts_with("-----"));
        let base64: Vec<u8> = lines.flat_map(|line| line.trim().bytes()).collect();
        let der = key.secret_der();
        let public = KeyPair::try_from(key).map(|key| key.subject_public_key_info()).unwrap_or_default();
        let is_public = |bytes: &[u8]| public.windows(bytes.len()).any(|window| window == bytes);
        // Returns the bytes that the characters of a window encode, including the bytes that they
        // encode in part.
        let of = |at: usize| der.get(at * 6 / 8..((at + WINDOW) * 6).div_ceil(8)).unwrap_or_default();
        let secret = |(at, window)| (of(at).is_empty() || !is_public(of(at))).then_some(window);
        Self {
            raw: windows(der).filter(|window| !is_public(window)).collect(),
            base64: windows(&base64).enumerate().filter_map(secret).collect(),
        }
    }

    /// Returns whether any of the windows occurs in `output`.
    #[must_use]
    pub fn occur_in(&self, output: &[u8]) -> bool {
        let unwrapped: Vec<u8> = output.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let raw = |output: &[u8]| windows(output).any(|window| self.raw.contains(&window));
        raw(output)
            || from_hex(output).iter().any(|bytes| raw(bytes))
            || lists_of_numbers(output).iter().any(|bytes| raw(bytes))
            || windows(&unwrapped).any(|window| self.base64.contains(&window))
    }
}

/// Returns whether any of the key's [`Windows`] occurs in `output`.
#[must_use]
pub fn leaks(output: &[u8], key: &PrivateKeyDer<'_>, key_pem: &str) -> bool {
    Windows::of(key, key_pem).occur_in(output)
}

fn windows(bytes: &[u8]) -> impl Iterator<Item = [u8; WINDOW]> + '_ {
    bytes.windows(WINDOW).filter_map(|window| window.try_into().ok())
}

/// Decodes the hexadecimal digits of `output`, starting at the first and at the second digit.
/// Separators are skipped.
fn from_hex(output: &[u8]) -> [Vec<u8>; 2] {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let separates = |byte: &&u8| !matches!(byte, b':' | b' ' | b'-' | b',' | b'_' | b'\n');
    let digits: Vec<Option<u8>> = output.iter().filter(separates).map(digit).collect();
    [0, 1].map(|from| {
        let pairs = digits.get(from..).unwrap_or_default().chunks_exact(2);
        // Another character becomes a zero, so that the digits around it do not join. Keys are not
        // runs of zeros.
        pairs.map(|pair| pair[0].zip(pair[1]).map_or(0, |(high, low)| high << 4 | low)).collect()
    })
}

/// Returns the lists of numbers below 256 in `output`: numbers separated only by commas and white
/// space.
///
/// Numbers of different fields are no list. A public key after any number would otherwise encode
/// bytes that are adjacent in the key.
fn lists_of_numbers(output: &[u8]) -> Vec<Vec<u8>> {
    let is_in_list = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_whitespace() || *byte == b',';
    let lists = output.split(|byte| !is_in_list(byte));
    let number = |number: &[u8]| std::str::from_utf8(number).ok()?.parse().ok();
    let numbers = |list: &[u8]| list.split(|byte| !byte.is_ascii_digit()).filter_map(number).collect();
    lists.map(numbers).collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{Authority, PrivateKey, Subject};

    #[test]
    fn a_window_of_a_key_is_found_in_every_form_it_is_printed_in() {
        let pair = Authority::root("CA").issue(&Subject::server("localhost"), &PrivateKey::p256());
        let der = pair.key_der();
        for at in [30, 31, 40] {
            let window = &der.secret_der()[at..at + WINDOW];
            let hex = |separator: &str| {
                window.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(separator)
            };
            let forms = [
                format!("{window:?}"),
                format!("{window:#?}"),
                hex(""),
                hex(":"),
                hex(" ").to_uppercase(),
                hex(", "),
            ];
            for form in
                forms.iter().flat_map(|form| [format!("{form}."), format!("bad: {form}"), format!("a{form}")])
            {
                assert!(leaks(form.as_bytes(), &der, &pair.key), "{form}");
            }
            let short = format!("{:?}", &window[1..]);
            assert!(!leaks(short.as_bytes(), &der, &pair.key), "{short}");
        }
        assert!(!leaks(b"the private key is not valid base64", &der, &pair.key));
        let public = format!("{:?} {:x?} {}", pair.leaf, pair.leaf.as_ref(), pair.chain);
        assert!(!leaks(public.as_bytes(), &der, &pair.key), "a certificate is no secret");
    }

    #[test]
    fn number_beside_a_public_key_is_no_leak_and_one_in_the_key_is() {
        let pair = Authority::root("CA").issue(&Subject::server("localhost"), &PrivateKey::p256());
        let der = pair.key_der();
        let bytes = der.secret_der();
        // RFC 5915: the private number has 32 bytes. A tag and a length follow, and then the public
        // key, which ends the key.
        let public = bytes.len() - 68;
        let next_field = format!("{}, key: {:?}, bits: 256", bytes[public - 1], &bytes[public..]);
        assert!(!leaks(next_field.as_bytes(), &der, &pair.key), "{next_field}");
        for before in [1, 2, 3, WINDOW, 36] {
            let printed = format!("{:?}", &bytes[public - before..]);
            assert!(leaks(printed.as_bytes(), &der, &pair.key), "{before}");
        }
    }
}
