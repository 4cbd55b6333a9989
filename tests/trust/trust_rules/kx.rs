//! A key exchange that is fast and protects nothing. No rule about trust depends on it.

use rustls::{
    Error, NamedGroup,
    crypto::{ActiveKeyExchange, SharedSecret, SupportedKxGroup},
};

const LENGTH: usize = 32;

/// The group, with the name of one that every client accepts.
#[derive(Debug)]
pub struct Open;

impl SupportedKxGroup for Open {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Ok(Box::new(Self))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for Open {
    fn complete(self: Box<Self>, _: &[u8]) -> Result<SharedSecret, Error> {
        Ok(SharedSecret::from(&[7; LENGTH][..]))
    }

    fn pub_key(&self) -> &[u8] {
        &[9; LENGTH]
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}
