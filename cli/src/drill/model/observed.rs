//! The observations of a scenario, and its verdict.

use std::{fmt, time::Duration};

use super::{Expectation, Scenario, Who};

/// TLS versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::drill) enum Version {
    Tls12,
    Tls13,
}

impl Version {
    pub(in crate::drill) fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

/// A kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::drill) struct Lane {
    pub(in crate::drill) who: Who,
    pub(in crate::drill) version: Version,
    /// Whether the client offers its last session.
    pub(in crate::drill) resuming: bool,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.resuming { "resuming" } else { "new" };
        write!(f, "{}, TLS {}, {kind}", self.who.name(), self.version.name())
    }
}

/// The end of a handshake, as the client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::drill) enum Outcome {
    /// The server answered the request that followed.
    Accepted,
    /// The server refused the client: by an alert about its certificate, or by a status like 403.
    Refused(String),
    /// The connection ended after the client's part of the handshake, without a reason. In TLS 1.3
    /// that may be a refusal whose alert was lost.
    Closed(String),
    /// Anything else.
    Failed(String),
}

/// The chain that a handshake showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::drill) enum Shown {
    /// None: the session was resumed, or the handshake ended before.
    Nothing,
    /// The chain of the sets with this number.
    Chain(usize),
    /// The begin of a chain: its last certificates are missing.
    Half(usize),
    /// The leaf of a chain with another rest.
    Altered(usize),
    /// A chain whose key the server does not have: the signature in the handshake is wrong.
    WrongKey(Option<usize>),
    /// A chain that the drill has never published.
    Unknown,
}

/// One handshake. Times count from the begin of the scenario.
#[derive(Clone, Debug)]
pub(in crate::drill) struct Record {
    pub(in crate::drill) lane: Lane,
    pub(in crate::drill) begun: Duration,
    pub(in crate::drill) ended: Duration,
    pub(in crate::drill) resumed: bool,
    pub(in crate::drill) shown: Shown,
    pub(in crate::drill) outcome: Outcome,
}

/// The set that one publication put on disk, and the times of it.
#[derive(Clone, Debug)]
pub(in crate::drill) struct Publication {
    /// The chain's number; sets that differ in client CAs or lists alone share it.
    pub(in crate::drill) chain: usize,
    /// The chain's serial number, for reports.
    pub(in crate::drill) serial: String,
    pub(in crate::drill) valid: bool,
    /// The clients that it admits.
    pub(in crate::drill) admits: Vec<Who>,
    pub(in crate::drill) begun: Duration,
    /// When its last change was made; `None` if it was never finished.
    pub(in crate::drill) done: Option<Duration>,
    /// When the first handshake that shows it ended.
    pub(in crate::drill) seen: Option<Duration>,
}

/// An expectation that does not hold.
#[derive(Clone, Debug)]
pub(in crate::drill) struct Violation {
    pub(in crate::drill) expectation: Expectation,
    pub(in crate::drill) at: Duration,
    pub(in crate::drill) why: String,
}

/// The result of a scenario.
#[derive(Clone, Debug)]
pub(in crate::drill) enum Verdict {
    Passed,
    Failed(Vec<Violation>),
    Skipped(String),
    /// The scenario could not be run: the server did not start, or a file could not be written.
    Broken(String),
}

/// A scenario that was run, with everything that was observed.
pub(in crate::drill) struct Played {
    pub(in crate::drill) scenario: &'static Scenario,
    pub(in crate::drill) verdict: Verdict,
    pub(in crate::drill) publications: Vec<Publication>,
    pub(in crate::drill) records: Vec<Record>,
    pub(in crate::drill) took: Duration,
    /// The last lines that the server printed, where it matters.
    pub(in crate::drill) log: String,
}

impl Played {
    /// Returns a scenario of which nothing was observed.
    pub(in crate::drill) fn without_run(scenario: &'static Scenario, verdict: Verdict) -> Self {
        Self {
            scenario,
            verdict,
            publications: Vec::new(),
            records: Vec::new(),
            took: Duration::ZERO,
            log: String::new(),
        }
    }

    /// Returns the longest time from the end of a publication to the first handshake that showed
    /// it.
    pub(in crate::drill) fn slowest(&self) -> Option<Duration> {
        let times =
            self.publications.iter().skip(1).filter_map(|one| Some(one.seen?.saturating_sub(one.done?)));
        times.max()
    }
}
