//! The calls of the reader that fail in a world, and the end of the fault.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Phase, Run, Schedule, Shipped, Sim, Stage, run_loaded};

/// The duration of a lasting fault after the last step of the publisher: longer than several
/// retries.
pub const STANDS: Duration = Duration::from_secs(4);

/// Selects the calls that fail: the n-th call after arming, or it and all later ones until the
/// fault is mended.
#[derive(Debug)]
pub struct Fault {
    nth: u64,
    for_good: bool,
    armed: AtomicBool,
    mended: AtomicBool,
    calls: AtomicU64,
    fired: AtomicU64,
}

impl Fault {
    /// Makes a fault that is not armed yet.
    #[must_use]
    pub fn new(nth: u64, for_good: bool) -> Arc<Self> {
        let no = || AtomicBool::new(false);
        let none = || AtomicU64::new(0);
        Arc::new(Self { nth, for_good, armed: no(), mended: no(), calls: none(), fired: none() })
    }

    /// Returns the number of the first call that fails.
    #[must_use]
    pub fn nth(&self) -> u64 {
        self.nth
    }

    /// Starts to count calls.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Makes all further calls succeed.
    pub fn mend(&self) {
        self.mended.store(true, Ordering::SeqCst);
    }

    /// Counts a call; returns whether it fails.
    pub fn fires(&self) -> bool {
        if !self.armed.load(Ordering::SeqCst) || self.mended.load(Ordering::SeqCst) {
            return false;
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let fires = call == self.nth || (self.for_good && call > self.nth);
        self.fired.fetch_add(u64::from(fires), Ordering::SeqCst);
        fires
    }

    /// Counts a call in a world, whose clock mends a lasting fault after [`STANDS`]; returns
    /// whether the call fails.
    ///
    /// A call that cannot be retried before the world's end does not fail, because the final status
    /// would rightly report it.
    pub fn fires_in(&self, sim: &Sim) -> bool {
        if sim.is_ending() {
            return false;
        }
        if self.for_good && sim.now().mono >= sim.last_step() + STANDS {
            self.mend();
        }
        self.fires()
    }

    /// Returns the number of calls that failed.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.fired.load(Ordering::SeqCst)
    }

    /// Returns whether any call failed.
    #[must_use]
    pub fn has_fired(&self) -> bool {
        self.fired() > 0
    }
}

/// Runs a scenario with a fault, armed once the publisher takes part; `through` injects it.
pub fn run_faulty(
    stage: &Stage,
    schedule: Arc<Mutex<dyn Schedule>>,
    fault: &Arc<Fault>,
    through: impl FnOnce(&Sim, &[PathBuf]) -> Result<Shipped, String>,
) -> Run {
    let mut run = run_loaded(stage, schedule, |sim, paths| {
        if stage.scenario.phase == Phase::FirstLoad {
            fault.arm();
        }
        let loaded = through(sim, paths);
        fault.arm();
        loaded
    });
    run.faulted = fault.has_fired();
    if fault.for_good {
        run.last_step += STANDS;
    }
    run
}
