//! Runs one plan on threads of its own, waits until every requested action has happened, and checks
//! the history.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rustls_reload::{Event, Reload};

use super::{
    calls::{call, write},
    history::{Outcome, Phase, Record},
    oracle::{Called, Seen},
    plan::{Content, Kind, Plan},
    world::{Value, World, lock},
};

/// Time after which a schedule counts as hung. It is generous, because the machine may be loaded.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Number of calls of each kind in each phase, by other threads and by the driver itself.
#[derive(Clone, Copy, Default)]
pub struct Coverage {
    pub others: [[usize; 5]; 12],
    pub own: [[usize; 5]; 12],
    pub calls: usize,
    pub publications: usize,
    pub queued: usize,
}

impl Coverage {
    pub fn add(&mut self, other: &Self) {
        let cells = |table: &mut [[usize; 5]; 12], other: &[[usize; 5]; 12]| {
            let pairs = table.as_flattened_mut().iter_mut().zip(other.as_flattened());
            pairs.for_each(|(sum, count)| *sum += count);
        };
        cells(&mut self.others, &other.others);
        cells(&mut self.own, &other.own);
        self.calls += other.calls;
        self.publications += other.publications;
        self.queued += other.queued;
    }

    pub fn of(seen: &Seen) -> Self {
        let mut coverage = Self { calls: seen.calls.len(), ..Self::default() };
        for called in &seen.calls {
            let table = if called.driver { &mut coverage.own } else { &mut coverage.others };
            let phase = Phase::ALL.iter().position(|phase| *phase == called.phase).unwrap();
            table[called.kind.index()][phase] += 1;
            coverage.queued += usize::from(called.outcome == Outcome::Reload(Reload::Queued));
        }
        let published = |record: &&Record| matches!(record, Record::Published { .. });
        coverage.publications = seen.records.iter().filter(published).count();
        coverage
    }
}

/// Runs a plan, and returns its history.
///
/// # Errors
/// Every violation, with the plan and the history.
pub fn run(plan: &Plan) -> Result<Seen, String> {
    let (sender, receiver) = mpsc::channel();
    let (world, own) = (World::new(plan), plan.clone());
    let conducted = Arc::clone(&world);
    // The plan runs on a thread of its own, because its calls may hang.
    let conductor = thread::Builder::new().name("conductor".to_owned()).spawn(move || {
        let result = conduct(&conducted, &own);
        drop(conducted);
        drop(sender.send(result));
    });
    let result = match receiver.recv_timeout(3 * DEADLINE) {
        Ok(result) => result,
        Err(_) => Err("a call does not return".to_owned()),
    };
    let seen = Seen::of(world.history.records());
    let mut wrong = std::mem::take(&mut *lock(&world.violations));
    match result {
        Ok(reported) => {
            conductor.unwrap().join().unwrap();
            for (reloader, reported) in reported.iter().enumerate() {
                wrong.extend(seen.violations(reloader));
                wrong.extend(seen.events(reloader, reported));
            }
        }
        Err(why) => {
            wrong.push(why);
            wrong.extend(
                lock(&world.going_on).iter().map(|(call, what)| format!("going on: call {call}, {what}")),
            );
        }
    }
    if wrong.is_empty() {
        return Ok(seen);
    }
    let history: Vec<_> =
        seen.records.iter().enumerate().map(|(tick, record)| format!("{tick}: {record:?}")).collect();
    Err(format!("{plan:#?}\n{}\n\n{}", history.join("\n"), wrong.join("\n")))
}

/// The events of each reloader.
type Reported = Vec<Vec<Arc<Event>>>;

fn conduct(world: &Arc<World>, plan: &Plan) -> Result<Reported, String> {
    for (reloader, _) in plan.started.iter().enumerate().filter(|(_, started)| **started) {
        call(world, reloader, Kind::Start);
    }
    let ended = Arc::new(AtomicUsize::new(0));
    for (number, steps) in plan.threads.iter().enumerate() {
        let (world, steps, ended) = (Arc::clone(world), steps.clone(), Arc::clone(&ended));
        let caller = steps.iter().any(|step| matches!(step.action, super::plan::Action::AwaitHeld(_)));
        let name = if caller { "caller".to_owned() } else { format!("thread {number}") };
        let run = move || {
            steps.iter().for_each(|step| world.act(step.action));
            if let (true, Some(caller)) = (caller, &mut lock(&world.hold).caller) {
                // The drop may have been left to another thread.
                caller.left = 0;
            }
            ended.fetch_add(1, Ordering::SeqCst);
            world.history.note(Record::Finished);
        };
        drop(thread::Builder::new().name(name).spawn(run).unwrap());
    }
    let all = |_: &_| (ended.load(Ordering::SeqCst) == plan.threads.len()).then_some(());
    world.history.wait_for(DEADLINE, all).ok_or("a thread does not end")?;
    if plan.complete {
        let through = |_: &_| world.is_through().then_some(());
        world.history.wait_for(DEADLINE, through).ok_or("a hook is not reached")?;
    }
    if !world.take_scripts(DEADLINE) {
        return Err("a callback does not return".to_owned());
    }
    for reloader in 0..world.sites.len() {
        settle(world, reloader)?;
    }
    for reloader in 0..world.sites.len() {
        converge(world, reloader, plan.seed)?;
    }
    let mut reported = Vec::new();
    for reloader in 0..world.sites.len() {
        end(world, reloader, plan.seed)?;
        reported.push(read_events(world, reloader)?);
    }
    let_go(world)?;
    Ok(reported)
}

/// Waits until the queued reloads and the starts have happened.
fn settle(world: &World, reloader: usize) -> Result<(), String> {
    let seen = Seen::of(world.history.records());
    for asked in seen.of_one(reloader) {
        let queued = asked.outcome == Outcome::Reload(Reload::Queued);
        if queued && !seen.stopped_after(reloader, asked.begin) {
            let looked = |records: &[Record]| {
                let after = &records[asked.begin..];
                after
                    .iter()
                    .any(|record| matches!(record, Record::Attempt { reloader: of } if *of == reloader))
                    .then_some(())
            };
            world.history.wait_for(DEADLINE, looked).ok_or_else(|| format!("queued for ever: {asked:?}"))?;
        }
    }
    if let Some(since) = seen.must_run_since(reloader) {
        // The start has succeeded, so the run before it has already reported its end.
        let started = |records: &[Record]| {
            let last = records.iter().rev().find_map(|record| match record {
                Record::Reported { reloader: of, event } if *of == reloader => {
                    matches!(event, Event::Started { .. } | Event::Stopped).then(|| *event != Event::Stopped)
                }
                _ => None,
            });
            last.filter(|runs| *runs).map(drop)
        };
        let why = || format!("reloader {reloader}: the start at {since} is not taken up");
        world.history.wait_for(DEADLINE, started).ok_or_else(why)?;
    }
    Ok(())
}

/// Checks that the last update is served: by a running worker without a request, otherwise after a
/// manual reload, and never after a stop.
fn converge(world: &Arc<World>, reloader: usize, seed: u64) -> Result<(), String> {
    let site = &world.sites[reloader];
    let seen = Seen::of(world.history.records());
    let now = seen.records.len();
    let is_dropped = lock(&site.reloader).is_none();
    let mut runs = seen.must_run_since(reloader).is_some();
    if runs && !site.status().running {
        return Err(format!("reloader {reloader} is started and does not run"));
    }
    let mut stopped = seen.is_stopped(reloader, now, now);
    if !runs
        && !stopped
        && (seen.was_started(reloader) || seen.of_one(reloader).any(|call| call.kind == Kind::Stop))
    {
        call(world, reloader, Kind::Stop);
        stopped = true;
    }
    if stopped {
        write(world, reloader, Content::Good, seed.is_multiple_of(2));
        // The oracle allows this call to have no effect.
        call(world, reloader, Kind::Reload);
        if !is_dropped && seed.is_multiple_of(3) {
            // A stop by the driver itself does not wait for the end of its run.
            call(world, reloader, Kind::Stop);
            call(world, reloader, Kind::Start);
            settle(world, reloader)?;
            (runs, stopped) = (true, false);
        }
    }
    if stopped {
        return Ok(());
    }
    let handle = site.owned().unwrap();
    let panicked =
        |record: &Record| matches!(record, Record::Panicked { reloader: of, .. } if *of == reloader);
    if runs && handle.status().watched.is_empty() && seen.records.iter().any(panicked) {
        // No snapshot has been completed yet, and the next retry is an hour away.
        call(world, reloader, Kind::Reload);
    }
    if runs && seed % 4 == 1 {
        // An event without a publication wakes the readers of events, too.
        let refused = refusal(&handle);
        write(world, reloader, Content::Bad, true);
        if !refused.recv_timeout(DEADLINE).unwrap_or_default() {
            return Err(format!("a thread waits on for the refusal by reloader {reloader}"));
        }
    }
    let before = handle.current().generation;
    let waiters = waiters(&handle, seed);
    call(world, reloader, Kind::Published);
    write(world, reloader, Content::Good, seed.is_multiple_of(2));
    let number = site.numbers.load(Ordering::SeqCst);
    if !runs {
        call(world, reloader, Kind::Reload);
    }
    let end = Instant::now() + DEADLINE;
    let mut current = handle.current();
    while current.value.number != number {
        let left = if runs { end.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
        let next = handle.wait_published(current.generation, left);
        current = next.ok_or_else(|| {
            format!(
                "reloader {reloader} serves {}, not {number}: {:?}",
                current.value.number,
                handle.status()
            )
        })?;
    }
    for waiter in waiters {
        let woken = waiter.recv_timeout(DEADLINE).unwrap_or_default();
        if !woken {
            return Err(format!("a thread waits on after generation {before} of reloader {reloader}"));
        }
    }
    Ok(())
}

/// Starts two threads that wait for the next publication, each in another way.
fn waiters(handle: &rustls_reload::Reloader<Value>, seed: u64) -> Vec<mpsc::Receiver<bool>> {
    if !seed.is_multiple_of(4) {
        return Vec::new();
    }
    let mut events = handle.events();
    let generation = handle.current().generation;
    let (first, second) = (handle.clone(), handle.clone());
    let wait = move || first.wait_published(generation, DEADLINE).is_some();
    let read = move || {
        let mut next = || events.next_within(DEADLINE);
        while let Some(reported) = next() {
            if let Event::Published { generation: new, .. } = &*reported.event {
                // The cell has the generation of every reported event.
                return second.current().generation >= *new;
            }
        }
        false
    };
    vec![on_thread(wait), on_thread(read)]
}

/// Starts a thread that waits for the next refusal.
fn refusal(handle: &rustls_reload::Reloader<Value>) -> mpsc::Receiver<bool> {
    let mut events = handle.events();
    on_thread(move || {
        let mut next = || events.next_within(DEADLINE);
        while let Some(reported) = next() {
            if matches!(*reported.event, Event::Refused { .. }) {
                return true;
            }
        }
        false
    })
}

fn on_thread(work: impl FnOnce() -> bool + Send + 'static) -> mpsc::Receiver<bool> {
    let (sender, receiver) = mpsc::channel();
    drop(thread::spawn(move || sender.send(work())));
    receiver
}

/// Stops or drops the reloader. Its worker, its watcher and every wait have to end.
fn end(world: &Arc<World>, reloader: usize, seed: u64) -> Result<(), String> {
    let site = &world.sites[reloader];
    let seen = Seen::of(world.history.records());
    let runs = seen.must_run_since(reloader).is_some();
    let is_dropped = lock(&site.reloader).is_none();
    if !is_dropped {
        call(world, reloader, if seed.is_multiple_of(2) { Kind::Stop } else { Kind::Drop });
    }
    let status = site.status();
    if !is_dropped && (status.running || site.disk.watchers() > 0 || !status.watched.is_empty()) {
        let watchers = site.disk.watchers();
        return Err(format!("reloader {reloader} is stopped, with {watchers} watchers: {status:?}"));
    }
    for task in &*lock(&site.tasks) {
        let woken = task.flag.count.load(Ordering::SeqCst) > task.wakes;
        // A worker polled the future after its last event; the worker's end has to wake the future
        // too.
        let ended =
            |called: &&Called| called.call == task.call && called.driver && called.phase == Phase::Ending;
        let due = if task.shrunk {
            status.trust_reduced > Some(task.generation)
        } else {
            runs || status.generation > task.generation
                || (!is_dropped && seen.of_one(reloader).any(|called| ended(&called)))
        };
        if due && !woken {
            return Err(format!(
                "reloader {reloader}: nothing wakes the task that waits since call {} for what comes after {}",
                task.call, task.generation
            ));
        }
        if task.shrunk && woken && !due {
            return Err(format!("reloader {reloader}: the task of call {} is woken for nothing", task.call));
        }
    }
    write(world, reloader, Content::Good, true);
    call(world, reloader, Kind::Reload);
    Ok(())
}

/// Returns the events of the first subscriber. Each later subscriber got a tail of them.
fn read_events(world: &World, reloader: usize) -> Result<Vec<Arc<Event>>, String> {
    let mut subscribers = std::mem::take(&mut *lock(&world.sites[reloader].subscribers));
    // Where the driver itself has dropped the reloader, its worker may still be ending.
    while subscribers.iter_mut().fold(false, |any, subscriber| subscriber.read() | any) {}
    let all = &subscribers[0].reported;
    for subscriber in &subscribers {
        let reported = &subscriber.reported;
        let end = &all[all.len().saturating_sub(reported.len())..];
        let same = reported.len() == end.len()
            && reported
                .iter()
                .zip(end)
                .all(|(one, other)| Arc::ptr_eq(&one.event, &other.event) && one.lost == 0);
        if !same {
            return Err(format!("reloader {reloader}: one subscriber read {reported:#?}, another {all:#?}"));
        }
    }
    Ok(all.iter().map(|reported| Arc::clone(&reported.event)).collect())
}

/// Drops everything, and waits until all threads and their references are gone.
fn let_go(world: &Arc<World>) -> Result<(), String> {
    for site in &world.sites {
        // Dropped outside of the locks, because their drops may call anything.
        let tasks = std::mem::take(&mut *lock(&site.tasks));
        drop(tasks);
        let reloader = lock(&site.reloader).take();
        drop(reloader);
        let shared = lock(&site.shared).take();
        drop(shared);
    }
    let end = Instant::now() + DEADLINE;
    // The two references left are this thread's and its starter's.
    while Arc::strong_count(world) > 2 {
        if Instant::now() > end {
            return Err(format!("{} references are left", Arc::strong_count(world) - 2));
        }
        thread::yield_now();
    }
    Ok(())
}
