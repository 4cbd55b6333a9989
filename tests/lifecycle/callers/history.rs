//! The record of one schedule: every call, read, build, publication and event, in one order.

use std::{
    sync::{Condvar, Mutex},
    time::{Duration, Instant},
};

use rustls_reload::{Event, Reload, StartError, StopTimeout};

use super::plan::Kind;

/// The place of a record in the history.
pub type Tick = usize;

/// The state of a driver, as far as its hooks show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No driver runs, or the driver waits.
    Idle,
    /// Between the begin of an attempt to read and its end.
    Snapshot,
    Build,
    /// In a callback for an event or a publication.
    Callback,
    /// From the drop of the watcher to the end of the callbacks for [`Event::Stopped`].
    Ending,
}

impl Phase {
    pub const ALL: [Self; 5] = [Self::Idle, Self::Snapshot, Self::Build, Self::Callback, Self::Ending];
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Reload(Reload),
    Start(Result<(), StartError>),
    Stop(Result<(), StopTimeout>),
    Done,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Valid(u64),
    Held,
    Refused(String),
}

#[derive(Clone, Debug)]
pub enum Record {
    /// `driver` says that the caller is inside of a callback, build or file system call of the
    /// reloader's driver.
    Began {
        call: usize,
        reloader: usize,
        kind: Kind,
        driver: bool,
        phase: Phase,
    },
    /// `generations` are those served at the begin and the end of the call.
    Ended {
        call: usize,
        outcome: Outcome,
        generations: [u64; 2],
    },
    /// An attempt to read begins.
    Attempt {
        reloader: usize,
    },
    Read {
        reloader: usize,
        attempt: Tick,
        file: usize,
        text: String,
    },
    Built {
        reloader: usize,
        attempt: Tick,
        texts: [String; 2],
        verdict: Verdict,
    },
    /// A script panicked inside of a read or build.
    Panicked {
        reloader: usize,
        attempt: Tick,
    },
    Published {
        reloader: usize,
        generation: u64,
        number: u64,
    },
    Reported {
        reloader: usize,
        event: Event,
    },
    Woken,
    /// A script or thread has finished its actions.
    Finished,
}

#[derive(Default)]
pub struct History {
    records: Mutex<Vec<Record>>,
    grown: Condvar,
}

impl History {
    pub fn note(&self, record: Record) -> Tick {
        let mut records = self.records.lock().unwrap();
        records.push(record);
        self.grown.notify_all();
        records.len() - 1
    }

    pub fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap().clone()
    }

    /// Waits until `pick` returns something; it is called at each new record. Returns `None` at the
    /// deadline.
    pub fn wait_for<R>(&self, limit: Duration, mut pick: impl FnMut(&[Record]) -> Option<R>) -> Option<R> {
        let end = Instant::now() + limit;
        let mut records = self.records.lock().unwrap();
        loop {
            if let Some(picked) = pick(&records) {
                return Some(picked);
            }
            let left = end.checked_duration_since(Instant::now())?;
            records = self.grown.wait_timeout(records, left).unwrap().0;
        }
    }

    /// Waits until another thread records something, or until the time limit.
    pub fn give_way(&self, limit: Duration) {
        let records = self.records.lock().unwrap();
        let seen = records.len();
        let _ = self.grown.wait_timeout_while(records, limit, |records| records.len() == seen);
    }
}
