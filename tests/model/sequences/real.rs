//! The real world: a temporary directory, the system's watcher, certificates, a driver, and a peer
//! that makes handshakes throughout.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustls::{ClientConfig, client::ResolvesClientCert};
use rustls_reload::{Clock, Error, Event, Published, Reloader, ServerTls};
use rustls_reload_harness::sim::{Contents, Record, is_valid, not_before};
use rustls_reload_testkit::Op as Step;

use super::{
    case::Act,
    cert_cache::{CachedCerts, CertCache, Shows},
    for_life::{self, Meeting, Peer},
    oracle::{CaseHistory, Observation, Violation, longest},
    plan::{Part, Plan},
    server::{Given, Log, Port, TIMING, Wrong},
};
use crate::common::{client_of_any, handshake, in_memory};

/// The longest time of a calm on a loaded machine.
const CALM: Duration = Duration::from_secs(30);

/// Totals over all cases, for the report.
#[derive(Default)]
pub struct Tally {
    pub operations: AtomicU64,
    pub handshakes: AtomicU64,
    /// The handshakes of one configuration for life.
    pub for_life: AtomicU64,
    pub published: AtomicU64,
    pub refused: AtomicU64,
    pub evaluated: AtomicU64,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |what: &AtomicU64| what.load(Ordering::Relaxed);
        let Self { operations, handshakes, for_life, published, refused, evaluated } = self;
        let (operations, handshakes, evaluated) = (number(operations), number(handshakes), number(evaluated));
        let (published, refused) = (number(published), number(refused));
        write!(
            f,
            "{operations} operations, {evaluated} sets evaluated, {published} published, {refused} refusals reported, "
        )?;
        write!(f, "{handshakes} handshakes, {} of one configuration for life", number(for_life))
    }
}

/// Certificates made for one case are reused in the next.
pub static CERT_CACHE: LazyLock<Arc<CertCache>> = LazyLock::new(Arc::default);

/// A value that a case is played with: a server's or a client's.
pub trait Side: Send + Sync + Sized + 'static {
    /// The peers that make handshakes with it.
    type Peers: Send;

    /// Makes the peers of a case.
    fn peers(plan: &Plan) -> Self::Peers;

    /// Makes one configuration for life, and the peers that meet it.
    fn for_life(reloader: &Reloader<Self>, plan: &Plan, wrong: Wrong) -> Vec<Peer>;

    /// Performs the first load.
    ///
    /// # Errors
    /// The refusal.
    fn load(given: Given<'_>) -> Result<Reloader<Self>, Error>;

    /// Makes handshakes with a value, `again` if it was observed already. Returns the files that
    /// they show, unless nothing new is expected, and the number of handshakes.
    ///
    /// # Errors
    /// The violation.
    fn observe(&self, peers: &mut Self::Peers, again: bool) -> Result<(Option<Contents>, usize), String>;
}

impl Side for ServerTls {
    type Peers = (Arc<Shows>, [Arc<ClientConfig>; 2]);

    fn peers(_: &Plan) -> Self::Peers {
        let shows = Shows::new(&CERT_CACHE);
        let clients = [&rustls::version::TLS12, &rustls::version::TLS13]
            .map(|version| client_of_any(Arc::clone(&shows) as Arc<dyn ResolvesClientCert>, version));
        (shows, clients)
    }

    fn for_life(reloader: &Reloader<Self>, plan: &Plan, wrong: Wrong) -> Vec<Peer> {
        for_life::clients(reloader, plan, wrong)
    }

    fn load(given: Given<'_>) -> Result<Reloader<Self>, Error> {
        given.server()
    }

    fn observe(&self, peers: &mut Self::Peers, _: bool) -> Result<(Option<Contents>, usize), String> {
        let (shows, clients) = peers;
        // Both versions take turns.
        clients.rotate_left(1);
        let connection = handshake(&self.config, &clients[0])
            .map_err(|error| format!("INV-02: a handshake failed: {error}"))?;
        Ok((Some(CERT_CACHE.shown(&connection.chain, &shows.asked())), 1))
    }
}

struct Player<'a, T: Side> {
    plan: &'a Plan,
    cached: CachedCerts,
    root: PathBuf,
    log: Arc<Log>,
    server: Reloader<T>,
    running: bool,
    /// A thread that waits for the answer to a manual reload.
    asked: Option<JoinHandle<()>>,
    /// The number of the next step.
    next: usize,
    calm: Duration,
}

/// Ends the clients when it is dropped.
struct Ends(Arc<AtomicBool>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Plays a plan.
///
/// # Errors
/// A violation that is found without the oracle.
pub fn play<T: Side>(plan: &Plan, wrong: Wrong, port: Port, tally: &Tally) -> Result<CaseHistory, Violation> {
    // On a disk a rename may wait for seconds until the replaced file is written, and the reader
    // waits for the directory as long.
    let dir = in_memory();
    let mut player = Player::<T>::new(plan, dir.path().canonicalize().unwrap(), wrong, port);
    let over = Arc::new(AtomicBool::new(false));
    // A handshake of one configuration for life before the start would be warned of.
    player.start(0)?;
    let client = {
        let (handle, over, peers) = (player.server.clone(), Arc::clone(&over), T::peers(plan));
        let for_life = T::for_life(&handle, plan, wrong);
        thread::spawn(move || handshakes(&handle, peers, &for_life, &over))
    };
    let ends = Ends(over);
    let mut status = HashMap::new();
    let mut play = || {
        for (number, part) in plan.parts.iter().enumerate() {
            thread::sleep(TIMING.settle * part.op.wait / 100);
            player.part(number, part)?;
            if part.op.act == Act::Calm {
                status.insert(number, player.server.status());
            }
        }
        player.stop()
    };
    let played = play();
    drop(ends);
    let connection = client.join().unwrap_or_else(|_| Err("a peer panicked".to_owned()));
    played?;
    let (observations, meetings, count) = connection.map_err(Violation)?;
    let history = player.log.history();
    let add = |what: &AtomicU64, number: usize| what.fetch_add(number as u64, Ordering::Relaxed);
    let counted = |is: fn(&Record) -> bool| history.iter().filter(|at| is(&at.record)).count();
    add(&tally.operations, plan.parts.len());
    add(&tally.handshakes, count + meetings.len());
    add(&tally.for_life, meetings.len());
    add(&tally.published, counted(|record| matches!(record, Record::Published { .. })));
    add(&tally.refused, counted(|record| matches!(record, Record::Reported(Event::Refused { .. }))));
    add(&tally.evaluated, counted(|record| matches!(record, Record::Evaluated { .. })));
    Ok(CaseHistory {
        history,
        status,
        timing: TIMING,
        events: None,
        observations: vec![observations],
        meetings,
    })
}

impl<'a, T: Side> Player<'a, T> {
    /// Makes the player and performs the first load.
    fn new(plan: &'a Plan, root: PathBuf, wrong: Wrong, port: Port) -> Self {
        let cached = CERT_CACHE.fill(plan);
        cached.base.iter().for_each(|step| take(&root, step));
        let log = Arc::new(Log::new());
        log.note(Record::Disk(plan.contents[0].clone()));
        let given: Vec<_> =
            plan.paths.iter().map(|path| root.join(path.strip_prefix("/").unwrap())).collect();
        let given = Given { paths: &given, log: &log, meanings: cached.meanings.clone(), wrong, port };
        let server = T::load(given).unwrap_or_else(|error| panic!("a base that can be loaded: {error}"));
        log.publishes(1);
        log.note(Record::Loaded(Ok(())));
        let calm = if wrong == Wrong::Nothing { CALM } else { longest(&TIMING) };
        Self { plan, cached, root, log, server, running: false, asked: None, next: 0, calm }
    }

    fn start(&mut self, number: usize) -> Result<(), Violation> {
        if !self.running {
            self.running = true;
            self.log.note(Record::Mark("start", number));
            self.server.start().map_err(|error| Violation(format!("INV-13: {error}")))?;
        }
        Ok(())
    }

    /// Stops the server. After that every pending request has an answer.
    fn stop(&mut self) -> Result<(), Violation> {
        if self.running {
            self.running = false;
            self.server.stop().map_err(|error| Violation(format!("INV-13: {error}")))?;
        }
        self.answered()
    }

    fn part(&mut self, number: usize, part: &Part) -> Result<(), Violation> {
        for index in part.steps.clone() {
            thread::sleep(TIMING.settle * part.pause / 100);
            self.step(index);
        }
        match part.op.act {
            Act::Clock(minutes) => {
                self.log.note(Record::Mark("clock", number));
                self.log.clock.set(i64::from(minutes) * 60);
            }
            Act::Reload => {
                self.ask(number)?;
                self.answered()?;
            }
            Act::Ask => self.ask(number)?,
            Act::Stop if self.running => {
                self.stop()?;
                self.log.note(Record::Mark("stop", number));
            }
            Act::Start => self.start(number)?,
            Act::Calm => {
                self.calm();
                self.log.note(Record::Mark("calm", number));
            }
            _ => {}
        }
        Ok(())
    }

    /// The new contents are recorded before the step, because an observer may see them before the
    /// publisher could record them.
    fn step(&mut self, index: usize) {
        let Plan { contents, .. } = self.plan;
        self.log.note(Record::Step(index));
        if contents[index] != contents[index + 1] {
            self.log.note(Record::Disk(contents[index + 1].clone()));
        }
        take(&self.root, &self.cached.steps[index]);
        self.next = index + 1;
        self.log.note(Record::Mark("taken", index));
    }

    fn ask(&mut self, number: usize) -> Result<(), Violation> {
        self.answered()?;
        self.log.note(Record::Mark("ask", number));
        let (handle, log) = (self.server.clone(), Arc::clone(&self.log));
        self.asked = Some(thread::spawn(move || {
            handle.reload_now();
            log.note(Record::Mark("answer", number));
        }));
        Ok(())
    }

    /// Waits for the answer to a manual reload.
    fn answered(&mut self) -> Result<(), Violation> {
        let deadline = Instant::now() + TIMING.still_changing_after + CALM;
        let Some(asked) = self.asked.take() else { return Ok(()) };
        while !asked.is_finished() {
            if Instant::now() > deadline {
                return Err(Violation("INV-12: a reload by hand is not answered".to_owned()));
            }
            thread::sleep(Duration::from_millis(1));
        }
        asked.join().map_err(|_| Violation("INV-03: a reload by hand panics".to_owned()))
    }

    /// Waits until the status is as it has to be, after further snapshots, or until the time limit.
    fn calm(&mut self) {
        let deadline = Instant::now() + self.calm;
        // The first of them may have begun before the last step.
        let seen = self.snapshots(2, deadline);
        if !self.running || !seen {
            return;
        }
        // After this time every file that has to be stable is stable.
        thread::sleep(TIMING.shrink_settle + TIMING.settle);
        while self.snapshots(3, deadline) && !self.is_right() {}
    }

    /// Waits for this many snapshots, or until the deadline. Returns whether they were taken.
    fn snapshots(&self, count: u64, deadline: Instant) -> bool {
        let from = self.server.status().snapshots;
        while self.running && self.server.status().snapshots < from + count {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Returns whether the status describes the files correctly.
    fn is_right(&self) -> bool {
        let disk = &self.plan.contents[self.next];
        let same = *disk == self.log.published();
        let date = not_before(disk).filter(|_| is_valid(disk));
        let held = !same && date.is_some_and(|date| date > self.log.clock.now().wall);
        let status = self.server.status();
        (same || held || !is_valid(disk))
            && status.differs_since.is_some() != same
            && status.deferred_until.is_some() == held
            && status.refused.is_some() != (same || held)
    }
}

/// Takes a step. The owner of a file that is made unreadable can still write it, even without being
/// root.
fn take(root: &Path, step: &Step) {
    let step = match step {
        Step::Chmod(path, 0) => Step::Chmod(path.clone(), 0o200),
        step => step.beneath(root),
    };
    step.apply(root).unwrap_or_else(|error| panic!("{step:?}: {error}"));
}

/// The pause between two handshakes, which leaves the processor to others.
const PACE: Duration = Duration::from_millis(2);

/// Makes handshakes until `over`. Returns the observations that differ from their predecessor, the
/// handshakes of one configuration for life, and the number of the other handshakes.
fn handshakes<T: Side>(
    reloader: &Reloader<T>,
    mut peers: T::Peers,
    for_life: &[Peer],
    over: &AtomicBool,
) -> Result<(Vec<Observation>, Vec<Meeting>, usize), String> {
    let (mut observations, mut meetings, mut count) = (Vec::<Observation>::new(), Vec::new(), 0);
    // Kept so that no other object can get its address.
    let mut last: Option<Arc<Published<T>>> = None;
    while !over.load(Ordering::SeqCst) {
        let now = reloader.current();
        let again = last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &now));
        let (files, made) = now.value.observe(&mut peers, again)?;
        count += made;
        let (generation, object) = (now.generation, Arc::as_ptr(&now).addr());
        let observation = files.map(|files| Observation { generation, object, files });
        if let Some(observation) = observation.filter(|observation| observations.last() != Some(observation))
        {
            observations.push(observation);
        }
        if !again {
            meetings.extend(for_life::meet(reloader, for_life));
        }
        last = Some(now);
        thread::sleep(PACE);
    }
    drop(last);
    Ok((observations, meetings, count))
}
