//! Plays steps on the shipped reloader in a simulated world and on the model, and compares both
//! after each step.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls_reload::{
    Error, Event, Events, Layer, Reload, Status, Timing,
    watch::{Hints, MakeWatcher, Watched, Watcher},
};
use rustls_reload_harness::sim::{EPOCH, InteractiveWorld, SimWatcher, WorldConfig};
use rustls_reload_testkit::Op;

use super::{
    compare,
    model::{Answer, Content, DAY, Model},
};

/// A change of one set, before the reader acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A valid renewal.
    Renewed,
    /// Files that fail the checks, with different bytes each time.
    Broken,
    Expired,
    NotYetValid,
    OtherKey,
    OtherNames,
    /// A file is missing.
    Missing,
    /// The served bytes are written again.
    Back,
    /// The bytes on disk are written again, in a new directory.
    Again,
    /// No further directory of the set can be watched from now on.
    Cut,
    /// Directories of the set can be watched again.
    Mended,
}

/// The action after the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// File events arrive, and a short time passes.
    Hint,
    /// A poll and every retry are due.
    Tick,
    /// The clock is set forward, past the begin or end of a validity.
    Clock,
    /// A manual reload.
    Reload,
    /// A stop and a start.
    Restart,
    /// A stop and a start, and the clock is set forward in between.
    RestartLater,
}

impl Action {
    pub const ALL: [Self; 6] =
        [Self::Hint, Self::Tick, Self::Clock, Self::Reload, Self::Restart, Self::RestartLater];
}

pub type Step = (Vec<(usize, Change)>, Action);

/// The time by which the clock is set forward: less than the shortest validity of a renewal.
const JUMP: u64 = DAY + DAY / 5;

/// The kind of reloader under test: its contents, and its further promises.
pub trait Kind: Sized {
    type Value: Send + Sync + 'static;

    /// Returns the first contents, one for each set.
    fn first(&mut self, wall: u64) -> Vec<Content>;

    /// Makes a content of this kind; `None` if the set has no such content.
    fn make(&mut self, set: usize, change: Change, wall: u64, served: Option<&Content>) -> Option<Content>;

    /// Loads the reloader over the files of these directories.
    fn load(&self, live: &mut InteractiveWorld<Self::Value>, dirs: &[PathBuf], watcher: MakeWatcher);

    /// Compares the served value with the model.
    fn serves(&mut self, live: &InteractiveWorld<Self::Value>, model: &Model) -> Result<(), String>;
}

/// The observable state of a reloader after a step. A wrong design shows another one.
#[derive(Clone, Debug)]
pub struct Observation {
    pub before: Status,
    pub status: Status,
    pub events: Vec<Event>,
    pub answer: Option<Reload>,
}

/// The files of a set on disk.
struct Place {
    release: u64,
    files: Vec<&'static str>,
    content: Arc<Content>,
}

/// A reloader and its model.
pub struct Play<K: Kind> {
    pub kind: K,
    pub model: Model,
    pub live: InteractiveWorld<K::Value>,
    events: Events<K::Value>,
    places: Vec<Place>,
    cut: Arc<Mutex<Vec<bool>>>,
    status: Status,
    falsify: Option<Falsify>,
}

/// Changes an observation into that of a wrong design.
pub type Falsify = Box<dyn FnMut(&mut Observation)>;

/// Returns the directory of a set.
pub fn dir(set: usize) -> PathBuf {
    PathBuf::from(format!("/s{set}"))
}

/// Returns the set whose directory contains a path.
pub fn set_of(path: &Path) -> Option<usize> {
    path.iter().nth(1)?.to_str()?.strip_prefix('s')?.parse().ok()
}

/// The world's watcher, which refuses new directories of sets that are cut.
struct Cutting(SimWatcher, Arc<Mutex<Vec<bool>>>);

impl Watcher for Cutting {
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
        match set_of(dir).filter(|set| self.1.lock().unwrap()[*set]) {
            Some(_) => Err(Error::new(Layer::Watch, "no watches left").at(dir)),
            None => self.0.watch(dir),
        }
    }

    fn unwatch(&mut self, dir: &Path) {
        self.0.unwatch(dir);
    }

    fn begin_update(&mut self) {
        self.0.begin_update();
    }
}

/// Returns the steps that replace a release behind the link `data` of a directory.
fn release(set: usize, number: u64, content: &Content, missing: bool) -> (Vec<Op>, Vec<&'static str>) {
    let at = |name: &str| dir(set).join(format!("r{number}")).join(name);
    let mut ops = vec![Op::Mkdir(at(""))];
    let files = &content.files[..content.files.len() - usize::from(missing)];
    for (name, bytes) in files {
        ops.extend([Op::Create(at(name)), Op::Append(at(name), bytes.clone())]);
    }
    (ops, files.iter().map(|(name, _)| *name).collect())
}

fn commit(set: usize, number: u64) -> [Op; 2] {
    let next = dir(set).join("next");
    [Op::Symlink(format!("r{number}").into(), next.clone()), Op::Rename(next, dir(set).join("data"))]
}

impl<K: Kind> Play<K> {
    /// Makes both, after the first load and a start.
    pub fn new(kind: K) -> Self {
        Self::new_in(kind, WorldConfig::default())
    }

    /// Makes both in a world in which file events may be lost.
    pub fn new_in(kind: K, config: WorldConfig) -> Self {
        Self::loaded(kind, config).started().unwrap_or_else(|why| panic!("at the start: {why}"))
    }

    /// Starts both. The error describes the difference.
    pub fn started(mut self) -> Result<Self, String> {
        self.start();
        self.compare(None, Action::Restart)?;
        Ok(self)
    }

    /// Makes both, after the first load.
    pub fn loaded(mut kind: K, config: WorldConfig) -> Self {
        let wall = EPOCH.wall.as_secs();
        let contents: Vec<_> = kind.first(wall).into_iter().map(Arc::new).collect();
        let (mut base, mut places) = (Vec::new(), Vec::new());
        for (set, content) in contents.iter().enumerate() {
            let (ops, files) = release(set, 0, content, false);
            base.push(Op::Mkdir(dir(set)));
            base.extend(ops.into_iter().chain(commit(set, 0)));
            places.push(Place { release: 0, files, content: Arc::clone(content) });
        }
        let dirs: Vec<_> = (0..contents.len()).map(|set| dir(set).join("data")).collect();
        let mut live = InteractiveWorld::new(&dirs, &base, Timing::default(), config);
        let cut = Arc::new(Mutex::new(vec![false; contents.len()]));
        let (sim, flags) = (live.sim().clone(), Arc::clone(&cut));
        let watcher: MakeWatcher = Box::new(move |hints: Hints| {
            Ok(Box::new(Cutting(SimWatcher::new(&sim, hints), Arc::clone(&flags))))
        });
        kind.load(&mut live, &dirs, watcher);
        let model = Model::new(&contents, wall);
        let (events, status) = (live.reloader().events(), live.reloader().status());
        let mut play = Self { kind, model, live, events, places, cut, status, falsify: None };
        // The load has reported these before there was a subscriber.
        play.model.sets.iter_mut().for_each(|set| set.ends.clear());
        play
    }

    /// Makes all further observations those of a wrong design.
    pub fn falsified(mut self, falsify: Falsify) -> Self {
        self.falsify = Some(falsify);
        self
    }

    /// Plays a step on both.
    ///
    /// The error describes the difference.
    pub fn step(&mut self, (changes, action): &Step) -> Result<(), String> {
        for (set, change) in changes {
            self.change(*set, *change);
        }
        let answer = match action {
            Action::Hint => self.wait(2),
            Action::Tick => self.wait(11),
            Action::Clock => {
                self.set_clock();
                self.wait(11)
            }
            Action::Reload => {
                self.model.wall = self.live.sim().now().wall.as_secs();
                let answer = self.live.reload_now().ok_or("a reload by hand is not answered")?;
                Some((answer, self.model.reload()))
            }
            Action::Restart | Action::RestartLater => {
                self.live.stop();
                self.model.stop();
                let stopped = self.live.reloader().status();
                let answer = self.live.reload_now();
                if stopped.running || !stopped.watched.is_empty() || answer != Some(Reload::Stopped) {
                    return Err(format!("after a stop: {answer:?}, {stopped:?}"));
                }
                if *action == Action::RestartLater {
                    self.set_clock();
                }
                self.start()
            }
        };
        self.compare(answer, *action)
    }

    fn start(&mut self) -> Option<(Reload, Answer)> {
        self.live.start();
        self.model.running = true;
        self.wait(11)
    }

    fn wait(&mut self, seconds: u64) -> Option<(Reload, Answer)> {
        self.model.wall = self.live.sim().now().wall.as_secs();
        self.live.until(Duration::from_secs(seconds), |_| false);
        self.model.settle();
        None
    }

    fn set_clock(&mut self) {
        self.live.sim().set_clock(i64::try_from(JUMP).unwrap());
    }

    fn change(&mut self, set: usize, change: Change) {
        if let Change::Cut | Change::Mended = change {
            let is_cut = change == Change::Cut;
            self.cut.lock().unwrap()[set] = is_cut;
            self.model.sets[set].cut = is_cut;
            return;
        }
        let wall = self.live.sim().now().wall.as_secs();
        let content = match change {
            Change::Missing | Change::Back => Some(Arc::clone(&self.model.sets[set].served)),
            Change::Again => Some(Arc::clone(&self.places[set].content)),
            _ => self.kind.make(set, change, wall, Some(&self.model.sets[set].served)).map(Arc::new),
        };
        let Some(content) = content else { return };
        let is_missing =
            change == Change::Missing || change == Change::Again && self.model.sets[set].disk.is_none();
        self.put(set, &content, is_missing);
        self.model.put(set, (!is_missing).then_some(content));
    }

    /// Replaces the whole directory by one rename.
    fn put(&mut self, set: usize, content: &Arc<Content>, is_missing: bool) {
        let number = self.places[set].release + 1;
        let (ops, files) = release(set, number, content, is_missing);
        let new = Place { release: number, files, content: Arc::clone(content) };
        let old = std::mem::replace(&mut self.places[set], new);
        self.apply(&ops);
        // The rename comes more than a tick after the writes that it commits (ASM-06).
        self.live.pass(Duration::from_millis(8));
        self.apply(&commit(set, number));
        let at = |name: &str| dir(set).join(format!("r{}", old.release)).join(name);
        let unlink = old.files.iter().map(|name| Op::Unlink(at(name)));
        self.apply(&unlink.chain([Op::Rmdir(at(""))]).collect::<Vec<_>>());
    }

    fn apply(&self, ops: &[Op]) {
        ops.iter().for_each(|op| self.live.sim().apply(op).unwrap());
    }

    fn compare(&mut self, answer: Option<(Reload, Answer)>, action: Action) -> Result<(), String> {
        let status = self.live.reloader().status();
        let reported = std::iter::from_fn(|| self.events.try_next());
        let (answer, wanted) = answer.unzip();
        let mut seen = Observation {
            before: std::mem::replace(&mut self.status, status.clone()),
            status,
            events: reported.map(|reported| Event::clone(&reported.event)).collect(),
            answer,
        };
        if let Some(falsify) = &mut self.falsify {
            falsify(&mut seen);
        }
        let now = self.live.sim().now();
        compare::all(&seen, &mut self.model, wanted, action, now.wall)
            .and_then(|()| self.kind.serves(&self.live, &self.model))
            .map_err(|why| format!("{why}\nevents: {:#?}", seen.events))
    }
}

/// Pseudorandom numbers, equal in every run.
pub struct Draws(u64);

impl Draws {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % limit as u64).unwrap()
    }
}

/// Returns random steps of a few kinds, which often repeat (swarm testing).
pub fn walk(draws: &mut Draws, sets: usize, changes: &[Change], length: usize) -> Vec<Step> {
    let few: Vec<_> = (0..4).map(|_| changes[draws.below(changes.len())]).collect();
    let actions: Vec<_> = (0..3).map(|_| Action::ALL[draws.below(Action::ALL.len())]).collect();
    let mut step = || {
        let changed = [1, 1, 2, 2, 3, 0][draws.below(6)];
        let mut all: Vec<_> =
            (0..changed).map(|_| (draws.below(sets), few[draws.below(few.len())])).collect();
        all.sort_by_key(|(set, _)| *set);
        all.dedup_by_key(|(set, _)| *set);
        (all, actions[draws.below(actions.len())])
    };
    (0..length).map(|_| step()).collect()
}

/// Returns a sequence in which each step follows each, itself included: a de Bruijn sequence.
pub fn each_after_each(steps: &[Step]) -> Vec<Step> {
    let count = steps.len();
    let from = |first| std::iter::once(first).chain((first + 1..count).flat_map(move |next| [first, next]));
    (0..count).flat_map(from).chain([0]).map(|place| steps[place].clone()).collect()
}

/// Plays these steps. Panics with a minimal failing sequence.
pub fn plays<K: Kind>(new: &dyn Fn() -> Play<K>, steps: &[Step]) {
    let Err((length, mut last)) = fails(new(), steps) else { return };
    let mut few = steps[..length].to_vec();
    // The last few steps are most often enough.
    let end = (0..6).map(|power| few[length - length.min(1 << power)..].to_vec());
    if let Some((end, why)) = end.filter_map(|end| Some((end.clone(), fails(new(), &end).err()?.1))).next() {
        (few, last) = (end, why);
    }
    let mut place = 0;
    while few.len() < 100 && place < few.len() {
        let mut fewer = few.clone();
        fewer.remove(place);
        match fails(new(), &fewer) {
            Err((length, why)) => (few, last) = (fewer[..length].to_vec(), why),
            Ok(()) => place += 1,
        }
    }
    panic!("the model differs after {few:?}: {last}");
}

/// Plays steps until both differ. Returns the number of steps, and the difference.
pub fn fails<K: Kind>(mut play: Play<K>, steps: &[Step]) -> Result<(), (usize, String)> {
    for (count, step) in (1..).zip(steps) {
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play.step(step)));
        let played = played.unwrap_or_else(|_| Err("a panic".to_owned()));
        played.map_err(|why| (count, why))?;
    }
    Ok(())
}
