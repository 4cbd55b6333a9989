//! The reloaders of one schedule, and the embedder's code that they call.

mod frames;
mod loading;

use std::{
    collections::VecDeque,
    future::Future,
    panic::resume_unwind,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Poll, Wake, Waker},
    thread::{self, ThreadId},
    time::Duration,
};

use super::{
    disk::Disk,
    history::{History, Phase, Record, Tick},
    plan::{Action, Hook, Kind, Plan, Random, Step},
    schedule::DEADLINE,
};
use frames::{InPhase, called_by, reloads_by_hand};
pub use frames::{calling, drives};
use loading::load;
use rustls_reload::{Delivered, Event, Events, Reloader, Status, internal::Shared};

/// Longest time for which a driver or thread gives way. No check depends on it.
const MOMENT: Duration = Duration::from_micros(300);

pub struct Value {
    pub number: u64,
    reloader: usize,
    world: Arc<World>,
}

impl Drop for Value {
    fn drop(&mut self) {
        // Readers drop values too, which is no call by the driver.
        let by_driver = reloads_by_hand(self.reloader) || thread::current().name() == Some("rustls-reload");
        // A panic during another panic would end the process.
        if by_driver && !thread::panicking() {
            self.world.hook(self.reloader, Hook::Discard);
        }
    }
}

pub type Waited = Pin<Box<dyn Future<Output = u64> + Send>>;

/// A future that was polled and is pending.
pub struct Task {
    pub future: Waited,
    pub shrunk: bool,
    pub generation: u64,
    pub flag: Arc<Flag>,
    /// The number of wake-ups when it was last polled.
    pub wakes: usize,
    /// The call that last polled it.
    pub call: usize,
}

/// Counts wakes.
pub struct Flag {
    world: Arc<World>,
    reloader: usize,
    pub count: AtomicUsize,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.world.history.note(Record::Woken);
        self.world.hook(self.reloader, Hook::Wake);
    }
}

pub struct Subscriber {
    pub events: Events<Value>,
    pub reported: Vec<Delivered>,
}

impl Subscriber {
    /// Reads the available events. Returns whether there were any.
    pub fn read(&mut self) -> bool {
        let before = self.reported.len();
        self.reported.extend(std::iter::from_fn(|| self.events.try_next()));
        self.reported.len() > before
    }
}

/// One reloader and everything around it.
pub struct Site {
    pub disk: Disk,
    phase: Mutex<(Phase, Option<ThreadId>)>,
    scripts: Vec<Mutex<VecDeque<Step>>>,
    /// Every clone of it is counted, so that whoever drops the last one notes that.
    pub reloader: Mutex<Option<Arc<Reloader<Value>>>>,
    /// Shows what the reloader serves, and does not keep it alive.
    pub shared: Mutex<Option<Arc<Shared<Value>>>>,
    pub subscribers: Mutex<Vec<Subscriber>>,
    pub tasks: Mutex<Vec<Task>>,
    last_attempt: AtomicUsize,
    /// The last number written to the files.
    pub numbers: AtomicU64,
}

impl Site {
    /// The reloader, unless it was dropped.
    pub fn owned(&self) -> Option<Arc<Reloader<Value>>> {
        lock(&self.reloader).clone()
    }

    pub fn is_loaded(&self) -> bool {
        lock(&self.shared).is_some()
    }

    /// The status of a loaded reloader, also of one that was dropped.
    pub fn status(&self) -> Status {
        let shared = Arc::clone(lock(&self.shared).as_ref().unwrap());
        let state = shared.lock();
        state.status()
    }

    pub fn phase(&self) -> Phase {
        self.phase.lock().unwrap().0
    }

    pub fn last_attempt(&self) -> Tick {
        self.last_attempt.load(Ordering::SeqCst)
    }
}

pub struct World {
    pub history: History,
    pub sites: Vec<Site>,
    pub calls: AtomicUsize,
    /// The calls in progress: the number and the text of each.
    pub going_on: Mutex<Vec<(usize, String)>>,
    /// The number of scripts in progress.
    pub at_work: AtomicUsize,
    pub violations: Mutex<Vec<String>>,
    pub hold: Mutex<Hold>,
    noise: Option<Mutex<Random>>,
}

/// The driver that is held, and the thread that calls meanwhile.
#[derive(Default)]
pub struct Hold {
    pub held: bool,
    pub caller: Option<Caller>,
}

pub struct Caller {
    /// The number of calls, for which the driver is held, that have not returned.
    pub left: usize,
    pub is_calling: bool,
    /// The file in which Linux shows the state of the thread.
    pub stat: std::path::PathBuf,
}

impl World {
    pub fn new(plan: &Plan) -> Arc<Self> {
        let site = |reloader: usize| Site {
            disk: Disk::new("good 0"),
            phase: Mutex::new((Phase::Idle, None)),
            scripts: plan.hooks[reloader]
                .iter()
                .map(|steps| Mutex::new(steps.iter().copied().collect()))
                .collect(),
            reloader: Mutex::default(),
            shared: Mutex::default(),
            subscribers: Mutex::default(),
            tasks: Mutex::default(),
            last_attempt: AtomicUsize::new(0),
            numbers: AtomicU64::new(0),
        };
        let world = Arc::new(Self {
            history: History::default(),
            sites: (0..plan.started.len()).map(site).collect(),
            calls: AtomicUsize::new(0),
            going_on: Mutex::default(),
            at_work: AtomicUsize::new(0),
            violations: Mutex::default(),
            hold: Mutex::default(),
            noise: plan.noise.then(|| Mutex::new(Random(plan.seed))),
        });
        (0..plan.started.len()).for_each(|reloader| load(&world, reloader));
        world
    }

    pub fn violation(&self, what: String) {
        self.violations.lock().unwrap().push(what);
    }

    pub fn attempt(&self, reloader: usize) {
        let site = &self.sites[reloader];
        let tick = self.history.note(Record::Attempt { reloader });
        site.last_attempt.store(tick, Ordering::SeqCst);
        if site.is_loaded() {
            // The phase ends when the driver reads its clock.
            *site.phase.lock().unwrap() = (Phase::Snapshot, Some(thread::current().id()));
        }
    }

    /// Runs the script of the embedder's code at this hook; none runs during the first load.
    pub fn hook(self: &Arc<Self>, reloader: usize, hook: Hook) {
        let _frame = called_by(reloader);
        let site = &self.sites[reloader];
        if !site.is_loaded() {
            return;
        }
        let phase = match hook {
            Hook::Snapshot | Hook::Wake => None,
            Hook::Build => Some(Phase::Build),
            Hook::Publish | Hook::Event | Hook::Discard => Some(Phase::Callback),
            Hook::Stopped | Hook::Ending => Some(Phase::Ending),
        };
        let _phase = phase.map(|phase| InPhase::new(site, reloader, phase));
        let noise = self.noise.as_ref().map(|noise| lock(noise).below(12));
        match noise {
            Some(0) => self.history.give_way(MOMENT),
            Some(1..4) => thread::yield_now(),
            _ => {}
        }
        let step = {
            // Taken under the lock, so that the thread that removes the scripts knows which are in
            // progress.
            let mut steps = lock(&site.scripts[hook as usize]);
            let due = match steps.front_mut() {
                Some(step) if step.skip > 0 => {
                    step.skip -= 1;
                    None
                }
                Some(_) => steps.pop_front(),
                None => None,
            };
            self.at_work.fetch_add(usize::from(due.is_some()), Ordering::SeqCst);
            due
        };
        if let Some(step) = step {
            let _at_work = AtWork(self);
            if step.action == Action::Panic && matches!(hook, Hook::Snapshot | Hook::Build) {
                let attempt = site.last_attempt();
                self.history.note(Record::Panicked { reloader, attempt });
            }
            self.act(step.action);
        }
    }

    pub fn act(self: &Arc<Self>, action: Action) {
        match action {
            Action::Call(reloader, kind) => super::calls::call(self, reloader, kind),
            // `resume_unwind` does not print the message of a panic.
            Action::Panic => resume_unwind(Box::new("by design")),
            Action::GiveWay => self.history.give_way(MOMENT),
            Action::Hold => self.hold(),
            Action::StopAlone => {
                self.expect("waits for the others to let go of the reloader", |_| {
                    let alone =
                        lock(&self.sites[0].reloader).as_ref().is_none_or(|of| Arc::strong_count(of) == 1);
                    alone.then_some(())
                });
                super::calls::call(self, 0, Kind::Stop);
            }
            Action::StopAndAwait => {
                self.hold();
                super::calls::call(self, 0, Kind::Stop);
                // A caller that waits for a reload does not wait for the end of this callback.
                self.expect("waits in a callback for a call that a stop must end", |_| {
                    lock(&self.hold).caller.as_ref().is_some_and(|caller| caller.left == 0).then_some(())
                });
            }
            Action::AwaitHeld(left) => {
                self.expect("waits for a driver to be held", |_| lock(&self.hold).held.then_some(()));
                let stat = std::fs::read_link("/proc/thread-self").unwrap_or_default();
                let stat = std::path::Path::new("/proc").join(stat).join("stat");
                lock(&self.hold).caller = Some(Caller { left, is_calling: false, stat });
            }
            Action::AwaitStarted => self.expect("waits for a start", |records| {
                let starts =
                    |record: &Record| matches!(record, Record::Reported { event: Event::Started { .. }, .. });
                records.iter().any(starts).then_some(())
            }),
        }
    }

    /// Holds the driver until the other thread has made its calls, and has returned from the last
    /// or sleeps in it.
    fn hold(&self) {
        lock(&self.hold).held = true;
        self.history.note(Record::Finished);
        while !self.caller_is_done() {
            thread::yield_now();
        }
    }

    /// Waits for a condition that the plan relies on.
    fn expect(&self, what: &str, pick: impl FnMut(&[Record]) -> Option<()>) {
        if self.history.wait_for(DEADLINE, pick).is_none() {
            self.violation(format!("{what} in vain"));
        }
    }

    /// Returns whether the thread that calls while the driver is held has returned or sleeps in its
    /// call.
    fn caller_is_done(&self) -> bool {
        let hold = lock(&self.hold);
        let Some(caller) = &hold.caller else { return false };
        if caller.left != 1 || !caller.is_calling {
            return caller.left == 0;
        }
        match std::fs::read_to_string(&caller.stat) {
            Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" S")),
            Err(_) => true,
        }
    }

    /// Returns whether every step in a hook has been taken.
    pub fn is_through(&self) -> bool {
        self.sites.iter().flat_map(|site| &site.scripts).all(|steps| lock(steps).is_empty())
    }

    /// Removes all scripts. Returns whether those in progress have ended within the limit.
    pub fn take_scripts(&self, limit: Duration) -> bool {
        let all = self.sites.iter().flat_map(|site| &site.scripts);
        all.for_each(|steps| lock(steps).clear());
        let idle = |_: &_| (self.at_work.load(Ordering::SeqCst) == 0).then_some(());
        self.history.wait_for(limit, idle).is_some()
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

/// Polls a future once, and keeps it if it is pending.
pub fn poll(world: &Arc<World>, reloader: usize, call: usize, mut task: Task) -> Poll<u64> {
    task.wakes = task.flag.count.load(Ordering::SeqCst);
    task.call = call;
    let waker = Waker::from(Arc::clone(&task.flag));
    let polled = task.future.as_mut().poll(&mut TaskContext::from_waker(&waker));
    if polled.is_pending() {
        lock(&world.sites[reloader].tasks).push(task);
    }
    polled
}

pub fn flag(world: &Arc<World>, reloader: usize) -> Arc<Flag> {
    Arc::new(Flag { world: Arc::clone(world), reloader, count: AtomicUsize::new(0) })
}

struct AtWork<'a>(&'a World);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::SeqCst);
        self.0.history.note(Record::Finished);
    }
}
