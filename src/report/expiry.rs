//! Reports the nearing end of served certificates: once for each threshold, however often it is
//! checked.
//!
//! 1. Each certificate has a level: the number of thresholds it has passed, plus one once it has
//!    expired.
//! 2. A level is reported when it is first reached. Of several levels reached at once only the last
//!    is reported.
//! 3. A wrong clock may have caused a report. So where the clock is set back by more than an hour
//!    before a threshold, the levels from there on can be reached again. No level is reported again
//!    within a day of the monotonic clock (ASM-03), whatever the wall clock does. A level that is
//!    due meanwhile is reported after that day.
//! 4. A certificate keeps its level over reloads and restarts of the driver: it is identified by
//!    its fingerprint.

use std::time::Duration;

use crate::{
    clock::Now,
    report::event::{CertificateValidity, Event},
};

/// Default thresholds before a leaf's end: 30, 7 and 1 days. None of them begins before five sixths
/// of the validity are over. So an operator who renews when a third is left never gets a report,
/// however short-lived the certificates are.
pub const EXPIRY_WARNINGS: [Duration; 3] =
    [Duration::from_secs(30 * 86_400), Duration::from_secs(7 * 86_400), Duration::from_secs(86_400)];

/// The clock has to be set back by more than this before a threshold counts as not reached. A
/// smaller step is a correction.
const MARGIN: Duration = Duration::from_secs(3600);

/// No level of a certificate is reported twice within this time.
const REPEAT: Duration = Duration::from_secs(86_400);

/// A certificate whose end is near, or over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expiring {
    /// The certificate.
    pub certificate: CertificateValidity,
    /// The shortest threshold that it has passed; `None` once it has expired.
    pub within: Option<Duration>,
}

impl From<Expiring> for Event {
    fn from(Expiring { certificate, within }: Expiring) -> Self {
        match within {
            Some(within) => Self::Expiring { certificate, within },
            None => Self::Expired { certificate },
        }
    }
}

/// The thresholds at which an end is reported.
#[derive(Clone, Debug)]
pub(crate) struct Thresholds {
    /// The thresholds as times before the end, the longest first.
    before: Vec<Duration>,
    /// Set where no threshold begins before five sixths of a validity are over.
    late: bool,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { before: EXPIRY_WARNINGS.to_vec(), late: true }
    }
}

impl Thresholds {
    /// Uses these thresholds for each certificate alike.
    pub(crate) fn exactly(before: impl IntoIterator<Item = Duration>) -> Self {
        let mut before: Vec<_> = before.into_iter().collect();
        before.sort_unstable_by(|a, b| b.cmp(a));
        before.dedup();
        Self { before, late: false }
    }

    /// Returns the threshold of this number for a certificate.
    fn of(&self, certificate: &CertificateValidity, number: usize) -> Duration {
        let validity = certificate.not_after.saturating_sub(certificate.not_before);
        let before = self.before[number];
        if self.late { before.min(validity / 6) } else { before }
    }

    /// Returns the number of passed thresholds, plus one once the certificate has expired.
    fn level(&self, certificate: &CertificateValidity, wall: Duration) -> usize {
        // The whole last second is valid.
        if wall.as_secs() > certificate.not_after.as_secs() {
            return self.before.len() + 1;
        }
        let passed =
            |number: &usize| wall.saturating_add(self.of(certificate, *number)) >= certificate.not_after;
        (0..self.before.len()).filter(passed).count()
    }

    /// Returns the meaning of a level above 0.
    fn expiring(&self, certificate: &CertificateValidity, level: usize) -> Expiring {
        let within = (level <= self.before.len()).then(|| self.of(certificate, level - 1));
        Expiring { certificate: certificate.clone(), within }
    }
}

/// The served certificates, and their reported levels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expiry {
    thresholds: Thresholds,
    served: Vec<Served>,
}

#[derive(Clone, Debug)]
struct Served {
    certificate: CertificateValidity,
    /// The level reported last, or the lower level that remains after the clock was set back.
    level: usize,
    /// When each level was reported last, in monotonic time; the first entry is that of level 1.
    reported: Vec<Option<Duration>>,
}

impl Expiry {
    pub(crate) fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, served: Vec::new() }
    }

    /// Replaces the served certificates. A certificate that was served before keeps its reported
    /// levels (4).
    pub(crate) fn serve(&mut self, certificates: impl IntoIterator<Item = CertificateValidity>) {
        let old = std::mem::take(&mut self.served);
        for certificate in certificates {
            let same = |served: &&Served| {
                let known = &served.certificate;
                known.fingerprint == certificate.fingerprint && known.path == certificate.path
            };
            if self.served.iter().any(|served| same(&served)) {
                continue;
            }
            let (level, reported) = old.iter().find(same).map_or_else(
                || (0, vec![None; self.thresholds.before.len() + 1]),
                |known| (known.level, known.reported.clone()),
            );
            self.served.push(Served { certificate, level, reported });
        }
    }

    /// Returns the served certificates whose end is near now, or over.
    pub(crate) fn expiring(&self, wall: Duration) -> Vec<Expiring> {
        let expiring = |served: &Served| {
            let level = self.thresholds.level(&served.certificate, wall);
            (level > 0).then(|| self.thresholds.expiring(&served.certificate, level))
        };
        self.served.iter().filter_map(expiring).collect()
    }

    /// Returns the levels to report now, which count as reported from now on.
    pub(crate) fn report(&mut self, now: Now) -> Vec<Expiring> {
        let Self { thresholds, served } = self;
        let mut due = Vec::new();
        for Served { certificate, level, reported } in served {
            // 1
            let reached = thresholds.level(certificate, now.wall);
            // 3. A level that was skipped in favour of a later one has not been reported itself.
            // Where the later report has turned out to be untrue, the skipped level is still due.
            let back = thresholds.level(certificate, now.wall.saturating_add(MARGIN));
            if back < *level {
                let unreported = back > 0 && reported[back - 1].is_none();
                *level = back - usize::from(unreported);
            }
            if reached <= *level || reported[reached - 1].is_some_and(|at| now.mono < at + REPEAT) {
                continue;
            }
            // 2
            *level = reached;
            reported[reached - 1] = Some(now.mono);
            due.push(thresholds.expiring(certificate, reached));
        }
        due
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
