//! The driver and the acts that are played, with the history of a run.

use std::{
    hash::Hasher,
    sync::{Mutex, MutexGuard, PoisonError, Weak},
};

use super::*;

/// An act of another thread, or of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// The disk changes, and a hint reports it.
    Hint,
    /// The disk changes, and another thread asks for a reload.
    Ask,
    Stop,
    Start,
    /// The disk changes, and a callback asks for a reload, which it does not wait for.
    Queue,
}

const ACTS: [Act; 5] = [Act::Hint, Act::Ask, Act::Stop, Act::Start, Act::Queue];

/// The next tick is due soon after a step for a hint, and late after any other step.
const SOON: u64 = 2;
const LATE: u64 = 5;

/// A manual reload that was asked for: the version on disk at that time, and the number of stops
/// before.
pub(super) struct Asked {
    version: u64,
    stops: u64,
    reload: ManualReload<u64>,
}

/// The step that is wrong, so that a rule has to fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wrong {
    #[default]
    Nothing,
    /// A hint that comes during a step is lost. Breaks: INV-06
    LosesHints,
    /// The wait is longer than until the next tick. Breaks: INV-05
    SleepsOn,
    /// A stop during a step does not keep it from publishing. Breaks: INV-13
    PublishesAfterStop,
    /// A manual reload is answered by a snapshot that began before it. Breaks: INV-11
    AnswersLate,
}

/// The history of a run. Nothing here is read from the state of the loop.
#[derive(Default)]
pub(super) struct World {
    pub(super) wrong: Wrong,
    pub(super) shared: Weak<Shared<u64>>,
    /// The choices of this run, each with its number of options; `chosen` counts those that have
    /// been made.
    pub(super) choices: Vec<(usize, usize)>,
    pub(super) chosen: usize,
    pub(super) acts: Vec<Act>,
    pub(super) limit: usize,
    pub(super) now: u64,
    pub(super) version: u64,
    pub(super) served: u64,
    pub(super) asked: Vec<Asked>,
    /// A hint waits for a step of its kind; `wanted` says the same of a manual reload.
    pub(super) hinted: bool,
    pub(super) wanted: bool,
    pub(super) started: bool,
    pub(super) begun: bool,
    pub(super) stopped: bool,
    pub(super) stops: u64,
    /// The version that a step for manual reloads has read and published, as of the begin of that
    /// step.
    pub(super) reloaded: u64,
    pub(super) due: Option<u64>,
    /// A call of the driver is under way.
    pub(super) busy: bool,
}

#[derive(Clone, Default)]
pub(super) struct Played(Arc<Mutex<World>>);

impl Played {
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, wrong: Wrong) -> bool {
        self.world().wrong == wrong
    }

    /// Lets an act fall here.
    pub(super) fn may_act(&self) {
        let (shared, act) = {
            let mut world = self.world();
            if world.acts.len() == world.limit {
                return;
            }
            // Only a callback asks from a callback.
            let acts = if world.busy { &ACTS[..] } else { &ACTS[..4] };
            let options = acts.len() + 1;
            if world.chosen == world.choices.len() {
                world.choices.push((0, options));
            }
            let (choice, known) = world.choices[world.chosen];
            assert_eq!(known, options, "a run is a function of its choices");
            world.chosen += 1;
            let Some(act) = choice.checked_sub(1).map(|act| acts[act]) else { return };
            world.acts.push(act);
            world.version += u64::from(!matches!(act, Act::Stop | Act::Start));
            (world.shared.upgrade(), act)
        };
        if let Some(shared) = shared {
            self.act(&shared, act);
        }
    }

    pub(super) fn act(&self, shared: &Arc<Shared<u64>>, act: Act) {
        if act == Act::Hint {
            self.world().hinted = true;
            return shared.hint();
        }
        let mut world = self.world();
        let mut state = shared.lock();
        match act {
            Act::Ask => {
                let asked = ManualReload::ask(shared, &mut state, false);
                let (version, stops) = (world.version, world.stops);
                match asked {
                    Ok(reload) => {
                        world.asked.push(Asked { version, stops, reload });
                        world.wanted = true;
                    }
                    Err(answer) => assert!(world.stopped && answer == Reload::Stopped, "{answer:?}"),
                }
            }
            Act::Queue => {
                let is_driver = Shared::is_driver(&state);
                let answer = ManualReload::ask(shared, &mut state, is_driver).err();
                let wanted = if world.stopped { Reload::Stopped } else { Reload::Queued };
                assert_eq!(answer, Some(wanted), "asked from a callback");
                world.wanted |= !world.stopped;
            }
            Act::Stop => {
                state.stop();
                (world.stopped, world.wanted) = (true, false);
                world.stops += 1;
                drop((state, world));
                // The stop wakes the callers that wait for an answer.
                self.look_for_answers(shared);
            }
            Act::Start => {
                assert_eq!(
                    state.start(Now::PAST).is_some(),
                    !world.started,
                    "a start, while started: {}",
                    world.started
                );
                if !world.started {
                    (world.started, world.stopped) = (true, false);
                }
            }
            Act::Hint => {}
        }
    }

    /// Lets every caller check for its answer, or drive. Returns whether any of them has made
    /// progress.
    pub(super) fn look_for_answers(&self, shared: &Arc<Shared<u64>>) -> bool {
        let mut gets_on = false;
        let count = self.world().asked.len();
        for _ in 0..count {
            // A caller that drove meanwhile has let others check as well.
            if self.world().asked.is_empty() {
                break;
            }
            let mut asked = self.world().asked.remove(0);
            let next: Option<Reload> = match asked.reload.go_on(shared, shared.lock()) {
                Next::Over(answer) => Some(answer),
                Next::Again(_) => {
                    gets_on = true;
                    None
                }
                Next::Wait(..) => None,
            };
            let mut world = self.world();
            match &next {
                None => world.asked.push(asked),
                Some(Reload::Reloaded | Reload::Unchanged) => {
                    assert!(world.served >= asked.version, "answered by a look that began before");
                }
                Some(Reload::Stopped) => {
                    assert!(world.stops > asked.stops, "nothing stopped it");
                    assert!(world.reloaded < asked.version, "it was published for this");
                }
                Some(answer) => unreachable!("{answer:?}"),
            }
            gets_on |= next.is_some();
        }
        gets_on
    }

    /// Begins a call of the driver.
    fn enter(&self, what: &str) -> MutexGuard<'_, World> {
        let mut world = self.world();
        assert!(!world.busy, "{what} while another call of the driver is on its way");
        world.busy = true;
        world
    }

    fn leave(&self) {
        self.world().busy = false;
    }
}

impl Clock for Played {
    fn now(&self) -> Now {
        drop(self.enter("the clock"));
        self.may_act();
        self.leave();
        let now = Duration::from_secs(self.world().now);
        Now { mono: now, wall: now }
    }

    fn sleep(&self, _: Duration) {}
}

impl Played {
    /// Reads the version on disk, and publishes it where it is new. Returns the answer to a manual
    /// reload.
    fn look(&self, shared: &Shared<u64>, ask: Option<Ask>) -> Reload {
        let before = self.world().version;
        self.may_act();
        let (version, is_new) = {
            let world = self.world();
            (world.version, world.version > world.served)
        };
        self.may_act();
        let answer = if is_new {
            let now = Now::PAST;
            if self.is(Wrong::PublishesAfterStop) {
                shared.lock().stopped = false;
            }
            let published = shared.publish(0, version, None, None, now, false);
            let mut world = self.world();
            assert_eq!(published, !world.stopped, "published, while stopped: {}", world.stopped);
            if published {
                world.served = version;
                if ask == Some(Ask::Reload) {
                    world.reloaded = before;
                }
            }
            if published { Reload::Reloaded } else { Reload::Stopped }
        } else {
            Reload::Unchanged
        };
        // A callback may act here.
        self.may_act();
        answer
    }
}

impl StateHash for Played {
    fn hash_state(&self, _: &mut dyn Hasher) {}
}

impl Drive<u64> for Played {
    fn begin(&mut self, shared: &Arc<Shared<u64>>, _: Now) {
        let mut world = self.enter("the begin");
        assert!(world.started && !world.begun && !world.stopped, "an untimely begin");
        // The first snapshot also answers a hint from before.
        (world.begun, world.hinted) = (true, false);
        drop(world);
        self.look(shared, None);
        let mut world = self.world();
        world.due = Some(world.now + SOON);
        world.busy = false;
    }

    fn step(&mut self, shared: &Shared<u64>, ask: Ask) {
        let mut world = self.enter("a step");
        assert!(!world.stopped, "a step begins after a stop");
        match ask {
            Ask::Hint => world.hinted = false,
            Ask::Reload => {
                assert!(world.wanted, "a reload that nobody has asked for since the last step or stop");
                world.wanted = false;
            }
            Ask::Tick => assert!(world.due.is_some_and(|due| due <= world.now), "a tick that is not due"),
        }
        drop(world);
        let answer = self.look(shared, Some(ask));
        if self.is(Wrong::LosesHints) {
            shared.lock().hint = false;
        }
        if self.is(Wrong::AnswersLate) {
            let mut state = shared.lock();
            state.begun = state.asked;
        }
        if ask == Ask::Reload {
            shared.answer(&answer, |_| {});
        }
        let mut world = self.world();
        world.due = Some(world.now + if ask == Ask::Hint { SOON } else { LATE });
        world.busy = false;
    }

    fn pause(&self, _: &Shared<u64>) -> Option<Duration> {
        drop(self.enter("the pause"));
        self.may_act();
        self.leave();
        let late = u64::from(self.is(Wrong::SleepsOn));
        let world = self.world();
        world.due.map(|due| Duration::from_secs((due + late).saturating_sub(world.now)))
    }

    fn end(&mut self, _: &Shared<u64>) {
        drop(self.enter("the end"));
        self.may_act();
        self.leave();
    }
}
