//! Files in, published values out: the public API of the part that knows nothing of TLS.

use std::{
    fmt,
    future::Future,
    path::Path,
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use crate::{
    build::Build,
    clock::{Clock, SystemClock},
    decide::machine::Timing,
    drive::{
        cell::Published,
        engine::{Engine, InitialLoad},
        shared::{Observers, Reload, Shared, Waiting},
    },
    fs::{Fs, NativeFs},
    probe::Probe,
    read::snapshot::PathSet,
    report::{
        error::{Error, Layer, Warning},
        event::{self, Event},
        expiry::Thresholds,
        status::Status,
    },
    sync::{Arc, Deadline, Mutex, lock, thread},
    watch::MakeWatcher,
};

/// How long a stop waits for the driver (INV-13).
pub const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Settings of a [`Reloader`] before its first load.
pub struct Builder<B: Build> {
    build: B,
    sets: Result<Vec<PathSet>, Error>,
    timing: Timing,
    clock: Arc<dyn Clock>,
    make_watcher: Option<MakeWatcher>,
    observers: Observers<B::Value>,
    thresholds: Thresholds,
}

impl<B: Build> Builder<B> {
    /// Makes the settings of a reloader that reads these files, as one file set, and builds values
    /// with `build`. [`set`](Self::set) adds further file sets.
    #[must_use]
    pub fn new<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>, build: B) -> Self {
        Self {
            build,
            sets: PathSet::new(paths).map(|set| vec![set]),
            timing: Timing::default(),
            clock: Arc::new(SystemClock::new()),
            #[cfg(all(feature = "notify", not(loom)))]
            make_watcher: Some(Box::new(crate::watch::notify_watcher)),
            #[cfg(not(all(feature = "notify", not(loom))))]
            make_watcher: None,
            observers: Observers::default(),
            thresholds: Thresholds::default(),
        }
    }

    /// Adds a file set: it is read, settled and rejected by itself, and keeps its own last good
    /// value. A publication changes one set. The build step gets its index by
    /// [`Context::set`](crate::Context::set), in the order given here, the first being 0.
    #[must_use]
    pub fn set<P: AsRef<Path>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.sets = self.sets.and_then(|mut sets| {
            sets.push(PathSet::new(paths)?);
            Ok(sets)
        });
        self
    }

    /// Adds a file set as [`set`](Self::set) does, for a set of directories only
    /// ([`PathSet::of_directory`]).
    #[must_use]
    pub fn path_set(mut self, set: PathSet) -> Self {
        if let Ok(sets) = &mut self.sets {
            sets.push(set);
        }
        self
    }

    /// Adds every file in this directory to the file set that was added last, behind its paths: see
    /// [`PathSet::directory`]. A file that comes, goes or is replaced in it is a change of the set.
    /// Such a change always has to settle, unless the directory itself has moved with all other
    /// files of the set.
    #[must_use]
    pub fn directory(mut self, dir: impl AsRef<Path>) -> Self {
        self.sets = self.sets.and_then(|mut sets| {
            let last = sets.pop().map(|set| set.directory(dir)).transpose()?;
            sets.extend(last);
            Ok(sets)
        });
        self
    }

    /// Raises the size limit of the files of the last file set, from the file at index `first` on:
    /// see [`PathSet::large_from`].
    #[must_use]
    pub fn large_from(mut self, first: usize) -> Self {
        self.sets = self.sets.map(|mut sets| {
            let last = sets.pop().map(|set| set.large_from(first));
            sets.extend(last);
            sets
        });
        self
    }

    /// Calls `observer` with each event, in order, on the thread that reports it (most often the
    /// driver's), while no lock is held. It may ask for a reload (which is queued) or stop the
    /// reloader. A panic in it is reported as a warning to subscribers.
    #[must_use]
    pub fn on_event(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.observers.events.push(Box::new(observer));
        self
    }

    /// Calls `observer` with each value that is published after the first load, once handshakes get
    /// it. It may do as an observer of [`on_event`](Self::on_event) may.
    #[must_use]
    pub fn on_publish(
        mut self,
        observer: impl Fn(&Arc<Published<B::Value>>) + Send + Sync + 'static,
    ) -> Self {
        self.observers.publications.push(Box::new(observer));
        self
    }

    /// Replaces the default delays. Invariants about time hold with the delays given.
    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing.bounded();
        self
    }

    /// Replaces the system's clocks, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Replaces the watcher. With `None` the files are polled, which is reported as degraded.
    #[must_use]
    pub fn watcher(mut self, make: Option<MakeWatcher>) -> Self {
        self.make_watcher = make;
        self
    }

    /// Reports a served leaf whose end is no further away than each of these times
    /// ([`Event::Expiring`]), instead of [`EXPIRY_WARNINGS`](crate::EXPIRY_WARNINGS). Without any,
    /// only an expired leaf is reported ([`Event::Expired`]).
    ///
    /// Each threshold is reported once, at the first load or the first snapshot after it has
    /// passed. Of several that have passed only the last is reported. A threshold is reported again
    /// only after the wall clock was set back to more than an hour before it, and at most once a
    /// day. The thresholds hold for each leaf alike, however short its validity.
    #[must_use]
    pub fn expiry_warnings(mut self, before: impl IntoIterator<Item = Duration>) -> Self {
        self.thresholds = Thresholds::exactly(before);
        self
    }

    /// Puts another build step around this one.
    pub(crate) fn around<C: Build<Value = B::Value>>(self, around: impl FnOnce(B) -> C) -> Builder<C> {
        let Self { build, sets, timing, clock, make_watcher, observers, thresholds } = self;
        Builder { build: around(build), sets, timing, clock, make_watcher, observers, thresholds }
    }

    /// Loads the files and builds the first value. Nothing is watched before [`Reloader::start`].
    ///
    /// Blocks for at most about six seconds (with the default [`Timing`]), where the files changed
    /// within the settle time or keep changing.
    ///
    /// # Errors
    /// Any rejection, naming layer and path. Only torn reads are retried.
    pub fn load(self) -> Result<Reloader<B::Value>, Error> {
        self.load_from(NativeFs::default())
    }

    /// Loads the files as [`load`](Self::load) does, from another file system, for tests.
    ///
    /// # Errors
    /// Fails as [`load`](Self::load) does.
    pub fn load_from<F>(self, fs: F) -> Result<Reloader<B::Value>, Error>
    where
        F: Fs,
        F::Dir: Send,
        F::File: Send,
    {
        self.load_probed(fs, ())
    }

    /// As [`load_from`](Self::load_from), with a probe.
    pub(crate) fn load_probed<F, P>(self, fs: F, probe: P) -> Result<Reloader<B::Value>, Error>
    where
        F: Fs,
        F::Dir: Send,
        F::File: Send,
        P: Probe,
    {
        let sets = self.sets?;
        let names: Vec<_> = sets.iter().map(|set| Arc::from(set.name())).collect();
        let Self { build, clock, timing, make_watcher, thresholds, .. } = self;
        let InitialLoad { mut engine, whole, now, progress } =
            Engine::load((fs, probe), sets, build, &*clock, timing, make_watcher, thresholds)?;
        // A build may return fewer leaves than there are file sets; the others have none.
        let leaves = whole.leaves.into_iter().chain(std::iter::repeat(None));
        let mut status = Status::first(names.into_iter().zip(leaves), now.wall);
        let expiring: Vec<_> =
            (0..status.sets.len()).filter_map(|set| engine.check_expiry(&mut status, set, now)).collect();
        let shared =
            Arc::new(Shared::new(whole.value, (status, progress), self.observers, clock, Box::new(engine)));
        event::warnings(whole.warnings).for_each(|warning| shared.report(warning));
        expiring.into_iter().for_each(|event| shared.report(event));
        Ok(Reloader(Arc::new(Owner { shared, worker: Arc::new(Mutex::new(None)) })))
    }
}

impl<B: Build> fmt::Debug for Builder<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sets, timing, .. } = self;
        f.debug_struct("Builder").field("sets", sets).field("timing", timing).finish_non_exhaustive()
    }
}

/// Keeps a published value up to date with its files: reads it, asks for reloads, waits for
/// publications, starts and stops. A [`Builder`] loads it. Cheap to clone; all clones are one
/// reloader.
///
/// It goes on reloading for as long as a clone of it exists, or until [`stop`](Reloader::stop).
/// Futures and [`Events`] made of it are no clones. Dropping the last clone stops the driver and
/// waits for it as `stop` does, but on a thread of a tokio runtime (feature `tokio`) does not wait.
/// A callback, build step, clock or value that captures a clone keeps the reloader alive by that:
/// such a reloader ends by `stop` alone.
#[must_use = "dropping the last clone stops reloading"]
pub struct Reloader<T: Send + Sync + 'static>(Arc<Owner<T>>);

/// Ends the driver when the last clone of a reloader is gone.
struct Owner<T: Send + Sync + 'static> {
    shared: Arc<Shared<T>>,
    worker: Arc<Worker>,
}

impl<T: Send + Sync + 'static> Drop for Owner<T> {
    fn drop(&mut self) {
        // The last owner is often the last connection of a server, on a thread of an executor.
        if is_on_executor() {
            self.shared.lock().stop();
            self.shared.notify();
        } else if let Err(timeout) = wait_for_stop(&self.shared, &self.worker, None) {
            self.shared.report_to_subscribers(timeout.into_event());
        }
    }
}

/// Returns whether this thread belongs to an executor, where waiting would hold up its tasks.
fn is_on_executor() -> bool {
    #[cfg(all(feature = "tokio", not(loom)))]
    return tokio::runtime::Handle::try_current().is_ok();
    #[cfg(not(all(feature = "tokio", not(loom))))]
    false
}

/// The driver's thread, until a stop has joined it.
pub(crate) type Worker = Mutex<Option<thread::JoinHandle<()>>>;

/// The reason why no driver was started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// A driver runs, or hangs after a stop.
    AlreadyRunning,
    /// The system has no thread for the driver; a later start may find one.
    NoThread(Error),
}

impl StartError {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::NoThread(error) => error,
            Self::AlreadyRunning => Error::new(Layer::Settings, self.to_string()),
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyRunning => f.write_str("a reload worker is running already; stop it first"),
            Self::NoThread(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

/// Makes the error that no thread was available for this purpose.
pub(crate) fn no_thread(purpose: &str, why: std::io::Error) -> Error {
    Error::new(Layer::Process, format!("no thread for {purpose}: {why}")).caused_by(why)
}

/// The driver did not end within [`STOP_LIMIT`]: it hangs in a read, a build or a callback. It
/// publishes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopTimeout;

impl fmt::Display for StopTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the reload worker did not end within {} s: a read, a build or a callback hangs. It publishes \
             nothing any more",
            STOP_LIMIT.as_secs()
        )
    }
}

impl std::error::Error for StopTimeout {}

impl StopTimeout {
    fn into_event(self) -> Event {
        Event::Warning { warning: Warning::new(Layer::Settings, self.to_string()) }
    }
}

impl<T: Send + Sync + 'static> Reloader<T> {
    /// Starts the driver: one thread that watches, takes snapshots, builds and publishes.
    ///
    /// It takes a snapshot once the watch is armed, so a change since the first load is not missed.
    ///
    /// # Errors
    /// [`StartError::AlreadyRunning`] while a driver runs, or hangs after a stop; that is also
    /// reported as a warning. [`StartError::NoThread`] where the system has no thread left.
    pub fn start(&self) -> Result<(), StartError> {
        self.begin().map(|_| ())
    }

    /// Starts the driver as [`start`](Self::start) does; returns the number of the run.
    pub(crate) fn begin(&self) -> Result<u64, StartError> {
        let Owner { shared, worker } = &*self.0;
        shared.attend();
        let mut worker = lock(worker);
        let (run, stopped) = {
            let mut state = shared.lock();
            let Some(stopped) = state.start() else {
                drop(state);
                drop(worker);
                let running = StartError::AlreadyRunning;
                let warning = Warning::new(Layer::Settings, running.to_string());
                shared.report(Event::Warning { warning });
                return Err(running);
            };
            (state.runs, stopped)
        };
        let driver = Arc::clone(shared);
        match spawn(move || driver.work()) {
            Ok(thread) => *worker = Some(thread),
            Err(error) => {
                // Nothing runs, a stop from before still counts, and a later start may succeed.
                let mut state = shared.lock();
                state.worker = false;
                state.stopped |= stopped;
                drop(state);
                shared.notify();
                return Err(StartError::NoThread(no_thread("the reload worker", error)));
            }
        }
        Ok(run)
    }

    /// Stops the driver and waits for its end, at most [`STOP_LIMIT`] (5 s). Nothing is published
    /// from here on.
    ///
    /// Called from a callback it does not wait: the driver ends once the callback has returned.
    ///
    /// # Errors
    /// [`StopTimeout`] where the driver has not ended in time; that is also reported as a warning.
    pub fn stop(&self) -> Result<(), StopTimeout> {
        stop(&self.0.shared, &self.0.worker, None)
    }

    #[cfg(all(feature = "tokio", not(loom)))]
    pub(crate) fn parts(&self) -> (Arc<Shared<T>>, Arc<Worker>) {
        (Arc::clone(&self.0.shared), Arc::clone(&self.0.worker))
    }

    /// Returns the shared state, which a simulation drives.
    pub(crate) fn shared(&self) -> &Arc<Shared<T>> {
        &self.0.shared
    }

    /// Reports once that handshakes are served although nothing reloads.
    pub(crate) fn note_handshake(&self) {
        self.0.shared.note_handshake();
    }

    /// Returns the value published last, with its generation. Waits for nothing (INV-07).
    #[must_use]
    pub fn current(&self) -> Arc<Published<T>> {
        self.0.shared.cell.load()
    }

    /// Runs `read` on the value published last, without counting a reference to it. `read` must be
    /// short.
    pub fn with_current<R>(&self, read: impl FnOnce(&Published<T>) -> R) -> R {
        self.0.shared.cell.with(read)
    }

    /// Returns the status at this moment, consistent in itself. Works without a driver too.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.shared.status()
    }

    /// Reloads now and waits for the outcome. The caller asserts that the writing is over: one
    /// consistent snapshot is enough, and nothing has to settle.
    ///
    /// Works without a driver too. From a callback it returns [`Reload::Queued`] at once; once the
    /// reloader was stopped it returns [`Reload::Stopped`].
    pub fn reload_now(&self) -> Reload {
        self.0.shared.attend();
        self.0.shared.reload_now()
    }

    /// Waits for a generation after `generation`, at most `limit`, and returns the value published
    /// last. Returns `None` if no such generation was published in time.
    pub fn wait_published(&self, generation: u64, limit: Duration) -> Option<Arc<Published<T>>> {
        let deadline = Deadline::after(limit);
        let mut state = self.0.shared.lock();
        loop {
            if state.status.generation > generation {
                return Some(self.current());
            }
            state = self.0.shared.wait(state, Some(deadline.left()?));
        }
    }

    /// Returns a future of the first publication after `generation`, for any runtime.
    pub fn published(&self, generation: u64) -> PublishedAfter<T> {
        let shared = Arc::clone(&self.0.shared);
        PublishedAfter { shared, waiting: Waiting::new(&self.0.shared), generation }
    }

    /// Calls `observer` with the value served now, before this returns, and with each later one: in
    /// order, none twice, one call after the other, while no lock is held.
    ///
    /// Later calls are made by the thread that publishes. A publication that comes while the first
    /// call lasts is delivered by this thread after it; of several such publications, only the
    /// latest. This suits servers that take each new configuration themselves. A connection that
    /// waits for [`trust_reduced`](Self::trust_reduced) can be woken before `observer` is called.
    pub fn on_publish(&self, observer: impl Fn(&Arc<Published<T>>) + Send + Sync + 'static) {
        self.0.shared.on_publish(observer);
    }

    /// Returns whether the trust was reduced since this generation: a client may have been accepted
    /// under it that would be rejected now.
    #[must_use]
    pub fn trust_reduced_since(&self, generation: u64) -> bool {
        self.0.shared.lock().status.reduced_after(generation).is_some()
    }

    /// Returns a future of the first publication after `generation` that removes trust, for any
    /// runtime. No other publication wakes it. It is ready at once if that has happened already.
    pub fn trust_reduced(&self, generation: u64) -> TrustReduced<T> {
        TrustReduced { waiting: Waiting::draining(&self.0.shared), generation }
    }

    /// Subscribes to the events from now on.
    #[must_use]
    pub fn events(&self) -> Events<T> {
        let next = self.0.shared.lock().events.next();
        Events { shared: Arc::clone(&self.0.shared), next }
    }
}

impl<T: Send + Sync + 'static> Clone for Reloader<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Reloader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// Stops the driver as [`Reloader::stop`] does; with `only`, no other run than that one.
pub(crate) fn stop<T: Send + Sync + 'static>(
    shared: &Arc<Shared<T>>,
    worker: &Worker,
    only: Option<u64>,
) -> Result<(), StopTimeout> {
    let stopped = wait_for_stop(shared, worker, only);
    if let Err(timeout) = stopped {
        shared.report(timeout.into_event());
    }
    stopped
}

/// Stops the driver as [`stop`] does, and reports nothing.
fn wait_for_stop<T: Send + Sync + 'static>(
    shared: &Arc<Shared<T>>,
    worker: &Worker,
    only: Option<u64>,
) -> Result<(), StopTimeout> {
    let mut state = shared.lock();
    if only.is_some_and(|only| only != state.runs) {
        return Ok(());
    }
    state.stop();
    // Also from a callback: a caller that waits for a reload must not wait for the callback's end.
    shared.notify();
    if Shared::is_driver(&state) {
        return Ok(());
    }
    // Waits for the stopped run only: a start may have begun the next one before this thread wakes.
    let run = state.runs;
    let deadline = Deadline::after(STOP_LIMIT);
    while state.worker && state.runs == run {
        let Some(left) = deadline.left() else {
            return Err(StopTimeout);
        };
        state = shared.wait(state, Some(left));
    }
    drop(state);
    let ended = {
        let mut worker = lock(worker);
        if shared.lock().worker { None } else { worker.take() }
    };
    // The thread has put the driver back and does nothing more, so this join is immediate. No lock
    // is held: a waker that the thread wakes last may start or stop the reloader as well, and
    // cannot join itself.
    if let Some(ended) = ended.filter(|ended| ended.thread().id() != thread::current().id()) {
        let _ = ended.join();
    }
    Ok(())
}

#[cfg(not(loom))]
fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("rustls-reload".to_owned()).spawn(work)
}

#[cfg(loom)]
fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<thread::JoinHandle<()>> {
    Ok(thread::spawn(work))
}

/// A future of the value that is served once a generation after the given one is published.
#[must_use]
pub struct PublishedAfter<T> {
    shared: Arc<Shared<T>>,
    waiting: Waiting<T>,
    generation: u64,
}

impl<T: Send + Sync + 'static> Future for PublishedAfter<T> {
    type Output = Arc<Published<T>>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let Self { shared, waiting, generation } = self.get_mut();
        waiting.poll(cx.waker(), |state| (state.status.generation > *generation).then(|| shared.cell.load()))
    }
}

/// A future of the latest generation that reduced the trust, once one after the given generation
/// has.
///
/// Handshakes get that generation by then. A stopped reloader publishes nothing, so nothing
/// resolves the future.
#[must_use]
pub struct TrustReduced<T> {
    waiting: Waiting<T>,
    generation: u64,
}

impl<T: Send + Sync + 'static> Future for TrustReduced<T> {
    type Output = u64;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<u64> {
        let Self { waiting, generation } = self.get_mut();
        waiting.poll(cx.waker(), |state| state.status.reduced_after(*generation))
    }
}

impl<T> fmt::Debug for PublishedAfter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishedAfter").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for TrustReduced<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustReduced").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// Reads events one by one. A subscriber that lags by more than [`EVENT_LIMIT`](crate::EVENT_LIMIT)
/// events loses the oldest.
pub struct Events<T> {
    shared: Arc<Shared<T>>,
    next: u64,
}

impl<T> fmt::Debug for Events<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("next", &self.next).finish_non_exhaustive()
    }
}

/// An event, and the number of events lost before it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// The event.
    pub event: Arc<Event>,
    /// The number of events that this subscriber has lost directly before it.
    pub lost: u64,
}

impl<T: Send + Sync + 'static> Events<T> {
    /// Returns the next event, if there is one already.
    pub fn try_next(&mut self) -> Option<Delivered> {
        let event = self.shared.lock().events.read(self.next);
        event.map(|event| self.take(event))
    }

    /// Returns the next event; waits for it at most `limit`.
    pub fn next_within(&mut self, limit: Duration) -> Option<Delivered> {
        let deadline = Deadline::after(limit);
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        loop {
            if let Some(event) = state.events.read(self.next) {
                return Some(self.take(event));
            }
            state = shared.wait(state, Some(deadline.left()?));
        }
    }

    fn take(&mut self, (event, lost): (Arc<Event>, u64)) -> Delivered {
        self.next += lost + 1;
        Delivered { event, lost }
    }
}
