//! Private keys: loaded by the crypto provider, completed from the certificate where their public
//! part is missing, and described where the provider rejects them.

mod describe;
mod ec;
mod form;

use std::{path::Path, sync::Arc};

use rustls::{
    SignatureAlgorithm, SignatureScheme,
    crypto::CryptoProvider,
    pki_types::CertificateDer,
    server::ParsedCertificate,
    sign::{CertifiedKey, SigningKey},
};

use crate::{
    pki::pem,
    report::error::{Error, Layer},
};
use ec::{EcPublic, HalfKey, is_point};

/// Loads the private key of a key file, which has to hold exactly one, for the leaf that it belongs
/// to.
pub(super) fn load(
    provider: &CryptoProvider,
    (path, text): (&Path, &[u8]),
    (chain_path, leaf): (&Path, &CertificateDer<'_>),
) -> Result<Arc<dyn SigningKey>, Error> {
    let key = pem::key(text).map_err(|error| error.at(path))?;
    let refused = |layer, why: String| Error::on_line(layer, key.line(), why).at(path);
    let Some(half) = HalfKey::of(key.der(), provider) else {
        // The provider's message is not repeated: nothing rules out that it quotes the key
        // (INV-10).
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
    if own.is_none() && !curve.is_in(provider) {
        let whose = format!("the first certificate of {}", chain_path.display());
        return Err(refused(Layer::Key, describe::unsupported(&whose, curve)));
    }
    if point.len() != curve.point() {
        return Err(refused(Layer::Key, compressed_point(half.lacks(), chain_path)));
    }
    if !half.may_have(point) {
        return Err(other(""));
    }
    let damaged = || refused(Layer::Key, describe::refused(key.der(), provider));
    let completed = half.completed(curve, point).ok_or_else(damaged)?;
    // Providers compute the public key from the private one and compare them; the rehearsal proves
    // the match with any provider.
    let loaded = provider.key_provider.load_private_key(completed.clone_key());
    loaded.map_err(|_| if own.is_some() { damaged() } else { other(", or is damaged") })
}

fn compressed_point(lacks: &str, chain_path: &Path) -> String {
    format!(
        "the private key is an EC key {lacks}, and the first certificate of {} has a compressed point, by which it \
         cannot be completed: `openssl ec -in old -conv_form uncompressed -out new` writes the public part into \
         the key",
        chain_path.display(),
    )
}

/// Returns the kind of a key, by the signature schemes that it supports.
pub(super) fn kind(key: &dyn SigningKey) -> &'static str {
    let signs = |scheme| key.choose_scheme(&[scheme]).is_some();
    match key.algorithm() {
        SignatureAlgorithm::RSA => "RSA",
        SignatureAlgorithm::ED25519 => "Ed25519",
        SignatureAlgorithm::ED448 => "Ed448",
        SignatureAlgorithm::ECDSA if signs(SignatureScheme::ECDSA_NISTP256_SHA256) => "ECDSA P-256",
        SignatureAlgorithm::ECDSA if signs(SignatureScheme::ECDSA_NISTP384_SHA384) => "ECDSA P-384",
        SignatureAlgorithm::ECDSA if signs(SignatureScheme::ECDSA_NISTP521_SHA512) => "ECDSA P-521",
        SignatureAlgorithm::ECDSA => "ECDSA",
        _ => "of an unknown kind",
    }
}

/// Returns the SubjectPublicKeyInfo of a certificate.
fn public_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    Some(parsed.subject_public_key_info().to_vec())
}

/// Returns whether the leaf's point is compressed and is the point of this key.
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

/// The error for a leaf whose point is compressed, with a provider that does not decompress points.
pub(super) const COMPRESSED: &str = "the public key of certificate 1 is a compressed EC point, by which the crypto provider cannot verify signatures: a \
     certificate for the uncompressed point is needed, `openssl ec -in old -conv_form uncompressed -out new` writes the key for \
     its request";

/// Returns whether the provider verifies a signature of this key by the leaf's public key as it is
/// encoded.
pub(crate) fn is_verified(provider: &CryptoProvider, key: &CertifiedKey) -> bool {
    let algorithms = &provider.signature_verification_algorithms;
    let spki = key.cert.first().and_then(public_key).unwrap_or_default();
    let verified = || {
        let signer = key.key.choose_scheme(&algorithms.supported_schemes())?;
        let signature = signer.sign(b"a message").ok()?;
        let (_, point) = form::public_parts(&spki)?;
        let (_, any) = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signer.scheme())?;
        any.iter().any(|one| one.verify_signature(point, b"a message", &signature).is_ok()).then_some(())
    };
    verified().is_some()
}

/// Formats the error for a key that does not belong to the leaf, with the kind of each.
pub(super) fn mismatch(key: &CertifiedKey, chain_path: &Path) -> String {
    let leaf = key.cert.first().and_then(public_key).unwrap_or_default();
    let of_leaf = describe::public(&leaf);
    if of_leaf.ends_with(describe::EXPLICIT) {
        return format!(
            "the first certificate of {} is of {of_leaf}: have a new one issued, for a key that names its curve",
            chain_path.display()
        );
    }
    let own = key.key.public_key();
    let kind = own.as_ref().map_or_else(|| "an unknown kind".to_owned(), |own| describe::public(own));
    let is_own =
        |one: &CertificateDer<'_>| own.as_deref().is_some_and(|own| public_key(one).as_deref() == Some(own));
    let hint = match key.cert.iter().position(is_own) {
        Some(other) => format!("it belongs to certificate {}, which has to come first", other + 1),
        None => "`openssl pkey -in key -pubout` and `openssl x509 -in certificate -noout -pubkey` print the two public keys"
            .to_owned(),
    };
    format!(
        "the private key does not belong to the first certificate of {}: the key is {kind}, the certificate's {}; {hint}",
        chain_path.display(),
        of_leaf,
    )
}
