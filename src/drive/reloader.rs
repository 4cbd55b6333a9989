//! Files in, published values out: the public API of the part that knows nothing of TLS.

use std::{fmt, time::Duration};

use crate::{
    drive::{
        cell::Published,
        shared::{Reload, Shared, Waiting},
    },
    report::{
        error::{Error, Layer, Warning},
        event::Event,
        status::Status,
    },
    sync::{Arc, Deadline, lock, thread},
};

mod builder;
mod events;
mod published;
mod stop;
pub use builder::Builder;
pub use events::{Delivered, Events};
pub use published::{PublishedAfter, TrustReduced};
pub(crate) use stop::stop;
pub use stop::{STOP_LIMIT, StopTimeout};
use stop::{Worker, wait_for_stop};

/// Keeps a published value up to date with its files: reads it, asks for reloads, waits for
/// publications, starts and stops. A [`Builder`] loads it. Cheap to clone; all clones are one
/// reloader.
///
/// It goes on reloading for as long as a clone of it exists, or until [`stop`](Reloader::stop).
/// Acceptors, resolvers and configurations for life hold a clone. A future, an [`Events`] or an
/// observer of [`on_publish`](Self::on_publish) does not keep it going. Dropping the
/// last clone stops the driver and waits for it as `stop` does, but on a thread of a tokio runtime
/// (feature `tokio`) does not wait. A callback, build step, clock or value that captures a clone
/// keeps the reloader alive by that: such a reloader ends by `stop` alone.
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
        let Some((run, stopped)) = shared.start() else {
            drop(worker);
            let running = StartError::AlreadyRunning;
            let warning = Warning::new(Layer::Settings, running.to_string());
            shared.report(Event::Warning { warning });
            return Err(running);
        };
        let driver = Arc::clone(shared);
        match spawn(move || driver.work()) {
            Ok(thread) => *worker = Some(thread),
            Err(error) => {
                // Nothing runs, a stop from before still counts, and a later start may succeed.
                let mut state = shared.lock();
                state.status.running = false;
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
    /// It waits for the driver only. Another thread that reloads manually, or is inside
    /// [`on_publish`](Self::on_publish), may still deliver a publication from before the stop to an
    /// observer after this has returned.
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
    /// Blocks: in async code use `reload` (feature `tokio`). Works without a driver too. From a
    /// callback it returns [`Reload::Queued`] at once; once the reloader was stopped it returns
    /// [`Reload::Stopped`].
    pub fn reload_now(&self) -> Reload {
        self.0.shared.attend();
        self.0.shared.reload_now()
    }

    /// Waits for a generation after `generation`, at most `limit`, and returns the value published
    /// last. Returns `None` if no such generation was published in time. Blocks: in async code use
    /// [`published`](Self::published).
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
    /// An observer does not keep the reloader going: keep a clone for as long as values are to come.
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

#[cfg(not(loom))]
fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("rustls-reload".to_owned()).spawn(work)
}

#[cfg(loom)]
fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<thread::JoinHandle<()>> {
    Ok(thread::spawn(work))
}
