//! A world in one thread: a simulated disk, a virtual clock, a publisher and a watcher, stepped by
//! a schedule.
//!
//! The fault model: the publisher may take any number of steps between any two calls of the reader,
//! and may stop for good after any step. Events may be delivered, lost, doubled, late or replaced
//! by an overflow (INV-06). Timestamps have ticks as coarse as stated, and inode numbers may be
//! reused. Time passes only where the scenario says so: between two steps of the publisher, during
//! the reader's calls, and while the reader waits.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls_reload::{Now, Status};
use rustls_reload_testkit::Op;

mod by_path;
mod check;
mod choices;
mod config;
mod design;
mod disk;
mod event_sink;
mod explore;
mod fault;
mod hash;
mod listing;
mod live;
mod partial_order_reduction;
mod port;
mod publisher;
mod record;
mod run;
mod scenario;
mod schedule;
mod script;
mod several;
mod stepped;
mod world;

pub use by_path::{BY_PATH, ByPath, SimPathFs};
pub use check::{
    Violation, all as check, at_every_moment, bound, is_bound_to_one_generation, one_generation,
    was_seen_to_settle,
};
pub use config::{Events, WorldConfig};
pub use design::{Design, MarkedBuild, Shipped, Value};
use disk::Disk;
pub use disk::What;
use event_sink::EventSink;
pub use explore::{Report, explore, explore_finely, explore_unpruned, explore_unreduced, sample};
pub use fault::{Fault, STANDS, run_faulty};
pub(crate) use hash::StateHasher;
use hash::hash;
pub use listing::DirectoryPublisher;
pub use live::InteractiveWorld;
use partial_order_reduction::Asks;
pub use port::{SimClock, SimDir, SimFile, SimFs, SimProbe, SimWatcher};
pub use publisher::Publisher;
pub use record::{At, Record};
pub use run::{OwnerAct, Phase, Run, Scenario, Stage, run, run_loaded};
pub use scenario::{BLOCK, CA, CHAIN, KEY, ORDERS, Order, Renewal, Set, dated, full, is_valid, not_before};
use schedule::{ASIDE, DEATH, PASSED};
pub use schedule::{Aside, Bytes, Exhaustive, Move, Replay, Sampled, Schedule};
use script::is_dir;
pub use script::{Draft, Script};
pub use several::{MultiSetScenario, SetsBuild};
use world::World;

/// The bytes of each path at one instant; `None` if nothing can be read.
pub type Contents = Vec<Option<Arc<Vec<u8>>>>;

/// The virtual time at which a world begins, on both clocks.
pub const EPOCH: Now = Now { mono: Duration::from_secs(1_000), wall: Duration::from_secs(1_800_000_000) };
/// Steps at one instant of virtual time after which the reader counts as spinning (INV-12).
const SPIN_LIMIT: usize = 1_000;

/// An act of the reloader's owner, from another thread.
pub(crate) type Interrupt = Arc<dyn Fn() + Send + Sync>;

/// A world. Clones share it.
#[derive(Clone)]
pub struct Sim(Arc<Mutex<World>>);

impl Sim {
    /// Makes a world at the beginning of its script. `settle` is the settle time that ASM-05 is
    /// measured by.
    pub fn new(
        script: &Arc<Script>,
        settle: Duration,
        config: WorldConfig,
        schedule: Arc<Mutex<dyn Schedule>>,
    ) -> Self {
        let (skips, fine) = {
            let schedule = schedule.lock().unwrap_or_else(PoisonError::into_inner);
            (schedule.skips_ahead() && config.verb == Duration::ZERO && !config.reuse, schedule.is_fine())
        };
        let mut world = World {
            disk_hash: 0,
            disk: script.base.clone(),
            now: EPOCH,
            script: Arc::clone(script),
            next: 0,
            last_step: EPOCH.mono,
            last_change: EPOCH.mono,
            settle,
            breached: false,
            config,
            schedule,
            choices: Vec::new(),
            passed: 0,
            quiet: true,
            ended: false,
            crashed: false,
            skips,
            fine,
            reader: 0,
            log: 0,
            kept: 0,
            taken: 0,
            received: Vec::new(),
            plans: 0,
            reported: 0,
            snapshots: Vec::new(),
            at_once: 0,
            waited: 0,
            watches: Vec::new(),
            watched_files: Vec::new(),
            sink: None,
            late: Vec::new(),
            interrupt: None,
            history: Vec::new(),
            answers: HashMap::new(),
            answered: (0, Duration::ZERO),
        };
        world.note(Record::Disk(script.contents[0].clone()));
        Self(Arc::new(Mutex::new(world)))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the disk as this world's reader sees it.
    #[must_use]
    pub fn fs(&self) -> SimFs {
        SimFs(self.clone())
    }

    /// Returns the probe through which the reader reports the observations that it keeps.
    #[must_use]
    pub fn probe(&self) -> SimProbe {
        SimProbe(self.clone())
    }

    /// Returns the world's clock.
    #[must_use]
    pub fn clock(&self) -> Arc<SimClock> {
        Arc::new(SimClock(self.clone()))
    }

    /// Lets the publisher take part from here on.
    pub fn release(&self) {
        self.world().quiet = false;
    }

    /// Records an occurrence.
    pub fn note(&self, record: Record) {
        self.world().note(record);
    }

    /// Returns the records so far.
    #[must_use]
    pub fn history(&self) -> Vec<At> {
        self.world().history.clone()
    }

    /// Takes the results of a run out of the world, which is not used any more.
    fn take_run(&self, status: Option<Status>) -> Run {
        let mut world = self.world();
        Run {
            history: std::mem::take(&mut world.history),
            choices: std::mem::take(&mut world.choices),
            breached: world.breached,
            crashed: world.crashed,
            complete: !world.ended,
            outcome: hash(&(world.reported, world.breached)),
            snapshots: std::mem::take(&mut world.snapshots),
            last_step: world.last_step,
            faulted: false,
            status,
        }
    }

    /// Returns whether the schedule ended the run early.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.world().ended
    }

    /// Returns whether the world has come to its end, or the schedule ended it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.world().is_over()
    }

    /// Returns the time of the publisher's last step.
    #[must_use]
    pub fn last_step(&self) -> Duration {
        self.world().last_step
    }

    /// Returns whether the world ends before a snapshot that begins now can be followed by its
    /// retry.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        let world = self.world();
        // The rest of this snapshot, the pause and the retry take some fifty calls each.
        let snapshots = world.config.verb * 100 + Duration::from_millis(100);
        world.is_done() && world.now.mono + snapshots >= world.last_step + world.config.rest
    }

    /// Returns the current time.
    #[must_use]
    pub fn now(&self) -> Now {
        self.world().now
    }

    /// Returns the hash of the reader's state that the schedule uses.
    fn keep(&self, hash: &dyn Fn() -> u64) -> u64 {
        let schedule = Arc::clone(&self.world().schedule);
        let mut schedule = schedule.lock().unwrap_or_else(PoisonError::into_inner);
        schedule.keep(hash)
    }

    /// Begins a step of the reader; `state` hashes everything that its next steps depend on.
    pub fn begin_step(&self, state: &dyn Fn() -> u64) {
        let state = self.keep(state);
        let mut world = self.world();
        let log = std::mem::take(&mut world.log);
        world.saw(log);
        world.reader = state;
        (world.kept, world.taken) = (0, 0);
        world.received.clear();
        world.plans = 0;
        world.at_once += 1;
        if world.at_once > SPIN_LIMIT && !world.ended {
            world.note(Record::StopTimeout("it takes step after step at one instant"));
            world.ended = true;
        }
        // Reports before the reader asks for its hints are among them. Later reports are not.
        world.give_way(Asks::Hints);
        let received = std::mem::take(&mut world.received);
        if !received.is_empty() {
            world.log = world.pending().unwrap_or_else(|| hash(&received));
        }
    }

    /// Lets the publisher step or time pass, while the reader has nothing to do for `pause`.
    /// Returns `false` at the end of the world.
    pub fn idle(&self, pause: Option<Duration>) -> bool {
        let mut world = self.world();
        let Some(pause) = pause else {
            world.note(Record::StopTimeout("it waits for nothing"));
            return false;
        };
        // Reports since the reader asked for its hints wake it.
        let wake = world.now.mono + pause;
        let is_woken = !std::mem::take(&mut world.received).is_empty();
        !world.is_over() && (is_woken || world.wait_or_step(wake))
    }

    /// Returns whether the owner of the reloader acts now.
    fn lets_owner_act(&self) -> bool {
        let mut world = self.world();
        !world.ended && world.choose(5, 2) == Some(1)
    }

    /// Returns whether the publisher takes no further step.
    fn is_still(&self) -> bool {
        self.world().is_done()
    }

    /// Records an act of the reloader's owner.
    fn acts(&self, act: OwnerAct) {
        self.world().acts(act);
    }

    /// Lets the owner act once from here on, before any verb or reading of the clock.
    fn lets_owner_interrupt(&self, by: Option<(OwnerAct, Interrupt)>) {
        self.world().interrupt = by;
    }

    /// Returns whether the owner has not acted that way.
    fn is_uninterrupted(&self) -> bool {
        self.world().interrupt.is_some()
    }

    /// Sets the wall clock forwards or backwards by this many seconds.
    pub fn set_clock(&self, seconds: i64) {
        let mut world = self.world();
        let by = Duration::from_secs(seconds.unsigned_abs());
        let wall = world.now.wall;
        world.now.wall = if seconds < 0 { wall.saturating_sub(by) } else { wall + by };
    }

    /// Performs a step that is in no script, at this moment.
    ///
    /// # Errors
    /// The error of a file system.
    pub fn apply(&self, op: &Op) -> io::Result<()> {
        self.world().take(op)
    }

    /// Returns the change time of the entry at `path` itself, by the disk's clock.
    ///
    /// # Errors
    /// If there is none.
    pub fn changed(&self, path: &std::path::Path) -> io::Result<rustls_reload::fs::Stamp> {
        self.world().disk.changed(path)
    }

    /// Lets time pass up to `to`, or up to the first late event.
    pub(crate) fn pass(&self, to: Duration) {
        let mut world = self.world();
        let event = world.late.first().map_or(to, |(at, ..)| *at);
        world.advance(event.min(to));
    }

    fn sleep(&self, pause: Duration) {
        let mut world = self.world();
        let end = world.now.mono + pause;
        if world.quiet {
            world.advance(end);
        }
        while world.now.mono < end && !world.ended {
            world.wait_or_step(end);
        }
    }
}

/// Returns the error that the reader gets once the schedule has ended the run.
fn over() -> io::Error {
    io::Error::other("the run is over")
}
