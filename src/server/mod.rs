//! Builds a rustls `ServerConfig` from the files of a server. Outside of this module only types of
//! `rustls::pki_types` are used.

mod acceptor;
mod anchors;
mod builder;
mod chain;
mod clients;
mod crl;
mod crl_loss;
mod dates;
mod failure;
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
pub use acceptor::{Accepted, Acceptor, HANDSHAKE_LIMIT};
pub use builder::{ClientAuth, ServerBuild, ServerBuilder, ServerReloader, ServerTls};
pub use crl::Policy as RevocationPolicy;
pub use failure::HandshakeFailure;
pub use inspect::Inspection;
pub use revocation::client_verifiers;
pub use trust::SESSION_LIMIT;
