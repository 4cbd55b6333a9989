//! Reads the formats of certificates, keys and CRLs.

pub(crate) mod base64;
pub(crate) mod crl;
pub(crate) mod der;
mod leaf;
pub(crate) mod pem;
