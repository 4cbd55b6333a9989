//! Facts about each kind of event that programs read: its name, its severity, its status.

use super::Event;

/// How much an event matters to an operator. Names and numbers are those of OCSF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// Routine: nothing has to be done.
    Informational,
    /// Worth knowing: nothing has to be done at once.
    Low,
    /// An update on disk is not served, and stays so until somebody acts.
    Medium,
    /// Clients are affected.
    High,
}

impl Severity {
    /// Returns the caption in OCSF.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Informational => "Informational",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
        }
    }

    /// Returns the number that OCSF calls `severity_id`.
    #[must_use]
    pub fn id(self) -> u8 {
        match self {
            Self::Informational => 1,
            Self::Low => 2,
            Self::Medium => 3,
            Self::High => 4,
        }
    }
}

/// Whether an event reports a success or a failure. Names and numbers are those of OCSF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventStatus {
    /// Something succeeded.
    Success,
    /// Something failed.
    Failure,
}

impl EventStatus {
    /// Returns the caption in OCSF.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::Failure => "Failure",
        }
    }

    /// Returns the number that OCSF calls `status_id`.
    #[must_use]
    pub fn id(self) -> u8 {
        match self {
            Self::Success => 1,
            Self::Failure => 2,
        }
    }
}

impl Event {
    /// Returns the name of the event's kind, for programs: lower case, in snake case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Published { .. } => "published",
            Self::TrustReduced { .. } => "trust_reduced",
            Self::Refused { .. } => "refused",
            Self::Recovered { .. } => "recovered",
            Self::Deferred { .. } => "deferred",
            Self::Expiring { .. } => "expiring",
            Self::Expired { .. } => "expired",
            Self::StillChanging { .. } => "still_changing",
            Self::Degraded { .. } => "degraded",
            Self::Restored => "restored",
            Self::Started { .. } => "started",
            Self::Stopped => "stopped",
            Self::Warning { .. } => "warning",
        }
    }

    /// Returns how much the event matters to an operator.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            // A stop was asked for, so it is routine too.
            Self::Published { .. } | Self::Started { .. } | Self::Stopped => Severity::Informational,
            // An update was given up: the previous files are on disk again.
            Self::Recovered { .. }
            // Both are right only if they were meant: the smaller trust, and the date.
            | Self::TrustReduced { .. }
            | Self::Deferred { .. }
            // A filter that shows the degradation shows its end as well.
            | Self::Degraded { .. }
            | Self::Restored
            | Self::Expiring { .. }
            | Self::Warning { .. } => Severity::Low,
            // Files that keep changing are as little served as rejected ones.
            Self::Refused { .. } | Self::StillChanging { .. } => Severity::Medium,
            // An outage: no right clock is left by which the certificate is valid. `Expiring`, which
            // lies ahead, is `Low`; this has to pass a filter for what needs an operator now.
            Self::Expired { .. } => Severity::High,
        }
    }

    /// Returns whether the event reports a success or a failure; `None` where it reports neither: a
    /// date that lies ahead, or a fact.
    #[must_use]
    pub fn status(&self) -> Option<EventStatus> {
        match self {
            Self::Published { .. }
            | Self::TrustReduced { .. }
            | Self::Recovered { .. }
            | Self::Restored
            | Self::Started { .. }
            | Self::Stopped => Some(EventStatus::Success),
            Self::Refused { .. }
            | Self::StillChanging { .. }
            | Self::Degraded { .. }
            | Self::Expired { .. } => Some(EventStatus::Failure),
            Self::Deferred { .. } | Self::Expiring { .. } | Self::Warning { .. } => None,
        }
    }
}
