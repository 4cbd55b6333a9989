//! Elliptic-curve keys: named curves, points, and private keys that providers do not accept as they
//! are.

use rustls::{
    crypto::CryptoProvider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use zeroize::Zeroizing;

use super::form::{EC, PARAMETERS, PUBLIC_KEY, Pkcs8, public_parts};
use crate::pki::der::{BIT_STRING, INTEGER, OCTETS, OID, Reader, SEQUENCE};

/// A named curve.
#[derive(Debug)]
pub(super) struct Curve {
    pub(super) oid: &'static [u8],
    pub(super) name: &'static str,
    /// The length in bytes of a coordinate, and of a private number.
    size: usize,
}

const CURVES: &[Curve] = &[
    Curve { oid: &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7], name: "P-256 (prime256v1)", size: 32 },
    Curve { oid: &[0x2b, 0x81, 4, 0, 0x22], name: "P-384 (secp384r1)", size: 48 },
    Curve { oid: &[0x2b, 0x81, 4, 0, 0x23], name: "P-521 (secp521r1)", size: 66 },
    Curve { oid: &[0x2b, 0x81, 4, 0, 0x21], name: "P-224 (secp224r1)", size: 28 },
    Curve { oid: &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 1], name: "P-192 (prime192v1)", size: 24 },
    Curve { oid: &[0x2b, 0x81, 4, 0, 0x0a], name: "secp256k1", size: 32 },
    Curve { oid: &[0x2b, 0x24, 3, 3, 2, 8, 1, 1, 7], name: "brainpoolP256r1", size: 32 },
    Curve { oid: &[0x2b, 0x24, 3, 3, 2, 8, 1, 1, 11], name: "brainpoolP384r1", size: 48 },
    Curve { oid: &[0x2b, 0x24, 3, 3, 2, 8, 1, 1, 13], name: "brainpoolP512r1", size: 64 },
    Curve { oid: &[0x2a, 0x81, 0x1c, 0xcf, 0x55, 1, 0x82, 0x2d], name: "SM2", size: 32 },
];

impl Curve {
    pub(super) fn of(oid: &[u8]) -> Option<&'static Self> {
        CURVES.iter().find(|curve| curve.oid == oid)
    }

    /// Returns the length of an uncompressed point in bytes (SEC 1 section 2.3.3).
    pub(super) fn point(&self) -> usize {
        1 + 2 * self.size
    }

    /// Returns whether the provider verifies signatures of this curve, so that it can be expected
    /// to make them.
    pub(super) fn is_in(&self, provider: &CryptoProvider) -> bool {
        let id = [&[OID, EC.len() as u8], EC, &[OID, self.oid.len() as u8], self.oid].concat();
        provider
            .signature_verification_algorithms
            .all
            .iter()
            .any(|one| one.public_key_alg_id().as_ref() == id)
    }
}

/// A public key on a named curve.
pub(super) struct EcPublic<'a> {
    pub(super) curve: &'static Curve,
    /// The point, compressed or not.
    pub(super) point: &'a [u8],
}

impl<'a> EcPublic<'a> {
    pub(super) fn of(spki: &'a [u8]) -> Option<Self> {
        let (algorithm, point) = public_parts(spki)?;
        let mut algorithm = Reader(algorithm);
        if algorithm.read(OID)? != EC {
            return None;
        }
        Some(Self { curve: Curve::of(algorithm.read(OID)?)?, point })
    }
}

/// Returns whether `point`, which may be compressed (SEC 1 section 2.3.3), is the uncompressed
/// point `whole`.
pub(super) fn is_point(point: &[u8], whole: &[u8]) -> bool {
    let (Some((form, x)), Some((4, both))) = (point.split_first(), whole.split_first()) else { return false };
    let (whole_x, y) = both.split_at(both.len() / 2);
    let is_odd = y.last().is_some_and(|last| last & 1 == 1);
    point == whole || x == whole_x && *form == 2 + u8::from(is_odd)
}

/// An EC private key (RFC 5915) that crypto providers do not accept as it is.
///
/// Its public part is missing (it is optional, and no JDK writes it) or compressed, or its number
/// has another length than the curve's.
pub(super) struct HalfKey<'a> {
    /// The curve; `None` if neither the key nor PKCS #8 around it names one.
    pub(super) curve: Option<&'static Curve>,
    number: &'a [u8],
    public: Option<&'a [u8]>,
}

impl<'a> HalfKey<'a> {
    /// Returns `None` for keys of other kinds or curves, for malformed keys, and for keys that
    /// providers accept.
    pub(super) fn of(key: &'a PrivateKeyDer<'_>, provider: &CryptoProvider) -> Option<Self> {
        let (inner, outer_curve, outer_public) = match key {
            PrivateKeyDer::Sec1(der) => (der.secret_sec1_der(), None, None),
            PrivateKeyDer::Pkcs8(der) => {
                let parts = Pkcs8::of(der.secret_pkcs8_der())?;
                let mut algorithm = Reader(parts.algorithm);
                if algorithm.read(OID)? != EC {
                    return None;
                }
                (parts.key, Some(algorithm.read(OID)?), parts.public)
            }
            _ => return None,
        };
        let mut outer = Reader(inner);
        let mut parts = Reader(outer.read(SEQUENCE)?);
        outer.end()?;
        if parts.read(INTEGER)? != [1] {
            return None;
        }
        let number = parts.read(OCTETS)?;
        let named = match parts.read_if(PARAMETERS) {
            Some(parameters) => Some(Reader(parameters).read(OID)?),
            None => None,
        };
        let public = match parts.read_if(PUBLIC_KEY) {
            Some(bits) => Some(Reader(bits).read(BIT_STRING)?.strip_prefix(&[0])?),
            None => outer_public,
        };
        parts.end()?;
        if let (Some(inner), Some(outer)) = (named, outer_curve)
            && inner != outer
        {
            return None;
        }
        let curve = match named.or(outer_curve) {
            Some(oid) => Some(Curve::of(oid).filter(|curve| curve.is_in(provider))?),
            None => None,
        };
        let whole = |curve: &Curve| {
            public.is_some_and(|point| point.len() == curve.point())
                && number.len() == curve.size
                && outer_public.is_none()
        };
        // Without a curve, the provider tries each of its curves.
        let is_taken = curve.map_or(matches!(public, Some([4, ..])), whole);
        (!is_taken).then_some(Self { curve, number, public })
    }

    /// Returns the public point that the key itself holds, if it is uncompressed.
    pub(super) fn own_point(&self, curve: &Curve) -> Option<&'a [u8]> {
        self.public.filter(|point| point.len() == curve.point())
    }

    /// Returns whether the key holds no public part, or this point.
    pub(super) fn may_have(&self, point: &[u8]) -> bool {
        self.public.is_none_or(|own| is_point(own, point))
    }

    /// Returns the peculiarity of the key, for messages.
    pub(super) fn lacks(&self) -> &'static str {
        match self.public {
            None => "without its public part",
            Some([2 | 3, ..]) => "with a compressed public part",
            Some(_) => "in an unusual form",
        }
    }

    /// Returns the key as PKCS #8 with this public point, in a buffer that is allocated once and
    /// wiped; `None` if the private number is longer than the curve's.
    pub(super) fn completed(&self, curve: &Curve, point: &[u8]) -> Option<Zeroizing<PrivateKeyDer<'static>>> {
        let zeros = self.number.iter().take_while(|byte| **byte == 0).count();
        let number = &self.number[zeros.min(self.number.len().saturating_sub(curve.size))..];
        let padding = curve.size.checked_sub(number.len())?;
        let bits = 1 + point.len();
        let public = header(bits) + bits;
        let inner = 3 + header(curve.size) + curve.size + header(public) + public;
        let octets = header(inner) + inner;
        let algorithm = 2 + EC.len() + 2 + curve.oid.len();
        let all = 3 + header(algorithm) + algorithm + header(octets) + octets;
        let mut der = Vec::with_capacity(header(all) + all);
        put(&mut der, SEQUENCE, all);
        der.extend([INTEGER, 1, 0]);
        put(&mut der, SEQUENCE, algorithm);
        for oid in [EC, curve.oid] {
            put(&mut der, OID, oid.len());
            der.extend(oid);
        }
        put(&mut der, OCTETS, octets);
        put(&mut der, SEQUENCE, inner);
        der.extend([INTEGER, 1, 1]);
        put(&mut der, OCTETS, curve.size);
        der.extend(std::iter::repeat_n(0, padding));
        der.extend(number);
        put(&mut der, PUBLIC_KEY, public);
        put(&mut der, BIT_STRING, bits);
        der.push(0);
        der.extend(point);
        debug_assert_eq!(der.len(), der.capacity(), "the buffer was not of the length needed");
        Some(Zeroizing::new(PrivatePkcs8KeyDer::from(der).into()))
    }
}

/// Returns the length in bytes of a tag and a length; no key has 64 KiB.
fn header(length: usize) -> usize {
    match length {
        0..0x80 => 2,
        0x80..0x100 => 3,
        _ => 4,
    }
}

fn put(der: &mut Vec<u8>, tag: u8, length: usize) {
    der.push(tag);
    match header(length) {
        2 => {}
        3 => der.push(0x81),
        _ => der.extend([0x82, (length >> 8) as u8]),
    }
    der.push(length as u8);
}
