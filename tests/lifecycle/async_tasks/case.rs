//! The cases, and the model of what each allows: it knows what happens in which order, and none of
//! the code.

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
    /// The same after its shutdown sender was dropped.
    Orphan,
    /// The same after its shutdown sender has said so.
    Shutdown,
}

/// Where the driver is when the future is polled first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// Never started; whoever drives next is held at this stage.
    Loaded(Stage),
    /// It waits for something to do; held at this stage by whatever comes next.
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

/// What happens while the future is pending and the driver is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meanwhile {
    Nothing,
    Write,
    /// A write that trusts less.
    Shrink,
    Stop,
}

/// The end of the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    DroppedUnpolled,
    DroppedWhileHeld,
    /// Dropped once the driver has gone on, without another poll.
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
    /// Any of the results that are not a stop's.
    Done,
    /// The answer of a reload that a stop came before.
    Stopped,
}

impl Case {
    /// Whether the combination exists.
    pub(crate) fn exists(self) -> bool {
        let Self { entry, driver, meanwhile, fate } = self;
        let drives = matches!(entry, Entry::Reload | Entry::Spawn);
        let task = matches!(entry, Entry::Task | Entry::Orphan | Entry::Shutdown);
        let first = meanwhile == Meanwhile::Nothing;
        (match driver {
            // Only an entry that drives is held there; for the others one stage stands for all.
            Driver::Loaded(stage) => !task && (drives || stage == Stage::Build),
            Driver::Idle(stage) => entry == Entry::Reload || stage == Stage::Build,
            Driver::ByHand(_) => !task,
            Driver::Held(_) | Driver::Stopping(_) | Driver::Ending => true,
            Driver::Stopped => !task,
        }) && (fate != Fate::DroppedUnpolled || first)
            && !(entry == Entry::Shutdown && fate == Fate::DroppedUnpolled)
    }

    /// Whether a worker drives once the gate is open.
    pub(crate) fn worker_goes_on(self) -> bool {
        let starts = self.entry == Entry::Spawn && self.may_start() && self.fate != Fate::DroppedUnpolled;
        (matches!(self.driver, Driver::Idle(_) | Driver::Held(_)) || starts)
            && self.meanwhile != Meanwhile::Stop
            && self.entry != Entry::Shutdown
    }

    /// Whether the entry point drives itself, or has the worker do so, up to the stage that is held.
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

    /// Whether the reloader is stopped before the future is polled first.
    pub(crate) fn is_over(self) -> bool {
        matches!(self.driver, Driver::Stopping(_) | Driver::Ending | Driver::Stopped)
    }

    /// The model: the state of the future while the driver is held and once it has gone on.
    pub(crate) fn wanted(self) -> (Wanted, Wanted) {
        use Wanted::{Done, Pending, Stopped};
        let stop = self.meanwhile == Meanwhile::Stop;
        let writes = matches!(self.meanwhile, Meanwhile::Write | Meanwhile::Shrink);
        match self.entry {
            Entry::Reload if self.is_over() => (Stopped, Stopped),
            Entry::Reload => match self.driver {
                // Its own thread drives, and is held.
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
                // A reload by hand that is held in a read brings what is written meanwhile.
                let found = matches!(self.driver, Driver::Held(_) | Driver::Idle(_))
                    || self.driver == Driver::ByHand(Stage::Read);
                (Pending, if found && self.meanwhile == Meanwhile::Shrink { Done } else { Pending })
            }
            Entry::Spawn | Entry::Task | Entry::Orphan => match self.driver {
                // Nobody holds the worker: it waits for the driver that another caller's reload
                // has.
                Driver::Idle(_) | Driver::ByHand(_) | Driver::Stopped if stop => (Done, Done),
                // A start after a stop.
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
