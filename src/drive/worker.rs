//! Drives a reloader from tokio: a worker with a shutdown receiver, and a reload that does not
//! block the executor.
#![cfg(all(feature = "tokio", not(loom)))]

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
};

use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::{
    drive::{
        reloader::{Reloader, StartError, no_thread, stop},
        shared::{Reload, State, Waiting},
    },
    report::{
        error::{Error, Layer, Warning},
        event::Event,
    },
    sync::Arc,
};

impl<T: Send + Sync + 'static> Reloader<T> {
    /// Starts the driver and stops it when `shutdown` turns true. The task ends when the driver has
    /// ended, also by [`stop`](Reloader::stop) or when the last owner is dropped.
    ///
    /// A sender that is dropped without a `true` changes nothing: the files are still watched, and
    /// one warning reports it.
    ///
    /// # Errors
    /// Fails as [`start`](Reloader::start) does.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn_worker(&self, mut shutdown: watch::Receiver<bool>) -> Result<JoinHandle<()>, StartError> {
        let runtime = tokio::runtime::Handle::current();
        let run = self.begin()?;
        let (shared, worker) = self.parts();
        Ok(runtime.spawn(async move {
            // This worker only: a later start belongs to another caller.
            let runs = move |state: &State<T>| state.status.running && state.runs == run;
            let mut waiting = Waiting::new(&shared);
            let mut ended =
                |cx: &mut Context<'_>| waiting.poll(cx.waker(), |state| (!runs(state)).then_some(()));
            if !is_asked(&mut shutdown, &mut ended).await {
                // A stopped driver no longer watches, though it may not have ended.
                let watches = |state: &State<T>| runs(state) && !state.stopped;
                if watches(&shared.lock()) {
                    let why = "the shutdown sender was dropped; the files go on being watched";
                    shared.report(Event::Warning { warning: Warning::new(Layer::Settings, why) });
                }
                poll_fn(ended).await;
                return;
            }
            // A stop joins a thread, which must not happen on the executor. A stop that takes too
            // long is reported as a warning. Where no thread is available, the driver is stopped
            // all the same, and its end is awaited here.
            let stopping = Arc::clone(&shared);
            match on_thread(move || stop(&stopping, &worker, Some(run))) {
                Ok(stopped) => drop(stopped.await),
                Err(_) => {
                    {
                        let mut state = shared.lock();
                        if runs(&state) {
                            state.stop();
                        }
                    }
                    shared.notify();
                    poll_fn(ended).await;
                }
            }
        }))
    }

    /// Reloads as [`reload_now`](Self::reload_now) does, on a thread of its own. Where the system
    /// has no thread left, the reload is rejected with [`Layer::Process`].
    pub async fn reload(&self) -> Reload {
        // No owner: a caller that has gone keeps nothing going.
        let shared = Arc::clone(self.shared());
        match on_thread(move || {
            shared.attend();
            shared.reload_now()
        }) {
            // The thread ends without an answer only if it panics.
            Ok(answer) => answer.await.unwrap_or(Reload::Stopped),
            Err(error) => Reload::Refused(no_thread("a manual reload", error)),
        }
    }
}

/// Waits until `shutdown` turns true. Returns `false` where its sender is dropped, or the worker
/// ends, before that.
async fn is_asked(
    shutdown: &mut watch::Receiver<bool>,
    ended: &mut impl FnMut(&mut Context<'_>) -> Poll<()>,
) -> bool {
    let mut asked = pin!(shutdown.wait_for(|stop| *stop));
    poll_fn(|cx| {
        if ended(cx).is_ready() {
            return Poll::Ready(false);
        }
        match asked.as_mut().poll(cx) {
            Poll::Ready(asked) => Poll::Ready(asked.is_ok()),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Runs `work` on a thread of its own and waits for it without blocking the executor.
///
/// # Errors
/// [`Layer::Process`] where the system has no thread left, [`Layer::Panic`] if `work` panics.
pub(crate) async fn off_executor<R: Send + 'static>(
    purpose: &str,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Error> {
    let result = on_thread(work).map_err(|error| no_thread(purpose, error))?;
    result.await.map_err(|_| Error::new(Layer::Panic, format!("{purpose} panicked")))
}

/// Runs `work` on a thread of its own. tokio's `spawn_blocking` panics where it gets no thread.
fn on_thread<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> std::io::Result<oneshot::Receiver<R>> {
    let (sender, receiver) = oneshot::channel();
    // A caller that has gone does not need the result.
    std::thread::Builder::new().name("rustls-reload".to_owned()).spawn(move || drop(sender.send(work())))?;
    Ok(receiver)
}
