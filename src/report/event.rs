//! Events that a reloader reports to callbacks, subscribers and `tracing`.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::report::error::{Error, Layer, Warning};

mod facts;
mod ring;
mod text;
pub use facts::{EventStatus, Severity};
pub(crate) use ring::Ring;

/// Events kept for subscribers. A subscriber that lags further behind loses the oldest and learns
/// how many it has lost.
pub const EVENT_LIMIT: usize = 256;

/// Warnings of one value that are reported one by one; one more event counts the others. The limit
/// is half of [`EVENT_LIMIT`], so that the warnings cannot push the publication before them out of
/// every subscriber's queue.
pub const WARNING_LIMIT: usize = EVENT_LIMIT / 2;

/// The SHA-256 digest of a DER certificate, printed as `openssl x509 -fingerprint -sha256` prints
/// it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The facts that are reported of an end-entity certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leaf {
    /// The digest of the whole certificate.
    pub fingerprint: Fingerprint,
    /// The serial number: hexadecimal, upper case, as `openssl x509 -serial` prints it.
    pub serial: String,
    /// The DNS names and IP addresses of its subject alternative names, else its common name.
    pub names: Vec<String>,
    /// The first second of its validity, since the Unix epoch.
    pub not_before: Duration,
    /// The last second of its validity, since the Unix epoch.
    pub not_after: Duration,
}

/// Returns the description of a leaf that no certificate stands behind, for a
/// [`Build`](crate::Build) of a test.
///
/// The dates are since the Unix epoch.
#[must_use]
pub fn described_leaf(digest: [u8; 32], not_before: Duration, not_after: Duration) -> Leaf {
    let (serial, names) = (String::new(), Vec::new());
    Leaf { fingerprint: Fingerprint(digest), serial, names, not_before, not_after }
}

/// A served certificate and its validity.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateValidity {
    /// A description of the certificate, in words.
    pub what: Arc<str>,
    /// The file that holds the certificate, or the first file of its file set.
    pub path: PathBuf,
    /// The digest of the whole certificate.
    pub fingerprint: Fingerprint,
    /// The first second of its validity, since the Unix epoch.
    pub not_before: Duration,
    /// The last second of its validity, since the Unix epoch.
    pub not_after: Duration,
}

impl CertificateValidity {
    /// Describes a certificate in this file, by its digest and its dates.
    pub(crate) fn new(
        what: impl Into<Arc<str>>,
        path: impl Into<PathBuf>,
        fingerprint: Fingerprint,
        (not_before, not_after): (Duration, Duration),
    ) -> Self {
        Self { what: what.into(), path: path.into(), fingerprint, not_before, not_after }
    }

    /// Describes the leaf of a file set, in this file.
    pub(crate) fn leaf(path: &Path, leaf: &Leaf) -> Self {
        Self::new("the leaf", path, leaf.fingerprint, (leaf.not_before, leaf.not_after))
    }

    /// Renders the certificate as a warning; `how` connects its description with its end.
    pub(crate) fn error(&self, how: &str) -> Error {
        let why = format!("{} {how} at {}", self.what, Timestamp(self.not_after));
        Error::new(Layer::Validity, why).at(&self.path)
    }
}

/// A piece of trust that a publication has removed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemovedTrust {
    /// A client CA: no CA of the new bundle has its name and public key with the same name
    /// constraints or none, or a list of its issuer revokes it. A CA that was renewed with its key is
    /// still trusted, whatever else its certificate says.
    ClientCa {
        /// The CA's subject, in one line and cut off where it is very long.
        subject: String,
        /// The digest of the CA's certificate.
        fingerprint: Fingerprint,
    },
    /// A root of a client: no root of the new bundles has its name and public key with the same name
    /// constraints or none. A root that was renewed with its key is still trusted, whatever else its
    /// certificate says.
    RootCa {
        /// The root's subject, in one line and cut off where it is very long.
        subject: String,
        /// The digest of the root's certificate.
        fingerprint: Fingerprint,
    },
    /// Clients without a certificate, or without a valid one, which were accepted before.
    Unauthenticated,
    /// Clients of one issuer: its CRLs name more certificates, or another selection of
    /// its lists counts than before.
    Revocation {
        /// The issuer's name.
        issuer: String,
        /// The number of certificates that none of its lists named before.
        more: usize,
    },
    /// Clients that the previous revocation policy accepted.
    RevocationPolicy,
}

impl fmt::Display for RemovedTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientCa { subject, fingerprint } => write!(f, "client CA {subject} ({fingerprint})"),
            Self::RootCa { subject, fingerprint } => write!(f, "root {subject} ({fingerprint})"),
            Self::Unauthenticated => f.write_str("clients without a valid certificate"),
            Self::Revocation { issuer, more: 0 } => write!(f, "other CRLs count for {issuer}"),
            Self::Revocation { issuer, more } => write!(f, "{more} more certificates revoked by {issuer}"),
            Self::RevocationPolicy => {
                f.write_str("clients that only the previous, laxer revocation policy accepted")
            }
        }
    }
}

/// An event of a reloader. Events arrive in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A new generation is served.
    Published {
        /// The new generation.
        generation: u64,
        /// The leaf that was replaced.
        old: Option<Leaf>,
        /// The leaf that is served now.
        new: Option<Leaf>,
        /// Set where this publication ends a rejection, or a report that the files keep changing.
        recovered: bool,
        /// The file set, by its first path; `None` where there is only one file set.
        set: Option<Arc<Path>>,
    },
    /// The generation published just before no longer trusts a peer that was trusted before.
    /// Connections that are older than it may be drained. Neither a renewal nor a first load
    /// reports this.
    TrustReduced {
        /// The generation, which handshakes get already.
        generation: u64,
        /// The number of the trust epoch that began with it.
        epoch: u64,
        /// The removed trust.
        lost: Vec<RemovedTrust>,
    },
    /// A candidate was rejected; the served configuration stays served.
    Refused {
        /// The layer, the file and the reason.
        error: Error,
        /// The generation that is still served.
        generation: u64,
        /// The file set, by its first path; `None` where there is only one file set.
        set: Option<Arc<Path>>,
    },
    /// A rejection, or the report that the files keep changing, is over: the served bytes are on
    /// disk again.
    Recovered {
        /// The file set, by its first path; `None` where there is only one file set.
        set: Option<Arc<Path>>,
    },
    /// A valid candidate is deferred until its date.
    Deferred {
        /// The first second of its validity, and the configured clock skew after that, since the
        /// Unix epoch.
        not_before: Duration,
        /// The file set, by its first path; `None` where there is only one file set.
        set: Option<Arc<Path>>,
    },
    /// A served certificate nears its end. Reported once for each threshold, see
    /// [`expiry_warnings`](crate::ServerBuilder::expiry_warnings).
    Expiring {
        /// The certificate.
        certificate: CertificateValidity,
        /// The threshold that the certificate has passed, as a time before its end.
        within: Duration,
    },
    /// A served certificate has expired, and no valid replacement was there in time.
    Expired {
        /// The certificate.
        certificate: CertificateValidity,
    },
    /// The files have been changing for so long ([`Timing::still_changing_after`](crate::Timing)) that an
    /// operator should know.
    StillChanging {
        /// The file set, by its first path; `None` where there is only one file set.
        set: Option<Arc<Path>>,
    },
    /// File events are missing in part or altogether; the files are polled instead, every second by
    /// default.
    Degraded {
        /// The reason.
        error: Error,
    },
    /// File events are at work again.
    Restored,
    /// The driver is at work, for tests and start-up messages.
    Started {
        /// The directories that are watched now, as in [`Status::watched`](crate::Status::watched).
        /// Empty where the files are polled instead.
        watched: Vec<PathBuf>,
    },
    /// The driver has stopped: nothing is published any more.
    Stopped,
    /// A fact that an operator should know and that rejected nothing.
    Warning {
        /// The fact.
        warning: Warning,
    },
}

/// A moment since the Unix epoch, printed as RFC 3339 in UTC. `{:.3}` prints milliseconds too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub Duration);

impl Timestamp {
    /// Converts the moment to the type of the standard library.
    #[must_use]
    pub fn system_time(self) -> SystemTime {
        UNIX_EPOCH + self.0
    }
}

/// A moment before 1970 becomes the beginning of 1970.
impl From<SystemTime> for Timestamp {
    fn from(at: SystemTime) -> Self {
        Self(at.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (year, month, day) = crate::report::date::civil(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if let Some(digits @ 1..) = f.precision() {
            let fraction = format!("{:09}", self.0.subsec_nanos());
            write!(f, ".{}", &fraction[..digits.min(fraction.len())])?;
        }
        f.write_str("Z")
    }
}

/// Makes the warnings of one value into events, at most [`WARNING_LIMIT`] and one that counts the
/// others.
pub(crate) fn warnings(mut of: Vec<Warning>) -> impl Iterator<Item = Event> {
    let more = of.len().saturating_sub(WARNING_LIMIT);
    let others = of.get(WARNING_LIMIT).map(|first| {
        Warning::new(
            first.layer(),
            format!("{more} more warnings are left out: an inspection lists all of them"),
        )
    });
    of.truncate(WARNING_LIMIT);
    of.into_iter().chain(others).map(|warning| Event::Warning { warning })
}
