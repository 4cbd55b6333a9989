//! A world in one thread: a simulated disk, a virtual clock, a publisher and a watcher, stepped by
//! a schedule.
//!
//! The fault model: the publisher may take any number of steps between any two calls of the reader,
//! and may stop for good after any step. Events may be delivered, lost, doubled, late or replaced
//! by an overflow (INV-06). Timestamps have ticks as coarse as stated, and inode numbers may be
//! reused. Time passes only where the scenario says so: between two steps of the publisher, during
//! the reader's calls, and while the reader waits.

use std::{
    hash::{Hash, Hasher},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls_reload::{Event, Now, Status, internal, watch::Hints};
use rustls_reload_testkit::Op;

mod by_path;
mod check;
mod disk;
mod explore;
mod fault;
mod listing;
mod live;
mod partial_order_reduction;
mod port;
mod run;
mod scenario;
mod schedule;
mod several;
mod stepped;

pub use by_path::{BY_PATH, ByPath, SimPathFs};
pub use check::{
    Violation, all as check, at_every_moment, bound, is_bound_to_one_generation, one_generation,
};
pub use disk::What;
use disk::{Disk, Happened};
pub use explore::{Report, explore, explore_finely, explore_unpruned, explore_unreduced, sample};
pub use fault::{Fault, STANDS, run_faulty};
pub use listing::Keeper;
pub use live::InteractiveWorld;
use partial_order_reduction::{Ahead, Asks};
pub use port::{SimClock, SimDir, SimFile, SimFs, SimProbe, SimWatcher};
pub use run::{Design, MarkedBuild, OwnerAct, Phase, Run, Scenario, Shipped, Stage, Value, run, run_loaded};
pub use scenario::{
    BLOCK, CA, CHAIN, KEY, ORDERS, Order, Publisher, Renewal, Set, dated, full, is_valid, not_before,
};
use schedule::{ASIDE, DEATH, PASSED};
pub use schedule::{Aside, Bytes, Exhaustive, Move, Replay, Sampled, Schedule};
pub use several::{MultiSetScenario, SetsBuild};

/// The bytes of each path at one instant; `None` if nothing can be read.
pub type Contents = Vec<Option<Arc<Vec<u8>>>>;

/// The virtual time at which a world begins, on both clocks.
pub const EPOCH: Now = Now { mono: Duration::from_secs(1_000), wall: Duration::from_secs(1_800_000_000) };
/// The delay of a late event.
const LATE: Duration = Duration::from_millis(20);
/// Steps at one instant of virtual time after which the reader counts as spinning (INV-12).
const SPIN_LIMIT: usize = 1_000;

/// The treatment of file events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Events {
    /// Each event arrives at once.
    Delivered,
    /// No event arrives, without notice.
    Lost,
    /// Each event arrives twice.
    Doubled,
    /// Each event arrives 20 ms late.
    Late,
    /// The watcher reports lost events in place of each event.
    Overflowed,
}

impl Events {
    /// All variants.
    pub const ALL: [Self; 5] = [Self::Delivered, Self::Lost, Self::Doubled, Self::Late, Self::Overflowed];
}

/// The properties of a world apart from its publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorldConfig {
    /// Timestamps of the disk are multiples of this.
    pub tick: Duration,
    /// Whether inode numbers are reused.
    pub reuse: bool,
    /// The treatment of events.
    pub events: Events,
    /// The publisher's pause before each step.
    pub pause: Duration,
    /// The duration of each call of the reader.
    pub verb: Duration,
    /// While the publisher has steps left, the reader goes on waiting only if the last step is less
    /// than this ago.
    pub max_quiet_wait: Duration,
    /// The number of such waits, at most.
    pub waits: usize,
    /// How long the world goes on after the last step.
    pub rest: Duration,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(4),
            reuse: false,
            events: Events::Delivered,
            pause: Duration::ZERO,
            verb: Duration::ZERO,
            max_quiet_wait: Duration::from_millis(600),
            waits: 2,
            rest: Duration::from_secs(26),
        }
    }
}

/// One occurrence in a world; records are in order.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // reason: events are few among the records of a test
#[non_exhaustive]
pub enum Record {
    /// The publisher took the step with this index.
    Step(usize),
    /// The paths have these contents from here on.
    Disk(Contents),
    /// A build ended.
    Evaluated {
        /// The files that were built.
        files: Contents,
        /// Whether they passed.
        passed: bool,
    },
    /// The first load ended.
    Loaded(Result<(), String>),
    /// A value was published.
    Published {
        /// The generation's number.
        generation: u64,
        /// The files that it was built from.
        files: Contents,
    },
    /// An event was reported.
    Reported(Event),
    /// The value that a handshake gets now.
    Served {
        /// The generation's number.
        generation: u64,
        /// The identity of the object.
        object: usize,
        /// The files that it was built from.
        files: Contents,
    },
    /// The reader waits without a reason, or takes step after step at one instant.
    StopTimeout(&'static str),
    /// The owner of the reloader acted.
    Owner(OwnerAct),
    /// The owner's request has its answer, which may be a rejection or a stop.
    Answered {
        /// Whether the answer says that the contents of the disk are served.
        is_served: bool,
    },
    /// A mark with a number, whose meaning is up to the driver of the world.
    Mark(&'static str, usize),
}

/// A record with its monotonic time.
#[derive(Clone, Debug)]
pub struct At {
    /// The time.
    pub mono: Duration,
    /// The record.
    pub record: Record,
}

/// The steps of a publisher on a disk, and the contents of its paths in between.
pub struct Script {
    base: Disk,
    steps: Vec<Op>,
    /// The contents of the paths before each step and after the last.
    contents: Vec<Contents>,
    /// Whether, before each step, an update has changed the contents of the paths and will change
    /// them again.
    mid_update: Vec<bool>,
    /// Whether the publisher may die after any step.
    mortal: bool,
}

impl Script {
    /// Makes a script with a disk on which `base` was performed an hour ago, and with `steps` that
    /// are still to come. An update begins at each index in `begins`. The publisher crashes after
    /// `crash` steps.
    ///
    /// # Panics
    /// If a step fails.
    #[allow(clippy::expect_used)] // reason: a scenario that cannot be set up is a bug of the scenario
    #[must_use]
    pub fn new(
        paths: &[PathBuf],
        base: &[Op],
        mut steps: Vec<Op>,
        begins: &[usize],
        crash: Option<usize>,
        config: &WorldConfig,
    ) -> Arc<Self> {
        let mut disk = Disk::new(config.tick, config.reuse);
        let mut wall = EPOCH.wall.saturating_sub(Duration::from_secs(3600));
        for op in base {
            disk.apply(op, wall).expect("a base that can be set up");
            wall += Duration::from_millis(10);
        }
        let (base, mut disk) = (disk.clone(), disk);
        let mut contents = vec![read(paths, &disk)];
        for op in &steps {
            disk.apply(op, EPOCH.wall).expect("a step that can be taken");
            contents.push(read(paths, &disk));
        }
        let changes =
            |range: std::ops::Range<usize>| range.into_iter().any(|i| contents[i] != contents[i + 1]);
        let mid_update = (0..=steps.len())
            .map(|next| {
                let from = begins.iter().copied().filter(|begin| *begin <= next).max().unwrap_or(0);
                let to = begins.iter().copied().find(|begin| *begin > next).unwrap_or(steps.len());
                changes(from..next) && changes(next..to)
            })
            .collect();
        steps.truncate(crash.unwrap_or(usize::MAX));
        Arc::new(Self { base, steps, contents, mid_update, mortal: false })
    }

    /// Lets the publisher die after any step.
    pub(super) fn mortal(mut self: Arc<Self>) -> Arc<Self> {
        if let Some(script) = Arc::get_mut(&mut self) {
            script.mortal = true;
        }
        self
    }

    /// Returns the contents of the paths before each step and after the last.
    fn contents(&self) -> &[Contents] {
        &self.contents
    }
}

/// A script that is written step by step, without the steps that would fail.
#[derive(Clone)]
pub struct Draft {
    base: Disk,
    disk: Disk,
    paths: Vec<PathBuf>,
    steps: Vec<Op>,
    contents: Vec<Contents>,
}

impl Draft {
    /// Makes a draft with a disk on which `base` was performed an hour ago.
    ///
    /// # Panics
    /// If a step of `base` fails.
    #[must_use]
    pub fn new(paths: &[PathBuf], base: &[Op], config: &WorldConfig) -> Self {
        let base = Script::new(paths, base, Vec::new(), &[], None, config).base.clone();
        let contents = vec![read(paths, &base)];
        Self { disk: base.clone(), base, paths: paths.to_vec(), steps: Vec::new(), contents }
    }

    /// Adds a step; returns whether it succeeds.
    pub fn take(&mut self, step: Op) -> bool {
        if self.disk.apply(&step, EPOCH.wall).is_err() {
            return false;
        }
        self.contents.push(read(&self.paths, &self.disk));
        self.steps.push(step);
        true
    }

    /// Returns how many of these steps it takes until the paths have the contents that they have
    /// after all of them. Steps that fail are counted too.
    #[must_use]
    pub fn until_done(&self, steps: &[Op]) -> usize {
        let mut disk = self.disk.clone();
        let mut now = self.contents.last().cloned().unwrap_or_default();
        let mut until = 0;
        for (taken, step) in (1..).zip(steps) {
            if disk.apply(step, EPOCH.wall).is_ok() {
                let next = read(&self.paths, &disk);
                if next != now {
                    (now, until) = (next, taken);
                }
            }
        }
        until
    }

    /// Returns the steps that remove everything on the disk.
    #[must_use]
    pub fn removal(&self) -> Vec<Op> {
        self.disk.removal()
    }

    /// Returns the steps so far.
    #[must_use]
    pub fn steps(&self) -> &[Op] {
        &self.steps
    }

    /// Returns the contents of the paths before each step and after the last.
    #[must_use]
    pub fn contents(&self) -> &[Contents] {
        &self.contents
    }

    /// Returns the script. None of its steps counts as an update, so callers have to decide whether
    /// ASM-05 holds.
    #[must_use]
    pub fn script(self) -> Arc<Script> {
        let Self { base, steps, contents, .. } = self;
        let mid_update = vec![false; contents.len()];
        Arc::new(Script { base, steps, contents, mid_update, mortal: false })
    }
}

/// Reads the paths. A path that ends in `/` stands for the files in that directory.
fn read(paths: &[PathBuf], disk: &Disk) -> Contents {
    let read = |path: &PathBuf| if is_dir(path) { disk.read_all(path) } else { vec![disk.read(path)] };
    paths.iter().flat_map(read).collect()
}

fn is_dir(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// The receiver of file events.
enum EventSink {
    /// The shipped filter.
    Hints(Hints),
    /// A listener that receives all events, and `None` if some were lost.
    All(Arc<dyn Fn(Option<What>) + Send + Sync>),
}

impl EventSink {
    fn hears(&self, path: &Path, what: What) {
        match self {
            Self::Hints(hints) => hints.touched(path, what != What::Written),
            Self::All(listener) => listener(Some(what)),
        }
    }

    fn lost(&self) {
        match self {
            Self::Hints(hints) => hints.lost(),
            Self::All(listener) => listener(None),
        }
    }

    /// Returns the hash of the reports that are pending in the filter; `None` for a listener, which
    /// keeps its own.
    fn pending(&self) -> Option<u64> {
        let Self::Hints(hints) = self else { return None };
        let mut hasher = StateHasher::default();
        internal::hash_pending(hints, &mut hasher);
        Some(hasher.finish())
    }
}

/// An act of the reloader's owner, from another thread.
pub(crate) type Interrupt = Arc<dyn Fn() + Send + Sync>;

/// A world. Clones share it.
#[derive(Clone)]
pub struct Sim(Arc<Mutex<World>>);

struct World {
    disk: Disk,
    /// The hash of everything that the disk depends on: its base, the steps taken, and their
    /// timestamps.
    disk_hash: u64,
    now: Now,
    script: Arc<Script>,
    next: usize,
    last_step: Duration,
    /// The time of the last change of the paths' contents.
    last_change: Duration,
    settle: Duration,
    breached: bool,
    config: WorldConfig,
    schedule: Arc<Mutex<dyn Schedule>>,
    choices: Vec<usize>,
    /// Occasions for a step between two calls, or for a death, that passed since the last choice.
    passed: usize,
    /// Whether only the reader acts, while a world is prepared.
    quiet: bool,
    ended: bool,
    /// Whether the publisher takes no further step.
    crashed: bool,
    /// Whether the schedule chooses only between moves that the reader can distinguish, where these
    /// are known.
    leaps: bool,
    /// Whether states differ by each event too.
    fine: bool,
    reader: u64,
    /// The hash of the reader's observations since its step began.
    log: u64,
    /// The hash of its earlier observations in this step that it kept.
    kept: u64,
    /// The hash of the reports that were pending at each update of its watches since then. The
    /// reader takes some of them and acts upon them later.
    taken: u64,
    /// The reports since the reader asked for its hints in this step, by its subscriptions at that
    /// time.
    heard: Vec<u64>,
    /// The number of changes of its subscriptions since then.
    plans: u64,
    reported: u64,
    looks: Vec<u64>,
    at_once: usize,
    waited: usize,
    watches: Vec<(usize, PathBuf)>,
    /// Files that are watched themselves: their events are reported even if their directory is not
    /// watched.
    watched_files: Vec<usize>,
    sink: Option<EventSink>,
    late: Vec<(Duration, PathBuf, What)>,
    /// The act by which the owner of the reloader may interrupt before a verb or a reading of the
    /// clock.
    interrupt: Option<(OwnerAct, Interrupt)>,
    history: Vec<At>,
}

impl Sim {
    /// Makes a world at the beginning of its script. `settle` is the settle time that ASM-05 is
    /// measured by.
    pub fn new(
        script: &Arc<Script>,
        settle: Duration,
        config: WorldConfig,
        schedule: Arc<Mutex<dyn Schedule>>,
    ) -> Self {
        let (leaps, fine) = {
            let schedule = schedule.lock().unwrap_or_else(PoisonError::into_inner);
            (schedule.leaps() && config.verb == Duration::ZERO && !config.reuse, schedule.is_fine())
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
            leaps,
            fine,
            reader: 0,
            log: 0,
            kept: 0,
            taken: 0,
            heard: Vec::new(),
            plans: 0,
            reported: 0,
            looks: Vec::new(),
            at_once: 0,
            waited: 0,
            watches: Vec::new(),
            watched_files: Vec::new(),
            sink: None,
            late: Vec::new(),
            interrupt: None,
            history: Vec::new(),
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
            looks: std::mem::take(&mut world.looks),
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
        let looks = world.config.verb * 100 + Duration::from_millis(100);
        world.is_done() && world.now.mono + looks >= world.last_step + world.config.rest
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
        world.heard.clear();
        world.plans = 0;
        world.at_once += 1;
        if world.at_once > SPIN_LIMIT && !world.ended {
            world.note(Record::StopTimeout("it takes step after step at one instant"));
            world.ended = true;
        }
        // Reports before the reader asks for its hints are among them. Later reports are not.
        world.give_way(Asks::Hints);
        let heard = std::mem::take(&mut world.heard);
        if !heard.is_empty() {
            world.log = world.pending().unwrap_or_else(|| hash(&heard));
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
        let is_woken = !std::mem::take(&mut world.heard).is_empty();
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

impl World {
    fn note(&mut self, record: Record) {
        if self.ended {
            return;
        }
        match &record {
            Record::Published { generation, files } => {
                self.reported = hash(&(self.reported, generation, files))
            }
            Record::Reported(event) => self.reported = hash(&(self.reported, format!("{event:?}"))),
            Record::Loaded(result) => self.reported = hash(&(self.reported, result)),
            _ => {}
        }
        self.history.push(At { mono: self.now.mono, record });
    }

    /// Ends a snapshot, unless the end of the run cut it short.
    fn saw(&mut self, log: u64) {
        if !self.ended {
            self.looks.push(log);
        }
    }

    /// Reduces the reader's knowledge to the observations that it keeps, and its reports to whether
    /// there were any.
    fn forget(&mut self, kept: u64) {
        let log = std::mem::take(&mut self.log);
        self.saw(log);
        (self.reader, self.kept, self.taken, self.plans) = (0, kept, 0, 0);
        if !self.heard.is_empty() {
            self.heard = vec![0];
        }
    }

    fn is_done(&self) -> bool {
        self.crashed || self.next == self.script.steps.len()
    }

    fn is_over(&self) -> bool {
        self.ended || (self.is_done() && self.now.mono >= self.last_step + self.config.rest)
    }

    /// Returns the hash of everything that the rest of the run depends on, and of the reports so
    /// far.
    fn state(&self, place: u8) -> u64 {
        let late: Vec<_> = self.late.iter().collect();
        // The shipped filter has a hash of its pending events. A listener gets all events, so all
        // of them count.
        let pending = self.pending();
        let events = (self.fine || pending.is_none()).then_some(&self.heard);
        hash(&(
            (
                place,
                (self.reader, self.kept, self.taken),
                self.log,
                self.reported,
                self.next,
                self.last_step,
                self.last_change,
                self.breached,
                self.crashed,
            ),
            (self.disk_hash, self.now.mono, self.waited, (&self.watches, &self.watched_files), late),
            (self.plans, !self.heard.is_empty(), pending, events, self.interrupt.is_some()),
        ))
    }

    fn pending(&self) -> Option<u64> {
        self.sink.as_ref().and_then(EventSink::pending)
    }

    fn choose(&mut self, place: u8, options: usize) -> Option<usize> {
        let state = || self.state(place);
        let chosen = self.schedule.lock().unwrap_or_else(PoisonError::into_inner).choose(&state, options);
        match chosen {
            Some(choice) if options > 1 => self.chose(choice),
            Some(_) => {}
            None => self.ended = true,
        }
        chosen
    }

    /// Records a choice. A choice beside the calls is preceded by the number of occasions that
    /// passed.
    fn chose(&mut self, choice: usize) {
        let passed = std::mem::take(&mut self.passed);
        if choice >= ASIDE {
            self.choices.extend(std::iter::repeat_n(PASSED, passed));
        }
        self.choices.push(choice);
    }

    fn aside(&mut self, place: u8, what: Aside) -> bool {
        let state = || self.state(place);
        let happens = self.schedule.lock().unwrap_or_else(PoisonError::into_inner).aside(&state, what);
        match (happens, what) {
            (Some(true), Aside::Death) => self.chose(DEATH),
            (Some(true), Aside::Step) => self.chose(ASIDE),
            (Some(false), _) => self.passed += 1,
            (None, _) => {}
        }
        self.ended |= happens.is_none();
        happens == Some(true)
    }

    /// Records an act of the reloader's owner, after which the world goes on as long as after a
    /// step of the publisher.
    fn acts(&mut self, act: OwnerAct) {
        self.last_step = self.now.mono;
        self.reported = hash(&(self.reported, act, self.next));
        self.note(Record::Owner(act));
    }

    /// Lets the owner act, if the schedule says so, before a verb or a reading of the clock.
    fn interrupt(&mut self) {
        if !self.quiet
            && !self.ended
            && self.interrupt.is_some()
            && self.choose(6, 2) == Some(1)
            && let Some((act, interrupt)) = self.interrupt.take()
        {
            self.acts(act);
            interrupt();
        }
    }

    /// Lets the publisher take as many steps as the schedule says before a question of the reader.
    fn give_way(&mut self, asks: Asks<'_>) {
        // Without pauses a step moves no clock. The reader may then be taken to ask its clock
        // directly after its last act.
        let idle = matches!(asks, Asks::Time) && self.config.pause == Duration::ZERO;
        // The reader also asks its clock at the end of each snapshot, build and callback.
        if asks.is_verb() || matches!(asks, Asks::Time) {
            self.interrupt();
        }
        if self.quiet || self.ended || self.is_done() || idle {
            return;
        }
        if self.leaps {
            self.leap(&asks);
            return;
        }
        let (is_verb, place) = (asks.is_verb(), asks.place());
        while !self.ended && !self.is_done() {
            // A reader that never idles must not starve the publisher for ever.
            let starved = is_verb && self.now.mono >= self.last_step + self.config.rest;
            let steps = starved
                || if is_verb { self.choose(place, 2) == Some(1) } else { self.aside(place, Aside::Step) };
            if !steps {
                break;
            }
            self.step_and_live(place);
        }
    }

    /// Gives way by the moves after which the reader gets other answers; see [`Ahead`].
    fn leap(&mut self, asks: &Asks<'_>) {
        let state = || self.state(asks.place());
        let mut moves = || Ahead::moves(self, asks);
        let chosen = self.schedule.lock().unwrap_or_else(PoisonError::into_inner).leap(&state, &mut moves);
        let Some(Move { steps, dies }) = chosen else {
            self.ended = true;
            return;
        };
        for left in (0..steps).rev() {
            self.chose(if asks.is_verb() { 1 } else { ASIDE });
            self.step();
            let lives = left > 0 || !dies;
            self.passed += usize::from(self.script.mortal && lives && !self.is_done());
        }
        if dies {
            self.chose(DEATH);
            self.crashed = true;
        } else if !self.is_done() && asks.is_verb() {
            self.chose(0);
        } else if !self.is_done() {
            self.passed += 1;
        }
    }

    /// Takes a step, after which the publisher may die.
    fn step_and_live(&mut self, place: u8) {
        self.step();
        if self.script.mortal && !self.is_done() {
            self.crashed = self.aside(8 + place, Aside::Death);
        }
    }

    /// Lets a call take its time.
    fn pass_verb(&mut self) {
        self.advance(self.now.mono + self.config.verb);
    }

    /// Lets either the publisher step or time pass up to `wake`.
    fn wait_or_step(&mut self, wake: Duration) -> bool {
        let may_wait = self.is_done()
            || (self.waited < self.config.waits
                && self.now.mono < self.last_step + self.config.max_quiet_wait);
        let may_step = !self.is_done();
        let options = usize::from(may_wait) + usize::from(may_step);
        match self.choose(1, options) {
            None => return false,
            Some(0) if may_wait => {
                let event = self.late.first().map(|(at, ..)| *at);
                let to = event.map_or(wake, |event| event.min(wake));
                self.waited += usize::from(may_step);
                self.advance(to);
            }
            Some(_) => self.step_and_live(1),
        }
        true
    }

    fn advance(&mut self, to: Duration) {
        if to > self.now.mono {
            self.now.wall += to - self.now.mono;
            self.now.mono = to;
            self.at_once = 0;
        }
        let mid_update = self.script.mid_update[self.next];
        self.breached |= mid_update && self.now.mono >= self.last_change + self.settle;
        while self.late.first().is_some_and(|(at, ..)| *at <= self.now.mono) {
            let (_, path, what) = self.late.remove(0);
            self.hear(&path, Some(what));
        }
    }

    /// Lets the watcher report. The report is in the state until the reader's next step begins,
    /// whose digest includes it.
    fn hear(&mut self, path: &Path, what: Option<What>) {
        let Some(sink) = &self.sink else { return };
        match what {
            Some(what) => sink.hears(path, what),
            None => sink.lost(),
        }
        let heard = hash(&(self.plans, path, what));
        if let Err(place) = self.heard.binary_search(&heard) {
            self.heard.insert(place, heard);
        }
    }

    #[allow(clippy::expect_used)] // reason: a scenario whose step fails is a bug of the scenario
    fn step(&mut self) {
        let due = (self.last_step + self.config.pause).max(self.now.mono);
        self.advance(due);
        let script = Arc::clone(&self.script);
        self.note(Record::Step(self.next));
        let happened = self.carry_out(&script.steps[self.next]).expect("a step that can be taken");
        self.next += 1;
        self.last_step = due;
        if script.contents[self.next] != script.contents[self.next - 1] {
            self.last_change = due;
            self.note(Record::Disk(script.contents[self.next].clone()));
        }
        happened.into_iter().for_each(|happened| self.report(&happened));
    }

    /// Performs a step on the disk, which changes the hash that the rest of the run depends on.
    fn carry_out(&mut self, op: &Op) -> io::Result<Vec<Happened>> {
        let happened = self.disk.apply(op, self.now.wall)?;
        self.at_once = 0;
        // Open descriptors matter only to the numbering of new inodes.
        let numbering = self.config.reuse.then_some(&self.disk);
        self.disk_hash = hash(&(self.disk_hash, self.disk.stamp(self.now.wall), numbering));
        Ok(happened)
    }

    /// Performs a step and reports it to the watcher.
    fn take(&mut self, op: &Op) -> io::Result<()> {
        let happened = self.carry_out(op)?;
        happened.iter().for_each(|happened| self.report(happened));
        Ok(())
    }

    /// Reports a change to the watcher.
    fn report(&mut self, happened: &Happened) {
        let path = match self.watches.iter().position(|(dir, _)| *dir == happened.dir) {
            Some(index) => {
                let dir = self.watches[index].1.clone();
                if happened.gone {
                    self.watches.remove(index);
                }
                happened.name.as_ref().map_or(dir.clone(), |name| dir.join(name))
            }
            None if happened.node.is_some_and(|node| self.watched_files.contains(&node)) => PathBuf::new(),
            None => return,
        };
        match self.config.events {
            _ if self.sink.is_none() => {}
            Events::Delivered => self.hear(&path, Some(happened.what)),
            Events::Lost => {}
            Events::Doubled => (0..2).for_each(|_| self.hear(&path, Some(happened.what))),
            Events::Late => self.late.push((self.now.mono + LATE, path, happened.what)),
            Events::Overflowed => self.hear(&path, None),
        }
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = StateHasher::default();
    what.hash(&mut hasher);
    hasher.finish()
}

/// A hasher for small keys: states are hashed at every choice. It does one wide multiplication and
/// one fold per word.
#[derive(Default)]
pub(crate) struct StateHasher(u64);

impl Hasher for StateHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word) ^ (chunk.len() as u64) << 56);
        }
    }

    fn write_u64(&mut self, word: u64) {
        let x = self.0.rotate_left(23) ^ word ^ 0x9e37_79b9_7f4a_7c15;
        let wide = u128::from(x) * 0xd6e8_feb8_6659_fd93;
        let (low, high) = (wide & u128::from(u64::MAX), wide >> 64);
        // Each half fits into 64 bits.
        self.0 = (low as u64 ^ high as u64).wrapping_add(x);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Returns the error that the reader gets once the schedule has ended the run.
fn over() -> io::Error {
    io::Error::other("the run is over")
}
