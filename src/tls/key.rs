//! Private keys: loaded by the crypto provider, completed from the certificate where their public part is missing, and
//! described where the provider refuses them.

mod describe;

use std::{path::Path, sync::Arc};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::ParsedCertificate,
    sign::{CertifiedKey, SigningKey},
};
use zeroize::Zeroizing;

use crate::{
    der::{INTEGER, OCTETS, OID, Reader, SEQUENCE},
    error::{Error, Layer},
    pem,
};

const BIT_STRING: u8 = 0x03;
/// The parameters of an `ECPrivateKey` (RFC 5915 section 3).
const PARAMETERS: u8 = 0xa0;
/// The public key of an `ECPrivateKey`.
const PUBLIC_KEY: u8 = 0xa1;
/// The public key of a `OneAsymmetricKey` (RFC 5958 section 2).
const OUTER_PUBLIC_KEY: u8 = 0x81;
/// id-ecPublicKey (RFC 5480 section 2.1.1).
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];

/// A named curve.
#[derive(Debug)]
struct Curve {
    oid: &'static [u8],
    name: &'static str,
    /// The bytes of a coordinate, and of a private number.
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
    fn of(oid: &[u8]) -> Option<&'static Self> {
        CURVES.iter().find(|curve| curve.oid == oid)
    }

    /// The length of an uncompressed point (SEC 1 section 2.3.3).
    fn point(&self) -> usize {
        1 + 2 * self.size
    }

    /// Whether the provider verifies signatures of this curve, so that it can be expected to make them.
    fn is_in(&self, provider: &CryptoProvider) -> bool {
        let id = [&[OID, EC.len() as u8], EC, &[OID, self.oid.len() as u8], self.oid].concat();
        provider
            .signature_verification_algorithms
            .all
            .iter()
            .any(|one| one.public_key_alg_id().as_ref() == id)
    }
}

/// Loads the one private key of a key file, which belongs to the first certificate of `chain`.
pub(super) fn load(
    provider: &CryptoProvider,
    (path, text): (&Path, &[u8]),
    (chain_path, leaf): (&Path, &CertificateDer<'_>),
) -> Result<Arc<dyn SigningKey>, Error> {
    let key = pem::key(text).map_err(|error| error.at(path))?;
    let refused = |layer, why: String| Error::new(layer, format!("line {}: {why}", key.line())).at(path);
    let Some(half) = HalfKey::of(key.der(), provider) else {
        // The provider's message is not repeated: it is not ours to vouch for (INV-10).
        return provider
            .key_provider
            .load_private_key(key.clone_der())
            .map_err(|_| refused(Layer::Key, describe::refused(key.der(), provider)));
    };
    let other = |what: &str| {
        let why = format!(
            "the private key, an EC key {}, does not belong to the first certificate of {}{what}",
            half.lacks(),
            chain_path.display(),
        );
        refused(Layer::Match, why)
    };
    let spki = public_key(leaf).unwrap_or_default();
    let own = half.curve.and_then(|curve| Some((curve, half.own_point(curve)?)));
    let (curve, point) = match (own, EcPublic::of(&spki)) {
        (Some(own), _) => own,
        (None, Some(leaf)) if half.curve.is_none_or(|own| own.oid == leaf.curve.oid) => {
            (leaf.curve, leaf.point)
        }
        _ => return Err(other(&format!(", which is of {}", describe::public(&spki)))),
    };
    if point.len() != curve.point() {
        let why = format!(
            "the private key is an EC key {}, and the first certificate of {} has a compressed point, by which it cannot be \
             completed: `openssl ec -in old -conv_form uncompressed -out new` writes the public part into the key",
            half.lacks(),
            chain_path.display(),
        );
        return Err(refused(Layer::Key, why));
    }
    if !half.may_have(point) {
        return Err(other(""));
    }
    let damaged = || refused(Layer::Key, describe::refused(key.der(), provider));
    let completed = half.completed(curve, point).ok_or_else(damaged)?;
    // Providers compute the public key from the private one and compare; the rehearsal proves it with any of them.
    let loaded = provider.key_provider.load_private_key(completed.clone_key());
    loaded.map_err(|_| if own.is_some() { damaged() } else { other(", or is damaged") })
}

/// The SubjectPublicKeyInfo of a certificate.
fn public_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    Some(parsed.subject_public_key_info().to_vec())
}

/// A public key on a named curve.
struct EcPublic<'a> {
    curve: &'static Curve,
    /// Compressed or not.
    point: &'a [u8],
}

impl<'a> EcPublic<'a> {
    fn of(spki: &'a [u8]) -> Option<Self> {
        let (algorithm, point) = describe::public_parts(spki)?;
        let mut algorithm = Reader(algorithm);
        if algorithm.read(OID)? != EC {
            return None;
        }
        Some(Self { curve: Curve::of(algorithm.read(OID)?)?, point })
    }
}

/// Whether the leaf's point is compressed, and is that of this public key.
pub(super) fn is_compressed(key: &CertifiedKey) -> bool {
    let spki = key.cert.first().and_then(public_key).unwrap_or_default();
    let own = key.key.public_key();
    let (Some(leaf), Some(own)) = (EcPublic::of(&spki), own.as_deref().and_then(EcPublic::of)) else {
        return false;
    };
    leaf.curve.oid == own.curve.oid
        && leaf.point.len() < leaf.curve.point()
        && is_point(leaf.point, own.point)
}

/// The refusal of a leaf whose point is compressed, by a provider that does not decompress points.
pub(super) const COMPRESSED: &str = "the public key of certificate 1 is a compressed EC point, by which the crypto provider cannot verify signatures: a \
     certificate for the uncompressed point is needed, `openssl ec -in old -conv_form uncompressed -out new` writes the key for \
     its request";

/// Whether the provider verifies a signature of this key by the leaf's public key as it is encoded.
pub(super) fn is_verified(provider: &CryptoProvider, key: &CertifiedKey) -> bool {
    let algorithms = &provider.signature_verification_algorithms;
    let spki = key.cert.first().and_then(public_key).unwrap_or_default();
    let verified = || {
        let signer = key.key.choose_scheme(&algorithms.supported_schemes())?;
        let signature = signer.sign(b"a message").ok()?;
        let (_, point) = describe::public_parts(&spki)?;
        let (_, any) = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signer.scheme())?;
        any.iter().any(|one| one.verify_signature(point, b"a message", &signature).is_ok()).then_some(())
    };
    verified().is_some()
}

/// Says that the two do not belong together, and what each is.
pub(super) fn mismatch(key: &CertifiedKey, chain_path: &Path) -> String {
    let leaf = key.cert.first().and_then(public_key).unwrap_or_default();
    let own = key.key.public_key().map_or_else(|| "an unknown kind".to_owned(), |own| describe::public(&own));
    format!(
        "the private key ({own}) does not belong to the first certificate ({}) of {}",
        describe::public(&leaf),
        chain_path.display(),
    )
}

/// Whether `point`, which may be compressed (SEC 1 section 2.3.3), is the uncompressed point `whole`.
fn is_point(point: &[u8], whole: &[u8]) -> bool {
    let (Some((form, x)), Some((4, both))) = (point.split_first(), whole.split_first()) else { return false };
    let (whole_x, y) = both.split_at(both.len() / 2);
    let is_odd = y.last().is_some_and(|last| last & 1 == 1);
    point == whole || x == whole_x && *form == 2 + u8::from(is_odd)
}

/// An EC private key (RFC 5915) that crypto providers do not take as it is: without its public part, which is optional and
/// which no JDK writes, with a compressed one, or with a number of another length than the curve's.
struct HalfKey<'a> {
    /// `None` where the key names none, as inside of PKCS #8.
    curve: Option<&'static Curve>,
    number: &'a [u8],
    public: Option<&'a [u8]>,
}

impl<'a> HalfKey<'a> {
    /// `None` for keys of other kinds or curves, for malformed ones, and for those that providers take.
    fn of(key: &'a PrivateKeyDer<'_>, provider: &CryptoProvider) -> Option<Self> {
        let (inner, outer_curve, outer_public) = match key {
            PrivateKeyDer::Sec1(der) => (der.secret_sec1_der(), None, None),
            PrivateKeyDer::Pkcs8(der) => {
                let parts = describe::Pkcs8::of(der.secret_pkcs8_der())?;
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
        // Without a curve, the provider tries each.
        let is_taken = curve.map_or(matches!(public, Some([4, ..])), whole);
        (!is_taken).then_some(Self { curve, number, public })
    }

    /// The public point that the key itself holds, uncompressed.
    fn own_point(&self, curve: &Curve) -> Option<&'a [u8]> {
        self.public.filter(|point| point.len() == curve.point())
    }

    /// Whether the key's own public part does not contradict this point.
    fn may_have(&self, point: &[u8]) -> bool {
        self.public.is_none_or(|own| is_point(own, point))
    }

    /// The peculiarity of the key, for messages.
    fn lacks(&self) -> &'static str {
        match self.public {
            None => "without its public part",
            Some([2 | 3, ..]) => "with a compressed public part",
            Some(_) => "in an unusual form",
        }
    }

    /// The key as PKCS #8 with this public point, in a buffer that is allocated once and wiped; `None` for a number that is
    /// longer than the curve's.
    fn completed(&self, curve: &Curve, point: &[u8]) -> Option<Zeroizing<PrivateKeyDer<'static>>> {
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

/// The bytes of a tag and a length; no key has 64 KiB.
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
