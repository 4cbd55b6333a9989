//! Wrong designs of the calendar, each of which the oracle has to catch.

use std::{sync::Arc, time::Duration};

use rustls_reload::{Build, Built, Clock, Context, Error, Files, Now, ServerTls, internal::ServerBuild};
use rustls_reload_harness::sim::{EPOCH, SimClock};

/// Wrong ways to treat dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Nothing,
    /// Serves every leaf that parses, regardless of its dates. Breaks: INV-02
    ServesEarly,
    /// Defers for ever. Breaks: INV-05
    HoldsForGood,
    /// Treats an expired leaf as a valid one. Breaks: INV-02, INV-03
    ServesExpired,
    /// Never retries a refused leaf. Breaks: INV-05
    RefusesForGood,
    /// Reads the wall clock once, and then adds the monotonic time. Breaks: INV-05
    ReadsTheClockOnce,
    /// Names the present time in a refusal. Breaks: INV-11
    ReportsTime,
}

pub(super) struct WrongBuild {
    right: ServerBuild,
    wrong: Wrong,
    refused: Vec<(Vec<u8>, Error)>,
}

impl WrongBuild {
    pub(super) fn new(right: ServerBuild, wrong: Wrong) -> Self {
        Self { right, wrong, refused: Vec::new() }
    }
}

impl Build for WrongBuild {
    type Value = ServerTls;

    fn build(&mut self, files: &Files, context: &Context<'_, ServerTls>) -> Result<Built<ServerTls>, Error> {
        let chain = files.get(0).unwrap().1.to_vec();
        if let Some((_, error)) = self.refused.iter().find(|(refused, _)| *refused == chain) {
            return Err(error.clone());
        }
        let mut built = self.right.build(files, context);
        match (self.wrong, &mut built) {
            (Wrong::ServesEarly, Ok(built)) => built.not_before = None,
            (Wrong::HoldsForGood, Ok(Built { not_before: Some(date), .. })) => *date = Duration::MAX / 2,
            (Wrong::ServesExpired, Err(_)) => {
                return self.right.build(files, &Context::new(context.wall, None));
            }
            (Wrong::RefusesForGood, Err(error)) => self.refused.push((chain, error.clone())),
            (Wrong::ReportsTime, Err(error)) => {
                return Err(Error::new(error.layer(), format!("expired, and it is {:?}", context.wall)));
            }
            _ => {}
        }
        built
    }

    fn shrinks(&self, set: usize, served: &Files, candidate: &Files) -> bool {
        self.right.shrinks(set, served, candidate)
    }
}

/// A clock that does not notice changes of the wall clock.
pub(super) struct Unset(pub(super) Arc<SimClock>);

impl Clock for Unset {
    fn now(&self) -> Now {
        let mono = self.0.now().mono;
        Now { mono, wall: EPOCH.wall + Duration::from_secs(1800) + (mono - EPOCH.mono) }
    }

    fn sleep(&self, pause: Duration) {
        self.0.sleep(pause);
    }
}
