//! A key exchange that costs nothing and protects nothing: no rule about trust depends on it.

use rustls::{
    Error, NamedGroup,
    crypto::{ActiveKeyExchange, SharedSecret, SupportedKxGroup},
};

const LENGTH: usize = 32;

/// The group, under the name of one that everybody takes.
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
