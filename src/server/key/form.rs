//! The encodings of private and public keys, taken apart without looking at their numbers.

use crate::pki::der::{BIT_STRING, INTEGER, OCTETS, Reader, SEQUENCE};

/// The parameters of an `ECPrivateKey` (RFC 5915 section 3).
pub(super) const PARAMETERS: u8 = 0xa0;
/// The public key of an `ECPrivateKey`.
pub(super) const PUBLIC_KEY: u8 = 0xa1;
/// The public key of a `OneAsymmetricKey` (RFC 5958 section 2).
const OUTER_PUBLIC_KEY: u8 = 0x81;
/// id-ecPublicKey (RFC 5480 section 2.1.1).
pub(super) const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];

/// The parts of a PKCS #8 key (RFC 5958 section 2).
pub(super) struct Pkcs8<'a> {
    /// The algorithm's identifier and parameters.
    pub(super) algorithm: &'a [u8],
    pub(super) key: &'a [u8],
    pub(super) public: Option<&'a [u8]>,
}

impl<'a> Pkcs8<'a> {
    pub(super) fn of(der: &'a [u8]) -> Option<Self> {
        let mut outer = Reader(der);
        let mut parts = Reader(outer.read(SEQUENCE)?);
        outer.end()?;
        parts.read(INTEGER).filter(|version| matches!(version, [0 | 1]))?;
        let (algorithm, key) = (parts.read(SEQUENCE)?, parts.read(OCTETS)?);
        // Skips the attributes.
        parts.read_if(0xa0);
        let public = match parts.read_if(OUTER_PUBLIC_KEY) {
            Some(bits) => Some(bits.strip_prefix(&[0])?),
            None => None,
        };
        parts.end()?;
        Some(Self { algorithm, key, public })
    }
}

/// Returns the algorithm of a SubjectPublicKeyInfo, with its parameters, and the key.
pub(super) fn public_parts(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = Reader(Reader(spki).read(SEQUENCE)?);
    Some((parts.read(SEQUENCE)?, parts.read(BIT_STRING)?.strip_prefix(&[0])?))
}
