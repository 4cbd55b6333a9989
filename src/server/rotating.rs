//! One configuration for servers that take a `ServerConfig` once and keep it.

use std::{fmt, sync::Arc};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error as TlsError, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{reloader::ServerReloader, resolver::Resolver};

impl ServerReloader {
    /// Returns one configuration for a server that takes a `ServerConfig` once and keeps it
    /// (actix-web, trillium, xitca-web). Certificate, client CAs and CRLs rotate inside it.
    ///
    /// A server that takes a configuration for each connection should use [`config`](Self::config)
    /// instead. This one differs from it in three ways:
    ///
    /// - **No session resumes**, so each handshake verifies its client. A stored session or a ticket
    ///   would outlive the trust that it was made under, and a revoked client would resume. So set
    ///   neither `session_storage`, nor `ticketer`, nor `send_tls13_tickets` in it.
    /// - One handshake can see two generations: the certificate of the one served when the server
    ///   reads the client's hello (the second hello, where the server asked for one), and the client
    ///   CAs and CRLs of that one or a later one. A client is never accepted by a trust that was
    ///   replaced before the handshake began. A connection does not know its generation: a server
    ///   that waits for [`trust_reduced`](Self::trust_reduced) has to take the generation of
    ///   [`current`](Self::current) before the handshake begins.
    /// - A client is sent no names of acceptable CAs. A client with several certificates has to know
    ///   which one to present.
    ///
    /// ALPN, protocol versions and further settings are those of the configuration served at this
    /// call. It keeps the reloader going, see [`Reloader`](crate::Reloader).
    #[must_use]
    pub fn rotating_config(&self) -> Arc<ServerConfig> {
        config(self)
    }
}

/// Makes a configuration that answers each handshake with what `reloader` serves at that moment.
///
/// It keeps no session: a stored session or a ticket of it would say nothing about the trust that
/// it was made under, and a resumed handshake verifies no client.
fn config(reloader: &ServerReloader) -> Arc<ServerConfig> {
    let served = reloader.current();
    let from = &served.value.config;
    let mut config = (served.value.unverified.clone())
        .with_client_cert_verifier(Arc::new(ServedClients(reloader.clone())))
        .with_cert_resolver(Arc::new(Resolver(reloader.clone())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    (config.send_tls13_tickets, config.max_tls13_tickets) = (0, 0);
    // Everything else that the embedder's closure can have set.
    config.ignore_client_order = from.ignore_client_order;
    config.max_fragment_size = from.max_fragment_size;
    config.alpn_protocols.clone_from(&from.alpn_protocols);
    config.key_log = Arc::clone(&from.key_log);
    config.enable_secret_extraction = from.enable_secret_extraction;
    config.send_half_rtt_data = from.send_half_rtt_data;
    config.require_ems = from.require_ems;
    config.time_provider = Arc::clone(&from.time_provider);
    config.cert_compressors.clone_from(&from.cert_compressors);
    config.cert_compression_cache = Arc::clone(&from.cert_compression_cache);
    config.cert_decompressors.clone_from(&from.cert_decompressors);
    Arc::new(config)
}

/// Verifies clients as the configuration does that is served when they present their certificate.
///
/// It keeps no verifier, which would keep the CRLs of its generation. Signature schemes, and whether
/// clients need a certificate, are the same in each generation.
struct ServedClients(ServerReloader);

impl ServedClients {
    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.0.with_current(|served| Arc::clone(&served.value.verifier))
    }
}

impl ClientCertVerifier for ServedClients {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        self.verifier().verify_client_cert(end_entity, intermediates, now)
    }

    /// Names no CA: rustls wants names that live as long as the configuration.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn offer_client_auth(&self) -> bool {
        self.verifier().offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier().client_auth_mandatory()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.verifier().verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.verifier().verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier().supported_verify_schemes()
    }
}

impl fmt::Debug for ServedClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedClients").finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "ring", not(loom)))]
#[allow(clippy::expect_used)] // reason: a test
mod tests {
    use std::{fs, sync::Arc};

    use rustls_reload_testkit::{Authority, PrivateKey, Subject};

    use crate::{ClientAuth, Reload, ServerReloader};

    /// Checks: INV-12.
    ///
    /// CRLs may hold 64 MiB. The configuration for life keeps those that are served, and no others.
    #[test]
    fn inv12_replaced_trust_is_freed_while_one_configuration_lives() {
        let dir = tempfile::tempdir().expect("a directory");
        let [chain, key, bundle] = ["tls.crt", "tls.key", "ca.crt"].map(|name| dir.path().join(name));
        let write = |name| {
            let ca = Authority::root(name);
            let pair = ca.issue(&Subject::server("localhost"), &PrivateKey::p256());
            for (path, text) in [(&chain, &pair.chain), (&key, &pair.key), (&bundle, &ca.pem)] {
                fs::write(path, text).expect("a file");
            }
        };
        write("CA 1");
        let builder = ServerReloader::builder(&chain, &key).client_ca(&bundle, ClientAuth::Required);
        let reloader = builder.load().expect("a server");
        let config = reloader.rotating_config();
        let replaced = Arc::downgrade(&reloader.current().value.verifier);
        write("CA 2");
        assert_eq!(reloader.reload_now(), Reload::Reloaded);
        assert!(replaced.upgrade().is_none(), "the verifier of the first load is kept");
        drop(config);
    }
}
