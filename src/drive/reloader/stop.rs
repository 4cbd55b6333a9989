//! Stops the driver, within a limit.

use std::{fmt, time::Duration};

use crate::{
    drive::shared::Shared,
    report::{
        error::{Layer, Warning},
        event::Event,
    },
    sync::{Arc, Deadline, Mutex, lock, thread},
};

/// The driver's thread, until a stop has joined it.
pub(crate) type Worker = Mutex<Option<thread::JoinHandle<()>>>;

/// How long a stop waits for the driver (INV-13).
pub const STOP_LIMIT: Duration = Duration::from_secs(5);

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
    pub(super) fn into_event(self) -> Event {
        Event::Warning { warning: Warning::new(Layer::Settings, self.to_string()) }
    }
}

/// Stops the driver as [`Reloader::stop`](super::Reloader::stop) does; with `only`, no other run than that one.
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
pub(super) fn wait_for_stop<T: Send + Sync + 'static>(
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
    while state.status.running && state.runs == run {
        let Some(left) = deadline.left() else {
            return Err(StopTimeout);
        };
        state = shared.wait(state, Some(left));
    }
    drop(state);
    let ended = {
        let mut worker = lock(worker);
        if shared.lock().status.running { None } else { worker.take() }
    };
    // The thread has put the driver back and does nothing more, so this join is immediate. No lock
    // is held: a waker that the thread wakes last may start or stop the reloader as well, and
    // cannot join itself.
    if let Some(ended) = ended.filter(|ended| ended.thread().id() != thread::current().id()) {
        let _ = ended.join();
    }
    Ok(())
}
