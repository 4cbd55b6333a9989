//! Recognises kinds of DER by the tags of their first values.
//!
//! It serves messages only: the kind is what a value looks like, and decides nothing.

use crate::pki::der::{BIT_STRING, GENERALIZED_TIME, INTEGER, OCTETS, OID, Reader, SEQUENCE, UTC_TIME};

/// A kind of DER value that operators keep in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Certificate,
    Request,
    RevocationList,
    /// PKCS #8, unencrypted.
    Pkcs8,
    /// PKCS #8, encrypted.
    EncryptedKey,
    /// PKCS #1, of RSA.
    Pkcs1,
    /// SEC 1, of an elliptic curve.
    Sec1,
    PublicKey,
    /// PKCS #12: a key with its certificates.
    Pkcs12,
    /// PKCS #7 or CMS: certificates, signed or encrypted data.
    Pkcs7,
}

impl Content {
    /// Recognises the kind of a DER value that fills `der`.
    pub(crate) fn of(der: &[u8]) -> Option<Self> {
        // Microsoft's tools write PKCS #12 with indefinite lengths (BER).
        if der.starts_with(&[SEQUENCE, 0x80, INTEGER, 1, 3, SEQUENCE]) {
            return Some(Self::Pkcs12);
        }
        let mut outer = Reader(der);
        let mut parts = Reader(outer.read(SEQUENCE)?);
        outer.end()?;
        let (tag, value) = parts.any()?;
        let next = parts.0.first().copied();
        Some(match (tag, next?) {
            (INTEGER, SEQUENCE) if value == [3] => Self::Pkcs12,
            (INTEGER, SEQUENCE) => Self::Pkcs8,
            (INTEGER, INTEGER) => Self::Pkcs1,
            (INTEGER, OCTETS) => Self::Sec1,
            (OID, _) => Self::Pkcs7,
            (SEQUENCE, OCTETS) => Self::EncryptedKey,
            (SEQUENCE, BIT_STRING) => Self::PublicKey,
            (SEQUENCE, SEQUENCE) => return Self::signed(value),
            _ => return None,
        })
    }

    /// Recognises a signed value by the part that the signature covers.
    fn signed(value: &[u8]) -> Option<Self> {
        let mut parts = Reader(value);
        let mut tags = [0; 5];
        for tag in &mut tags {
            let Some((found, _)) = parts.any() else { break };
            *tag = found;
        }
        Some(match tags {
            [INTEGER, SEQUENCE, SEQUENCE, 0xa0, _] => Self::Request,
            [INTEGER, SEQUENCE, SEQUENCE, UTC_TIME | GENERALIZED_TIME, _]
            | [SEQUENCE, SEQUENCE, UTC_TIME | GENERALIZED_TIME, ..] => Self::RevocationList,
            [0xa0, INTEGER, SEQUENCE, SEQUENCE, SEQUENCE]
            | [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] => Self::Certificate,
            _ => return None,
        })
    }

    /// Returns the name of the kind, with its article.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Certificate => "a certificate",
            Self::Request => "a certificate request",
            Self::RevocationList => "a CRL",
            Self::Pkcs8 => "a private key (PKCS #8)",
            Self::EncryptedKey => "an encrypted private key",
            Self::Pkcs1 => "an RSA private key (PKCS #1)",
            Self::Sec1 => "an EC private key (SEC 1)",
            Self::PublicKey => "a public key",
            Self::Pkcs12 => "a PKCS #12 file (.p12, .pfx)",
            Self::Pkcs7 => "a PKCS #7 or CMS file (.p7b)",
        }
    }

    /// Returns the command that converts a DER file of this kind to PEM.
    pub(super) fn to_pem(self) -> &'static str {
        match self {
            Self::Certificate => "openssl x509 -inform DER -in old -out new",
            Self::Request => "openssl req -inform DER -in old -out new",
            Self::RevocationList => "openssl crl -inform DER -in old -out new",
            Self::Pkcs8 | Self::EncryptedKey | Self::Pkcs1 | Self::Sec1 => {
                "openssl pkey -inform DER -in old -out new"
            }
            Self::PublicKey => "openssl pkey -pubin -inform DER -in old -pubout -out new",
            Self::Pkcs12 => "openssl pkcs12 -in old -nodes -out new",
            Self::Pkcs7 => "openssl pkcs7 -inform DER -print_certs -in old -out new",
        }
    }

    /// Returns the label of a section of this kind (RFC 7468); `None` if PEM has none.
    pub(crate) fn label(self) -> Option<&'static str> {
        Some(match self {
            Self::Certificate => "CERTIFICATE",
            Self::Request => "CERTIFICATE REQUEST",
            Self::RevocationList => "X509 CRL",
            Self::Pkcs8 => "PRIVATE KEY",
            Self::EncryptedKey => "ENCRYPTED PRIVATE KEY",
            Self::Pkcs1 => "RSA PRIVATE KEY",
            Self::Sec1 => "EC PRIVATE KEY",
            Self::PublicKey => "PUBLIC KEY",
            Self::Pkcs12 => return None,
            Self::Pkcs7 => "PKCS7",
        })
    }
}
