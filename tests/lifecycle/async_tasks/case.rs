//! The cases, and the model of the results that each allows. The model knows the order of the
//! actions and none of the code.

use super::world::Stage;

/// An async entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Reload,
    Published,
    TrustReduced,
    /// `spawn_worker`, and the task that it returns.
    Spawn,
    /// The task of the worker that runs.
    Task,
    /// The task, after its shutdown sender was dropped.
    Orphan,
    /// The task, after its shutdown sender has sent `true`.
    Shutdown,
}

/// The state of the driver when the future is first polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// Never started. The next driver is held at this stage.
    Loaded(Stage),
    /// The driver waits for work. Its next work is held at this stage.
    Idle(Stage),
    /// The worker is held by a change that was reported.
    Held(Stage),
    /// No worker runs; another caller's reload is held.
    ByHand(Stage),
    /// The worker has stopped itself in a callback, and is held there.
    Stopping(Stage),
    /// The worker has reported its end, and is held in a callback.
    Ending,
    Stopped,
}

/// An action while the future is pending and the driver is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meanwhile {
    Nothing,
    Write,
    /// A write that reduces the trust.
    Shrink,
    Stop,
}

/// The end of the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    DroppedUnpolled,
    DroppedWhileHeld,
    /// Dropped without another poll, after the driver has gone on.
    DroppedLate,
    TimedOut,
    Awaited,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) entry: Entry,
    pub(crate) driver: Driver,
    pub(crate) meanwhile: Meanwhile,
    pub(crate) fate: Fate,
}

/// The result that the model allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Pending,
    /// Any result except that of a stop.
    Done,
    /// The answer of a reload that a stop preceded.
    Stopped,
}

impl Case {
    /// Returns whether the combination exists.
    pub(crate) fn exists(self) -> bool {
        let Self { entry, driver, meanwhile, fate } = self;
        let drives = matches!(entry, Entry::Reload | Entry::Spawn);
        let task = matches!(entry, Entry::Task | Entry::Orphan | Entry::Shutdown);
        let first = meanwhile == Meanwhile::Nothing;
        (match driver {
            // Only an entry point that drives is held at a stage. For the others one stage stands
            // for all.
            Driver::Loaded(stage) => !task && (drives || stage == Stage::Build),
            Driver::Idle(stage) => entry == Entry::Reload || stage == Stage::Build,
            Driver::ByHand(_) => !task,
            Driver::Held(_) | Driver::Stopping(_) | Driver::Ending => true,
            Driver::Stopped => !task,
        }) && (fate != Fate::DroppedUnpolled || first)
            && !(entry == Entry::Shutdown && fate == Fate::DroppedUnpolled)
    }

    /// Returns whether a worker drives once the gate is open.
    pub(crate) fn worker_goes_on(self) -> bool {
        let starts = self.entry == Entry::Spawn && self.may_start() && self.fate != Fate::DroppedUnpolled;
        (matches!(self.driver, Driver::Idle(_) | Driver::Held(_)) || starts)
            && self.meanwhile != Meanwhile::Stop
            && self.entry != Entry::Shutdown
    }

    /// Returns whether the entry point, or the worker on its behalf, drives up to the held stage.
    pub(crate) fn is_held_by_this(self) -> bool {
        match self.entry {
            Entry::Reload => matches!(self.driver, Driver::Loaded(_) | Driver::Idle(_)),
            Entry::Spawn => matches!(self.driver, Driver::Loaded(_)),
            _ => false,
        }
    }

    pub(crate) fn may_start(self) -> bool {
        matches!(self.driver, Driver::Loaded(_) | Driver::ByHand(_) | Driver::Stopped)
    }

    /// Returns whether the reloader is stopped before the future is first polled.
    pub(crate) fn is_over(self) -> bool {
        matches!(self.driver, Driver::Stopping(_) | Driver::Ending | Driver::Stopped)
    }

    /// Returns the results that the model allows: while the driver is held, and after it has gone
    /// on.
    pub(crate) fn wanted(self) -> (Wanted, Wanted) {
        use Wanted::{Done, Pending, Stopped};
        let stop = self.meanwhile == Meanwhile::Stop;
        let writes = matches!(self.meanwhile, Meanwhile::Write | Meanwhile::Shrink);
        match self.entry {
            Entry::Reload if self.is_over() => (Stopped, Stopped),
            Entry::Reload => match self.driver {
                // The future's own thread drives, and is held.
                Driver::Loaded(stage) if stop => {
                    (Pending, if stage.is_after_swap() { Done } else { Stopped })
                }
                Driver::Idle(stage) if stop && stage.is_after_swap() => (Done, Done),
                _ if stop => (Stopped, Stopped),
                _ => (Pending, Done),
            },
            Entry::Published => {
                let held = match self.driver {
                    Driver::Held(stage) | Driver::ByHand(stage) => !stop && !stage.is_after_swap(),
                    _ => false,
                };
                let reported = writes && matches!(self.driver, Driver::Held(_) | Driver::Idle(_));
                (Pending, if held || reported { Done } else { Pending })
            }
            Entry::TrustReduced => {
                // A manual reload that is held in a read finds a write that happens meanwhile.
                let found = matches!(self.driver, Driver::Held(_) | Driver::Idle(_))
                    || self.driver == Driver::ByHand(Stage::Read);
                (Pending, if found && self.meanwhile == Meanwhile::Shrink { Done } else { Pending })
            }
            Entry::Spawn | Entry::Task | Entry::Orphan => match self.driver {
                // The worker is not held: it waits for the driver, which another caller's reload
                // has.
                Driver::Idle(_) | Driver::ByHand(_) | Driver::Stopped if stop => (Done, Done),
                // This is a start after a stop.
                Driver::Stopped => (Pending, Pending),
                _ => (Pending, if stop || self.is_over() { Done } else { Pending }),
            },
            Entry::Shutdown => match self.driver {
                Driver::Idle(_) => (Done, Done),
                _ => (Pending, Done),
            },
        }
    }
}
