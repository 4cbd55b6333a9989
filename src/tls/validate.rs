//! Checks that need no handshake: everything parses, the key belongs to the leaf.

use std::{path::Path, sync::Arc};

use rustls::{
    DigitallySignedStruct, Error as TlsError, InconsistentKeys, RootCertStore,
    crypto::CryptoProvider,
    pki_types::CertificateDer,
    server::ParsedCertificate,
    sign::{CertifiedKey, SigningKey},
};

use crate::{
    der,
    error::{Error, Layer},
    event::{Fingerprint, Leaf},
    pem, sha256,
};

/// The certificates of a chain: at least one, and all of them parse.
pub(super) fn chain(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = pem::chain(text).map_err(|error| error.at(path))?;
    for (i, certificate) in chain.iter().enumerate() {
        let known = der::fields(certificate).is_some();
        // Roots of version 1 are still about; behind the leaf they do no harm, and clients have them as anchors.
        let parses = ParsedCertificate::try_from(certificate).is_ok()
            || i > 0 && RootCertStore::empty().add(certificate.clone()).is_ok();
        if known && parses {
            continue;
        }
        let version = if i == 0 { " or not X.509 version 3" } else { "" };
        let why = format!("certificate {} of {} is malformed{version}", i + 1, chain.len());
        return Err(Error::new(Layer::Chain, why).at(path));
    }
    Ok(chain)
}

/// The one private key of a key file, supported by the provider.
pub(super) fn key(provider: &CryptoProvider, path: &Path, text: &[u8]) -> Result<Arc<dyn SigningKey>, Error> {
    let key = pem::key(text).map_err(|error| error.at(path))?;
    provider.key_provider.load_private_key(key.clone_der()).map_err(|_| {
        // The provider's message is not repeated: it is not ours to vouch for (INV-10).
        let why = "the private key is malformed or of a type the crypto provider does not support";
        Error::new(Layer::Key, why).at(path)
    })
}

/// Whether the key belongs to the first certificate; `None` where the provider cannot tell and the rehearsal decides.
pub(super) fn matches(key: &CertifiedKey, chain_path: &Path, key_path: &Path) -> Result<Option<()>, Error> {
    match key.keys_match() {
        Ok(()) => Ok(Some(())),
        Err(TlsError::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(None),
        Err(_) => {
            let why = format!(
                "the private key does not belong to the first certificate of {}",
                chain_path.display()
            );
            Err(Error::new(Layer::Match, why).at(key_path))
        }
    }
}

/// What is told of a leaf.
pub(super) fn leaf(path: &Path, certificate: &CertificateDer<'_>) -> Result<Leaf, Error> {
    let fields = der::fields(certificate)
        .ok_or_else(|| Error::new(Layer::Chain, "the first certificate is malformed").at(path))?;
    Ok(Leaf {
        fingerprint: Fingerprint(sha256::digest(certificate)),
        serial: der::serial_hex(fields.serial),
        names: fields.names,
        not_before: fields.not_before,
        not_after: fields.not_after,
    })
}

/// Verifies a handshake signature with the provider's algorithms, whoever made it.
pub(super) fn signature(
    provider: &CryptoProvider,
    tls13: bool,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<rustls::client::danger::HandshakeSignatureValid, TlsError> {
    let algorithms = &provider.signature_verification_algorithms;
    let verify =
        if tls13 { rustls::crypto::verify_tls13_signature } else { rustls::crypto::verify_tls12_signature };
    verify(message, certificate, signed, algorithms)
}
