//! Single orders of acts, with a driver whose steps are held up.

use std::{
    hash::{DefaultHasher, Hasher},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
};

use super::*;

/// The longest wait of any test.
const DEADLINE: Duration = Duration::from_secs(60);

/// Holds up each step until it may answer, and until it may end.
struct Slow {
    may_end: Receiver<()>,
    /// Signals that the driver has begun, or that a step has answered.
    signal: Sender<()>,
}

impl StateHash for Slow {
    fn hash_state(&self, _: &mut dyn Hasher) {}
}

impl Drive<u64> for Slow {
    fn begin(&mut self, _: &Arc<Shared<u64>>, _: Now) {
        let _ = self.signal.send(());
    }

    fn step(&mut self, shared: &Shared<u64>, _: Ask) {
        let _ = self.may_end.recv();
        shared.answer(&Reload::Unchanged, |_| {});
        let _ = self.signal.send(());
        let _ = self.may_end.recv();
    }

    fn pause(&self, _: &Shared<u64>) -> Option<Duration> {
        None
    }

    fn end(&mut self, _: &Shared<u64>) {}
}

fn slow(observers: Observers<u64>) -> (Arc<Shared<u64>>, Sender<()>, Receiver<()>) {
    let (go_on, may_end) = channel();
    let (signal, signals) = channel();
    let status = Status::first(std::iter::empty(), Duration::ZERO);
    let progress = Progress::new(Now::PAST, Duration::ZERO, Duration::ZERO);
    let clock = Arc::new(crate::clock::SystemClock::new());
    let drive = Box::new(Slow { may_end, signal });
    (Arc::new(Shared::new(1, (status, progress), observers, clock, drive)), go_on, signals)
}

fn start(shared: &Shared<u64>) -> WorkerLoop<u64> {
    assert!(shared.lock().start(Now::PAST).is_some());
    WorkerLoop::default()
}

/// The interleavings take two states of one hash for one.
#[test]
fn states_that_answer_a_reload_differently_hash_differently() {
    let (shared, _go_on, _signals) = slow(Observers::default());
    let hash = || {
        let mut hasher = DefaultHasher::new();
        shared.lock().hash_state(&mut hasher);
        hasher.finish()
    };
    let mut rounds = Vec::new();
    for _ in 0..2 {
        let mut seen = vec![hash()];
        let asked = ManualReload::ask(&shared, &mut shared.lock(), false);
        let Ok(mut reload) = asked else { panic!("nobody has stopped it") };
        seen.push(hash());
        assert_eq!(shared.lock().asked_for(), Some(Ask::Reload));
        seen.push(hash());
        shared.lock().stop();
        seen.push(hash());
        assert!(shared.lock().start(Now::PAST).is_some());
        // The stop has ended the reload, which is all that sets this state apart from the third.
        seen.push(hash());
        shared.answer(&Reload::Unchanged, |_| {});
        seen.push(hash());
        assert!(matches!(reload.go_on(&shared, shared.lock()), Next::Over(Reload::Unchanged)));
        shared.lock().status.running = false;
        let each: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!(each.len(), seen.len(), "{seen:?}");
        rounds.push(seen);
    }
    assert_eq!(rounds[0], rounds[1], "tickets matter by their order alone");
}

/// Checks: INV-13. A start may come before the waiting caller has woken, and its driver does not
/// know of that caller.
#[test]
fn inv13_unfinished_reload_is_answered_after_stop_and_start() {
    struct Silent;

    impl StateHash for Silent {
        fn hash_state(&self, _: &mut dyn Hasher) {}
    }

    impl Drive<u64> for Silent {
        fn begin(&mut self, _: &Arc<Shared<u64>>, _: Now) {}

        fn step(&mut self, _: &Shared<u64>, _: Ask) {}

        fn pause(&self, _: &Shared<u64>) -> Option<Duration> {
            None
        }

        fn end(&mut self, _: &Shared<u64>) {}
    }

    let (shared, _go_on, _signals) = slow(Observers::default());
    shared.lock().idle = Some(Box::new(Silent));
    let mut worker = start(&shared);
    assert!(matches!(worker.go_on(&shared, shared.lock()), Next::Again(_)), "it begins");
    let asked = ManualReload::ask(&shared, &mut shared.lock(), false);
    let Ok(mut reload) = asked else { panic!("it runs") };
    assert!(matches!(worker.go_on(&shared, shared.lock()), Next::Again(_)), "the reload has begun");
    assert!(matches!(reload.go_on(&shared, shared.lock()), Next::Wait(_, None)), "it is not answered");
    shared.lock().stop();
    assert!(matches!(worker.go_on(&shared, shared.lock()), Next::Over(())), "it ends");
    let mut worker = start(&shared);
    assert!(matches!(worker.go_on(&shared, shared.lock()), Next::Again(_)), "it begins again");
    assert!(matches!(reload.go_on(&shared, shared.lock()), Next::Over(Reload::Stopped)));
}

/// Checks: INV-13. The worker sleeps already when the manual reload puts the driver back, so that
/// has to wake it.
#[test]
fn inv13_start_during_a_manual_reload_is_taken_up_after_it() {
    let (shared, go_on, signals) = slow(Observers::default());
    let caller = Arc::clone(&shared);
    let caller = std::thread::spawn(move || caller.reload_now());
    go_on.send(()).expect("it drives");
    assert_eq!(signals.recv_timeout(DEADLINE), Ok(()), "the reload drives, and is answered");
    let mut worker = start(&shared);
    let (waits, is_waiting) = channel();
    let driver = Arc::clone(&shared);
    let driver = std::thread::spawn(move || {
        driver.carry_out(driver.lock(), |state| {
            let next = worker.go_on(&driver, state);
            if matches!(next, Next::Wait(..)) {
                let _ = waits.send(());
            }
            next
        });
    });
    assert_eq!(is_waiting.recv_timeout(DEADLINE), Ok(()), "a manual reload drives");
    // The worker holds the lock until it sleeps.
    drop(shared.lock());
    let status = shared.status();
    assert!(status.running && status.stalled_since.is_some(), "a reload that hangs shows: {status:?}");
    go_on.send(()).expect("it drives");
    let taken_up = signals.recv_timeout(DEADLINE);
    shared.lock().stop();
    shared.notify();
    drop(go_on);
    assert!(caller.join().is_ok_and(|answer| answer == Reload::Unchanged) && driver.join().is_ok());
    assert_eq!(taken_up, Ok(()), "the start is not taken up");
}

/// Checks: INV-13. A task of `spawn_worker` waits for the end, and checks again when the driver
/// reports that it has stopped.
#[test]
fn inv13_end_of_a_worker_wakes_tasks_that_wait_since_its_stop() {
    struct Woken(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }

    let woken = Arc::new(Woken(0.into()));
    let waker = std::task::Waker::from(Arc::clone(&woken));
    let slot: Arc<Mutex<Option<crate::drive::shared::Waiting<u64>>>> = Arc::default();
    let waiting = Arc::clone(&slot);
    let mut observers = Observers::default();
    observers.events.push(Box::new(move |event: &Event| {
        if matches!(event, Event::Stopped)
            && let Some(waiting) = &mut *waiting.lock().unwrap_or_else(PoisonError::into_inner)
        {
            assert!(waiting.poll(&waker, |state| (!state.status.running).then_some(())).is_pending());
        }
    }));
    let (shared, _go_on, _signals) = slow(observers);
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(crate::drive::shared::Waiting::new(&shared));
    let mut worker = start(&shared);
    assert!(matches!(worker.go_on(&shared, shared.lock()), Next::Again(_)), "it begins");
    shared.lock().stop();
    assert!(matches!(worker.go_on(&shared, shared.lock()), Next::Over(())), "it ends");
    assert_eq!(woken.0.load(std::sync::atomic::Ordering::SeqCst), 1);
    // The wait keeps the shared state alive.
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = None;
}
