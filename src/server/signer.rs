//! The authority that signed a CRL, as far as the files show.

/// Identifies the authority that signed a CRL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Signer {
    /// The CA of the bundle with this public key, which verifies the signature.
    Ca(Vec<u8>),
    /// No CA of the bundle: an intermediate, or a former key of a CA. Only its clients send the
    /// key, so it is identified by the CRL's authority key identifier (RFC 5280 section 5.2.1), if
    /// the CRL has one.
    Other(Option<Vec<u8>>),
}

impl Signer {
    /// Returns whether both may be one authority. A CRL that does not identify its key may come
    /// from any signer of its issuer's CRLs that is not a CA of the bundle.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Other(None), Self::Other(_)) | (Self::Other(_), Self::Other(None)) => true,
            _ => self == other,
        }
    }

    /// Returns the key, if it belongs to a CA of the bundle.
    pub(super) fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Ca(key) => Some(key),
            Self::Other(_) => None,
        }
    }
}
