//! The client of a case on real files: the servers that it accepts, and the certificate that it
//! shows to them.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error as TlsError, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_reload::{ClientTls, Error, Reloader, internal::pem};
use rustls_reload_harness::sim::{CA, CHAIN, Contents};

use super::{
    cert_cache::Block,
    for_life::{self, Peer},
    plan::Plan,
    real::{CERT_CACHE, Side},
    server::{Alter, Given, Wrong},
};
use crate::common::{CurrentVerifier, handshake_as};

/// A server of each root that a case has, with its name. All keep sessions.
pub struct Servers(Vec<(Block, String, Arc<ServerConfig>)>);

impl Side for ClientTls {
    type Peers = Servers;

    fn peers(plan: &Plan) -> Servers {
        Servers(servers(plan))
    }

    fn for_life(reloader: &Reloader<Self>, plan: &Plan, wrong: Wrong) -> Vec<Peer> {
        for_life::servers(reloader, plan, wrong)
    }

    fn load(given: Given<'_>) -> Result<Reloader<Self>, Error> {
        given.client()
    }

    /// The servers of the served roots are accepted, in a full handshake and by a session alike.
    fn observe(&self, peers: &mut Servers, again: bool) -> Result<(Option<Contents>, usize), String> {
        if again {
            return Ok((None, 0));
        }
        let mut afresh = ClientConfig::clone(&self.config);
        afresh.resumption = Resumption::disabled();
        let (afresh, mut trusted, mut chains) = (Arc::new(afresh), Vec::new(), HashSet::new());
        for (block, name, server) in &peers.0 {
            let full = handshake_as(server, &afresh, name);
            let other = handshake_as(server, &self.config, name);
            match (full, other) {
                (Ok(full), Ok(other)) => {
                    trusted.extend(block);
                    chains.extend([full.client_chain, other.client_chain]);
                }
                (Err(_), Err(_)) => {}
                (Err(_), Ok(_)) => return Err("INV-09: a server whose root is gone is accepted".to_owned()),
                (Ok(_), Err(error)) => return Err(format!("INV-02: a handshake failed: {error}")),
            }
        }
        let mut chains = chains.into_iter();
        let (Some(chain), None) = (chains.next(), chains.next()) else {
            return Err("INV-09: servers of one generation see no certificate, or several".to_owned());
        };
        let mut files = CERT_CACHE.shown(&chain, &[]);
        files[CA] = Some(Arc::new(trusted));
        assert!(files[CHAIN].is_some(), "a chain that was forged");
        Ok((Some(files), 2 * peers.0.len()))
    }
}

/// Returns a server of each root that a case has, in TLS 1.2 or 1.3 by turns, with its name.
pub fn servers(plan: &Plan) -> Vec<(Block, String, Arc<ServerConfig>)> {
    let roots = for_life::cas(plan).into_iter();
    let served = roots.filter_map(|block| Some((block, CERT_CACHE.server(&block)?)));
    let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
    let server = |(number, (block, (name, key))): (usize, (Block, (String, Arc<CertifiedKey>)))| {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[versions[number % 2]])
            .unwrap()
            .with_client_cert_verifier(Arc::new(AnyClient(ring::default_provider())))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        (block, name, Arc::new(config))
    };
    served.enumerate().map(server).collect()
}

/// Accepts each client, once it has signed.
#[derive(Debug)]
struct AnyClient(CryptoProvider);

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The identity of one configuration for life, as an embedder would write it at first: it asks for
/// the present one.
#[derive(Debug)]
struct CurrentIdentity(Mutex<Arc<dyn ResolvesClientCert>>);

impl CurrentIdentity {
    fn now(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::clone(&self.0.lock().unwrap())
    }
}

/// Returns a change of each value that keeps the sessions of the values before it.
pub fn keeping_sessions() -> Alter<ClientTls> {
    let (mut life, sessions) = (None, Resumption::in_memory_sessions(256));
    Box::new(move |value, files| {
        let mut roots = RootCertStore::empty();
        let (_, bundle) = files.get(CA).unwrap();
        pem::ca_bundle(bundle).unwrap().into_iter().for_each(|root| roots.add(root).unwrap());
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let resolver = Arc::clone(&value.config.client_auth_cert_resolver);
        let (servers, identity) = life.get_or_insert_with(|| {
            let identity = CurrentIdentity(Mutex::new(Arc::clone(&resolver)));
            (Arc::new(CurrentVerifier::new(Arc::clone(&verifier))), Arc::new(identity))
        });
        servers.set(verifier);
        *identity.0.lock().unwrap() = resolver;
        let mut config = ClientConfig::clone(&value.config);
        config.resumption = sessions.clone();
        config.client_auth_cert_resolver = Arc::clone(identity) as Arc<dyn ResolvesClientCert>;
        config.dangerous().set_certificate_verifier(Arc::clone(servers) as Arc<dyn ServerCertVerifier>);
        value.config = Arc::new(config);
    })
}

impl ResolvesClientCert for CurrentIdentity {
    fn resolve(&self, hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.now().resolve(hints, schemes)
    }

    fn has_certs(&self) -> bool {
        self.now().has_certs()
    }
}
