//! The callbacks for events and publications, and their calls.

#[cfg(feature = "metrics")]
use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::Shared;
#[cfg(feature = "metrics")]
use crate::report::{error::drop_payload, metrics};
use crate::{
    drive::cell::Published,
    report::event::Event,
    sync::{Arc, Mutex, lock},
};

type Observer<T> = Box<dyn Fn(&T) + Send + Sync>;

/// The callbacks for events and publications.
pub(crate) struct Observers<T> {
    pub(crate) events: Vec<Observer<Event>>,
    pub(crate) publications: Vec<Observer<Arc<Published<T>>>>,
    /// The value of the label `reloader`.
    #[cfg(feature = "metrics")]
    pub(crate) metrics_name: ::metrics::SharedString,
    /// Whether the recorder has panicked.
    #[cfg(feature = "metrics")]
    recorder_panicked: AtomicBool,
}

impl<T> Default for Observers<T> {
    fn default() -> Self {
        Self {
            events: Vec::new(),
            publications: Vec::new(),
            #[cfg(feature = "metrics")]
            metrics_name: "generic".into(),
            #[cfg(feature = "metrics")]
            recorder_panicked: AtomicBool::new(false),
        }
    }
}

/// An observer of publications that was added after the load.
pub(super) struct LateObserver<T> {
    call: Observer<Arc<Published<T>>>,
    deliveries: Mutex<Deliveries<T>>,
}

/// The calls of one observer, and the value that waits for it.
struct Deliveries<T> {
    /// A thread calls the observer.
    running: bool,
    /// The latest generation that the observer was called with.
    last: u64,
    /// The latest value that came while a call ran.
    pending: Option<Arc<Published<T>>>,
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// Adds an observer of publications and calls it with the served value.
    pub(crate) fn on_publish(&self, call: impl Fn(&Arc<Published<T>>) + Send + Sync + 'static) {
        // It counts as running, so that the driver leaves its publications to this thread.
        let deliveries = Mutex::new(Deliveries { running: true, last: 0, pending: None });
        let observer = Arc::new(LateObserver { call: Box::new(call), deliveries });
        // First the list, then the cell, so that no publication is missed between the two.
        lock(&self.late).push(Arc::clone(&observer));
        self.call_late(&observer, self.cell.load());
    }

    /// Calls a late observer with a value. While another thread calls it, that thread goes on with
    /// the latest value that came meanwhile: one waits at most, however long a call lasts (INV-12).
    pub(super) fn deliver(&self, observer: &LateObserver<T>, published: &Arc<Published<T>>) {
        let mut deliveries = lock(&observer.deliveries);
        if std::mem::replace(&mut deliveries.running, true) {
            let skipped = deliveries.pending.replace(Arc::clone(published));
            drop(deliveries);
            self.discard(skipped);
        } else {
            drop(deliveries);
            self.call_late(observer, Arc::clone(published));
        }
    }

    /// Calls an observer that counts as running, until nothing waits for it.
    fn call_late(&self, observer: &LateObserver<T>, mut next: Arc<Published<T>>) {
        loop {
            let last = {
                let last = &mut lock(&observer.deliveries).last;
                std::mem::replace(last, next.generation.max(*last))
            };
            if next.generation > last {
                self.guard("a callback for a publication", || (observer.call)(&next));
            }
            self.discard(next);
            let mut deliveries = lock(&observer.deliveries);
            let Some(later) = deliveries.pending.take() else {
                deliveries.running = false;
                return;
            };
            drop(deliveries);
            next = later;
        }
    }

    pub(super) fn observe(&self, event: &Event) {
        #[cfg(feature = "metrics")]
        self.count(event);
        #[cfg(feature = "tracing")]
        self.guard("a subscriber of `tracing`", || crate::report::trace::emit(event));
        for observer in &self.observers.events {
            self.guard("a callback for an event", || observer(event));
        }
    }
}

#[cfg(feature = "metrics")]
impl<T: Send + Sync + 'static> Shared<T> {
    /// Calls the recorder of `metrics`, which is the embedder's code.
    ///
    /// A recorder that panics is reported once: clients decide how often it is called.
    fn record(&self, call: impl FnOnce(&::metrics::SharedString)) {
        let Observers { metrics_name, recorder_panicked, .. } = &self.observers;
        let Err(payload) = catch_unwind(AssertUnwindSafe(|| call(metrics_name))) else { return };
        if recorder_panicked.swap(true, Ordering::Relaxed) {
            drop_payload(payload);
        } else {
            self.guard("the recorder of `metrics`", || resume_unwind(payload));
        }
    }

    fn count(&self, event: &Event) {
        self.record(|name| metrics::count(event, name, &self.series));
        if matches!(event, Event::Started { .. } | Event::Stopped) {
            self.describe_metrics();
        }
    }

    /// Describes all metrics, and sets the gauges of every file set.
    pub(crate) fn describe_metrics(&self) {
        self.record(|_| metrics::describe());
        (0..self.series.len()).for_each(|set| self.measure(set));
    }

    /// Sets the gauges of a file set and of the reloader.
    pub(crate) fn measure(&self, set: usize) {
        let state = metrics::State::of(&self.lock().status, set);
        self.record(|name| state.show(name, &self.series[set]));
    }

    /// Records the time that a stage of a file set took.
    pub(crate) fn took(&self, stage: &'static str, set: usize, time: Duration) {
        self.record(|name| metrics::took(stage, name, &self.series[set], time));
    }

    /// Counts a handshake, with the name of the reason if it failed.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(crate) fn count_handshake(&self, failure: Option<&'static str>) {
        self.record(|name| metrics::count_handshake(name, failure));
    }
}
