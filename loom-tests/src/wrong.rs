//! WRONG DESIGNS, each with one step out of order. The models that pass the shipped code have to
//! catch them.
//!
//! All of them are one small reloader with one [`Fault`]. It has the shape of the shipped one, one
//! cell, one mutex and one condition variable, so that a model observes the fault as it would
//! there.

mod fault;
pub use fault::*;

use std::{
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Poll, Waker},
};

use crate::{After, Design, Disk, Whole};
use loom::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::{JoinHandle, ThreadId, current, spawn},
};
use rustls_reload::{Error, Layer, Published, Reload, internal::Cell};

type Observer<P> = Box<dyn Fn(&Handle<P>, &Published<Whole>) + Send + Sync>;

struct Inner<P: Pick> {
    disk: Disk,
    cell: Cell<Published<Whole>>,
    other_half: Cell<u64>,
    state: Mutex<State>,
    /// A hint outside of the state, for the fault that sets it there.
    hint: Mutex<bool>,
    changed: Condvar,
    worker: Mutex<Option<JoinHandle<()>>>,
    observer: Observer<P>,
    /// Whether the driver begins by starting a publisher.
    publishes: bool,
}

#[derive(Default)]
struct State {
    generation: u64,
    driving: Option<ThreadId>,
    busy: bool,
    queued: bool,
    worker: bool,
    runs: u64,
    stopped: bool,
    wakers: Vec<Waker>,
}

/// A reloader with the fault `P`.
pub struct Wrong<P: Pick>(Arc<Inner<P>>);

/// A handle of a [`Wrong`] reloader.
pub struct Handle<P: Pick>(Arc<Inner<P>>, PhantomData<P>);

impl<P: Pick> Clone for Handle<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), PhantomData)
    }
}

impl<P: Pick> Inner<P> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap()
    }

    fn is(fault: Fault) -> bool {
        P::FAULT == fault
    }

    fn reload(self: &Arc<Self>) -> Reload {
        let me = current().id();
        let mut state = self.lock();
        if state.driving == Some(me) && !Self::is(Fault::CallbackWaits) {
            state.queued = true;
            return Reload::Queued;
        }
        if state.busy && Self::is(Fault::AnswersOfOthers) {
            while state.busy {
                state = self.wait(state);
            }
            return Reload::Unchanged;
        }
        while state.busy && !state.stopped && !Self::is(Fault::Unserialised) {
            state = self.wait(state);
        }
        if state.stopped {
            return Reload::Stopped;
        }
        (state.busy, state.driving) = (true, Some(me));
        drop(state);
        let answer = self.step();
        while std::mem::take(&mut self.lock().queued) {
            self.step();
        }
        self.rest(&answer);
        answer
    }

    /// Releases the driver for the next caller.
    fn rest(&self, answer: &Reload) {
        if Self::is(Fault::PanicEscapes) && matches!(answer, Reload::Refused(_)) {
            return;
        }
        let mut state = self.lock();
        (state.busy, state.driving) = (false, None);
        let silent = Self::is(Fault::SilentRest) && !state.stopped;
        drop(state);
        if !silent {
            self.changed.notify_all();
        }
    }

    /// Takes a snapshot, builds and publishes.
    fn step(self: &Arc<Self>) -> Reload {
        let version = self.disk.snapshot();
        if self.cell.load().value.first == version {
            return Reload::Unchanged;
        }
        let Ok(value) = catch_unwind(AssertUnwindSafe(|| self.disk.value(version))) else {
            return Reload::Refused(Error::new(Layer::Panic, "the build panicked"));
        };
        if Self::is(Fault::CheckThenSwap) && self.lock().stopped {
            return Reload::Stopped;
        }
        if Self::is(Fault::GenerationFirst) {
            self.lock().generation += 1;
        }
        let late = Self::is(Fault::GenerationLate).then(|| self.lock().generation + 1);
        let mut state = late.is_none().then(|| self.lock());
        let generation = match (&mut state, late) {
            (_, Some(generation)) => generation,
            (Some(state), _) if state.stopped && !Self::is(Fault::CheckThenSwap) => return Reload::Stopped,
            (Some(state), _) if Self::is(Fault::GenerationFirst) => state.generation,
            (Some(state), _) => {
                state.generation += 1;
                state.generation
            }
            (None, None) => unreachable!("the lock is taken unless the generation comes late"),
        };
        let published = Arc::new(Published::new(generation, value));
        drop(self.cell.swap(Arc::clone(&published)));
        self.other_half.swap(Arc::new(version));
        let mut state = state.unwrap_or_else(|| self.lock());
        state.generation = generation;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.changed.notify_all();
        wakers.into_iter().for_each(Waker::wake);
        (self.observer)(&Handle(Arc::clone(self), PhantomData), &published);
        Reload::Reloaded
    }

    fn work(self: &Arc<Self>) {
        if self.publishes {
            let inner = Arc::clone(self);
            crate::spawn(move || {
                inner.disk.write(2);
                inner.hint();
            });
        }
        let mut begun = false;
        let mut state = self.lock();
        while !state.stopped {
            if state.busy || begun && !std::mem::take(&mut *self.hint.lock().unwrap()) {
                state = self.wait(state);
                continue;
            }
            begun = true;
            (state.busy, state.driving) = (true, Some(current().id()));
            drop(state);
            let answer = self.step();
            self.rest(&answer);
            state = self.lock();
        }
        state.worker = Self::is(Fault::GuardNeverReset);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.changed.notify_all();
        if !Self::is(Fault::SilentEnd) {
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    fn hint(&self) {
        let state = (!Self::is(Fault::HintWithoutLock)).then(|| self.lock());
        *self.hint.lock().unwrap() = true;
        drop(state);
        self.changed.notify_all();
    }
}

impl<P: Pick> Wrong<P> {
    /// Makes a design whose driver begins by starting a publisher, which writes version 2 and sends
    /// a hint.
    pub fn load_watching(disk: &Disk) -> Self {
        Self::make(disk, Box::new(|_, _| {}), true)
    }

    fn make(disk: &Disk, observer: Observer<P>, publishes: bool) -> Self {
        let version = disk.snapshot();
        Self(Arc::new(Inner {
            disk: disk.clone(),
            cell: Cell::new(Arc::new(Published::new(1, disk.value(version)))),
            other_half: Cell::new(Arc::new(version)),
            state: Mutex::new(State { generation: 1, ..State::default() }),
            hint: Mutex::new(false),
            changed: Condvar::new(),
            worker: Mutex::new(None),
            observer,
            publishes,
        }))
    }
}

impl<P: Pick> Drop for Wrong<P> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<P: Pick> Design for Wrong<P> {
    type Handle = Handle<P>;

    fn load(disk: &Disk, observer: impl Fn(&Handle<P>, &Published<Whole>) + Send + Sync + 'static) -> Self {
        Self::make(disk, Box::new(observer), false)
    }

    fn handle(&self) -> Handle<P> {
        Handle(Arc::clone(&self.0), PhantomData)
    }

    fn start(&self) -> bool {
        let inner = &self.0;
        let mut worker = inner.worker.lock().unwrap();
        let mut state = inner.lock();
        if state.worker {
            return false;
        }
        state.worker = true;
        state.runs += 1;
        state.stopped = false;
        drop(state);
        let inner = Arc::clone(inner);
        *worker = Some(spawn(move || inner.work()));
        true
    }

    fn stop(&self) -> bool {
        let inner = &self.0;
        let mut state = inner.lock();
        state.stopped = true;
        let inside = state.driving == Some(current().id());
        if !(inside && Inner::<P>::is(Fault::SilentStop)) {
            inner.changed.notify_all();
        }
        if inside {
            return true;
        }
        let run = state.runs;
        let reset = !Inner::<P>::is(Fault::GuardNeverReset);
        while reset && state.worker && (state.runs == run || Inner::<P>::is(Fault::StopWaitsForAny)) {
            state = inner.wait(state);
        }
        drop(state);
        let ended = {
            let mut worker = inner.worker.lock().unwrap();
            if reset && inner.lock().worker { None } else { worker.take() }
        };
        if let Some(ended) = ended {
            ended.join().unwrap();
        }
        true
    }

    fn current(handle: &Handle<P>) -> Arc<Published<Whole>> {
        let served = handle.0.cell.load();
        if Inner::<P>::is(Fault::TwoCells) {
            let mixed = Disk::mixture(served.value.first, *handle.0.other_half.load());
            return Arc::new(Published::new(served.generation, mixed));
        }
        served
    }

    fn start_and_begin(&self) {
        assert!(self.start());
    }

    fn is_running(handle: &Handle<P>) -> bool {
        handle.0.lock().worker
    }

    fn status(handle: &Handle<P>) -> u64 {
        handle.0.lock().generation
    }

    fn reload_now(handle: &Handle<P>) -> Reload {
        handle.0.reload()
    }

    fn wait_published(handle: &Handle<P>, generation: u64) -> Option<Arc<Published<Whole>>> {
        let mut state = handle.0.lock();
        while state.generation <= generation {
            state = handle.0.wait(state);
        }
        Some(handle.0.cell.load())
    }

    fn published(handle: &Handle<P>, generation: u64) -> After {
        let inner = Arc::clone(&handle.0);
        Box::pin(std::future::poll_fn(move |cx| {
            let mut state = inner.lock();
            if state.generation > generation {
                return Poll::Ready(inner.cell.load());
            }
            if Inner::<P>::is(Fault::RegisterLate) {
                drop(state);
                state = inner.lock();
            }
            state.wakers.push(cx.waker().clone());
            Poll::Pending
        }))
    }
}
