//! Runs a body in every interleaving under loom, or many times on real threads, and prints how
//! often.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use crate::thread;

#[cfg(loom)]
use loom::sync::{Condvar, Mutex};
#[cfg(not(loom))]
use std::sync::{Condvar, Mutex};

/// Number of runs on real threads. They meet a race by chance only, and loom tries every
/// interleaving; an optimised build runs for ThreadSanitizer, which has to see each access. Under
/// Miri each seed is another schedule.
#[cfg(not(loom))]
const RUNS: usize = match () {
    () if cfg!(miri) => 2,
    () if cfg!(debug_assertions) => 500,
    () => 2_000,
};

thread_local! {
    /// Number of threads that the running body has spawned. Under loom all threads of a model run
    /// on one system thread.
    static SPAWNED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Spawns a thread of the model.
pub fn spawn<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> thread::JoinHandle<R> {
    started();
    thread::spawn(body)
}

/// Counts a thread that the shipped code spawned.
pub fn started() {
    SPAWNED.with(|spawned| spawned.set(spawned.get() + 1));
}

/// Runs `body` and prints how often. Fails if the body spawns fewer than two threads, because then
/// there is no race.
///
/// # Panics
/// If the body panics in any interleaving.
pub fn model(name: &str, body: impl Fn() + Send + Sync + 'static) {
    explore(name, None, body);
}

/// Runs `body` as [`model`] does, with at most so many preemptions. Each caller states the reason
/// for its bound.
///
/// # Panics
/// If the body panics in any interleaving that is tried.
pub fn bounded(name: &str, preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    explore(name, Some(preemptions), body);
}

fn explore(name: &str, preemptions: Option<usize>, body: impl Fn() + Send + Sync + 'static) {
    let runs = Arc::new(AtomicUsize::new(0));
    let begun = std::time::Instant::now();
    run(&runs, preemptions, body);
    let (runs, took) = (runs.load(SeqCst), begun.elapsed().as_secs_f64());
    let what = match preemptions {
        _ if cfg!(not(loom)) => "runs on real threads".to_owned(),
        None => "permutations, complete".to_owned(),
        Some(preemptions) => format!("permutations, at most {preemptions} preemptions"),
    };
    println!("model {name}: {runs} {what} ({took:.1} s)");
    assert!(runs > 1, "one permutation is no interleaving");
}

fn counted(runs: &AtomicUsize, body: &impl Fn()) {
    SPAWNED.with(|spawned| spawned.set(0));
    body();
    // On real threads each thread has a count of its own, so the sum is not known here.
    let spawned = SPAWNED.with(std::cell::Cell::get);
    assert!(cfg!(not(loom)) || spawned >= 2, "{spawned} threads were spawned: no race");
    runs.fetch_add(1, SeqCst);
}

#[cfg(loom)]
fn run(runs: &Arc<AtomicUsize>, preemptions: Option<usize>, body: impl Fn() + Send + Sync + 'static) {
    let runs = Arc::clone(runs);
    // The stated bound is the only one, whatever environment variables are set.
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.max_branches = 10_000;
    builder.check(move || counted(&runs, &body));
}

#[cfg(not(loom))]
fn run(runs: &Arc<AtomicUsize>, _: Option<usize>, body: impl Fn() + Send + Sync + 'static) {
    for _ in 0..RUNS {
        counted(runs, &body);
    }
}

/// The number of preemptions within which [`must_fail`] has to catch a wrong design.
#[cfg(loom)]
const CAUGHT_WITHIN: usize = 3;

/// Runs `body` over a wrong design in a process of its own, which has to end in a panic whose
/// message contains `why`.
///
/// The process is separate, because under loom a deadlock ends only with its process.
///
/// # Panics
/// If the wrong design is not caught, or is caught for another reason.
#[cfg(loom)]
pub fn must_fail(test: &str, why: &str, body: impl Fn() + Send + Sync + 'static) {
    must_fail_within(CAUGHT_WITHIN, test, why, body);
}

/// Does what [`must_fail`] does, with at most so many preemptions. The sound design of the same
/// shape is run with as many by [`bounded`].
///
/// # Panics
/// As [`must_fail`] does.
#[cfg(loom)]
pub fn must_fail_within(preemptions: usize, test: &str, why: &str, body: impl Fn() + Send + Sync + 'static) {
    const CHILD: &str = "LOOM_TESTS_WRONG";
    if std::env::var_os(CHILD).is_some() {
        let runs = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&runs);
        // The first panic counts. Later ones are caused by unwinding the execution.
        std::panic::set_hook(Box::new(move |info| {
            use std::io::Write;
            if is_expected(info) {
                return;
            }
            let runs = count.load(SeqCst) + 1;
            let _ = writeln!(std::io::stderr(), "caught in permutation {runs}: {info}");
            std::process::exit(3);
        }));
        run(&runs, Some(preemptions), body);
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "the wrong design was not caught: {said}");
    assert!(said.contains(why), "caught for another reason than {why:?}: {said}");
    let caught = said.lines().find(|line| line.contains("caught in permutation")).unwrap_or_default();
    let number = caught.split_whitespace().nth(3).unwrap_or_default().trim_end_matches(':');
    println!("wrong {test}: caught in permutation {number} ({why})");
}

/// Runs `body` over the sound design of the same shape, which shows that [`must_fail`] catches the
/// fault and not the shape.
///
/// Each fault is caught within three preemptions, so the sound design is run with as many.
///
/// # Panics
/// If the body panics.
#[cfg(loom)]
pub fn must_pass(test: &str, body: impl Fn() + Send + Sync + 'static) {
    explore(test, Some(CAUGHT_WITHIN), body);
}

/// Hides the expected panics of a build. Any other panic is printed as usual.
pub fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !is_expected(info) {
                hook(info);
            }
        }));
    });
}

/// The beginning of the message of an expected panic.
const EXPECTED: &str = "expected: ";

fn is_expected(info: &std::panic::PanicHookInfo<'_>) -> bool {
    info.payload().downcast_ref::<String>().is_some_and(|text| text.starts_with(EXPECTED))
}

/// A stage of a build that panics for one version.
///
/// # Panics
/// If `version` is `bad`.
pub fn fallible(version: u64, bad: u64) {
    assert!(version != bad, "{EXPECTED}version {bad} cannot be built");
}

/// Counts wake-ups, and lets a thread wait for one.
#[derive(Default)]
pub struct Notify {
    woken: Mutex<usize>,
    changed: Condvar,
}

impl Notify {
    /// Returns how often it was woken.
    pub fn count(&self) -> usize {
        *self.woken.lock().unwrap()
    }

    /// Waits until it was woken more than `seen` times. Returns the number of wake-ups.
    pub fn wait(&self, seen: usize) -> usize {
        let mut woken = self.woken.lock().unwrap();
        while *woken <= seen {
            woken = self.changed.wait(woken).unwrap();
        }
        *woken
    }
}

impl Wake for Notify {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() += 1;
        self.changed.notify_all();
    }
}

/// Polls `future` until it is ready, and sleeps between the wake-ups. Returns the output and the
/// number of wake-ups.
pub fn block_on<F: Future>(future: F) -> (F::Output, usize) {
    let notify = Arc::new(Notify::default());
    let waker = Waker::from(Arc::clone(&notify));
    let mut future = pin!(future);
    let mut seen = 0;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return (output, seen);
        }
        seen = notify.wait(seen);
    }
}
