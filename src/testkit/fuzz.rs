//! The bodies of the fuzz targets; `cargo test` replays the committed corpus through them.
//!
//! Each takes any bytes, must neither panic nor take long, and checks that what is accepted says the same when it is
//! written down and read again.

use rustls::pki_types::CertificateDer;

use crate::{der, pem};

/// PEM of every role: certificates that are accepted come back the same from their own encoding.
pub fn pem_parse(data: &[u8]) {
    let chain = pem::chain(data);
    let bundle = pem::ca_bundle(data);
    if let Ok(chain) = &chain {
        assert_eq!(pem::chain(&encode(chain)).as_ref(), Ok(chain));
    }
    // A bundle is what a chain is, with fewer things allowed beside the certificates.
    if bundle.is_ok() {
        assert_eq!(chain, bundle);
    }
    key_parse(data);
}

/// Private keys: one that is accepted is the same wherever in the file it lies, and a second one is never guessed away.
pub fn key_parse(data: &[u8]) {
    let Ok(key) = pem::key(data) else { return };
    let twice = [data, b"\n", data].concat();
    assert!(pem::key(&twice).is_err(), "one of two keys was picked");
    let spaced = [b"# a comment\n", data, b"\ntrailing text\n"].concat();
    let again = pem::key(&spaced).map(|key| key.clone_der().secret_der().to_vec());
    let text_before = !data.starts_with(b"\xef\xbb\xbf");
    assert!(!text_before || again.is_ok_and(|again| again == key.clone_der().secret_der()));
}

/// Fields of a certificate: bounded, and independent of what follows the certificate's own end.
pub fn der_fields(data: &[u8]) {
    let Some(fields) = der::fields(data) else { return };
    assert!(fields.serial.len() <= data.len() && fields.names.len() <= data.len());
    assert!(fields.names.iter().all(|name| !name.chars().any(char::is_control)));
    for name in [fields.subject, fields.issuer] {
        assert!(der::name(name).is_none_or(|name| !name.chars().any(char::is_control)));
    }
    assert_eq!(der::fields(&[data, &[0]].concat()), None, "bytes after the certificate were passed over");
    assert_eq!(der::serial_hex(fields.serial).trim_start_matches('-').len() % 2, 0);
}

/// RFC 7468, 64 characters a line.
fn encode(chain: &[CertificateDer<'_>]) -> Vec<u8> {
    let mut text = Vec::new();
    for certificate in chain {
        text.extend_from_slice(b"-----BEGIN CERTIFICATE-----\n");
        for line in base64(certificate).chunks(64) {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        text.extend_from_slice(b"-----END CERTIFICATE-----\n");
    }
    text
}

fn base64(bytes: &[u8]) -> Vec<u8> {
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
