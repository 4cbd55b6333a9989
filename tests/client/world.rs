//! A client whose files are a volume, and servers that it connects to.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring::{self, Ticketer},
    server::WebPkiClientVerifier,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_reload::{ClientBuilder, ClientReloader, internal::pem};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

use crate::common::{Generation, NamedFile, Volume, quick, sessions::Kind};

/// Returns a server with this pair, which keeps sessions in storage or in tickets. It requires a
/// client certificate of one of `clients`, if there are any.
pub fn server(pair: &Pair, clients: &[&Authority], (version, tickets): Kind) -> Arc<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    clients.iter().for_each(|ca| roots.add(ca.der().clone()).unwrap());
    let verifier = match clients {
        [] => WebPkiClientVerifier::no_client_auth(),
        _ => WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap(),
    };
    let chain = pem::chain(pair.chain.as_bytes()).unwrap();
    let key = CertifiedKey::from_der(chain, pair.key_der(), &provider).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    if tickets {
        config.ticketer = Ticketer::new().unwrap();
    }
    Arc::new(config)
}

/// The files of a client: the identity, and these CAs as roots.
pub fn files<'a>(identity: &'a Pair, roots: &'a str) -> [NamedFile<'a>; 3] {
    [
        ("tls.crt", identity.chain.as_bytes()),
        ("tls.key", identity.key.as_bytes()),
        ("ca.crt", roots.as_bytes()),
    ]
}

/// The CAs of these generations in one bundle.
pub fn bundle(generations: &[&Generation]) -> String {
    generations.iter().map(|generation| generation.ca.pem.as_str()).collect()
}

/// A client of the identity and the roots in this volume, with short delays.
pub fn client(volume: &Volume) -> ClientBuilder {
    ClientReloader::builder()
        .identity(volume.path("tls.crt"), volume.path("tls.key"))
        .roots(volume.path("ca.crt"))
        .timing(quick())
}

/// A new certificate of this CA for the same client.
pub fn renewed(ca: &Authority) -> Pair {
    ca.issue(&Subject::client("client 0"), &PrivateKey::p256())
}
