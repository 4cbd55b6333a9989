//! What handshakes, the driver and everybody who asks or waits have in common.
//!
//! One cell, one mutex, one condition variable. Handshakes touch the cell only. The mutex is never held during I/O, a
//! build or a callback (INV-07); the driver itself lies under it when nobody drives, and whoever needs it takes it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    task::{Poll, Waker},
    time::Duration,
};

use crate::{
    build::Shrunk,
    cell::{Cell, Published},
    clock::{Clock, Now},
    error::{Error, Layer, drop_payload},
    event::{Event, Leaf, Ring},
    status::{Progress, Status},
    sync::{Arc, Condvar, Mutex, MutexGuard, lock, thread::ThreadId},
};

/// How a reload by hand ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reload {
    /// A new generation is served.
    Reloaded,
    /// The files hold what is served.
    Unchanged,
    /// The files hold a valid set that waits for this date, since the Unix epoch.
    Held(Duration),
    /// What the files hold was refused; what was served is served.
    Refused(Error),
    /// Asked for from a callback: it happens once the callback has returned.
    Queued,
    /// The reloader was stopped: nothing was published for this, and nothing is any more.
    Stopped,
}

type Observer<T> = Box<dyn Fn(&T) + Send + Sync>;

/// Who hears of events and publications.
pub(crate) struct Observers<T> {
    pub(crate) events: Vec<Observer<Event>>,
    pub(crate) publications: Vec<Observer<Arc<Published<T>>>>,
}

impl<T> Default for Observers<T> {
    fn default() -> Self {
        Self { events: Vec::new(), publications: Vec::new() }
    }
}

/// What drives: the engine behind an object, so that everything else is generic over the value only.
pub(crate) trait Drive<T>: Send {
    /// Arms the watch and looks.
    fn begin(&mut self, shared: &Arc<Shared<T>>);
    /// Takes one step.
    fn step(&mut self, shared: &Shared<T>, ask: Ask);
    /// How long until the next tick is due; zero if it is.
    fn pause(&self) -> Option<Duration>;
    /// Frees the watch.
    fn end(&mut self, shared: &Shared<T>);
    /// Hashes everything that what it does next depends on, counters of the status excepted.
    #[cfg(feature = "testkit")]
    fn digest(&self, state: &mut dyn std::hash::Hasher);
}

/// What the driver is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Hint,
    Tick,
    Reload,
}

/// Shared between all handles and the driver.
pub(crate) struct Shared<T> {
    pub(crate) cell: Cell<Published<T>>,
    observers: Observers<T>,
    clock: Arc<dyn Clock>,
    state: Mutex<State<T>>,
    changed: Condvar,
}

pub(crate) struct State<T> {
    /// Without what it says of all sets together, and without the directories watched: see [`State::status`].
    pub(crate) status: Status,
    pub(crate) progress: Progress,
    pub(crate) watched: BTreeSet<PathBuf>,
    pub(crate) events: Ring,
    /// Of tasks that wait for a change, by the number of the wait.
    wakers: BTreeMap<u64, Waker>,
    /// Of tasks that wait for trust to shrink, and for nothing else: a connection each, which no other change may wake.
    draining: BTreeMap<u64, Waker>,
    /// Waits so far, of both kinds.
    waits: u64,
    /// The driver, when nobody drives.
    idle: Option<Box<dyn Drive<T>>>,
    /// The thread that drives.
    driving: Option<ThreadId>,
    /// A worker was started and has not ended.
    pub(crate) worker: bool,
    /// Workers started so far.
    pub(crate) runs: u64,
    /// Nothing may be published any more.
    pub(crate) stopped: bool,
    hint: bool,
    /// Reloads by hand asked for so far, and up to which a step has begun for them.
    asked: u64,
    begun: u64,
    /// The last of them that something was published for; a stop in a callback comes before its answer.
    published: u64,
    /// Those whose answer somebody waits for.
    answers: HashMap<u64, Option<Reload>>,
}

impl<T> State<T> {
    fn wakers_of(&mut self, whom: Whom) -> &mut BTreeMap<u64, Waker> {
        match whom {
            Whom::All => &mut self.wakers,
            Whom::Draining => &mut self.draining,
        }
    }

    /// The status as it is told.
    pub(crate) fn status(&self) -> Status {
        Status { watched: self.watched.iter().cloned().collect(), ..self.status.summed() }
    }

    /// Takes what is asked for; a reload by hand comes first and does for a hint.
    fn asked_for(&mut self) -> Option<Ask> {
        if self.asked > self.begun {
            self.begun = self.asked;
            return Some(Ask::Reload);
        }
        std::mem::take(&mut self.hint).then_some(Ask::Hint)
    }

    /// Nothing may be published any more. What was asked for is over with that: whoever asked has said that the writing was
    /// over at that time, and has not said so of what a later start finds (INV-01 (b)).
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        // What has begun is answered by how it ends.
        let begun = std::mem::replace(&mut self.begun, self.asked);
        self.give_up_after(begun);
    }

    /// Nothing comes of the reloads that were asked for after that one.
    fn give_up_after(&mut self, begun: u64) {
        for (_, answer) in self.answers.iter_mut().filter(|(ticket, _)| **ticket > begun) {
            answer.get_or_insert(Reload::Stopped);
        }
    }
}

impl<T> Shared<T> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<T>> {
        lock(&self.state)
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    pub(crate) fn new(
        value: T,
        (status, progress): (Status, Progress),
        observers: Observers<T>,
        clock: Arc<dyn Clock>,
        drive: Box<dyn Drive<T>>,
    ) -> Self {
        Self {
            cell: Cell::new(Arc::new(Published::new(1, value))),
            observers,
            clock,
            state: Mutex::new(State {
                status,
                progress,
                watched: BTreeSet::new(),
                events: Ring::default(),
                wakers: BTreeMap::new(),
                draining: BTreeMap::new(),
                waits: 0,
                idle: Some(drive),
                driving: None,
                worker: false,
                runs: 0,
                stopped: false,
                hint: false,
                asked: 0,
                begun: 0,
                published: 0,
                answers: HashMap::new(),
            }),
            changed: Condvar::new(),
        }
    }

    /// Returns the status, with what only the caller's clock can say: whether the driver hangs.
    pub(crate) fn status(&self) -> Status {
        // The clock may be the embedder's code, so it is read without the lock. A snapshot that
        // ends meanwhile counts.
        let now = self.clock.now();
        let state = self.lock();
        let stalled_since = state.progress.stalled_since(now).filter(|_| state.status.running);
        Status { stalled_since, ..state.status() }
    }

    /// Wakes everybody who waits for a change of the state.
    pub(crate) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Waits for a change of the state, at most `limit`.
    pub(crate) fn wait<'a>(
        &self,
        state: MutexGuard<'a, State<T>>,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, State<T>> {
        crate::sync::wait(&self.changed, state, limit)
    }

    /// The files may have changed.
    pub(crate) fn hint(&self) {
        self.lock().hint = true;
        self.notify();
    }

    /// Whether this is called by a callback, a build or a watcher call of the driver.
    pub(crate) fn is_driver(state: &State<T>) -> bool {
        state.driving == Some(crate::sync::thread::current().id())
    }

    /// Publishes unless stopped: cell, status and events under one lock, so that none is ever ahead of another.
    pub(crate) fn publish(
        &self,
        set: usize,
        value: T,
        leaf: Option<Leaf>,
        shrunk: Option<Shrunk>,
        now: Now,
        recovered: bool,
    ) -> bool {
        let (published, events, old, wakers) = {
            let mut state = self.lock();
            if state.stopped {
                return false;
            }
            state.published = state.begun;
            let generation = state.status.generation + 1;
            let published = Arc::new(Published::new(generation, value));
            let old = self.cell.swap(Arc::clone(&published));
            let status = &mut state.status;
            status.generation = generation;
            status.served_since = now.wall;
            let name = status.name_of(set);
            let own = &mut status.sets[set];
            (own.generation, own.served_since) = (generation, now.wall);
            let old_leaf = std::mem::replace(&mut own.leaf, leaf.clone());
            own.refused = None;
            own.held_until = None;
            own.differs_since = None;
            own.expiring = None;
            let mut wakers = std::mem::take(&mut state.wakers);
            let told = Event::Published { generation, old: old_leaf, new: leaf, recovered, set: name };
            let mut events = vec![told];
            if let Some(Shrunk { epoch, lost }) = shrunk {
                state.status.shrunk = Some(generation);
                wakers.append(&mut state.draining);
                events.push(Event::TrustShrunk { generation, epoch, lost });
            }
            let events: Vec<_> = events.into_iter().map(Arc::new).collect();
            events.iter().for_each(|event| state.events.push(Arc::clone(event)));
            (published, events, old, wakers)
        };
        self.notify();
        self.wake(wakers);
        self.guard("drop", || drop(old));
        for observer in &self.observers.publications {
            self.guard("publish", || observer(&published));
        }
        events.iter().for_each(|event| self.observe(event));
        true
    }

    /// Tells an event.
    pub(crate) fn tell(&self, event: Event) {
        let event = Arc::new(event);
        let wakers = {
            let mut state = self.lock();
            state.events.push(Arc::clone(&event));
            std::mem::take(&mut state.wakers)
        };
        self.notify();
        self.wake(wakers);
        self.observe(&event);
    }

    fn observe(&self, event: &Event) {
        #[cfg(feature = "tracing")]
        crate::trace::emit(event);
        for observer in &self.observers.events {
            self.guard("event", || observer(event));
        }
    }

    /// Wakes tasks; a waker is the caller's code, as a callback is.
    fn wake(&self, wakers: BTreeMap<u64, Waker>) {
        for waker in wakers.into_values() {
            self.guard("wake", || waker.wake());
        }
    }

    /// A callback that panics ends neither the driver nor the other callbacks.
    fn guard(&self, kind: &str, call: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(call)) {
            drop_payload(payload);
            let error = Error::new(Layer::Panic, format!("a callback for {kind} panicked"));
            self.lock().events.push(Arc::new(Event::Warning { error }));
            self.notify();
        }
    }

    /// Answers every reload that was asked for before the present step began, and notes the status that goes with it.
    pub(crate) fn answer(&self, answer: &Reload, note: impl FnOnce(&mut Status)) {
        let mut state = self.lock();
        note(&mut state.status);
        let begun = state.begun;
        for (ticket, slot) in &mut state.answers {
            if *ticket <= begun && slot.is_none() {
                *slot = Some(answer.clone());
            }
        }
        drop(state);
        self.notify();
    }

    /// Asks for a reload and waits for its answer, driving it if nobody else does.
    pub(crate) fn reload_now(self: &Arc<Self>) -> Reload {
        let mut state = self.lock();
        if state.stopped {
            return Reload::Stopped;
        }
        state.asked += 1;
        if Self::is_driver(&state) {
            return Reload::Queued;
        }
        let ticket = state.asked;
        state.answers.insert(ticket, None);
        self.notify();
        loop {
            if let Some(Some(answer)) = state.answers.get(&ticket) {
                let answer = answer.clone();
                state.answers.remove(&ticket);
                return answer;
            }
            if state.stopped {
                state.answers.remove(&ticket);
                return if ticket <= state.published { Reload::Reloaded } else { Reload::Stopped };
            }
            // A worker that was started takes the driver itself.
            state = match (state.worker, state.idle.take()) {
                (false, Some(mut drive)) => {
                    state.driving = Some(crate::sync::thread::current().id());
                    // A tick that comes too early changes nothing.
                    let due = Some(Duration::ZERO);
                    let mut state = self.drive_while(state, &mut *drive, due, |state| {
                        state.asked > state.begun || state.answers.values().any(Option::is_none)
                    });
                    self.rest(&mut state, drive);
                    state
                }
                (_, idle) => {
                    state.idle = idle;
                    self.wait(state, None)
                }
            };
        }
    }

    /// Puts the driver back under the lock.
    fn rest(&self, state: &mut State<T>, drive: Box<dyn Drive<T>>) {
        state.driving = None;
        state.idle = Some(drive);
        if state.stopped {
            // A start may come before they wake, and what it begins does not know of them.
            state.give_up_after(0);
        }
        self.notify();
    }

    /// The worker: takes the driver, drives until stopped, and puts it back.
    pub(crate) fn work(self: &Arc<Self>) {
        let now = self.clock.now();
        let mut state = self.lock();
        loop {
            if let Some(drive) = state.idle.take() {
                state.driving = Some(crate::sync::thread::current().id());
                state.status.running = true;
                state.progress = state.progress.begun(now);
                state = self.drive(state, drive);
                break;
            }
            // A reload by hand has it, and may hang in a read: a stop does not wait for that.
            if state.stopped {
                break;
            }
            state = self.wait(state, None);
        }
        state.worker = false;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.notify();
        self.wake(wakers);
    }

    /// Drives until stopped.
    fn drive<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State<T>>,
        mut drive: Box<dyn Drive<T>>,
    ) -> MutexGuard<'a, State<T>> {
        if !state.stopped {
            drop(state);
            drive.begin(self);
            self.tell(Event::Started);
            let due = drive.pause();
            state = self.drive_while(self.lock(), &mut *drive, due, |_| true);
        }
        drop(state);
        drive.end(self);
        self.tell(Event::Stopped);
        let mut state = self.lock();
        state.status.running = false;
        state.watched.clear();
        state.status.unwatched.clear();
        self.rest(&mut state, drive);
        state
    }

    /// Steps for whatever the state asks for, until stopped or `go_on` says that it is enough; `due` is how long until
    /// the first tick. The driver and its clock are called while no lock is held.
    fn drive_while<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State<T>>,
        drive: &mut dyn Drive<T>,
        mut due: Option<Duration>,
        go_on: impl Fn(&State<T>) -> bool,
    ) -> MutexGuard<'a, State<T>> {
        while !state.stopped && go_on(&state) {
            let ask = if let Some(ask) = state.asked_for() {
                Some(ask)
            } else if due == Some(Duration::ZERO) {
                Some(Ask::Tick)
            } else {
                state = self.wait(state, due);
                // Woken for nothing that was asked: the time may have come.
                if state.asked > state.begun || state.hint || state.stopped {
                    continue;
                }
                None
            };
            drop(state);
            if let Some(ask) = ask {
                drive.step(self, ask);
            }
            due = drive.pause();
            state = self.lock();
        }
        state
    }
}

/// A task's wait for a change of the state. It keeps one waker, and none once it is dropped: however many tasks come and
/// go between two publications, only those that wait now are remembered (INV-12).
pub(crate) struct Waiting<T> {
    shared: Arc<Shared<T>>,
    whom: Whom,
    number: Option<u64>,
}

/// What a task waits for.
#[derive(Clone, Copy)]
enum Whom {
    /// Any event or publication.
    All,
    /// A publication that shrinks the trust.
    Draining,
}

impl<T> Waiting<T> {
    pub(crate) fn new(shared: &Arc<Shared<T>>) -> Self {
        Self::of(Whom::All, shared)
    }

    /// A wait for trust to shrink, which nothing else wakes.
    pub(crate) fn draining(shared: &Arc<Shared<T>>) -> Self {
        Self::of(Whom::Draining, shared)
    }

    fn of(whom: Whom, shared: &Arc<Shared<T>>) -> Self {
        Self { shared: Arc::clone(shared), whom, number: None }
    }

    /// What `ready` finds, or else a registration for the next of what is waited for, both under one lock.
    pub(crate) fn poll<R>(&mut self, waker: &Waker, ready: impl FnOnce(&State<T>) -> Option<R>) -> Poll<R> {
        let waker = waker.clone();
        let mut state = self.shared.lock();
        if let Some(ready) = ready(&state) {
            return Poll::Ready(ready);
        }
        let number = *self.number.get_or_insert(state.waits);
        state.waits = state.waits.max(number + 1);
        let old = state.wakers_of(self.whom).insert(number, waker);
        drop(state);
        // Whatever a waker's drop does, it does it without the lock.
        drop(old);
        Poll::Pending
    }
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        let old = self.number.and_then(|number| self.shared.lock().wakers_of(self.whom).remove(&number));
        drop(old);
    }
}

/// The worker's loop in single steps on the caller's thread, for a simulation that owns the time.
#[cfg(feature = "testkit")]
#[allow(clippy::expect_used)] // reason: a simulation has one thread, so the driver is always idle between two calls
impl<T: Send + Sync + 'static> Shared<T> {
    /// What a worker does first.
    pub(crate) fn begin_here(self: &Arc<Self>) {
        {
            let mut state = self.lock();
            state.stopped = false;
            state.status.running = true;
        }
        self.driving_here(|drive| drive.begin(self));
        self.tell(Event::Started);
    }

    /// What a stop and the worker do at the end.
    pub(crate) fn end_here(self: &Arc<Self>) {
        self.lock().stop();
        self.driving_here(|drive| drive.end(self));
        self.tell(Event::Stopped);
        let mut state = self.lock();
        state.status.running = false;
        state.watched.clear();
        state.status.unwatched.clear();
    }

    /// Asks for a reload by hand, which one of the next turns carries out; returns its number, or `None` after a stop.
    pub(crate) fn ask_here(&self) -> Option<u64> {
        let mut state = self.lock();
        if state.stopped {
            return None;
        }
        state.asked += 1;
        let ticket = state.asked;
        state.answers.insert(ticket, None);
        Some(ticket)
    }

    /// The answer to it, once there is one.
    pub(crate) fn answered_here(&self, ticket: u64) -> Option<Reload> {
        let mut state = self.lock();
        state.answers.get(&ticket)?.as_ref()?;
        state.answers.remove(&ticket)?
    }

    /// Takes the step that is due; where none is, returns how long that lasts.
    pub(crate) fn turn(self: &Arc<Self>) -> Result<(), Option<Duration>> {
        self.driving_here(|drive| {
            let asked = self.lock().asked_for();
            let ask = match asked {
                Some(ask) => ask,
                None => match drive.pause() {
                    Some(Duration::ZERO) => Ask::Tick,
                    pause => return Err(pause),
                },
            };
            drive.step(self, ask);
            Ok(())
        })
    }

    /// Everything that the next turns depend on.
    pub(crate) fn digest(&self, hasher: &mut dyn std::hash::Hasher) {
        let state = self.lock();
        let waiting = (state.hint, state.stopped, state.asked > state.begun);
        std::hash::Hash::hash(&waiting, &mut &mut *hasher);
        if let Some(drive) = &state.idle {
            drive.digest(hasher);
        }
    }

    fn driving_here<R>(&self, call: impl FnOnce(&mut dyn Drive<T>) -> R) -> R {
        let mut drive = {
            let mut state = self.lock();
            state.driving = Some(crate::sync::thread::current().id());
            state.idle.take().expect("an idle driver")
        };
        let result = call(&mut *drive);
        self.rest(&mut self.lock(), drive);
        result
    }
}

#[cfg(all(test, feature = "testkit", not(loom)))]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    /// Finds the files torn, whenever it looks.
    struct Torn;

    impl Drive<u64> for Torn {
        fn begin(&mut self, _: &Arc<Shared<u64>>) {}

        fn step(&mut self, _: &Shared<u64>, _: Ask) {}

        fn pause(&self) -> Option<Duration> {
            None
        }

        fn end(&mut self, _: &Shared<u64>) {}

        fn digest(&self, _: &mut dyn std::hash::Hasher) {}
    }

    /// Checks: INV-13. A start may come before whoever waits has woken, and its driver knows nothing of him.
    #[test]
    fn inv13_a_reload_that_a_stop_left_unfinished_is_answered_though_a_start_follows_at_once() {
        let now = Now { mono: Duration::ZERO, wall: Duration::ZERO };
        let shared = Arc::new(Shared::new(
            1,
            (
                Status::first(std::iter::empty(), Duration::ZERO),
                Progress::new(now, Duration::ZERO, Duration::ZERO),
            ),
            Observers::default(),
            Arc::new(SystemClock::new()),
            Box::new(Torn),
        ));
        shared.begin_here();
        let ticket = shared.ask_here().expect("it runs");
        assert_eq!(shared.turn(), Ok(()), "it has begun");
        assert_eq!(shared.answered_here(ticket), None);
        shared.end_here();
        shared.begin_here();
        assert_eq!(shared.answered_here(ticket), Some(Reload::Stopped));
    }
}
