//! The last check: handshakes in memory with the very configuration that would be published.
//!
//! With an identity, the client's side of each enabled version runs to completion against a server
//! made for it: the server compares the presented chain byte for byte and verifies the signature.
//! The server shows the same chain, since no other key is at hand, and the clone of the
//! configuration that is rehearsed accepts that chain alone. Without an identity the rehearsal ends with
//! the client's first message, which a server has to be able to read. Where the provider lets no
//! server show the certificate, a signature alone is verified.
//!
//! No rehearsal shows that a server is accepted: no server's key is here. Each root was checked by
//! itself before.
//!
//! The clone has no session storage and no key log, so that the rehearsal leaves no trace.

use std::sync::Arc;

use rustls::{
    ClientConfig, ClientConnection, ServerConfig, ServerConnection, SupportedCipherSuite,
    SupportedProtocolVersion,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::ServerName,
    server::{Acceptor, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::{
    report::error::{Error, Layer},
    server::{
        expect::Expect,
        key,
        rehearse::{FLIGHT_LIMIT, feed, negotiable},
    },
};

/// Runs a handshake for each enabled version, or the client's first message without an identity.
///
/// # Errors
/// [`Layer::Rehearsal`] with the reason.
pub(super) fn rehearse(
    config: &ClientConfig,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    identity: Option<&Arc<CertifiedKey>>,
) -> Result<(), Error> {
    let mut client = config.clone();
    client.resumption = Resumption::disabled();
    client.enable_early_data = false;
    client.key_log = Arc::new(rustls::NoKeyLog);
    // With the verifier that is to be published, which the handshakes below do without.
    hello(client.clone())
        .map_err(|why| Error::new(Layer::Rehearsal, format!("its first message failed: {why}")))?;
    let Some(identity) = identity else { return Ok(()) };
    client.dangerous().set_certificate_verifier(Expect::new(provider, &identity.cert));
    let (client, mut rehearsed) = (Arc::new(client), false);
    for (version, label) in
        negotiable(provider, versions).filter(|(version, _)| serves(provider, version, identity))
    {
        once(&client, provider, version, identity).map_err(|why| {
            Error::new(Layer::Rehearsal, format!("a {label} handshake of the client failed: {why}"))
        })?;
        rehearsed = true;
    }
    if !rehearsed && !key::is_verified(provider, identity) {
        let why = "a signature of the key is not verified by the first certificate";
        return Err(Error::new(Layer::Rehearsal, why));
    }
    Ok(())
}

/// Returns whether a server can show the identity by this version. A suite of TLS 1.2 names the kind
/// of the server's key, and the provider may have none for the client's.
fn serves(provider: &CryptoProvider, version: &SupportedProtocolVersion, identity: &CertifiedKey) -> bool {
    let fits = |suite: &SupportedCipherSuite| match suite {
        SupportedCipherSuite::Tls12(suite) => identity.key.choose_scheme(suite.sign).is_some(),
        SupportedCipherSuite::Tls13(_) => false,
    };
    version.version == rustls::version::TLS13.version || provider.cipher_suites.iter().any(fits)
}

fn connection(client: Arc<ClientConfig>) -> Result<ClientConnection, String> {
    // A name that no certificate has (RFC 6761 section 6.4).
    let name = ServerName::try_from("rehearsal.invalid").map_err(|error| error.to_string())?;
    ClientConnection::new(client, name).map_err(|error| error.to_string())
}

/// Checks that a server can read the client's first message.
fn hello(client: ClientConfig) -> Result<(), String> {
    let mut client = connection(Arc::new(client))?;
    let (mut flight, mut acceptor) = (Vec::new(), Acceptor::default());
    while client.wants_write() {
        client.write_tls(&mut flight).map_err(|error| error.to_string())?;
    }
    acceptor.read_tls(&mut flight.as_slice()).map_err(|error| error.to_string())?;
    match acceptor.accept() {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err("it is not whole".to_owned()),
        Err((error, _)) => Err(error.to_string()),
    }
}

fn once(
    client: &Arc<ClientConfig>,
    provider: &Arc<CryptoProvider>,
    version: &'static SupportedProtocolVersion,
    identity: &Arc<CertifiedKey>,
) -> Result<(), String> {
    let expect = Expect::new(provider, &identity.cert);
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[version])
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(Arc::clone(&expect) as Arc<dyn ClientCertVerifier>)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(identity))));
    config.send_tls13_tickets = 0;
    // The server knows the client's protocols, so that an ALPN list alone does not fail the
    // handshake.
    config.alpn_protocols.clone_from(&client.alpn_protocols);
    let mut server = ServerConnection::new(Arc::new(config)).map_err(|error| error.to_string())?;
    let mut client = connection(Arc::clone(client))?;
    let mut flight = Vec::new();
    for _ in 0..FLIGHT_LIMIT {
        while client.wants_write() {
            client.write_tls(&mut flight).map_err(|error| error.to_string())?;
        }
        feed(&mut flight, |bytes| {
            server.read_tls(bytes)?;
            Ok(server.process_new_packets().map(|_| ()))
        })?;
        while server.wants_write() {
            server.write_tls(&mut flight).map_err(|error| error.to_string())?;
        }
        feed(&mut flight, |bytes| {
            client.read_tls(bytes)?;
            Ok(client.process_new_packets().map(|_| ()))
        })?;
        if !client.is_handshaking() && !server.is_handshaking() {
            return if expect.has_verified() {
                Ok(())
            } else {
                Err("the client showed no certificate".to_owned())
            };
        }
    }
    Err("it did not come to an end".to_owned())
}
