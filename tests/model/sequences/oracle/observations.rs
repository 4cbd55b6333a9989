//! INV-01, INV-03, INV-04 and INV-09 as peers observe them.

use super::{Checker, Meeting, Verdict, broken, show};
use rustls_reload_harness::sim::{self, Contents};

/// A handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub generation: u64,
    /// The identity of the served object.
    pub object: usize,
    /// The files that the client can observe; the key is not among them.
    pub files: Contents,
}

impl Checker<'_> {
    /// Checks INV-01, INV-03 and INV-04 as a client observes them: generations never decrease, each
    /// is one object, and its files are those published under its number.
    pub(super) fn sees(&self, observations: &[Observation]) -> Verdict {
        let mut last: Option<&Observation> = None;
        for observation in observations {
            let Observation { generation, object, files } = observation;
            if last.is_some_and(|last| last.generation > *generation) {
                return broken(format!("INV-04: a client sees {generation} after {last:?}"));
            }
            if last.is_some_and(|last| last.generation == *generation && last.object != *object) {
                return broken(format!("INV-03: generation {generation} is two objects"));
            }
            let published = self.published.iter().find(|(_, number, _)| number == generation);
            let Some((_, _, whole)) = published else {
                return broken(format!("INV-03: a client sees {generation}, which was not published"));
            };
            if files[sim::CHAIN] != whole[sim::CHAIN] || files[sim::CA] != whole[sim::CA] {
                return broken(format!("INV-01: a client is shown {}, not {}", show(files), show(whole)));
            }
            last = Some(observation);
        }
        Ok(())
    }

    /// Checks INV-01, INV-02 and INV-09 in a handshake of one configuration for life: it goes by
    /// generations that were served meanwhile, and resumes no session.
    pub(super) fn meets(&self, meeting: &Meeting) -> Verdict {
        let served = self.published.iter().filter(|(_, number, _)| meeting.generations.contains(number));
        let mut served = served.map(|(.., files)| *files);
        let mut trusting = served.clone().filter(|files| meeting.is_trusted_by(files));
        let problem = if meeting.chain.is_none() {
            served.all(|files| meeting.is_trusted_by(files)).then_some("INV-02: a trusted peer is rejected")
        } else if trusting.next().is_none() {
            Some("INV-09: a peer is accepted that is not trusted")
        } else if meeting.resumed {
            Some("INV-09: a session is resumed")
        } else {
            (!served.any(|files| meeting.presents(files))).then_some("INV-01: a chain that is not served")
        };
        problem.map_or(Ok(()), |problem| {
            broken(format!("{problem}, by one configuration for life: {meeting:?}"))
        })
    }
}
