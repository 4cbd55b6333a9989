//! Which calls of the reader fail in a world, and when that is over.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Phase, Run, Schedule, Shipped, Sim, Stage, run_loaded};

/// How long a fault stands that is not a blip, from the last step of the publisher: past several retries.
pub const STANDS: Duration = Duration::from_secs(4);

/// Which calls fail: the n-th from when it was armed, or that and all later ones until it is mended.
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
    /// One that is not armed yet.
    #[must_use]
    pub fn new(nth: u64, for_good: bool) -> Arc<Self> {
        let no = || AtomicBool::new(false);
        let none = || AtomicU64::new(0);
        Arc::new(Self { nth, for_good, armed: no(), mended: no(), calls: none(), fired: none() })
    }

    /// The call that fails first.
    #[must_use]
    pub fn nth(&self) -> u64 {
        self.nth
    }

    /// From here on calls count.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// From here on nothing fails any more.
    pub fn mend(&self) {
        self.mended.store(true, Ordering::SeqCst);
    }

    /// Whether this call fails.
    pub fn fires(&self) -> bool {
        if !self.armed.load(Ordering::SeqCst) || self.mended.load(Ordering::SeqCst) {
            return false;
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let fires = call == self.nth || (self.for_good && call > self.nth);
        self.fired.fetch_add(u64::from(fires), Ordering::SeqCst);
        fires
    }

    /// The same in a world, whose clock mends what stands for [`STANDS`]. What cannot be tried again before its end does
    /// not fail: the status would rightly say so.
    pub fn fires_in(&self, sim: &Sim) -> bool {
        if sim.is_ending() {
            return false;
        }
        if self.for_good && sim.now().mono >= sim.last_step() + STANDS {
            self.mend();
        }
        self.fires()
    }

    /// How many calls failed.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.fired.load(Ordering::SeqCst)
    }

    /// Whether any did.
    #[must_use]
    pub fn has_fired(&self) -> bool {
        self.fired() > 0
    }
}

/// One run with a fault, armed once the publisher takes part; `through` puts it where it belongs.
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
