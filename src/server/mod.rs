//! Builds a rustls `ServerConfig` from the files of a server. Outside of this module only types of
//! `rustls::pki_types` are used.

mod accepted;
mod acceptor;
mod anchors;
mod axum;
mod builder;
mod chain;
mod clients;
mod crl;
mod crl_loss;
mod dates;
mod failure;
mod incoming;
mod inspect;
mod key;
mod layout;
mod lint;
pub(crate) mod pairs;
mod rehearse;
mod resolver;
mod revocation;
mod revocation_list;
mod rotating;
mod signer;
mod trust;
mod validate;

#[cfg(all(feature = "tokio", not(loom)))]
pub use accepted::Accepted;
#[cfg(all(feature = "tokio", not(loom)))]
pub use acceptor::{Acceptor, HANDSHAKE_LIMIT};
#[cfg(all(feature = "axum", not(loom)))]
pub use axum::ConnectionInfo;
pub use builder::{ClientAuth, ServerBuild, ServerBuilder, ServerReloader, ServerTls};
pub use crl::Policy as RevocationPolicy;
pub use failure::HandshakeFailure;
#[cfg(all(feature = "tokio", not(loom)))]
pub use incoming::{FailedHandshake, Incoming, Listener, MAX_HANDSHAKES};
pub use inspect::Inspection;
pub use revocation::client_verifiers;
pub use trust::SESSION_LIMIT;
