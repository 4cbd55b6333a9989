//! INV-01, INV-03 and INV-04 as clients observe them.

use super::{Checker, Verdict, broken, show};
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
}
