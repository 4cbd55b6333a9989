//! How each event prints as a line.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Event, RemovedTrust, Timestamp};
use crate::report::{
    error::Error,
    line::{TEXT_LIMIT, breaks_line, one_line, shortened, shortened_path},
};

/// Removed trust that one line names: a bundle may hold thousands of CAs. The event itself has all
/// of it.
const LOST_NAMED: usize = 8;

/// Bytes of one piece of removed trust in a line.
const LOST_SHOWN: usize = 400;

/// The extent to which a message shows the texts in it.
#[derive(Clone, Copy, PartialEq)]
enum Extent {
    /// Each text is cut, so that all of them have room in one line.
    Line,
    /// No text is cut: a text that is cut twice would count only the bytes of the second cut.
    #[cfg(feature = "ocsf")]
    Whole,
}

impl Event {
    /// Returns the event as a line of the OCSF shorthand, for the kinds that are about the served
    /// configuration; `None` for all others. A line has at most 4 KiB with a time before
    /// it and its line break: names without room are counted, and texts that are cut say so.
    #[must_use]
    pub fn shorthand(&self) -> Option<String> {
        self.untrimmed_shorthand().map(|line| shortened(one_line(line), TEXT_LIMIT))
    }

    fn untrimmed_shorthand(&self) -> Option<String> {
        let message = self.sentence(Extent::Line);
        match self {
            Self::Published { generation, old, new, set, .. } => {
                let mut line = format!("CONFIG:RELOADED [INFO] {message} [generation:{generation}");
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
                "CONFIG:CERT_EXPIRING [LOW] {message} [within:{}s fingerprint:{}]",
                within.as_secs(),
                certificate.fingerprint,
            )),
            Self::Expired { certificate } => Some(format!(
                "CONFIG:CERT_EXPIRED [HIGH] {message} [fingerprint:{}]",
                certificate.fingerprint
            )),
            Self::Refused { generation, error, set } => {
                let mut line =
                    format!("CONFIG:RELOAD_FAILED [MED] {message} [still serving generation:{generation}");
                // A path of the error names the file set too.
                if let (None, Some(set)) = (error.path(), set) {
                    line.push_str(&format!(" set:{}", field(&set.to_string_lossy())));
                }
                line.push(']');
                Some(line)
            }
            _ => None,
        }
    }

    /// Returns what the event says, as one line of text of at most 4 KiB: without class, severity
    /// and fields, which [`severity`](Self::severity), [`status`](Self::status) and the event itself
    /// have.
    #[must_use]
    pub fn message(&self) -> String {
        shortened(one_line(self.sentence(Extent::Line)), TEXT_LIMIT)
    }

    /// Returns the message without a limit on its length, for a renderer that cuts it itself.
    #[cfg(feature = "ocsf")]
    pub(crate) fn whole_message(&self) -> String {
        self.sentence(Extent::Whole)
    }

    fn sentence(&self, extent: Extent) -> String {
        let shown = |error: &Error| match extent {
            Extent::Line => error.to_string(),
            #[cfg(feature = "ocsf")]
            Extent::Whole => error.whole(),
        };
        match self {
            Self::Published { .. } => "TLS certificate config reloaded successfully".to_owned(),
            Self::Refused { error, .. } => format!("TLS certificate reload failed: {}", shown(error)),
            Self::Expiring { certificate, .. } => {
                format!("TLS certificate expires soon: {}", shown(&certificate.error("expires")))
            }
            Self::Expired { certificate } => {
                format!("TLS certificate has expired: {}", shown(&certificate.error("has expired")))
            }
            Self::TrustReduced { generation, epoch, lost } => reduced(*generation, *epoch, lost, extent),
            Self::Recovered { .. } => "recovered: the files on disk are the served ones again".to_owned(),
            Self::Deferred { not_before, .. } => format!(
                "deferred: the new certificate is not served before {}, the previous one stays served",
                Timestamp(*not_before)
            ),
            Self::StillChanging { .. } => {
                "still changing: the files keep changing and are not loaded, the previous ones stay served"
                    .to_owned()
            }
            Self::Degraded { error } => {
                format!("degraded: file events are missing, the files are polled instead: {}", shown(error))
            }
            Self::Restored => "restored: file events work again".to_owned(),
            Self::Started { watched } => started(watched),
            Self::Stopped => "stopped".to_owned(),
            Self::Warning { warning } => format!("warning: {}", shown(warning.error())),
        }
    }
}

/// Renders removed trust as a sentence; pieces beyond [`LOST_NAMED`] become a count.
fn reduced(generation: u64, epoch: u64, lost: &[RemovedTrust], extent: Extent) -> String {
    let mut text = format!("trust shrank with generation {generation} (epoch {epoch}), no longer trusted:");
    let (named, further) = lost.split_at(lost.len().min(LOST_NAMED));
    for (i, lost) in named.iter().enumerate() {
        text.push_str(if i == 0 { " " } else { ", " });
        let shown = if extent == Extent::Line { LOST_SHOWN } else { usize::MAX };
        text.push_str(&shortened(one_line(lost), shown));
    }
    if !further.is_empty() {
        text.push_str(&format!(" and {} more", further.len()));
    }
    text
}

/// Bytes of the names of a leaf in a line, and of one name or path.
const NAMES_SHOWN: usize = 1800;
const FIELD_SHOWN: usize = 768;

/// Renders the names of a leaf as a field; names without room become a count.
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

/// Renders the watched directories as the end of a sentence; directories without room become a count.
fn started(watched: &[PathBuf]) -> String {
    if watched.is_empty() {
        return "started: no directory is watched, the files are polled instead".to_owned();
    }
    let mut text = "started, watching".to_owned();
    for (i, dir) in watched.iter().enumerate() {
        let dir = field(&dir.to_string_lossy());
        if text.len() + dir.len() > NAMES_SHOWN {
            text.push_str(&format!(" and {} more", watched.len() - i));
            break;
        }
        text.push_str(if i == 0 { " " } else { ", " });
        text.push_str(&dir);
    }
    text
}

/// Renders a name as part of a field. An attacker may choose the name, so it must not end the field
/// and begin another.
fn field(name: &str) -> String {
    let ends = |c: char| c.is_whitespace() || breaks_line(c) || matches!(c, ',' | '[' | ']' | '\\');
    let mut text = String::new();
    for c in name.chars() {
        if ends(c) { text.extend(c.escape_unicode()) } else { text.push(c) }
    }
    shortened_path(text, FIELD_SHOWN)
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.untrimmed_shorthand().unwrap_or_else(|| match self {
            Self::Recovered { set } | Self::Deferred { set, .. } | Self::StillChanging { set } => {
                format!("{}{}", self.sentence(Extent::Line), Of(set))
            }
            _ => self.sentence(Extent::Line),
        });
        f.write_str(&shortened(one_line(line), TEXT_LIMIT))
    }
}

/// Renders a file set as the end of a line.
struct Of<'a>(&'a Option<Arc<Path>>);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(set) => write!(f, " [set:{}]", field(&set.to_string_lossy())),
            None => Ok(()),
        }
    }
}
