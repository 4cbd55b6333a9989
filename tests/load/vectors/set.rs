//! The valid set from which vectors are made.

use rustls::pki_types::PrivateKeyDer;
use rustls_reload_testkit::{Authority, NamedFile, PrivateKey, Subject};

pub(crate) const CRT: &str = "tls.crt";
pub(crate) const KEY: &str = "tls.key";
pub(crate) const CA: &str = "ca.crt";

/// A valid set, and the authorities and the key to make another one.
pub(crate) struct Set {
    pub(crate) root: Authority,
    pub(crate) issuer: Authority,
    pub(crate) identity: PrivateKey,
    /// PEM of the leaf and the intermediate.
    pub(crate) chain: String,
    pub(crate) key: String,
    /// PEM of two client CAs.
    pub(crate) ca: String,
}

impl Set {
    pub(crate) fn new(number: usize) -> Self {
        let root = Authority::root(&format!("root {number}"));
        let issuer = root.intermediate(&format!("intermediate {number}"));
        let identity = PrivateKey::p256();
        let pair = issuer.issue_with_chain(&subject(), &identity);
        let ca = [1, 2].map(|ca| Authority::root(&format!("client CA {number}.{ca}")).pem).concat();
        Self { root, issuer, identity, chain: pair.chain, key: pair.key, ca }
    }

    pub(crate) fn files(&self) -> [NamedFile<'_>; 3] {
        [(CRT, self.chain.as_bytes()), (KEY, self.key.as_bytes()), (CA, self.ca.as_bytes())]
    }

    pub(crate) fn get(&self, file: &str) -> &str {
        match file {
            CRT => &self.chain,
            KEY => &self.key,
            _ => &self.ca,
        }
    }

    /// Returns the blocks of the leaf and of the intermediate.
    pub(crate) fn blocks(&self) -> (&str, &str) {
        self.chain.split_at(self.chain.match_indices("-----BEGIN ").nth(1).unwrap().0)
    }

    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        rustls_reload::internal::pem::key(self.key.as_bytes()).unwrap().clone_der()
    }
}

/// Returns the subject of the leaves.
pub(crate) fn subject() -> Subject {
    Subject::server("localhost")
}
