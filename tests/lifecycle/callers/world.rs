//! The reloaders of one schedule, and the embedder's code that they call.
//!
//! The parts use each other's private fields, so they stay in one file.

use std::{
    cell::RefCell,
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

use rustls_reload::{
    Build, Builder, Built, Clock, Context, Delivered, Error, Event, Events, Files, Layer, Now, Reloader,
    Status, SystemClock, Timing, TrustReduction, internal::Shared,
};

use super::{
    disk::{self, Disk, NAMES, Port},
    history::{History, Phase, Record, Tick, Verdict},
    plan::{Action, Hook, Kind, Plan, Random, Step},
    schedule::DEADLINE,
};

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
        let by_hand = FRAMES.with_borrow(
            |frames| matches!(frames.last(), Some(Frame::Call(of, true)) if *of == self.reloader),
        );
        let by_driver = by_hand || thread::current().name() == Some("rustls-reload");
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

enum Frame {
    /// This thread is in a call of this reloader; true if that is a reload.
    Call(usize, bool),
    /// This thread is in code that this reloader calls.
    Inside(usize),
}

thread_local! {
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

pub struct Framed(());

impl Drop for Framed {
    fn drop(&mut self) {
        FRAMES.with_borrow_mut(Vec::pop);
    }
}

pub fn calling(reloader: usize, reloads: bool) -> Framed {
    FRAMES.with_borrow_mut(|frames| frames.push(Frame::Call(reloader, reloads)));
    Framed(())
}

/// Returns whether this thread drives this reloader: the calling code runs in its worker or in a
/// manual reload. A thread of the schedule itself is in a call whenever it is called back.
pub fn drives(reloader: usize) -> bool {
    FRAMES.with_borrow(|frames| {
        frames.iter().enumerate().any(|(place, frame)| match (frame, place.checked_sub(1)) {
            (Frame::Inside(inside), None) => *inside == reloader,
            (Frame::Inside(inside), Some(below)) => {
                *inside == reloader && matches!(frames[below], Frame::Call(of, true) if of == reloader)
            }
            (Frame::Call(..), _) => false,
        })
    })
}

/// Sets the phase of a driver until it is dropped.
struct InPhase<'a> {
    site: &'a Site,
    old: Option<(Phase, Option<ThreadId>)>,
}

impl<'a> InPhase<'a> {
    fn new(site: &'a Site, reloader: usize, phase: Phase) -> Self {
        // A callback on a thread that does not drive shows nothing about the driver.
        let new = (phase, Some(thread::current().id()));
        let old = drives(reloader).then(|| std::mem::replace(&mut *site.phase.lock().unwrap(), new));
        Self { site, old }
    }
}

impl Drop for InPhase<'_> {
    fn drop(&mut self) {
        if let Some(old) = self.old {
            *self.site.phase.lock().unwrap() = old;
        }
    }
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
        FRAMES.with_borrow_mut(|frames| frames.push(Frame::Inside(reloader)));
        let _frame = Framed(());
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

struct AtWork<'a>(&'a World);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::SeqCst);
        self.0.history.note(Record::Finished);
    }
}

/// Loads a reloader with callbacks, a build, files, a watcher and a clock of this world.
fn load(world: &Arc<World>, reloader: usize) {
    // Files settle at once, and every snapshot has a cause that the schedule knows.
    let (none, never) = (Duration::ZERO, Duration::from_secs(3600));
    let timing = Timing {
        settle: none,
        shrink_settle: none,
        tie_recheck: none,
        retry: never,
        poll: never,
        degraded_poll: never,
        min_interval: Duration::from_micros(50),
        still_changing_after: Duration::from_secs(60),
    };
    let [events, publications, second] = [(); 3].map(|()| Arc::clone(world));
    let maker = Maker { world: Arc::clone(world), reloader };
    let loaded = Builder::new(NAMES.map(|name| std::path::Path::new("/").join(name)), maker)
        .timing(timing)
        .clock(Arc::new(HookedClock { world: Arc::clone(world), reloader, clock: SystemClock::new() }))
        .watcher(Some(Box::new(disk::watch(world, reloader))))
        .on_event(move |event| {
            events.history.note(Record::Reported { reloader, event: event.clone() });
            events.hook(reloader, if *event == Event::Stopped { Hook::Stopped } else { Hook::Event });
        })
        .on_publish(move |published| {
            let (generation, number) = (published.generation, published.value.number);
            publications.history.note(Record::Published { reloader, generation, number });
            publications.hook(reloader, Hook::Publish);
        })
        .on_publish(move |_| second.hook(reloader, Hook::Publish))
        .load_from(Port { world: Arc::clone(world), reloader })
        .unwrap();
    let site = &world.sites[reloader];
    let first = Subscriber { events: loaded.events(), reported: Vec::new() };
    lock(&site.subscribers).push(first);
    *lock(&site.shared) = Some(Arc::clone(rustls_reload::internal::shared(&loaded)));
    *lock(&site.reloader) = Some(Arc::new(loaded));
}

/// The system's clock, which the driver reads at the end of each snapshot.
struct HookedClock {
    world: Arc<World>,
    reloader: usize,
    clock: SystemClock,
}

impl Clock for HookedClock {
    fn now(&self) -> Now {
        let mut phase = lock(&self.world.sites[self.reloader].phase);
        if *phase == (Phase::Snapshot, Some(thread::current().id())) {
            *phase = (Phase::Idle, None);
        }
        drop(phase);
        self.clock.now()
    }

    fn sleep(&self, pause: Duration) {
        self.clock.sleep(pause);
    }
}

/// A build step that makes a value of both files. Each file has a number, and both have to agree.
struct Maker {
    world: Arc<World>,
    reloader: usize,
}

impl Build for Maker {
    type Value = Value;

    fn build(&mut self, files: &Files, context: &Context<'_, Value>) -> Result<Built<Value>, Error> {
        let (world, reloader) = (&self.world, self.reloader);
        world.hook(reloader, Hook::Build);
        let text = |file: usize| String::from_utf8(files.get(file).unwrap().1.to_vec()).unwrap();
        let texts = [text(0), text(1)];
        let attempt = world.sites[reloader].last_attempt();
        let verdict = evaluate(&texts);
        let kind = texts[0].split(' ').next().unwrap_or_default().to_owned();
        world.history.note(Record::Built { reloader, attempt, texts, verdict: verdict.clone() });
        let value = |number| Built::new(Value { number, reloader, world: Arc::clone(world) });
        match verdict {
            Verdict::Refused(why) => Err(Error::new(Layer::Config, why)),
            Verdict::Held => {
                let mut built = value(0);
                built.not_before = Some(context.wall + Duration::from_secs(86_400));
                Ok(built)
            }
            Verdict::Valid(number) => {
                let mut built = value(number);
                built.reduced_trust =
                    (kind == "shrinks").then(|| TrustReduction { epoch: number, removed: Vec::new() });
                Ok(built)
            }
        }
    }
}

fn evaluate(texts: &[String; 2]) -> Verdict {
    let [one, other] = texts;
    if one != other {
        return Verdict::Refused(format!("mixed: {one} / {other}"));
    }
    match one.split_once(' ') {
        Some(("good" | "shrinks", number)) => Verdict::Valid(number.parse().unwrap()),
        Some(("later", _)) => Verdict::Held,
        _ => Verdict::Refused(format!("refused: {one}.")),
    }
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
