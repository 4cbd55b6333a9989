//! For tokio: a worker with a shutdown receiver, and a reload that does not block the executor.
#![cfg(all(feature = "tokio", not(loom)))]

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use tokio::{sync::watch, task::JoinHandle};

use crate::{
    error::{Error, Layer},
    event::Event,
    reloader::{AlreadyRunning, Handle, Reloader, stop},
    shared::{Reload, Shared},
};

impl<T: Send + Sync + 'static> Reloader<T> {
    /// Starts the driver and stops it when `shutdown` turns true. The task ends when the driver has ended, also by
    /// [`stop`](Reloader::stop) or by dropping the reloader.
    ///
    /// A sender that is dropped without having said so changes nothing: the files go on being watched, and that is told
    /// once as a warning.
    ///
    /// # Errors
    /// As [`start`](Reloader::start).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn_worker(
        &self,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<JoinHandle<()>, AlreadyRunning> {
        let runtime = tokio::runtime::Handle::current();
        let run = self.start_run()?;
        let (shared, worker) = self.parts();
        Ok(runtime.spawn(async move {
            let mut ticket = None;
            let ended = {
                let mut asked = pin!(shutdown.wait_for(|stop| *stop));
                poll_fn(|cx| {
                    if has_ended(&shared, run, &mut ticket, cx) {
                        return Poll::Ready(true);
                    }
                    match asked.as_mut().poll(cx) {
                        Poll::Ready(asked) => Poll::Ready(asked.is_err()),
                        Poll::Pending => Poll::Pending,
                    }
                })
                .await
            };
            if ended {
                if shared.lock().runs(run) {
                    let why = "the shutdown sender was dropped; the files go on being watched";
                    shared.tell(Event::Warning { error: Error::new(Layer::Settings, why) });
                }
                let mut ended = |cx: &mut std::task::Context<'_>| has_ended(&shared, run, &mut ticket, cx);
                poll_fn(|cx| if ended(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
                return;
            }
            // A stop joins a thread: not on the executor. That it may be stuck is told as a warning.
            let _ = tokio::task::spawn_blocking(move || stop(&shared, &worker, run)).await;
        }))
    }
}

fn has_ended<T: Send + Sync + 'static>(
    shared: &Arc<Shared<T>>,
    run: u64,
    ticket: &mut Option<u64>,
    cx: &mut std::task::Context<'_>,
) -> bool {
    let mut state = shared.lock();
    let runs = state.runs(run);
    let replaced = runs.then(|| Shared::register(&mut state, ticket, cx.waker()));
    drop(state);
    drop(replaced);
    !runs
}

impl<T: Send + Sync + 'static> Handle<T> {
    /// As [`reload_now`](Handle::reload_now), on tokio's threads for blocking work.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn reload(&self) -> Reload {
        let handle = self.clone();
        // It can fail only while the runtime shuts down.
        tokio::task::spawn_blocking(move || handle.reload_now()).await.unwrap_or(Reload::Stopped)
    }
}
