//! Encodes certificates byte by byte, for forms that no certificate factory writes.

use std::{
    path::Path,
    process::{Command, Output},
    sync::Arc,
};

use rustls::{
    SignatureScheme,
    crypto::ring,
    pki_types::{PrivateKeyDer, pem::PemObject},
    sign::SigningKey,
};
use rustls_reload_testkit::{PrivateKey, armor};

pub(crate) const KEY_USAGE: &[u8] = &[0x55, 29, 15];
pub(crate) const ALTERNATIVE: &[u8] = &[0x55, 29, 17];
pub(crate) const BASIC: &[u8] = &[0x55, 29, 19];
pub(crate) const CONSTRAINTS: &[u8] = &[0x55, 29, 30];
pub(crate) const PURPOSES: &[u8] = &[0x55, 29, 37];
pub(crate) const NETSCAPE_TYPE: &[u8] = &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 1, 1];
const P256: &[u8] =
    &[0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const ECDSA_SHA256: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const RSA: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
const RSA_SHA256: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0];

/// Encodes a value with this tag.
pub(crate) fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap();
    let mut der = vec![tag];
    match length {
        0..=0x7f => der.push(length.to_be_bytes()[1]),
        0x80..=0xff => der.extend([0x81, length.to_be_bytes()[1]]),
        _ => der.extend([&[0x82][..], &length.to_be_bytes()].concat()),
    }
    der.extend(content);
    der
}

/// An extension: identifier, whether it is critical, value.
pub(crate) type Extension = (&'static [u8], bool, Vec<u8>);

pub(crate) fn extension(id: &'static [u8], value: Vec<u8>) -> Extension {
    (id, false, value)
}

pub(crate) fn basic(ca: bool, path: Option<u8>) -> Extension {
    let ca = if ca { der(1, &[&[0xff]]) } else { Vec::new() };
    let path = path.map(|path| der(2, &[&[path]])).unwrap_or_default();
    (BASIC, true, der(0x30, &[&ca, &path]))
}

/// Encodes a bit string in which `unused` bits of the byte are not used.
pub(crate) fn bits(id: &'static [u8], unused: u8, byte: u8) -> Extension {
    extension(id, der(3, &[&[unused, byte]]))
}

pub(crate) fn key_cert_sign() -> Extension {
    bits(KEY_USAGE, 2, 0x04)
}

pub(crate) fn purposes(ids: &[&[u8]]) -> Extension {
    let ids: Vec<_> = ids.iter().flat_map(|id| der(6, &[id])).collect();
    extension(PURPOSES, der(0x30, &[&ids]))
}

/// Encodes a name with only a common name: as a `UTF8String`, or as a `PrintableString` if
/// `printable:` precedes it.
pub(crate) fn name(common: &str) -> Vec<u8> {
    let value = match common.strip_prefix("printable:") {
        Some(common) => der(0x13, &[common.as_bytes()]),
        None => der(0x0c, &[common.as_bytes()]),
    };
    der(0x30, &[&der(0x31, &[&der(0x30, &[&der(6, &[&[0x55, 4, 3]]), &value])])])
}

/// Dates in the past, around the present and in the future.
pub(crate) const PAST: [&str; 2] = ["200101000000Z", "210101000000Z"];
pub(crate) const NOW: [&str; 2] = ["200101000000Z", "491231000000Z"];
pub(crate) const FUTURE: [&str; 2] = ["480101000000Z", "491231000000Z"];

/// The signed part of a certificate.
pub(crate) struct Certificate<'a> {
    pub(crate) version_3: bool,
    pub(crate) serial: u8,
    pub(crate) issuer: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) dates: [&'a str; 2],
    pub(crate) key: &'a [u8],
    pub(crate) extensions: &'a [Extension],
}

impl Certificate<'_> {
    /// Signs with this key, whose algorithm is part of the signed content.
    pub(crate) fn signed_by(&self, signer: &Signer) -> Vec<u8> {
        let algorithm = if matches!(signer, Signer::Rsa(_)) { RSA_SHA256 } else { ECDSA_SHA256 };
        let dates = self.dates.map(|date| der(0x17, &[date.as_bytes()])).concat();
        let extensions: Vec<_> = self
            .extensions
            .iter()
            .flat_map(|(id, critical, value)| {
                let critical = if *critical { der(1, &[&[0xff]]) } else { Vec::new() };
                der(0x30, &[&der(6, &[id]), &critical, &der(4, &[value])])
            })
            .collect();
        let version = if self.version_3 { der(0xa0, &[&der(2, &[&[2]])]) } else { Vec::new() };
        let extensions = if self.version_3 { der(0xa3, &[&der(0x30, &[&extensions])]) } else { Vec::new() };
        let tbs = der(
            0x30,
            &[
                &version,
                &der(2, &[&[self.serial]]),
                algorithm,
                &name(self.issuer),
                &der(0x30, &[&dates]),
                &name(self.subject),
                self.key,
                &extensions,
            ],
        );
        let signature = signer.sign(&tbs);
        der(0x30, &[&tbs, algorithm, &der(3, &[&[0], &signature])])
    }
}

/// A P-256 key, or the signature of an RSA key that was made for the message.
pub(crate) enum Signer {
    P256(Arc<dyn SigningKey>),
    Rsa(Vec<u8>),
}

impl Signer {
    pub(crate) fn new() -> (Self, String) {
        let pem = PrivateKey::p256().pem();
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        (Self::P256(ring::default_provider().key_provider.load_private_key(key).unwrap()), pem)
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => {
                key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap().sign(message).unwrap()
            }
            Self::Rsa(signature) => signature.clone(),
        }
    }

    /// Returns the public key.
    pub(crate) fn public(&self) -> Vec<u8> {
        match self {
            Self::P256(key) => key.public_key().unwrap().to_vec(),
            Self::Rsa(_) => unreachable!("it comes after what it signs"),
        }
    }

    /// Returns the public key with another form of its point (SEC 1 section 2.3.3), or, for 4, with
    /// a point that is not on the curve.
    pub(crate) fn reshaped(&self, form: u8) -> Vec<u8> {
        let public = self.public();
        let point = &public[public.len() - 65..];
        let (x, y) = point[1..].split_at(32);
        let odd = y[31] & 1;
        let point = match form {
            2 => [&[2 | odd], x].concat(),
            6 => [&[6 | odd], x, y].concat(),
            _ => [&[4], x, x].concat(),
        };
        der(0x30, &[P256, &der(3, &[&[0], &point])])
    }
}

/// Makes an RSA public key with this many bits (`bits % 3` is 2) that verifies a signature, with
/// SHA-256, of a message with this digest: 6 times a power of two, cubed, less the encoded message
/// (RFC 8017 section 9.2). The exponent is the encoding of 3. Returns `None` for an even digest.
pub(crate) fn rsa_for(digest: &[u8], bits: usize, exponent: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    assert_eq!(bits % 3, 2);
    let length = bits.div_ceil(8);
    let info = [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];
    let encoded = [&[0, 1], &vec![0xff; length - 54][..], &[0], &info, digest].concat();
    let power = |number: u16, shift: usize| {
        let mut digits = vec![0_u8; length];
        for (at, byte) in (number << (shift % 8)).to_le_bytes().into_iter().enumerate() {
            let place = shift / 8 + at;
            if byte != 0 {
                digits[length - 1 - place] = byte;
            }
        }
        digits
    };
    let shift = (bits - 8) / 3;
    let (signature, mut modulus) = (power(6, shift), power(216, 3 * shift));
    let mut borrow = 0;
    for (digit, less) in modulus.iter_mut().rev().zip(encoded.iter().rev()) {
        let left = i16::from(*digit) - i16::from(*less) - borrow;
        borrow = i16::from(left < 0);
        *digit = u8::try_from(left.rem_euclid(256)).unwrap();
    }
    let sign: &[u8] = if modulus[0] & 0x80 == 0 { &[] } else { &[0] };
    let key = der(0x30, &[&der(2, &[sign, &modulus]), &der(2, &[exponent])]);
    let odd = modulus.last().is_some_and(|last| last & 1 == 1);
    odd.then(|| (der(0x30, &[RSA, &der(3, &[&[0], &key])]), signature))
}

pub(crate) fn pem(certificate: &[u8]) -> String {
    String::from_utf8(armor::encode("CERTIFICATE", &[certificate])).unwrap()
}

pub(crate) fn openssl(dir: &Path, args: &str) -> Output {
    Command::new("openssl").args(args.split_whitespace()).current_dir(dir).output().expect("openssl")
}

/// Runs `openssl`, which has to succeed.
pub(crate) fn made(dir: &Path, args: &str) {
    let output = openssl(dir, args);
    assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Returns the SHA-256 digest of a certificate in the format of the `openssl` command.
pub(crate) fn fingerprint(certificate: &[u8]) -> String {
    let digest = digest(certificate);
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// Returns the SHA-256 digest of a message.
pub(crate) fn digest(message: &[u8]) -> Vec<u8> {
    let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13().unwrap();
    suite.common.hash_provider.hash(message).as_ref().to_vec()
}
