//! Finds out whether a crypto provider verifies signatures by a given key.
//!
//! A provider only answers whether a signature is good. This module therefore asks it about keys of
//! the same size or form for which a good signature is known. The provider counts as rejecting a
//! key only if it verifies the same kind of signature by a key of another size or form. Nothing is
//! concluded about a provider that verifies neither.

use hmac_sha256::Hash;
use rustls::{
    NamedGroup,
    crypto::CryptoProvider,
    pki_types::{SignatureVerificationAlgorithm, alg_id},
};

use super::extensions::dotted;
use crate::pki::der::{BIT_STRING, INTEGER, OID, Reader, SEQUENCE};

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// Kinds of keys that are in use and that a provider may not support, each with its name.
const KINDS: &[(&[u8], &str)] = &[
    (RSA, "RSA"),
    (RSA_PSS, "RSA-PSS"),
    (ED25519, "Ed25519"),
    (&[0x2b, 0x65, 0x71], "Ed448"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1], "DSA"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7], "ECDSA P-256"),
    (&[0x2b, 0x81, 4, 0, 34], "ECDSA P-384"),
    (&[0x2b, 0x81, 4, 0, 35], "ECDSA P-521"),
    (&[0x2b, 0x81, 4, 0, 10], "ECDSA secp256k1"),
];

/// Checks that the provider can verify signatures by this key, given as the content of a
/// SubjectPublicKeyInfo, the form that rustls keeps.
///
/// # Errors
/// Returns the reason why no signature by the key is ever verified. Where that is not known, the
/// key passes.
pub(super) fn verifies(provider: &CryptoProvider, spki: &[u8]) -> Result<(), String> {
    let mut reader = Reader(spki);
    let parts = reader.read(SEQUENCE).zip(reader.read(BIT_STRING));
    let Some((kind, key)) = parts.and_then(|(kind, bits)| Some((kind, bits.strip_prefix(&[0])?))) else {
        return Err("its public key is malformed".to_owned());
    };
    // rustls-webpki compares the identifier and its parameters byte for byte.
    let of_kind =
        |algorithm: &&&dyn SignatureVerificationAlgorithm| algorithm.public_key_alg_id().as_ref() == kind;
    let algorithms: Vec<_> =
        provider.signature_verification_algorithms.all.iter().filter(of_kind).copied().collect();
    let unverified =
        |what: String| format!("its key is {what}: the crypto provider verifies no signature by such a key");
    if algorithms.is_empty() {
        return Err(unverified(name(kind)));
    }
    if kind == alg_id::RSA_ENCRYPTION.as_ref() {
        let modulus = modulus(key).ok_or("its RSA key is malformed")?;
        let bits = 8 * modulus.len() - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        let takes = |bits| algorithms.iter().any(|algorithm| takes_rsa_of(*algorithm, bits));
        if !takes(bits) && [2048, 3072, 4096].into_iter().any(takes) {
            return Err(unverified(format!("RSA of {bits} bits")));
        }
    }
    let Some((curve, group)) = CURVES.iter().find(|(curve, _)| curve.id.as_ref() == kind) else {
        let short = kind == alg_id::ED25519.as_ref() && key.len() != 32;
        return if short { Err("its Ed25519 key is malformed".to_owned()) } else { Ok(()) };
    };
    let form = key.first().copied().unwrap_or_default();
    let takes = |form| algorithms.iter().any(|algorithm| curve.takes(*algorithm, form));
    if form != UNCOMPRESSED && !takes(form) && takes(UNCOMPRESSED) {
        let form =
            if matches!(form, 2 | 3) { "with a compressed point" } else { "with a point of another form" };
        return Err(unverified(format!("{} {form}", name(kind))));
    }
    // A key exchange checks whether the point is on the curve; rustls itself accepts only
    // uncompressed points there.
    let group = provider.kx_groups.iter().find(|found| found.name() == *group);
    let exchange = group.filter(|_| form == UNCOMPRESSED).and_then(|group| group.start().ok());
    match exchange.map(|exchange| exchange.complete(key)) {
        Some(Err(_)) => Err(format!("its key is malformed: no point on the curve of {}", name(kind))),
        _ => Ok(()),
    }
}

/// Returns the name of a key's kind, by the content of its algorithm identifier.
fn name(kind: &[u8]) -> String {
    let mut reader = Reader(kind);
    let id = reader.read(OID).unwrap_or_default();
    let called = |id: &[u8]| KINDS.iter().find(|(known, _)| *known == id).map(|(_, name)| (*name).to_owned());
    if id == EC {
        return match reader.any() {
            Some((OID, curve)) => {
                called(curve).unwrap_or_else(|| format!("ECDSA on curve {}", dotted(curve)))
            }
            _ => "ECDSA on a curve given by its parameters".to_owned(),
        };
    }
    match called(id) {
        Some(name) if id == RSA && kind != alg_id::RSA_ENCRYPTION.as_ref() => {
            format!("{name} without NULL parameters")
        }
        Some(name) if id == ED25519 && kind != alg_id::ED25519.as_ref() => format!("{name} with parameters"),
        Some(name) => name,
        None => format!("of algorithm {}", dotted(id)),
    }
}

/// Returns the digits of an RSA public key's modulus, without the zero that keeps it positive (RFC
/// 8017 section A.1.1).
///
/// Returns `None` for an even number and for an exponent of 1, which make no key.
fn modulus(key: &[u8]) -> Option<&[u8]> {
    let mut outer = Reader(key);
    let mut parts = Reader(outer.read(SEQUENCE)?);
    outer.end()?;
    let (modulus, exponent) = (parts.read(INTEGER)?, parts.read(INTEGER)?);
    parts.end()?;
    // Of zeros, DER has one before a byte that would make the number negative, and no other.
    let positive = |digits: &[u8]| {
        digits.first().is_some_and(|first| first & 0x80 == 0) && !matches!(digits, [0, ..0x80, ..])
    };
    let odd = |digits: &[u8]| digits.last().is_some_and(|last| last & 1 == 1);
    let usable = |digits: &[u8]| positive(digits) && odd(digits);
    (usable(modulus) && usable(exponent) && exponent != [1])
        .then(|| modulus.strip_prefix(&[0]).unwrap_or(modulus))
}

/// The prefix of a SHA-256 digest in an encoded message (RFC 8017 section 9.2).
const SHA256_INFO: &[u8] =
    &[0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];

/// Returns whether an algorithm accepts RSA keys of so many bits.
///
/// The signature is s and the exponent is 3. The modulus is made for them: n = s³ - EM, so that s³
/// mod n is the encoded message EM. s is a small number m times a power of two, so s³ is m³ times a
/// power of two. m is chosen so that n has the length that is wanted. n is odd where the digest at
/// the end of EM is odd.
fn takes_rsa_of(algorithm: &dyn SignatureVerificationAlgorithm, bits: usize) -> bool {
    let length = bits.div_ceil(8);
    // Shorter keys have no room for a digest, and longer keys have no room for their length.
    if algorithm.signature_alg_id() != alg_id::RSA_PKCS1_SHA256 || !(512..=65_536).contains(&bits) {
        return false;
    }
    let message = (0..=u8::MAX).find(|message| Hash::hash(&[*message])[31] & 1 == 1).unwrap_or_default();
    let mut encoded = vec![0xff; length];
    (encoded[0], encoded[1]) = (0, 1);
    let digest = length - 32;
    encoded[digest..].copy_from_slice(&Hash::hash(&[message]));
    encoded[digest - SHA256_INFO.len()..digest].copy_from_slice(SHA256_INFO);
    encoded[digest - SHA256_INFO.len() - 1] = 0;
    // 64, 125 and 216 each reach into the upper half of their 6, 7 or 8 bits. The remainder of the
    // length chooses one.
    let (m, taken) = [(4, 6), (5, 7), (6, 8)][bits % 3];
    let shift = (bits - taken) / 3;
    let signature = shifted(m, shift, length);
    // One byte more: 64 times a power of two needs one bit more until EM is subtracted.
    let mut modulus = shifted(m * m * m, 3 * shift, length + 1);
    let mut borrow = false;
    for (digit, less) in modulus.iter_mut().rev().zip(encoded.iter().rev().chain([&0])) {
        let (once, under) = digit.overflowing_sub(*less);
        let (twice, again) = once.overflowing_sub(u8::from(borrow));
        (*digit, borrow) = (twice, under || again);
    }
    let leading = modulus.iter().take_while(|digit| **digit == 0).count();
    let key = sequence(&[&integer(&modulus[leading..]), &integer(&[3])]);
    algorithm.verify_signature(&key, &[message], &signature).is_ok()
}

/// Returns a small number times a power of two, in so many bytes.
fn shifted(number: u16, shift: usize, length: usize) -> Vec<u8> {
    let mut digits = vec![0; length];
    let wide = u32::from(number) << (shift % 8);
    for (digit, byte) in digits.iter_mut().rev().skip(shift / 8).zip(wide.to_le_bytes()) {
        *digit = byte;
    }
    digits
}

/// Encodes a positive number without leading zeros as DER.
fn integer(digits: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if digits.first().is_none_or(|first| first & 0x80 != 0) { &[0] } else { &[] };
    tagged(INTEGER, &[sign, digits])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tagged(SEQUENCE, parts)
}

fn tagged(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut der = vec![tag];
    if content.len() >= 0x80 {
        der.extend(u8::try_from(length.len()).map(|length| 0x80 | length));
    }
    der.extend(length);
    der.extend(content);
    der
}

const UNCOMPRESSED: u8 = 4;

/// A curve with a signature of the empty message by the private key 1, whose public key is the base
/// point. The nonce is 1, so r is the base point's x, and s is r plus the digest.
struct Curve {
    id: rustls::pki_types::AlgorithmIdentifier,
    signed: rustls::pki_types::AlgorithmIdentifier,
    x: &'static [u8],
    y: &'static [u8],
    s: &'static [u8],
}

impl Curve {
    /// Returns whether an algorithm accepts points of this form (SEC 1 section 2.3.3).
    fn takes(&self, algorithm: &dyn SignatureVerificationAlgorithm, form: u8) -> bool {
        let odd = self.y.last().map_or(0, |last| last & 1);
        let point = match form {
            2 | 3 => [&[2 | odd], self.x].concat(),
            6 | 7 => [&[6 | odd], self.x, self.y].concat(),
            _ => [&[form], self.x, self.y].concat(),
        };
        let signature = sequence(&[&integer(self.x), &integer(self.s)]);
        algorithm.signature_alg_id() == self.signed
            && algorithm.verify_signature(&point, &[], &signature).is_ok()
    }
}

const CURVES: &[(Curve, NamedGroup)] = &[
    (
        Curve {
            id: alg_id::ECDSA_P256,
            signed: alg_id::ECDSA_SHA256,
            x: b"\x6b\x17\xd1\xf2\xe1\x2c\x42\x47\xf8\xbc\xe6\xe5\x63\xa4\x40\xf2\x77\x03\x7d\x81\x2d\xeb\x33\xa0\
             \xf4\xa1\x39\x45\xd8\x98\xc2\x96",
            y: b"\x4f\xe3\x42\xe2\xfe\x1a\x7f\x9b\x8e\xe7\xeb\x4a\x7c\x0f\x9e\x16\x2b\xce\x33\x57\x6b\x31\x5e\xce\
             \xcb\xb6\x40\x68\x37\xbf\x51\xf5",
            s: b"\x4e\xc8\x96\x36\x7a\x28\x5e\x5b\x93\xb8\xdb\xad\xfd\x13\xfa\x16\xe1\xca\xc4\xb7\xeb\x6f\x28\x68\
             \xa5\x7d\x07\x9e\x54\x88\x55\x9a",
        },
        NamedGroup::secp256r1,
    ),
    (
        Curve {
            id: alg_id::ECDSA_P384,
            signed: alg_id::ECDSA_SHA384,
            x: b"\xaa\x87\xca\x22\xbe\x8b\x05\x37\x8e\xb1\xc7\x1e\xf3\x20\xad\x74\x6e\x1d\x3b\x62\x8b\xa7\x9b\x98\
             \x59\xf7\x41\xe0\x82\x54\x2a\x38\x55\x02\xf2\x5d\xbf\x55\x29\x6c\x3a\x54\x5e\x38\x72\x76\x0a\xb7",
            y: b"\x36\x17\xde\x4a\x96\x26\x2c\x6f\x5d\x9e\x98\xbf\x92\x92\xdc\x29\xf8\xf4\x1d\xbd\x28\x9a\x14\x7c\
             \xe9\xda\x31\x13\xb5\xf0\xb8\xc0\x0a\x60\xb1\xce\x1d\x7e\x81\x9d\x7a\x43\x1d\x7c\x90\xea\x0e\x5f",
            s: b"\xe3\x38\x2a\xca\x10\x37\x9b\x6f\xdb\x8a\xf9\x9d\xa4\xd2\x90\xde\x90\x1a\xf2\x73\xa0\x65\xa2\xdb\
             \xa6\x04\x09\x9f\xe6\x4b\x0c\x12\x7c\x51\xd1\x1d\xa6\xc4\x8f\x68\x0f\x6f\x31\x29\xbb\x0e\xc4\x12",
        },
        NamedGroup::secp384r1,
    ),
];

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)] // reason: a test
mod tests {
    use rustls::crypto::ring;

    use super::*;

    fn provider(keep: impl Fn(&dyn SignatureVerificationAlgorithm) -> bool) -> CryptoProvider {
        let mut provider = ring::default_provider();
        let all: Vec<_> = provider
            .signature_verification_algorithms
            .all
            .iter()
            .copied()
            .filter(|found| keep(*found))
            .collect();
        provider.signature_verification_algorithms.all = Vec::leak(all);
        provider
    }

    /// Encodes a SubjectPublicKeyInfo in the form that rustls keeps.
    fn spki(kind: &[u8], key: &[u8]) -> Vec<u8> {
        [tagged(SEQUENCE, &[kind]), tagged(BIT_STRING, &[&[0], key])].concat()
    }

    fn rsa(bits: usize) -> Vec<u8> {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] = 0xff >> (modulus.len() * 8 - bits);
        spki(alg_id::RSA_ENCRYPTION.as_ref(), &sequence(&[&integer(&modulus), &integer(&[1, 0, 1])]))
    }

    /// ring counts whole bytes, which keys at its limits show.
    ///
    /// Checks: INV-14, INV-16.
    #[test]
    fn inv14_inv16_ring_is_asked_for_the_sizes_of_rsa_that_it_takes() {
        let ring = ring::default_provider();
        for bits in [
            1, 17, 511, 512, 1024, 2039, 2040, 2041, 2042, 2047, 2048, 2049, 3072, 4095, 8191, 8192, 8193,
            16_384, 65_537,
        ] {
            let takes = verifies(&ring, &rsa(bits));
            assert_eq!(takes.is_ok(), (2041..=8192).contains(&bits), "{bits}: {takes:?}");
            assert!(
                takes.is_ok() || takes.unwrap_err().contains(&format!("its key is RSA of {bits} bits: "))
            );
        }
    }

    /// Nothing is concluded about sizes and forms of a provider that verifies no known signature.
    ///
    /// Checks: INV-16.
    #[test]
    fn inv16_provider_that_answers_nothing_is_not_reported() {
        let without = provider(|algorithm| {
            ![alg_id::RSA_PKCS1_SHA256, alg_id::ECDSA_SHA256].contains(&algorithm.signature_alg_id())
        });
        let compressed = spki(alg_id::ECDSA_P256.as_ref(), &[&[2][..], &[7; 32]].concat());
        for key in [rsa(1024), compressed] {
            assert_eq!(verifies(&without, &key), Ok(()));
            assert!(verifies(&ring::default_provider(), &key).is_err());
        }
        // A provider without an algorithm for a kind of key verifies no key of that kind.
        let none = provider(|algorithm| algorithm.public_key_alg_id() != alg_id::RSA_ENCRYPTION);
        assert!(verifies(&none, &rsa(2048)).is_err_and(|why| why.starts_with("its key is RSA: ")));
        // A provider without a key exchange on the curve cannot check whether a point is on it.
        let beside = spki(alg_id::ECDSA_P256.as_ref(), &[&[4][..], &[7; 64]].concat());
        let groupless = CryptoProvider { kx_groups: Vec::new(), ..ring::default_provider() };
        assert_eq!(verifies(&groupless, &beside), Ok(()));
        assert!(verifies(&ring::default_provider(), &beside).is_err_and(|why| why.contains("no point")));
    }

    #[test]
    fn inv16_malformed_public_keys_are_refused() {
        let ring = ring::default_provider();
        let good = rsa(2048);
        assert_eq!(verifies(&ring, &good), Ok(()));
        let ed = |length| spki(alg_id::ED25519.as_ref(), &vec![7; length]);
        assert_eq!(verifies(&ring, &ed(32)), Ok(()));
        let negative = spki(alg_id::RSA_ENCRYPTION.as_ref(), &sequence(&[&[2, 1, 0x80], &[2, 1, 3]]));
        let without_null = spki(&alg_id::RSA_ENCRYPTION.as_ref()[..11], &[]);
        for (key, why) in [
            (&good[..good.len() - 1], "its public key is malformed"),
            (&[], "its public key is malformed"),
            (&negative, "its RSA key is malformed"),
            (&ed(31), "its Ed25519 key is malformed"),
            (&without_null, "its key is RSA without NULL parameters: "),
        ] {
            let answer = verifies(&ring, key).unwrap_err();
            assert!(answer.starts_with(why), "{answer}");
        }
    }
}
