//! One configuration for life: its verifier and its resolver ask for what is served.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error as TlsError, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};

use super::{builder::ClientReloader, trust::Sessions};

impl ClientReloader {
    /// Returns a configuration for a client that takes one for life, such as reqwest: identity and
    /// roots are looked up in each handshake.
    ///
    /// It has the settings of the configuration that is served now, and resumption is off. rustls
    /// would resume its sessions whatever roots and identity are served by then, since the verifier
    /// and the resolver stay the same. Do not turn it on.
    ///
    /// A handshake that lasts over a publication may verify the server by the roots of one
    /// generation and show the identity of another one that was served meanwhile. Each of the two
    /// is of one generation as a whole: a server is accepted by the older roots or by the newer
    /// ones, never by both together. [`config`](Self::config) gives each connection one generation.
    #[must_use]
    pub fn rotating_config(&self) -> ClientConfig {
        config(self)
    }
}

/// Returns the served configuration with a verifier and a resolver that follow the reloader, and
/// without resumption.
fn config(reloader: &ClientReloader) -> ClientConfig {
    let served = reloader.current();
    let mut config = served.value.config.as_ref().clone();
    // rustls's own verifier names no CA, and a verifier of the embedder's is never replaced.
    let hints = served.value.epoch.sessions().verifier.root_hint_subjects().map(<[_]>::to_vec);
    let live = Arc::new(Live { reloader: reloader.clone(), hints });
    config.resumption = Resumption::disabled();
    config.client_auth_cert_resolver = Arc::clone(&live) as Arc<dyn ResolvesClientCert>;
    config.dangerous().set_certificate_verifier(live);
    config
}

/// Verifies servers and shows the identity by what is served when it is asked.
struct Live {
    reloader: ClientReloader,
    hints: Option<Vec<DistinguishedName>>,
}

impl Live {
    fn served<R>(&self, ask: impl FnOnce(&Sessions) -> R) -> R {
        ask(self.reloader.current().value.epoch.sessions())
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Live {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.reloader.note_handshake();
        self.served(|served| served.verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.served(|served| served.verifier.verify_tls12_signature(message, certificate, signed))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.served(|served| served.verifier.verify_tls13_signature(message, certificate, signed))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.served(|served| served.verifier.supported_verify_schemes())
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.hints.as_deref()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.served(|served| served.verifier.requires_raw_public_keys())
    }
}

impl ResolvesClientCert for Live {
    fn resolve(&self, hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.served(|served| served.resolver.resolve(hints, schemes))
    }

    fn has_certs(&self) -> bool {
        self.served(|served| served.resolver.has_certs())
    }
}
