//! Builds a rustls `ServerConfig` from the files of a server. Outside of this module only types of
//! `rustls::pki_types` are used.

mod accepted;
pub(crate) mod acceptor;
pub(crate) mod anchors;
mod axum;
mod build;
mod builder;
pub(crate) mod chain;
mod clients;
mod crl;
mod crl_loss;
pub(crate) mod dates;
pub(crate) mod expect;
mod failure;
pub(crate) mod findings;
mod incoming;
mod inspect;
pub(crate) mod key;
pub(crate) mod layout;
mod lint;
pub(crate) mod pairs;
pub(crate) mod rehearse;
mod reloader;
mod resolver;
mod revocation;
mod revocation_list;
mod rotating;
pub(crate) mod settings;
mod signer;
pub(crate) mod trust;
pub(crate) mod validate;

#[cfg(all(feature = "tokio", not(loom)))]
pub use accepted::Accepted;
#[cfg(all(feature = "tokio", not(loom)))]
pub use acceptor::{Acceptor, HANDSHAKE_LIMIT};
#[cfg(all(feature = "axum", not(loom)))]
pub use axum::ConnectionInfo;
pub use build::{ServerBuild, ServerTls};
pub use builder::ServerBuilder;
pub use crl::Policy as RevocationPolicy;
pub use failure::HandshakeFailure;
pub use findings::Inspection;
#[cfg(all(feature = "tokio", not(loom)))]
pub use incoming::{FailedHandshake, Incoming, Listener, MAX_HANDSHAKES};
pub use reloader::ServerReloader;
pub use revocation::client_verifiers;
pub use revocation_list::covered_certificates;
pub use trust::{ClientAuth, SESSION_LIMIT};
