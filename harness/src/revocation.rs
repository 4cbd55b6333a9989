//! The verifier that decides about certificates and CRLs.

use std::{sync::Arc, time::SystemTime};

use rustls::{RootCertStore, pki_types::CertificateDer, server::danger::ClientCertVerifier};
pub use rustls_reload::internal::RevocationPolicy;
use rustls_reload::{Error, Files, internal};

/// Makes the verifiers of a server with these client CAs and files of CRLs, by the
/// policy.
///
/// # Errors
/// The error with which a first load rejects the lists.
#[allow(clippy::expect_used)] // reason: made by this factory
pub fn client_verifiers(
    cas: &[&CertificateDer<'_>],
    lists: &[&[u8]],
) -> Result<impl Fn(RevocationPolicy) -> Arc<dyn ClientCertVerifier> + use<>, Error> {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add((*ca).clone().into_owned()).expect("a CA");
    }
    let files = Files::new(lists.iter().enumerate().map(|(i, list)| (format!("/{i}.crl"), *list)));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    internal::client_verifiers(Arc::new(roots), &files, &provider, wall)
}
