//! The reason of a handshake that failed, as a server sees it.

use std::{error::Error as StdError, fmt, io};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// The reason why a handshake failed, as the server sees it: one of a few values to count and log.
///
/// Made [from rustls's error](Self::of), or [from the `io::Error`](Self::of_io) that an acceptor
/// returns. rustls's error has the details, some of which are text that the client chose; a reason
/// holds no such text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeFailure {
    /// Client authentication is required, and the client presented no certificate.
    NoCertificate,
    /// A certificate of the client's chain has expired.
    Expired,
    /// A certificate of the client's chain is not valid yet.
    NotYetValid,
    /// A certificate of the client's chain is revoked.
    Revoked,
    /// No CRL says whether a certificate of the client's chain is revoked.
    RevocationUnknown,
    /// The CRL that covers a certificate of the client's chain has expired.
    RevocationListExpired,
    /// The CRL that covers a certificate of the client's chain cannot be used.
    RevocationListUnusable,
    /// The client's chain leads to none of the served client CAs.
    UnknownIssuer,
    /// A signature is wrong: one of the client's chain, or the client's proof that it has the key.
    BadSignature,
    /// A certificate of the client's chain does not allow client authentication.
    WrongPurpose,
    /// A certificate of the client's chain has a critical extension that the verifier does not
    /// know.
    CriticalExtension,
    /// A name in the client's chain is outside of a CA's name constraints.
    NameConstraint,
    /// The client's leaf is a CA's certificate, or a certificate above it is not one or may not
    /// have so many below it.
    NotAnIssuer,
    /// A certificate of the client's chain cannot be parsed, or is not X.509 version 3.
    MalformedCertificate,
    /// A key or signature of the client's chain is of an algorithm that the provider does not
    /// verify.
    UnsupportedAlgorithm,
    /// The client's chain was rejected for a reason that is none of the others.
    RejectedCertificate,
    /// The client ended the handshake with this alert. Most alerts that name a certificate mean the
    /// server's: the client does not trust it.
    Alert(AlertDescription),
    /// The client offers no enabled version of TLS, or it names no signature schemes, as clients of
    /// TLS 1.1 and older.
    NoCommonVersion,
    /// Client and server have no cipher suite, key exchange group or signature scheme in common.
    NoCommonAlgorithm,
    /// Client and server have no application protocol (ALPN) in common.
    NoCommonProtocol,
    /// The server has no certificate for the server name that the client sent.
    UnknownName,
    /// The first bytes were not TLS: plain HTTP, for example.
    NotTls,
    /// The client sent TLS messages that are malformed or against the protocol.
    Protocol,
    /// The connection ended before the handshake did.
    ConnectionLost,
    /// The handshake took longer than the server allows.
    TimedOut,
    /// A reason that is none of the others; a panic during the handshake is one.
    Other,
}

impl HandshakeFailure {
    /// Returns the reason of an error of rustls.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::InvalidCertRevocationList(_) => Self::RevocationListUnusable,
            Error::AlertReceived(alert) => Self::Alert(*alert),
            Error::PeerIncompatible(error) => Self::of_incompatible(error),
            Error::NoApplicationProtocol => Self::NoCommonProtocol,
            // rustls has no variant for a resolver that finds no certificate.
            Error::General(why) if why == "no server certificate chain resolved" => Self::UnknownName,
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::PeerMisbehaved(_)
            | Error::PeerSentOversizedRecord
            | Error::DecryptError => Self::Protocol,
            _ => Self::Other,
        }
    }

    /// Returns the reason of an I/O error: the reason of the rustls error that it wraps, if it
    /// wraps one.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Self {
        let mut next = error.get_ref().map(|inner| inner as &(dyn StdError + 'static));
        while let Some(inner) = next {
            if let Some(error) = inner.downcast_ref::<Error>() {
                return Self::of(error);
            }
            next = match inner.downcast_ref::<io::Error>() {
                Some(error) => error.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
                None => inner.source(),
            };
        }
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected => Self::ConnectionLost,
            _ => Self::Other,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        #[allow(deprecated)] // reason: an embedder's verifier may still return the variants without context
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownRevocationStatus => Self::RevocationUnknown,
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::RevocationListExpired,
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::BadSignature => Self::BadSignature,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::WrongPurpose
            }
            CertificateError::UnhandledCriticalExtension => Self::CriticalExtension,
            CertificateError::BadEncoding => Self::MalformedCertificate,
            CertificateError::UnsupportedSignatureAlgorithm
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                Self::UnsupportedAlgorithm
            }
            CertificateError::Other(error) => match error.0.downcast_ref::<webpki::Error>() {
                Some(error) => Self::of_webpki(error),
                None => Self::RejectedCertificate,
            },
            _ => Self::RejectedCertificate,
        }
    }

    /// Maps errors of webpki, for which rustls has no variants.
    fn of_webpki(error: &webpki::Error) -> Self {
        use webpki::Error as Webpki;
        match error {
            Webpki::UnsupportedCriticalExtension => Self::CriticalExtension,
            Webpki::NameConstraintViolation => Self::NameConstraint,
            Webpki::CaUsedAsEndEntity | Webpki::EndEntityUsedAsCa | Webpki::PathLenConstraintViolated => {
                Self::NotAnIssuer
            }
            Webpki::ExtensionValueInvalid
            | Webpki::InvalidSerialNumber
            | Webpki::InvalidNetworkMaskConstraint
            | Webpki::MalformedDnsIdentifier
            | Webpki::MalformedExtensions
            | Webpki::MalformedNameConstraint
            | Webpki::SignatureAlgorithmMismatch
            | Webpki::UnsupportedCertVersion => Self::MalformedCertificate,
            _ => Self::RejectedCertificate,
        }
    }

    fn of_incompatible(error: &PeerIncompatible) -> Self {
        match error {
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            // rustls looks for the signature schemes, which TLS 1.1 does not have, before the version.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::SupportedVersionsExtensionRequired => Self::NoCommonVersion,
            PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoEcPointFormatsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => Self::NoCommonAlgorithm,
            _ => Self::Protocol,
        }
    }

    /// Returns the reason's name in lower case, for labels of counters. A name never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Revoked => "revoked",
            Self::RevocationUnknown => "revocation_unknown",
            Self::RevocationListExpired => "revocation_list_expired",
            Self::RevocationListUnusable => "revocation_list_unusable",
            Self::UnknownIssuer => "unknown_issuer",
            Self::BadSignature => "bad_signature",
            Self::WrongPurpose => "wrong_purpose",
            Self::CriticalExtension => "critical_extension",
            Self::NameConstraint => "name_constraint",
            Self::NotAnIssuer => "not_an_issuer",
            Self::MalformedCertificate => "malformed_certificate",
            Self::UnsupportedAlgorithm => "unsupported_algorithm",
            Self::RejectedCertificate => "rejected_certificate",
            Self::Alert(alert) => alert_name(alert),
            Self::NoCommonVersion => "no_common_version",
            Self::NoCommonAlgorithm => "no_common_algorithm",
            Self::NoCommonProtocol => "no_common_protocol",
            Self::UnknownName => "unknown_name",
            Self::NotTls => "not_tls",
            Self::Protocol => "protocol",
            Self::ConnectionLost => "connection_lost",
            Self::TimedOut => "timeout",
            Self::Other => "other",
        }
    }
}

/// Returns the name of an alert. Alerts by which clients say why they leave have names of their
/// own; all others share one.
fn alert_name(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA => "alert_unknown_ca",
        AlertDescription::BadCertificate => "alert_bad_certificate",
        AlertDescription::UnsupportedCertificate => "alert_unsupported_certificate",
        AlertDescription::CertificateRevoked => "alert_certificate_revoked",
        AlertDescription::CertificateExpired => "alert_certificate_expired",
        AlertDescription::CertificateUnknown => "alert_certificate_unknown",
        AlertDescription::DecryptError => "alert_decrypt_error",
        AlertDescription::HandshakeFailure => "alert_handshake_failure",
        AlertDescription::ProtocolVersion => "alert_protocol_version",
        AlertDescription::IllegalParameter => "alert_illegal_parameter",
        AlertDescription::InternalError => "alert_internal_error",
        AlertDescription::AccessDenied => "alert_access_denied",
        AlertDescription::UserCanceled => "alert_user_canceled",
        _ => "alert",
    }
}

impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => "the client presented no certificate",
            Self::Expired => "a certificate of the client's chain has expired",
            Self::NotYetValid => "a certificate of the client's chain is not valid yet",
            Self::Revoked => "a certificate of the client's chain is revoked",
            Self::RevocationUnknown => "no CRL says whether a certificate of the client's chain is revoked",
            Self::RevocationListExpired => "the CRL for a certificate of the client's chain has expired",
            Self::RevocationListUnusable => "the CRL for a certificate of the client's chain cannot be used",
            Self::UnknownIssuer => "the client's chain leads to none of the client CAs",
            Self::BadSignature => "a signature of the client is wrong",
            Self::WrongPurpose => "a certificate of the client's chain does not allow client authentication",
            Self::CriticalExtension => {
                "a certificate of the client's chain has an unknown critical extension"
            }
            Self::NameConstraint => "a name in the client's chain is outside of a CA's name constraints",
            Self::NotAnIssuer => {
                "the client's leaf is a CA certificate, or a certificate above it may not issue it"
            }
            Self::MalformedCertificate => {
                "a certificate of the client's chain is malformed or not X.509 version 3"
            }
            Self::UnsupportedAlgorithm => {
                "a key or signature of the client's chain is of an unsupported algorithm"
            }
            Self::RejectedCertificate => "the client's chain was rejected",
            Self::Alert(alert) => {
                return write!(f, "the client ended the handshake with the alert {alert:?}");
            }
            Self::NoCommonVersion => {
                "the client offers no enabled version of TLS, or names no signature schemes (TLS 1.1 and older)"
            }
            Self::NoCommonAlgorithm => {
                "no cipher suite, key exchange group or signature scheme in common with the client"
            }
            Self::NoCommonProtocol => "no application protocol in common with the client",
            Self::UnknownName => "no certificate for the server name that the client sent",
            Self::NotTls => "the client does not speak TLS",
            Self::Protocol => "the client's messages are malformed or violate the protocol",
            Self::ConnectionLost => "the connection ended before the handshake",
            Self::TimedOut => "the handshake took too long",
            Self::Other => "none of the known reasons",
        })
    }
}
