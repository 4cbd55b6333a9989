//! Scenarios as rows, the steps of a row, and what must hold.

use std::time::Duration;

use super::{Change, Fault};
use crate::drill::publisher::Layout;

/// A scenario: one row of a table in `rows`.
pub(in crate::drill) struct Scenario {
    pub(in crate::drill) name: &'static str,
    pub(in crate::drill) group: Group,
    /// The report, manual page or standard that the scenario comes from.
    pub(in crate::drill) source: &'static str,
    /// The events of the scenario, in one sentence.
    pub(in crate::drill) what: &'static str,
    pub(in crate::drill) layout: Layout,
    pub(in crate::drill) start: Start,
    /// Clients that connect all the while, besides the one that is always admitted.
    pub(in crate::drill) clients: &'static [Who],
    pub(in crate::drill) load: Load,
    /// Whether no standard asks for it: a failure is reported, and counts with `--strict` alone.
    pub(in crate::drill) advice: bool,
    pub(in crate::drill) steps: &'static [Step],
}

impl Scenario {
    /// Returns the name with its group, which patterns are compared with.
    pub(in crate::drill) fn id(&self) -> String {
        format!("{}/{}", self.group.name(), self.name)
    }

    /// Returns what must hold: some of it always, the rest by the steps.
    pub(in crate::drill) fn holds(&self) -> Vec<Expectation> {
        let always = [Expectation::Completed, Expectation::Whole, Expectation::Ordered];
        let mut holds = always.to_vec();
        holds.extend(self.steps.iter().flat_map(|step| step.holds()));
        if self.admits_not_all() {
            holds.push(Expectation::Refused);
        }
        holds.sort_unstable();
        holds.dedup();
        holds
    }

    /// Returns whether every step leaves plain files in one directory.
    pub(in crate::drill) fn is_flat(&self) -> bool {
        self.layout.is_flat() && !self.steps.iter().any(|step| matches!(step, Step::IntoLinks))
    }

    /// Returns whether a server has to refuse one of the clients at some time.
    fn admits_not_all(&self) -> bool {
        self.clients.iter().any(|who| *who != Who::Member)
    }
}

/// Groups of scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::drill) enum Group {
    Publishers,
    Detection,
    Torn,
    Invalid,
    Trust,
    Revocation,
    Sessions,
    Load,
}

impl Group {
    pub(in crate::drill) const ALL: [Self; 8] = [
        Self::Publishers,
        Self::Detection,
        Self::Torn,
        Self::Invalid,
        Self::Trust,
        Self::Revocation,
        Self::Sessions,
        Self::Load,
    ];

    pub(in crate::drill) fn name(self) -> &'static str {
        match self {
            Self::Publishers => "publishers",
            Self::Detection => "detection",
            Self::Torn => "torn",
            Self::Invalid => "invalid",
            Self::Trust => "trust",
            Self::Revocation => "revocation",
            Self::Sessions => "sessions",
            Self::Load => "load",
        }
    }
}

/// The files that a server takes. Each kind includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::drill) enum Files {
    /// The chain and the key.
    Pair,
    /// And the client CAs.
    Trust,
    /// And their CRLs.
    Lists,
}

/// The first set of a scenario.
#[derive(Clone, Copy)]
pub(in crate::drill) struct Start {
    pub(in crate::drill) files: Files,
    pub(in crate::drill) trust: &'static [Ca],
    pub(in crate::drill) revoked: &'static [Who],
}

/// Certification authorities of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::drill) enum Ca {
    A,
    B,
    C,
    /// An authority that is in no bundle.
    Foreign,
}

/// Clients, by the certificate that they present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::drill) enum Who {
    /// A client of the CA A whose certificate is never revoked.
    Member,
    /// A client of the CA A whose certificate a step may revoke.
    Leaver,
    /// Another one.
    SecondLeaver,
    OfB,
    OfC,
    /// A client of a CA that is in no bundle.
    Foreign,
    /// A client without a certificate.
    Anonymous,
}

impl Who {
    pub(in crate::drill) const ALL: [Self; 7] = [
        Self::Member,
        Self::Leaver,
        Self::SecondLeaver,
        Self::OfB,
        Self::OfC,
        Self::Foreign,
        Self::Anonymous,
    ];

    pub(in crate::drill) fn ca(self) -> Option<Ca> {
        match self {
            Self::Member | Self::Leaver | Self::SecondLeaver => Some(Ca::A),
            Self::OfB => Some(Ca::B),
            Self::OfC => Some(Ca::C),
            Self::Foreign => Some(Ca::Foreign),
            Self::Anonymous => None,
        }
    }

    pub(in crate::drill) fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Leaver => "leaver",
            Self::SecondLeaver => "second leaver",
            Self::OfB => "client of CA B",
            Self::OfC => "client of CA C",
            Self::Foreign => "client of a foreign CA",
            Self::Anonymous => "client without a certificate",
        }
    }
}

/// How much the clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::drill) enum Load {
    /// One client of each kind, with a pause after each handshake.
    Usual,
    /// Eight clients of each kind, without a pause.
    Heavy,
}

/// Where the publication of one file is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::drill) enum Cut {
    /// After this many files are finished.
    Files(usize),
    /// The file with this index is empty.
    Empty(usize),
    /// Half of its bytes are written.
    Middle(usize),
    /// Its first PEM section is written.
    FirstSection(usize),
    /// Everything is written, and the rename that commits it has not happened.
    BeforeCommit,
}

/// How long a publication stays interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::drill) enum Stay {
    /// 200 ms: a server may take a longer pause for the end of the publication.
    Brief,
    /// A second and a half. What is on disk meanwhile is no valid set.
    Long,
}

impl Stay {
    pub(in crate::drill) fn time(self) -> Duration {
        Duration::from_millis(if self == Self::Brief { 200 } else { 1500 })
    }
}

/// One step of a scenario.
#[derive(Clone, Copy)]
pub(in crate::drill) enum Step {
    /// Publishes a set, and waits until it is served.
    Publish(Change),
    /// Publishes a set without waiting.
    Start(Change),
    /// Publishes an invalid set, and watches that it is never served.
    Spoil(Fault),
    /// Interrupts a publication, watches, finishes it and waits until it is served.
    Interrupt(Change, Cut, Stay),
    /// Interrupts a publication for good.
    Abandon(Change, Cut),
    /// Publishes this many sets with a pause in milliseconds between them, and waits for the last.
    Burst(usize, u64),
    /// Publishes the served files once more, and watches that nothing happens.
    Rewrite,
    /// Publishes the set before the served one, and waits until it is served.
    GoBack,
    /// Removes all files for so many milliseconds, then publishes a new set.
    Vanish(u64),
    /// Replaces each file by a symbolic link to a new file elsewhere.
    IntoLinks,
    /// Writes, replaces and removes another file in the directory this many times.
    Noise(usize),
    /// Watches for so many milliseconds.
    Watch(u64),
    /// Opens this many connections, which have to answer at `Answer`.
    Open(usize),
    /// Asks on each open connection.
    Answer,
    /// Makes a session of this client, in each TLS version.
    Join(Who),
    /// The client's session is resumed.
    Resumes(Who),
    /// The client's session is not resumed.
    Ends(Who),
    /// Sends the first message of a handshake in each TLS version.
    Hello,
    /// Finishes those handshakes.
    Finish,
    /// Opens this many connections that never send more than the begin of a message.
    Stall(usize),
}

impl Step {
    fn holds(&self) -> Vec<Expectation> {
        match self {
            Self::Publish(_) | Self::Burst(..) | Self::GoBack | Self::Vanish(_) | Self::IntoLinks => {
                vec![Expectation::Taken]
            }
            Self::Interrupt(..) => vec![Expectation::Taken, Expectation::Unfinished],
            Self::Abandon(..) => vec![Expectation::Unfinished],
            Self::Spoil(_) => vec![Expectation::Harmless],
            Self::Answer => vec![Expectation::Alive],
            Self::Resumes(_) => vec![Expectation::Resumes],
            Self::Ends(_) => vec![Expectation::Ends],
            _ => Vec::new(),
        }
    }
}

/// A property that the server has to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::drill) enum Expectation {
    Completed,
    Whole,
    Ordered,
    Taken,
    Unfinished,
    Harmless,
    Alive,
    Resumes,
    Ends,
    Refused,
}

impl Expectation {
    pub(in crate::drill) const ALL: [Self; 10] = [
        Self::Completed,
        Self::Whole,
        Self::Ordered,
        Self::Taken,
        Self::Unfinished,
        Self::Harmless,
        Self::Alive,
        Self::Resumes,
        Self::Ends,
        Self::Refused,
    ];

    pub(in crate::drill) fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Whole => "whole",
            Self::Ordered => "ordered",
            Self::Taken => "taken",
            Self::Unfinished => "unfinished",
            Self::Harmless => "harmless",
            Self::Alive => "alive",
            Self::Resumes => "resumes",
            Self::Ends => "ends",
            Self::Refused => "refused",
        }
    }

    pub(in crate::drill) fn text(self) -> &'static str {
        match self {
            Self::Completed => "each handshake of a client that is to be accepted completes",
            Self::Whole => "no handshake shows parts of two sets",
            Self::Ordered => "no handshake shows an older set than one before it",
            Self::Taken => "a valid set is served within 12 s of its last write",
            Self::Unfinished => "a set that is half written is not served",
            Self::Harmless => "an invalid set is not served, and the set before it stays served",
            Self::Alive => "open connections go on answering",
            Self::Resumes => "sessions resume",
            Self::Ends => "no session resumes for a client that is no longer trusted",
            Self::Refused => "a client that the set does not admit is refused",
        }
    }
}
