//! The description of a leaf, read from its certificate.

use hmac_sha256::Hash;

use super::der;
use crate::report::{
    error::{Error, Layer},
    event::{Fingerprint, Leaf},
};

impl Leaf {
    /// Reads the description from a certificate in DER, for [`Built::leaf`](crate::Built::leaf) of a
    /// build step of your own. Needs the feature `rustls`, which has the parser.
    ///
    /// Only the fields that are described are read. No signature, key or date is verified, and a
    /// certificate outside its dates has a description too.
    ///
    /// # Errors
    /// [`Layer::Chain`], without a path, for anything but exactly one certificate of X.509 (RFC
    /// 5280) in DER, PEM included.
    pub fn from_der(certificate: &[u8]) -> Result<Self, Error> {
        let fields = der::fields(certificate)
            .ok_or_else(|| Error::new(Layer::Chain, "the leaf is not a well-formed certificate in DER"))?;
        Ok(Self {
            fingerprint: Fingerprint(Hash::hash(certificate)),
            serial: der::serial_hex(fields.serial),
            names: fields.names,
            not_before: fields.not_before,
            not_after: fields.not_after,
        })
    }
}
