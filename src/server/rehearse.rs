//! The last check: a handshake in memory with the very configuration that would be published.
//!
//! The server side is a clone without session storage, ticketer, tickets or key log, so that the
//! rehearsal leaves no trace. In the live storage, 128 rehearsals would evict every user's session.

use std::sync::Arc;

use rustls::{
    ClientConfig, ClientConnection, Error as TlsError, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
    client::danger::ServerCertVerifier,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName},
    server::{NoServerSessionStorage, ProducesTickets},
    version,
};

use super::expect::Expect;
use crate::report::error::{Error, Layer};

/// Limit of flights of a handshake; TLS 1.2 needs four.
pub(crate) const FLIGHT_LIMIT: usize = 16;

/// Runs a handshake for each enabled version, with `name` as SNI or without SNI, and compares the
/// presented chain with `chain` byte for byte. Calls `passed` with each version that passes.
///
/// A version without a cipher suite in the provider is skipped, because rustls never negotiates it.
/// With required client authentication a handshake ends once the client has verified the server.
///
/// # Errors
/// [`Layer::Rehearsal`] if a handshake fails, or if no client can send `name`.
pub(super) fn rehearse(
    config: &ServerConfig,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    name: Option<&str>,
    chain: &[CertificateDer<'static>],
    client_required: bool,
    mut passed: impl FnMut(&'static str),
) -> Result<(), Error> {
    let mut server = config.clone();
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.ticketer = Arc::new(NoTickets);
    server.send_tls13_tickets = 0;
    server.max_early_data_size = 0;
    server.key_log = Arc::new(rustls::NoKeyLog);
    let server = Arc::new(server);
    // An IP address makes the client send no SNI.
    let address = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
    let server_name = match name {
        None => address,
        Some(name) => ServerName::try_from(name.to_owned())
            .map_err(|_| Error::new(Layer::Rehearsal, format!("no client can request {name}")))?,
    };
    for (version, label) in negotiable(provider, versions) {
        once(&server, provider, version, &server_name, chain, client_required).map_err(|why| {
            Error::new(Layer::Rehearsal, format!("a {label} handshake in memory failed: {why}"))
        })?;
        passed(label);
    }
    Ok(())
}

/// Returns the versions that rustls can negotiate with this provider, each with its name.
pub(crate) fn negotiable(
    provider: &CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
) -> impl Iterator<Item = (&'static SupportedProtocolVersion, &'static str)> {
    let has_suite = |version: &&SupportedProtocolVersion| {
        provider.cipher_suites.iter().any(|suite| suite.version().version == version.version)
    };
    let label = |version: &SupportedProtocolVersion| {
        if version.version == version::TLS12.version { "TLS 1.2" } else { "TLS 1.3" }
    };
    versions.iter().copied().filter(has_suite).map(move |version| (version, label(version)))
}

fn once(
    server: &Arc<ServerConfig>,
    provider: &Arc<CryptoProvider>,
    version: &'static SupportedProtocolVersion,
    name: &ServerName<'static>,
    chain: &[CertificateDer<'static>],
    client_required: bool,
) -> Result<(), String> {
    let verifier = Expect::new(provider, chain);
    let config = client_config(server, provider, version, &verifier)?;
    let mut client = ClientConnection::new(config, name.clone()).map_err(|error| error.to_string())?;
    let mut server = ServerConnection::new(Arc::clone(server)).map_err(|error| error.to_string())?;
    let mut flight = Vec::new();
    for _ in 0..FLIGHT_LIMIT {
        flight.clear();
        while client.wants_write() {
            client.write_tls(&mut flight).map_err(|error| error.to_string())?;
        }
        let answer = feed(&mut flight, |bytes| {
            server.read_tls(bytes)?;
            Ok(server.process_new_packets().map(|_| ()))
        });
        let verified = verifier.has_verified();
        if client_required && verified {
            return Ok(());
        }
        answer?;
        while server.wants_write() {
            server.write_tls(&mut flight).map_err(|error| error.to_string())?;
        }
        feed(&mut flight, |bytes| {
            client.read_tls(bytes)?;
            Ok(client.process_new_packets().map(|_| ()))
        })?;
        let verified = verifier.has_verified();
        if verified && (client_required || !(client.is_handshaking() || server.is_handshaking())) {
            return Ok(());
        }
    }
    Err("it did not complete".to_owned())
}

/// Makes the configuration of the client in a rehearsal.
fn client_config(
    server: &ServerConfig,
    provider: &Arc<CryptoProvider>,
    version: &'static SupportedProtocolVersion,
    verifier: &Arc<Expect>,
) -> Result<Arc<ClientConfig>, String> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[version])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(verifier) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    // The client offers the server's protocols, so that an ALPN list alone does not fail the
    // handshake.
    config.alpn_protocols.clone_from(&server.alpn_protocols);
    Ok(Arc::new(config))
}

/// Passes a flight on and empties it.
pub(crate) fn feed(
    flight: &mut Vec<u8>,
    mut take: impl FnMut(&mut &[u8]) -> std::io::Result<Result<(), TlsError>>,
) -> Result<(), String> {
    let mut rest = flight.as_slice();
    while !rest.is_empty() {
        take(&mut rest).map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    }
    flight.clear();
    Ok(())
}

/// Makes no tickets and accepts none.
#[derive(Debug)]
pub(super) struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}
