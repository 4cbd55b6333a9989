//! Builds a rustls `ClientConfig` from the files of a client. Outside of this module and of the
//! server's only types of `rustls::pki_types` are used.

mod build;
mod builder;
mod connector;
mod layout;
mod rehearse;
mod rotating;
mod trust;

pub use build::ClientTls;
pub use builder::{ClientBuilder, ClientReloader};
#[cfg(all(feature = "tokio", not(loom)))]
pub use connector::{Connected, Connector};
