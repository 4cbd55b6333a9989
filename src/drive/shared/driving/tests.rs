//! Plays every order in which a few acts fall between and into the calls of a scripted driver, and
//! checks rules.
//!
//! The loop releases its lock between two calls of `go_on` and inside a call of the driver or its
//! clock, and nowhere else. So it can meet acts of other threads at these points only, and one
//! thread can play them all. Wake-ups are left to the models under loom: here every waiting caller
//! checks again after each act.

#![allow(clippy::print_stdout, clippy::expect_used)] // reason: the count is printed; tests stop at the first surprise

use std::hash::{DefaultHasher, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{
    Mutex, MutexGuard, PoisonError, Weak,
    mpsc::{Receiver, Sender, channel},
};

use super::*;
use crate::{
    clock::{Clock, Now},
    drive::shared::Observers,
    probe::StateHash,
    report::status::{Progress, Status},
};

/// An act of another thread, or of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
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
struct Asked {
    version: u64,
    stops: u64,
    reload: ManualReload<u64>,
}

/// The step that is wrong, so that a rule has to fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wrong {
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
struct World {
    wrong: Wrong,
    shared: Weak<Shared<u64>>,
    /// The choices of this run, each with its number of options; `chosen` counts those that have
    /// been made.
    choices: Vec<(usize, usize)>,
    chosen: usize,
    acts: Vec<Act>,
    limit: usize,
    now: u64,
    version: u64,
    served: u64,
    asked: Vec<Asked>,
    /// A hint waits for a step of its kind; `wanted` says the same of a manual reload.
    hinted: bool,
    wanted: bool,
    started: bool,
    begun: bool,
    stopped: bool,
    stops: u64,
    /// The version that a step for manual reloads has read and published, as of the begin of that
    /// step.
    reloaded: u64,
    due: Option<u64>,
    /// A call of the driver is under way.
    busy: bool,
}

#[derive(Clone, Default)]
struct Played(Arc<Mutex<World>>);

impl Played {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, wrong: Wrong) -> bool {
        self.world().wrong == wrong
    }

    /// Lets an act fall here.
    fn may_act(&self) {
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

    fn act(&self, shared: &Arc<Shared<u64>>, act: Act) {
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
                    state.start().is_some(),
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
    fn look_for_answers(&self, shared: &Arc<Shared<u64>>) -> bool {
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
            let now = Now { mono: Duration::ZERO, wall: Duration::ZERO };
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

/// Plays one run to its end: until all acts were chosen or passed over, and a tick was taken after
/// the last.
fn play(played: &Played, is_started: bool) {
    let zero = Now { mono: Duration::ZERO, wall: Duration::ZERO };
    let set = (Arc::from(std::path::Path::new("/file")), None);
    let status = Status::first(std::iter::once(set), Duration::ZERO);
    let progress = Progress::new(zero, Duration::MAX, Duration::ZERO);
    let clock = Arc::new(played.clone());
    let drive = Box::new(played.clone());
    let shared = Arc::new(Shared::new(0, (status, progress), Observers::default(), clock, drive));
    played.world().shared = Arc::downgrade(&shared);
    if is_started {
        played.act(&shared, Act::Start);
    }
    let (mut worker, mut passes) = (None, 0);
    for _ in 0..200 {
        let mut limit = None;
        let mut is_idle = true;
        played.may_act();
        let acts = played.world().acts.len();
        if played.world().started {
            match worker.get_or_insert_with(WorkerLoop::default).go_on(&shared, shared.lock()) {
                Next::Again(_) => is_idle = false,
                Next::Wait(_state, wait) => {
                    limit = wait;
                    let world = played.world();
                    let is_asked = world.hinted || world.wanted || world.stopped;
                    assert!(!world.begun || !is_asked, "it sleeps although it is asked");
                }
                Next::Over(()) => {
                    let mut world = played.world();
                    assert!(world.stopped, "a worker ends that nobody stopped");
                    (worker, is_idle) = (None, false);
                    (world.started, world.begun) = (false, false);
                }
            }
        }
        played.may_act();
        is_idle &= !played.look_for_answers(&shared);
        let mut world = played.world();
        if !is_idle || world.acts.len() > acts {
            continue;
        }
        assert!(world.asked.is_empty(), "a manual reload is not answered");
        assert!(!world.wanted, "a reload from a callback is lost");
        assert_eq!(shared.lock().status.running, world.begun, "the status says whether it runs");
        assert!(!world.stopped || !world.started, "a stop does not end the worker");
        if world.started {
            assert!(world.begun, "a start is not taken up");
            assert!(!world.hinted, "a hint is lost");
            let due = world.due.map(|due| due.saturating_sub(world.now));
            assert_ne!(due, Some(0), "a tick is not taken");
            assert_eq!(limit, due.map(Duration::from_secs), "it waits for another time than it has to");
        }
        let Some(limit) = limit.filter(|_| passes < PASSES) else { return };
        passes += 1;
        world.now += limit.as_secs();
    }
    unreachable!("the loop goes on and on");
}

/// How often time passes in a run.
const PASSES: u32 = 1;

/// Plays every run of so many acts, up to the first that breaks a rule. Returns the number of runs.
fn play_all(limit: usize, wrong: Wrong) -> Result<u64, String> {
    let mut runs = 0;
    for is_started in [true, false] {
        let mut choices = Vec::new();
        loop {
            let played = Played::default();
            {
                let mut world = played.world();
                (world.choices, world.limit, world.wrong) = (choices, limit, wrong);
            }
            let run = AssertUnwindSafe(|| play(&played, is_started));
            runs += 1;
            if catch_unwind(run).is_err() {
                return Err(format!("run {runs}, started: {is_started}, acts: {:?}", played.world().acts));
            }
            choices = std::mem::take(&mut played.world().choices);
            while choices.last().is_some_and(|(choice, options)| choice + 1 == *options) {
                choices.pop();
            }
            let Some((choice, _)) = choices.last_mut() else { break };
            *choice += 1;
        }
    }
    Ok(runs)
}

/// Checks: INV-01, INV-05, INV-06, INV-11, INV-13.
///
/// Engine: generated, exhaustive: every place of every sequence of acts.
#[test]
fn inv13_loop_keeps_its_rules_wherever_acts_fall() {
    let begun = std::time::Instant::now();
    let runs = play_all(3, Wrong::Nothing).expect("the loop keeps its rules");
    println!("loop: {runs} runs of up to 3 acts in {:.1?}", begun.elapsed());
    assert!(runs > 10_000, "{runs} runs");
}

#[test]
fn rules_of_the_loop_catch_wrong_designs() {
    for wrong in [Wrong::LosesHints, Wrong::SleepsOn, Wrong::PublishesAfterStop, Wrong::AnswersLate] {
        let caught = play_all(2, wrong).expect_err("a rule speaks up");
        println!("{wrong:?}: {caught}");
    }
}

/// The longest wait of any test.
const DEADLINE: Duration = Duration::from_secs(60);

/// Holds up each step until it may answer, and until it may end.
struct Slow {
    may_end: Receiver<()>,
    /// Signals that the driver has begun, or that a step has answered.
    signal: Sender<()>,
}

impl StateHash for Slow {
    fn hash_state(&self, _: &mut dyn Hasher) {}
}

impl Drive<u64> for Slow {
    fn begin(&mut self, _: &Arc<Shared<u64>>, _: Now) {
        let _ = self.signal.send(());
    }

    fn step(&mut self, shared: &Shared<u64>, _: Ask) {
        let _ = self.may_end.recv();
        shared.answer(&Reload::Unchanged, |_| {});
        let _ = self.signal.send(());
        let _ = self.may_end.recv();
    }

    fn pause(&self, _: &Shared<u64>) -> Option<Duration> {
        None
    }

    fn end(&mut self, _: &Shared<u64>) {}
}

fn slow(observers: Observers<u64>) -> (Arc<Shared<u64>>, Sender<()>, Receiver<()>) {
    let (go_on, may_end) = channel();
    let (signal, signals) = channel();
    let zero = Now { mono: Duration::ZERO, wall: Duration::ZERO };
    let status = Status::first(std::iter::empty(), Duration::ZERO);
    let progress = Progress::new(zero, Duration::ZERO, Duration::ZERO);
    let clock = Arc::new(crate::clock::SystemClock::new());
    let drive = Box::new(Slow { may_end, signal });
    (Arc::new(Shared::new(1, (status, progress), observers, clock, drive)), go_on, signals)
}

fn start(shared: &Shared<u64>) -> WorkerLoop<u64> {
    assert!(shared.lock().start().is_some());
    WorkerLoop::default()
}

/// The interleavings take two states of one hash for one.
#[test]
fn states_that_answer_a_pending_reload_differently_have_different_hashes() {
    let (shared, _go_on, _signals) = slow(Observers::default());
    let hash = || {
        let mut hasher = DefaultHasher::new();
        shared.lock().hash_state(&mut hasher);
        hasher.finish()
    };
    let mut rounds = Vec::new();
    for _ in 0..2 {
        let mut seen = vec![hash()];
        let asked = ManualReload::ask(&shared, &mut shared.lock(), false);
        let Ok(mut reload) = asked else { panic!("nobody has stopped it") };
        seen.push(hash());
        assert_eq!(shared.lock().asked_for(), Some(Ask::Reload));
        seen.push(hash());
        shared.lock().stop();
        seen.push(hash());
        assert!(shared.lock().start().is_some());
        // The stop has ended the reload, which is all that sets this state apart from the third.
        seen.push(hash());
        shared.answer(&Reload::Unchanged, |_| {});
        seen.push(hash());
        assert!(matches!(reload.go_on(&shared, shared.lock()), Next::Over(Reload::Unchanged)));
        shared.lock().worker = false;
        let each: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!(each.len(), seen.len(), "{seen:?}");
        rounds.push(seen);
    }
    assert_eq!(rounds[0], rounds[1], "tickets matter by their order alone");
}

/// Checks: INV-13. A start may come before the waiting caller has woken, and its driver does not
/// know of that caller.
#[test]
fn inv13_an_unfinished_reload_is_answered_although_a_start_follows_its_stop() {
    struct Silent;

    impl StateHash for Silent {
        fn hash_state(&self, _: &mut dyn Hasher) {}
    }

    impl Drive<u64> for Silent {
        fn begin(&mut self, _: &Arc<Shared<u64>>, _: Now) {}

        fn step(&mut self, _: &Shared<u64>, _: Ask) {}

        fn pause(&self, _: &Shared<u64>) -> Option<Duration> {
            None
        }

        fn end(&mut self, _: &Shared<u64>) {}
    }

    let (shared, _go_on, _signals) = slow(Observers::default());
    shared.lock().idle = Some(Box::new(Silent));
    let mut worker = start(&shared);
    assert!(matches!(worker.go_on(&shared, shared.lock()), Next::Again(_)), "it begins");
    let asked = ManualReload::ask(&shared, &mut shared.lock(), false);
    let Ok(mut reload) = asked else { panic!("it runs") };
    assert!(matches!(worker.go_on(&shared, shared.lock()), Next::Again(_)), "the reload has begun");
    assert!(matches!(reload.go_on(&shared, shared.lock()), Next::Wait(_, None)), "it is not answered");
    shared.lock().stop();
    assert!(matches!(worker.go_on(&shared, shared.lock()), Next::Over(())), "it ends");
    let mut worker = start(&shared);
    assert!(matches!(worker.go_on(&shared, shared.lock()), Next::Again(_)), "it begins again");
    assert!(matches!(reload.go_on(&shared, shared.lock()), Next::Over(Reload::Stopped)));
}

/// Checks: INV-13. The worker sleeps already when the manual reload puts the driver back, so that
/// has to wake it.
#[test]
fn inv13_start_during_a_manual_reload_is_taken_up_after_it() {
    let (shared, go_on, signals) = slow(Observers::default());
    let caller = Arc::clone(&shared);
    let caller = std::thread::spawn(move || caller.reload_now());
    go_on.send(()).expect("it drives");
    assert_eq!(signals.recv_timeout(DEADLINE), Ok(()), "the reload drives, and is answered");
    let mut worker = start(&shared);
    let (waits, is_waiting) = channel();
    let driver = Arc::clone(&shared);
    let driver = std::thread::spawn(move || {
        driver.carry_out(driver.lock(), |state| {
            let next = worker.go_on(&driver, state);
            if matches!(next, Next::Wait(..)) {
                let _ = waits.send(());
            }
            next
        });
    });
    assert_eq!(is_waiting.recv_timeout(DEADLINE), Ok(()), "a manual reload drives");
    // The worker holds the lock until it sleeps.
    drop(shared.lock());
    go_on.send(()).expect("it drives");
    let taken_up = signals.recv_timeout(DEADLINE);
    shared.lock().stop();
    shared.notify();
    drop(go_on);
    assert!(caller.join().is_ok_and(|answer| answer == Reload::Unchanged) && driver.join().is_ok());
    assert_eq!(taken_up, Ok(()), "the start is not taken up");
}

/// Checks: INV-13. A task of `spawn_worker` waits for the end, and checks again when the driver
/// reports that it has stopped.
#[test]
fn inv13_end_of_a_worker_wakes_tasks_that_wait_since_its_stop() {
    struct Woken(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }

    let woken = Arc::new(Woken(0.into()));
    let waker = std::task::Waker::from(Arc::clone(&woken));
    let slot: Arc<Mutex<Option<crate::drive::shared::Waiting<u64>>>> = Arc::default();
    let waiting = Arc::clone(&slot);
    let mut observers = Observers::default();
    observers.events.push(Box::new(move |event: &Event| {
        if matches!(event, Event::Stopped)
            && let Some(waiting) = &mut *waiting.lock().unwrap_or_else(PoisonError::into_inner)
        {
            assert!(waiting.poll(&waker, |state| (!state.worker).then_some(())).is_pending());
        }
    }));
    let (shared, _go_on, _signals) = slow(observers);
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(crate::drive::shared::Waiting::new(&shared));
    let mut worker = start(&shared);
    assert!(matches!(worker.go_on(&shared, shared.lock()), Next::Again(_)), "it begins");
    shared.lock().stop();
    assert!(matches!(worker.go_on(&shared, shared.lock()), Next::Over(())), "it ends");
    assert_eq!(woken.0.load(std::sync::atomic::Ordering::SeqCst), 1);
    // The wait keeps the shared state alive.
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = None;
}
