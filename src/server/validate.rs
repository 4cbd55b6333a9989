//! Checks that need no handshake: every certificate parses, and the key belongs to the leaf.

use std::{path::Path, sync::Arc};

use rustls::{
    DigitallySignedStruct, Error as TlsError, InconsistentKeys, RootCertStore, crypto::CryptoProvider,
    pki_types::CertificateDer, server::ParsedCertificate, sign::CertifiedKey,
};

use crate::{
    pki::{
        der,
        pem::{self, content::Content},
    },
    report::{
        error::{Error, Layer},
        event::Leaf,
    },
};

use super::{HandshakeFailure, anchors, findings::InspectionLog, key};

/// A file's path and bytes.
pub(crate) type NamedBytes<'a> = (&'a Path, &'a [u8]);

/// Loads a chain and its key: everything parses, and key and leaf belong together.
pub(crate) fn pair(
    provider: &CryptoProvider,
    [(chain_path, chain), (key_path, key)]: [NamedBytes<'_>; 2],
    found: &InspectionLog,
) -> Result<(Arc<CertifiedKey>, Leaf), Error> {
    let chain = self::chain(chain_path, chain)?;
    found.note(|found| found.chain.clone_from(&chain));
    let leaf = Leaf::from_der(&chain[0]).map_err(|error| error.at(chain_path))?;
    let key = key::load(provider, (key_path, key), (chain_path, &chain[0]))?;
    found.note(|found| found.key = Some(key::kind(&*key)));
    let key = Arc::new(CertifiedKey::new(chain, key));
    let matches = matches(provider, &key, chain_path, key_path)?;
    found.note(|found| found.matched = Some(matches.is_some()));
    Ok((key, leaf))
}

/// Parses the certificates of a chain, of which there has to be at least one.
fn chain(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = pem::chain(text).map_err(|error| error.at(path))?;
    for (i, certificate) in chain.iter().enumerate() {
        let known = der::fields(certificate).is_some();
        // Roots of version 1 still exist. After the leaf they do no harm, and clients have them as
        // anchors.
        let parsed = ParsedCertificate::try_from(certificate);
        let parses = parsed.is_ok() || i > 0 && RootCertStore::empty().add(certificate.clone()).is_ok();
        if known && parses {
            continue;
        }
        let line = pem::line_of_certificate(text, i);
        let version = if i == 0 { " or not X.509 version 3" } else { "" };
        let what = match Content::of(certificate).filter(|content| *content != Content::Certificate) {
            Some(other) => format!("is malformed: it looks like {} under a wrong label", other.name()),
            // rustls reads no longer certificate.
            None if known && parsed.is_err_and(|error| is_critical(&error)) => format!(
                "has a critical extension that rustls does not know, so that it rejects the certificate: \
                 {}; its CA has to issue it again without that extension, or with it not critical",
                anchors::unknown_in_leaf(certificate)
            ),
            None if certificate.len() > 0xffff => "is longer than 65535 bytes".to_owned(),
            None => format!("is malformed{version}"),
        };
        let why = format!("certificate {} of {} {what}", i + 1, chain.len());
        return Err(Error::on_line(Layer::Chain, line, why).at(path));
    }
    Ok(chain)
}

fn is_critical(error: &TlsError) -> bool {
    HandshakeFailure::of(error) == HandshakeFailure::CriticalExtension
}

/// Checks that the key belongs to the leaf; returns `None` if the provider cannot compare them, so
/// that the rehearsal decides.
fn matches(
    provider: &CryptoProvider,
    certified: &CertifiedKey,
    chain_path: &Path,
    key_path: &Path,
) -> Result<Option<()>, Error> {
    match certified.keys_match() {
        Ok(()) => Ok(Some(())),
        Err(TlsError::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(None),
        // The comparison takes two encodings of one point for two keys.
        Err(_) if key::is_compressed(certified) => match key::is_verified(provider, certified) {
            true => Ok(None),
            false => Err(Error::new(Layer::Chain, key::COMPRESSED).at(chain_path)),
        },
        Err(_) => Err(Error::new(Layer::Match, key::mismatch(certified, chain_path)).at(key_path)),
    }
}

/// Verifies a handshake signature with the provider's algorithms.
pub(crate) fn signature(
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
