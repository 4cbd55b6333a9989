//! Descriptions of keys for operators: algorithm, curve or size, the reason of a rejection, and the
//! command that mends it. A description holds no number of a key, only lengths and the public
//! exponent (INV-10).

use rustls::{crypto::CryptoProvider, pki_types::PrivateKeyDer};

use super::{
    ec::Curve,
    form::{EC, PARAMETERS, Pkcs8, public_parts},
};
use crate::pki::{
    der::{INTEGER, OCTETS, OID, Reader, SEQUENCE},
    pem::content::Content,
};

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];

/// Algorithms that rustls cannot sign with, in general or by the key at hand, and their names.
const OTHERS: &[(&[u8], &str)] = &[
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10], "RSA-PSS (restricted to PSS, id-RSASSA-PSS)"),
    (&[0x2b, 0x65, 0x70], "Ed25519"),
    (&[0x2b, 0x65, 0x71], "Ed448"),
    (&[0x2b, 0x65, 0x6e], "X25519 (for key agreement, it cannot sign)"),
    (&[0x2b, 0x65, 0x6f], "X448 (for key agreement, it cannot sign)"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1], "DSA"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 3, 1], "Diffie-Hellman (for key agreement, it cannot sign)"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3e, 2, 1], "Diffie-Hellman (for key agreement, it cannot sign)"),
];

const NEW_EC: &str = "`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out new` makes a new key, for which a new \
                      certificate is needed";
const NEW_RSA: &str = "`openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out new` makes a new key, for which a new \
                       certificate is needed";
const CHECK: &str = "it is damaged or in an unusual form (`openssl pkey -check -noout -in old` checks it)";

/// Returns the kind of a public key: `EC, P-256 (prime256v1)`, `RSA, 2048 bits`.
pub(super) fn public(spki: &[u8]) -> String {
    let described = || {
        let (algorithm, key) = public_parts(spki)?;
        let mut algorithm = Reader(algorithm);
        Some(match algorithm.read(OID)? {
            EC => match curve(&mut algorithm) {
                Ok(curve) => format!("EC, {}", curve.name),
                Err(name) => format!("EC, {name}"),
            },
            RSA => {
                let mut numbers = Reader(Reader(key).read(SEQUENCE)?);
                format!("RSA, {} bits", bits(numbers.read(INTEGER)?))
            }
            oid => name(oid).to_owned(),
        })
    };
    described().unwrap_or_else(|| "an unknown kind".to_owned())
}

fn name(oid: &[u8]) -> &'static str {
    OTHERS
        .iter()
        .find(|(known, _)| *known == oid)
        .map_or("an algorithm that is not known here", |(_, name)| name)
}

/// Returns the curve that the parameters name, or a description of parameters that name none.
fn curve(parameters: &mut Reader<'_>) -> Result<&'static Curve, &'static str> {
    match parameters.any() {
        Some((OID, oid)) => Curve::of(oid).ok_or("a curve that is not known here"),
        Some((SEQUENCE, _)) => Err(EXPLICIT),
        _ => Err("no curve"),
    }
}

pub(super) const EXPLICIT: &str = "a curve given by its numbers and not by its name";

fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros).map_or(0, |first| (number.len() - zeros) * 8 - first.leading_zeros() as usize)
}

/// Returns the reason why a provider rejects a key, as far as the key's form shows it.
pub(super) fn refused(key: &PrivateKeyDer<'_>, provider: &CryptoProvider) -> String {
    let (der, label, form) = match key {
        PrivateKeyDer::Pkcs1(_) => (key.secret_der(), "RSA PRIVATE KEY", Content::Pkcs1),
        PrivateKeyDer::Sec1(_) => (key.secret_der(), "EC PRIVATE KEY", Content::Sec1),
        _ => (key.secret_der(), "PRIVATE KEY", Content::Pkcs8),
    };
    let content = Content::of(der);
    if let Some(other) = content.filter(|content| *content != form) {
        let is_key = matches!(other, Content::Pkcs1 | Content::Sec1 | Content::Pkcs8 | Content::EncryptedKey);
        let hint = match other.label() {
            Some(right) if is_key => {
                format!(": its label should be {right:?}, `sed 's/{label}-/{right}-/' old > new` changes it")
            }
            _ => String::new(),
        };
        return format!("the section {label:?} looks like {} inside{hint}", other.name());
    }
    let described = match key {
        PrivateKeyDer::Pkcs1(_) => rsa(der),
        PrivateKeyDer::Sec1(_) => sec1(der, None, provider),
        _ => Pkcs8::of(der).and_then(|parts| {
            let mut algorithm = Reader(parts.algorithm);
            match algorithm.read(OID)? {
                RSA => rsa(parts.key),
                EC => sec1(parts.key, Some(&mut algorithm), provider),
                oid => Some(other(oid)),
            }
        }),
    };
    described.unwrap_or_else(|| match content {
        None if der.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => {
            "the private key is malformed: its base64 holds text, it looks like base64 that was encoded twice"
                .to_owned()
        }
        _ => format!("the private key is malformed, it is not {}", form.name()),
    })
}

fn other(oid: &[u8]) -> String {
    let name = name(oid);
    if name == "Ed25519" {
        return format!("the crypto provider rejects the private key (Ed25519): {CHECK}");
    }
    format!("the crypto provider does not support the private key, {name}: {NEW_EC}")
}

fn rsa(der: &[u8]) -> Option<String> {
    let mut parts = Reader(Reader(der).read(SEQUENCE)?);
    let version = parts.read(INTEGER)?;
    let bits = bits(parts.read(INTEGER)?);
    let exponent = parts
        .read(INTEGER)?
        .iter()
        .try_fold(0_u64, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)));
    let kind = format!("the crypto provider rejects the private key (RSA, {bits} bits)");
    Some(match (bits, exponent) {
        (..2048, _) => format!("{kind}: it is too small, at least 2048 bits are needed: {NEW_RSA}"),
        (_, Some(small @ ..65_537)) => {
            format!(
                "{kind}: its public exponent {small} is too small for ring, which needs at least 65537: {NEW_RSA}. \
                 With another provider {CHECK}"
            )
        }
        (8193.., _) => format!("{kind}: it is too large: {NEW_RSA}"),
        (4097.., _) => {
            format!(
                "{kind}: it is too large for ring, which takes 4096 bits at most; aws-lc-rs takes 8192 bits: {NEW_RSA}. \
                 With aws-lc-rs {CHECK}"
            )
        }
        // A key of another length may be damaged as well.
        _ if version == [0] && !bits.is_multiple_of(1024) => format!(
            "{kind}: ring takes 2048, 3072 and 4096 bits only, aws-lc-rs takes each length from 2048 to 8192 \
             bits: {NEW_RSA}. With aws-lc-rs {CHECK}"
        ),
        _ if version != [0] => format!("{kind}: it is of more than two primes: {NEW_RSA}"),
        _ => format!("{kind}: {CHECK}"),
    })
}

/// Formats the error for a provider that lacks the curve of `whose`.
pub(super) fn unsupported(whose: &str, curve: &Curve) -> String {
    let hint =
        if curve.name.starts_with("P-521") { "aws-lc-rs is a provider that supports it; " } else { "" };
    format!("the crypto provider does not support the curve of {whose}, EC on {}: {hint}{NEW_EC}", curve.name)
}

/// Describes a rejected `ECPrivateKey`; `outer` are the parameters that PKCS #8 holds outside of
/// it.
fn sec1(der: &[u8], outer: Option<&mut Reader<'_>>, provider: &CryptoProvider) -> Option<String> {
    let mut parts = Reader(Reader(der).read(SEQUENCE)?);
    parts.read(INTEGER)?;
    parts.read(OCTETS)?;
    let inner = parts.read_if(PARAMETERS).map(Reader);
    let curve = match (outer, inner) {
        (Some(parameters), _) => curve(parameters),
        (None, Some(mut parameters)) => curve(&mut parameters),
        (None, None) => Err("no curve"),
    };
    Some(match curve {
        Ok(curve) if curve.is_in(provider) => {
            format!("the crypto provider rejects the private key (EC, {}): {CHECK}", curve.name)
        }
        Ok(curve) => unsupported("the private key", curve),
        Err(EXPLICIT) => {
            format!(
                "the private key is of EC, {EXPLICIT}: `openssl ec -in old -param_enc named_curve -out new` names it. \
                 A certificate made with the key gives it by its numbers too: have a new one issued"
            )
        }
        Err(why) => format!("the private key is of EC, {why}: {CHECK}"),
    })
}
