//! A future that the test polls on a runtime of one thread, beside a task that shows whether that
//! thread is blocked.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use rustls_reload::Reload;

use super::world::HANG;

/// Number of runs of the ticker while a future is pending and the driver is held.
const TICKS: usize = 5;

/// The result of a future.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Answer(Reload),
    Generation(u64),
    TaskEnded,
    TimedOut,
}

/// A future that is polled only after a wake-up, and its result.
pub(crate) struct Tried {
    future: Pin<Box<dyn Future<Output = Output>>>,
    pub(crate) wakes: Arc<Wakes>,
    seen: usize,
    pub(crate) polls: usize,
    pub(crate) output: Option<Output>,
}

#[derive(Default)]
pub(crate) struct Wakes(pub(crate) AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Tried {
    pub(crate) fn new(future: Pin<Box<dyn Future<Output = Output>>>) -> Self {
        Self { future, wakes: Arc::default(), seen: 0, polls: 0, output: None }
    }

    pub(crate) fn poll(&mut self) {
        let waker = Waker::from(Arc::clone(&self.wakes));
        self.seen = self.wakes.0.load(Ordering::SeqCst);
        self.polls += 1;
        if let Poll::Ready(output) = self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.output = Some(output);
        }
    }

    /// Polls the future if it was woken. Returns whether it is done.
    pub(crate) fn poll_if_woken(&mut self) -> bool {
        if self.output.is_none() && self.wakes.0.load(Ordering::SeqCst) > self.seen {
            self.poll();
        }
        self.output.is_some()
    }

    /// Lets the ticker run while the future is pending.
    pub(crate) async fn run_for(&mut self, ticks: &Ticks) {
        let end = ticks.0.load(Ordering::SeqCst) + 3 * TICKS;
        while ticks.0.load(Ordering::SeqCst) < end {
            tokio::task::yield_now().await;
            self.poll_if_woken();
        }
    }
}

/// A task beside the future under test. It runs whenever the executor is not blocked.
pub(crate) struct Ticks(Arc<AtomicUsize>);

impl Ticks {
    pub(crate) fn start() -> Self {
        let count = Arc::<AtomicUsize>::default();
        let ticker = Arc::clone(&count);
        tokio::spawn(async move {
            loop {
                ticker.fetch_add(1, Ordering::SeqCst);
                // Leaves the processor to the other threads.
                std::thread::sleep(Duration::from_micros(20));
                tokio::task::yield_now().await;
            }
        });
        Self(count)
    }

    /// Waits until the ticker has run several times.
    pub(crate) async fn some(&self) {
        let end = self.0.load(Ordering::SeqCst) + TICKS;
        while self.0.load(Ordering::SeqCst) < end {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until `is` returns true. Fails after the time that counts as a hang.
    pub(crate) async fn until(&self, mut is: impl FnMut() -> bool) -> Result<(), ()> {
        let start = Instant::now();
        while !is() {
            if start.elapsed() > HANG {
                return Err(());
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}
