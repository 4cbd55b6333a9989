//! What is told, to callbacks, to subscribers and to `tracing`.

use std::{
    collections::VecDeque,
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    error::Error,
    expiry::Dated,
    line::{LINE_LIMIT, one_line, shortened, shortened_path},
};

/// Events kept for subscribers; one that lags further behind loses the oldest and is told how many.
pub const EVENT_LIMIT: usize = 256;

/// Warnings of one value that are told each; one more counts the others. Half of what is kept for subscribers, so that the
/// publication that they come behind is not lost to all of them at once.
pub const WARNING_LIMIT: usize = EVENT_LIMIT / 2;

/// Of what is trusted no longer so many are named in a line: a bundle may hold thousands. The event itself has them all.
const LOST_NAMED: usize = 8;

/// Bytes of each of them in a line.
const LOST_SHOWN: usize = 400;

/// The SHA-256 digest of a DER certificate, printed as `openssl x509 -fingerprint -sha256` prints it.
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

/// What is told of an end-entity certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leaf {
    /// The digest of the whole certificate.
    pub fingerprint: Fingerprint,
    /// The serial number, hexadecimal, upper case, as `openssl x509 -serial` prints it.
    pub serial: String,
    /// The DNS names and IP addresses it is for, else its common name.
    pub names: Vec<String>,
    /// The first second of its validity, since the Unix epoch.
    pub not_before: Duration,
    /// The last second of its validity, since the Unix epoch.
    pub not_after: Duration,
}

/// What is trusted no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// A client CA: its name, its public key or its name constraints are no longer those of a CA of the bundle. A CA that was
    /// renewed with its key is still trusted, whatever else its certificate says.
    ClientCa {
        /// Its subject, in one line and cut off where it is very long.
        subject: String,
        /// The digest of its certificate.
        fingerprint: Fingerprint,
    },
    /// Clients that could do without a certificate, or without a valid one.
    Unauthenticated,
    /// Clients of this issuer: its revocation lists name so many certificates more, or other lists count than before.
    Revocation {
        /// The issuer's name.
        issuer: String,
        /// Certificates that were named by none of its lists.
        more: usize,
    },
    /// Clients that another rule about revocation lists let in.
    RevocationPolicy,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientCa { subject, fingerprint } => write!(f, "client CA {subject} ({fingerprint})"),
            Self::Unauthenticated => f.write_str("clients without a valid certificate"),
            Self::Revocation { issuer, more } => write!(f, "{more} more certificates revoked by {issuer}"),
            Self::RevocationPolicy => f.write_str("clients of a laxer rule about revocation"),
        }
    }
}

/// Something happened. Events arrive in the order in which it did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A new generation is served.
    Published {
        /// Its number.
        generation: u64,
        /// The leaf it replaced.
        old: Option<Leaf>,
        /// The leaf it serves.
        new: Option<Leaf>,
        /// Something was refused before it, and that is over.
        recovered: bool,
        /// Which set, by its first path; `None` where there is one set only.
        set: Option<Arc<Path>>,
    },
    /// The generation published just before trusts somebody no longer who was trusted: connections that are older than it
    /// may be drained. A renewal is none of these, nor is a first load.
    TrustShrunk {
        /// The generation, which handshakes get already.
        generation: u64,
        /// The number of the trust that began with it.
        epoch: u64,
        /// What has gone.
        lost: Vec<Lost>,
    },
    /// A candidate was refused; what was served is served.
    Refused {
        /// By which layer, about which file, why.
        error: Error,
        /// The generation that is still served.
        generation: u64,
        /// Which set, by its first path; `None` where there is one set only.
        set: Option<Arc<Path>>,
    },
    /// What was refused is gone, and what is served is on disk again.
    Recovered {
        /// Which set, by its first path; `None` where there is one set only.
        set: Option<Arc<Path>>,
    },
    /// A valid candidate waits for its date.
    Held {
        /// The date, since the Unix epoch: its first second, and the skew of the clock after that.
        not_before: Duration,
        /// Which set, by its first path; `None` where there is one set only.
        set: Option<Arc<Path>>,
    },
    /// What is served comes to its end: told once for each threshold, see
    /// [`expiry_warnings`](crate::ServerBuilder::expiry_warnings).
    Expiring {
        /// Which certificate.
        certificate: Dated,
        /// The threshold that it has passed.
        within: Duration,
    },
    /// What is served has expired, and nothing that replaces it was there in time.
    Expired {
        /// Which certificate.
        certificate: Dated,
    },
    /// The files have been changing for so long that an operator should know.
    StillChanging {
        /// Which set, by its first path; `None` where there is one set only.
        set: Option<Arc<Path>>,
    },
    /// File events are missing in part or altogether; the files are polled instead.
    Degraded {
        /// Why.
        error: Error,
    },
    /// File events are at work again.
    Restored,
    /// The driver works: for tests and start-up messages.
    Started,
    /// Nothing is published any more.
    Stopped,
    /// Something an operator should know that refused nothing.
    Warning {
        /// What.
        error: Error,
    },
}

impl Event {
    /// The event as a line of the OCSF shorthand, for those kinds that are about the served configuration. Longer than
    /// [`LINE_LIMIT`] it never is: names that have no room are counted, texts are cut and say so.
    #[must_use]
    pub fn shorthand(&self) -> Option<String> {
        self.untrimmed_shorthand().map(|line| shortened(one_line(line), LINE_LIMIT))
    }

    fn untrimmed_shorthand(&self) -> Option<String> {
        match self {
            Self::Published { generation, old, new, set, .. } => {
                let mut line =
                    "CONFIG:RELOADED [INFO] TLS certificate config reloaded successfully".to_owned();
                line.push_str(&format!(" [generation:{generation}"));
                if let Some(new) = new {
                    line.push_str(&format!(" fingerprint:{} serial:{}", new.fingerprint, new.serial));
                    line.push_str(&format!(" not_after:{}", Timestamp(new.not_after)));
                    line.push_str(&names(&new.names));
                }
                if let Some(old) = old {
                    line.push_str(&format!(" replaced:{}", old.fingerprint));
                }
                if let Some(set) = set {
                    line.push_str(&format!(" set:{}", field(&set.to_string_lossy())));
                }
                line.push(']');
                Some(line)
            }
            Self::Expiring { certificate, within } => Some(format!(
                "CONFIG:CERT_EXPIRING [LOW] TLS certificate expires soon: {} [within:{}s fingerprint:{}]",
                certificate.error("expires"),
                within.as_secs(),
                certificate.fingerprint,
            )),
            Self::Expired { certificate } => Some(format!(
                "CONFIG:CERT_EXPIRED [HIGH] TLS certificate has expired: {} [fingerprint:{}]",
                certificate.error("has expired"),
                certificate.fingerprint,
            )),
            // The error names the set by its path.
            Self::Refused { error, generation, .. } => Some(format!(
                "CONFIG:RELOAD_FAILED [MED] TLS certificate reload failed: {error} [still serving generation:{generation}]"
            )),
            _ => None,
        }
    }
}

/// Bytes of the names of a leaf in a line, and of one name or path.
const NAMES_SHOWN: usize = 1800;
const FIELD_SHOWN: usize = 768;

/// The names of a leaf as a field; those for which the line has no room as a count.
fn names(of: &[String]) -> String {
    let mut text = " names:".to_owned();
    for (i, name) in of.iter().enumerate() {
        let name = field(name);
        if text.len() + name.len() > NAMES_SHOWN {
            text.push_str(&format!(" more_names:{}", of.len() - i));
            break;
        }
        text.push_str(if i == 0 { "" } else { "," });
        text.push_str(&name);
    }
    text
}

/// A name as part of a field: who chooses it must not end the field and begin another.
fn field(name: &str) -> String {
    let ends = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | '[' | ']' | '\\');
    let mut text = String::new();
    for c in name.chars() {
        if ends(c) { text.extend(c.escape_unicode()) } else { text.push(c) }
    }
    shortened_path(text, FIELD_SHOWN)
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.shorthand().unwrap_or_default();
        if line.is_empty() {
            self.write_plain(&mut line)?;
        }
        f.write_str(&shortened(one_line(line), LINE_LIMIT))
    }
}

impl Event {
    /// Writes the event as plain text of any length, of those kinds that have no shorthand.
    fn write_plain(&self, f: &mut impl fmt::Write) -> fmt::Result {
        match self {
            Self::TrustShrunk { generation, epoch, lost } => {
                write!(f, "trust shrank with generation {generation} (epoch {epoch}): gone")?;
                let (named, further) = lost.split_at(lost.len().min(LOST_NAMED));
                for (i, lost) in named.iter().enumerate() {
                    let lost = shortened(one_line(lost), LOST_SHOWN);
                    write!(f, "{} {lost}", if i == 0 { "" } else { "," })?;
                }
                match further.len() {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Self::Recovered { set } => {
                write!(f, "recovered: what is served is on disk again{}", Of(set))
            }
            Self::Held { not_before, set } => {
                write!(
                    f,
                    "held: the new certificate is not served before {}{}",
                    Timestamp(*not_before),
                    Of(set)
                )
            }
            Self::StillChanging { set } => {
                write!(f, "still changing: the files do not hold still{}", Of(set))
            }
            Self::Degraded { error } => write!(f, "degraded, polling instead: {error}"),
            Self::Restored => f.write_str("restored: file events are at work again"),
            Self::Started => f.write_str("started"),
            Self::Stopped => f.write_str("stopped"),
            Self::Warning { error } => write!(f, "warning: {error}"),
            Self::Published { .. } | Self::Refused { .. } | Self::Expiring { .. } | Self::Expired { .. } => {
                Ok(())
            }
        }
    }
}

/// The set as the end of a line.
struct Of<'a>(&'a Option<Arc<Path>>);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(set) => write!(f, " [set:{}]", field(&set.to_string_lossy())),
            None => Ok(()),
        }
    }
}

/// A moment since the Unix epoch, printed as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub Duration);

impl Timestamp {
    /// This moment as the standard library has it.
    #[must_use]
    pub fn system_time(self) -> SystemTime {
        UNIX_EPOCH + self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (year, month, day) = crate::date::civil(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// The warnings of one value, as they are told.
pub(crate) fn warnings(mut of: Vec<Error>) -> impl Iterator<Item = Event> {
    let more = of.len().saturating_sub(WARNING_LIMIT);
    let others = of.get(WARNING_LIMIT).map(|first| {
        Error::new(first.layer(), format!("{more} more warnings are left out: an inspection tells them all"))
    });
    of.truncate(WARNING_LIMIT);
    of.into_iter().chain(others).map(|error| Event::Warning { error })
}

/// The latest events, each with its number.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    events: VecDeque<Arc<Event>>,
    /// The number of the first event kept.
    first: u64,
}

impl Ring {
    pub(crate) fn push(&mut self, event: Arc<Event>) {
        if self.events.len() == EVENT_LIMIT {
            self.events.pop_front();
            self.first += 1;
        }
        self.events.push_back(event);
    }

    /// The number that the next event will have.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// The event with number `next`, or the oldest kept and how many were lost before it.
    pub(crate) fn read(&self, next: u64) -> Option<(Arc<Event>, u64)> {
        let lost = self.first.saturating_sub(next);
        let index = usize::try_from(next.max(self.first) - self.first).ok()?;
        self.events.get(index).map(|event| (Arc::clone(event), lost))
    }
}
