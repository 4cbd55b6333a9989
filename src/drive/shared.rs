//! Holds the state that handshakes, the driver and all callers share.
//!
//! There is one cell, one mutex and one condition variable. Handshakes touch the cell only. The
//! mutex is never held during I/O, a build or a callback (INV-07). The idle driver itself lies
//! under the mutex, and a thread that drives takes it out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    task::Waker,
    time::Duration,
};

use crate::{
    build::TrustReduction,
    clock::{Clock, Now},
    drive::cell::{Cell, Published},
    probe::StateHash,
    report::{
        error::{Error, Layer, Warning, drop_payload},
        event::{Event, Leaf, Ring},
        status::{Progress, Status},
    },
    sync::{Arc, Condvar, Mutex, MutexGuard, lock, thread::ThreadId},
};

mod driving;
mod observers;
mod state_hash;
mod waiting;

pub use driving::{ManualReload, Next, WorkerLoop};
use observers::LateObserver;
pub(crate) use observers::Observers;
pub(crate) use waiting::Waiting;

/// The outcome of a manual reload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reload {
    /// A new generation is served.
    Reloaded,
    /// The files hold the served bytes.
    Unchanged,
    /// The files hold a valid file set that is deferred until this date, since the Unix epoch.
    Deferred(Duration),
    /// The files were rejected; the served value stays served.
    Refused(Error),
    /// The reload was asked for from a callback: it happens once the callback has returned.
    Queued,
    /// The reloader was stopped: nothing was published for this reload, and nothing is any more.
    Stopped,
}

/// The engine as an object, so that all other code is generic over the value only.
pub(crate) trait Drive<T>: StateHash + Send {
    /// Arms the watch and takes the first snapshots. `now` has just been read.
    fn begin(&mut self, shared: &Arc<Shared<T>>, now: Now);
    /// Takes one step.
    fn step(&mut self, shared: &Shared<T>, ask: Ask);
    /// Returns how long until the next tick is due; zero if it is.
    fn pause(&self, shared: &Shared<T>) -> Option<Duration>;
    /// Frees the watch.
    fn end(&mut self, shared: &Shared<T>);
}

/// The reason for a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Hint,
    Tick,
    Reload,
}

/// The kind of change that a task waits for.
#[derive(Clone, Copy)]
enum WaitKind {
    /// Any event or publication.
    All,
    /// A publication that reduces the trust.
    Draining,
}

/// The state that all clones of a reloader and its driver share.
pub struct Shared<T> {
    pub(crate) cell: Cell<Published<T>>,
    observers: Observers<T>,
    /// The series of each file set.
    #[cfg(feature = "metrics")]
    series: Vec<crate::report::metrics::Series>,
    /// Added after the load; see [`Shared::on_publish`].
    late: Mutex<Vec<Arc<LateObserver<T>>>>,
    /// Set once a driver was started or a manual reload was made, or their absence was reported.
    attended: AtomicBool,
    clock: Arc<dyn Clock>,
    state: Mutex<State<T>>,
    changed: Condvar,
}

/// The state under the mutex.
pub struct State<T> {
    /// Without the summary of all file sets and without the watched directories: see
    /// [`State::status`].
    pub status: Status,
    pub(crate) progress: Progress,
    pub(crate) watched: BTreeSet<PathBuf>,
    pub(crate) events: Ring,
    /// Wakers of tasks that wait for any change, by the number of the wait.
    wakers: BTreeMap<u64, Waker>,
    /// Wakers of tasks that wait for reduced trust only. There may be one for each connection, and
    /// no other change may wake them.
    draining: BTreeMap<u64, Waker>,
    /// The number of waits so far, of both kinds.
    waits: u64,
    /// The driver, while no thread drives.
    idle: Option<Box<dyn Drive<T>>>,
    /// The thread that is in a call of the driver.
    driving: Option<ThreadId>,
    /// The number of workers started so far.
    pub(crate) runs: u64,
    /// Set once nothing may be published any more.
    pub(crate) stopped: bool,
    hint: bool,
    /// The number of manual reloads asked for so far; `begun` is the last of them that a step has
    /// begun for.
    asked: u64,
    begun: u64,
    /// The last manual reload that was asked for before the last stop. That stop ended it and all
    /// before it.
    ended: u64,
    /// The last manual reload that something was published for. A stop in a callback of the
    /// publication comes before the reload is answered.
    published: u64,
    /// The manual reloads that a caller waits for, with their answers.
    answers: HashMap<u64, Option<Reload>>,
}

impl<T> State<T> {
    fn wakers_of(&mut self, kind: WaitKind) -> &mut BTreeMap<u64, Waker> {
        match kind {
            WaitKind::All => &mut self.wakers,
            WaitKind::Draining => &mut self.draining,
        }
    }

    /// Returns the status with its summary of all file sets and the watched directories.
    pub fn status(&self) -> Status {
        Status { watched: self.watched.iter().cloned().collect(), ..self.status.summed() }
    }
}

impl<T> Shared<T> {
    /// Locks the state.
    pub fn lock(&self) -> MutexGuard<'_, State<T>> {
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
            #[cfg(feature = "metrics")]
            series: crate::report::metrics::Series::of(&status.sets),
            late: Mutex::new(Vec::new()),
            attended: AtomicBool::new(false),
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
                runs: 0,
                stopped: false,
                hint: false,
                asked: 0,
                begun: 0,
                ended: 0,
                published: 0,
                answers: HashMap::new(),
            }),
            changed: Condvar::new(),
        }
    }

    /// Returns the status with the field that only the caller's clock can fill in: whether the
    /// driver hangs.
    pub(crate) fn status(&self) -> Status {
        // The clock may be the embedder's code, so it is read without the lock. A snapshot that
        // ends meanwhile counts.
        let now = self.clock.now();
        let state = self.lock();
        let stalled_since = state.progress.stalled_since(now).filter(|_| state.status.running);
        Status { stalled_since, ..state.status() }
    }

    /// Starts a worker, unless one runs. Returns the number of the run, and whether that undoes a
    /// stop.
    pub fn start(&self) -> Option<(u64, bool)> {
        // Where the clock panics, the last progress counts on.
        let now = self.now(Now::PAST);
        let mut state = self.lock();
        let stopped = state.start(now)?;
        Some((state.runs, stopped))
    }

    /// Wakes every thread that waits for a change of the state.
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

    /// Records that the files may have changed.
    pub(crate) fn hint(&self) {
        self.lock().hint = true;
        self.notify();
    }

    /// Publishes unless stopped. Cell, status and events change under one lock, so that none is
    /// ever ahead of another.
    pub(crate) fn publish(
        &self,
        set: usize,
        value: T,
        leaf: Option<Leaf>,
        reduction: Option<TrustReduction>,
        now: Now,
        recovered: bool,
    ) -> bool {
        let (published, events, old, wakers) = {
            let mut state = self.lock();
            if state.stopped {
                drop(state);
                self.discard(value);
                return false;
            }
            state.published = state.begun;
            let generation = state.status.generation + 1;
            let published = Arc::new(Published::new(generation, value));
            let old = self.cell.swap(Arc::clone(&published));
            let mut events = vec![note_published(&mut state.status, set, leaf, now, recovered)];
            let mut wakers = std::mem::take(&mut state.wakers);
            if let Some(TrustReduction { epoch, removed: lost }) = reduction {
                state.status.trust_reduced = Some(generation);
                wakers.append(&mut state.draining);
                events.push(Event::TrustReduced { generation, epoch, lost });
            }
            let events: Vec<_> = events.into_iter().map(Arc::new).collect();
            events.iter().for_each(|event| state.events.push(Arc::clone(event)));
            (published, events, old, wakers)
        };
        self.notify();
        self.wake(wakers);
        self.discard(old);
        for observer in &self.observers.publications {
            self.guard("a callback for a publication", || observer(&published));
        }
        // The list is copied, since a callback may add to it.
        let late = lock(&self.late).clone();
        for observer in late {
            self.deliver(&observer, &published);
        }
        events.iter().for_each(|event| self.observe(event));
        true
    }

    /// Records that a driver or a manual reload sees to reloading.
    pub(crate) fn attend(&self) {
        self.attended.store(true, Ordering::Relaxed);
    }

    /// Reports once that a handshake is served although no driver was ever started.
    ///
    /// The report is made on a thread of its own, because a handshake waits for no callback (INV-07).
    pub(crate) fn note_handshake(self: &Arc<Self>) {
        if self.attended.load(Ordering::Relaxed) || self.attended.swap(true, Ordering::Relaxed) {
            return;
        }
        let shared = Arc::clone(self);
        let report = move || {
            let state = shared.lock();
            // A start may have come meanwhile.
            if state.runs == 0 && state.asked == 0 {
                drop(state);
                let why = "handshakes are served, but reloading was never started, so no change of the \
                           files is served: call `start`";
                shared.report(Event::Warning { warning: Warning::new(Layer::Settings, why) });
            }
        };
        if std::thread::Builder::new().spawn(report).is_err() {
            // A later handshake tries again.
            self.attended.store(false, Ordering::Relaxed);
        }
    }

    /// Reports an event to subscribers alone: for a thread that must not run callbacks.
    pub(crate) fn report_to_subscribers(&self, event: Event) {
        self.lock().events.push(Arc::new(event));
        self.notify();
    }

    /// Reports an event to subscribers, tasks and callbacks.
    pub(crate) fn report(&self, event: Event) {
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

    /// Wakes tasks. A waker is the caller's code, as a callback is.
    fn wake(&self, wakers: BTreeMap<u64, Waker>) {
        for waker in wakers.into_values() {
            self.guard("a waker", || waker.wake());
        }
    }

    /// Drops a value. Its drop is the embedder's code, so it runs without the lock.
    pub(crate) fn discard<V>(&self, value: V) {
        self.guard("the drop of a value", || drop(value));
    }

    /// Reads the embedder's clock for the driver. Where the clock panics, this returns `last`, the
    /// driver's reading before: time stands still for it, and never goes back (ASM-03).
    pub(crate) fn now(&self, last: Now) -> Now {
        let mut now = last;
        self.guard("the clock", || now = self.clock.now());
        now
    }

    /// Calls the embedder's code. A panic in it ends neither the driver nor what comes after the
    /// call: it is reported as a warning.
    pub(crate) fn guard(&self, what: &str, call: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(call)) {
            drop_payload(payload);
            let warning = Warning::new(Layer::Panic, format!("{what} panicked"));
            self.lock().events.push(Arc::new(Event::Warning { warning }));
            self.notify();
        }
    }

    /// Answers every manual reload that was asked for before the present step began, and records
    /// the status that goes with it.
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
}

/// Records the next generation, which this file set has changed. Returns the event that reports it.
fn note_published(status: &mut Status, set: usize, leaf: Option<Leaf>, now: Now, recovered: bool) -> Event {
    status.generation += 1;
    status.served_since = now.wall;
    let generation = status.generation;
    let name = status.name_of(set);
    let own = &mut status.sets[set];
    (own.generation, own.served_since) = (generation, now.wall);
    let old = std::mem::replace(&mut own.leaf, leaf.clone());
    own.refused = None;
    own.deferred_until = None;
    own.differs_since = None;
    own.expiring = None;
    Event::Published { generation, old, new: leaf, recovered, set: name }
}
