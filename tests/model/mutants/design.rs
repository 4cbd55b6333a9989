//! A design that combines the shipped stages with a simple driver, and in which one stage can be
//! wrong.
//!
//! With [`Wrong::Nothing`] the design is right and passes the checkers. Each other variant replaces
//! one stage by a design seen in the field.
//!
//! The wrong stages stay beside the right ones, in one file, so that each shows what it replaces.

use std::{
    collections::{VecDeque, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustls_reload::{
    Clock, Error, Event, Files, Layer, PathSet, Published, Status, Timing,
    fs::Fs,
    internal::{
        ChangeKind, Walk,
        machine::{Effect, Input, Machine, Notice, ReadOutcome, Verdict},
        snapshot::{self, Failure, Snapshot},
    },
    watch::{Watched, Watcher},
};
use rustls_reload_harness::sim::{
    CA, CHAIN, Contents, Design, Record, Sim, SimClock, SimFs, SimPathFs, SimWatcher, Value, What, is_valid,
};

/// The stage that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Wrong {
    /// No stage: the right design.
    Nothing,
    /// Reads each file by its path and takes a matching key and leaf for a whole set. Breaks: INV-01
    ReadsByPath,
    /// Validates, then reads again to build. Breaks: INV-01
    ReadsAgain,
    /// Publishes at once whenever a directory is new. Breaks: INV-01
    TrustsNewDirectories,
    /// Publishes each set that passes at once. Breaks: INV-01
    NeverSettles,
    /// Treats a chain that lost its end as finished, and a file that was stable for a moment as
    /// settled. Breaks: INV-01
    SettlesBriefly,
    /// Swaps the pair first, the client CAs after it. Breaks: INV-01, INV-04
    TwoCells,
    /// Swaps first, validates afterwards. Breaks: INV-02, INV-03
    SwapsFirst,
    /// Builds without the key-match check. Breaks: INV-02
    NoKeyMatch,
    /// Drops the value when a re-read fails. Breaks: INV-03
    DropsValue,
    /// Treats an unreadable file of client CAs as an empty one. Breaks: INV-03
    EmptyCa,
    /// Stores a load of old bytes that ended late. Breaks: INV-04
    Unserialised,
    /// Compares the leaf alone. Breaks: INV-05
    ComparesLeaf,
    /// Compares modification times alone. Breaks: INV-08
    ComparesTimes,
    /// Never takes a snapshot without an event. Breaks: INV-05, INV-06
    NeverPolls,
    /// Never polls, and watches only the parent directories of the paths. Breaks: INV-05, INV-06
    WatchesParents,
    /// Never polls, and watches the files. Breaks: INV-05, INV-06
    WatchesFiles,
    /// Never polls, loads first, arms the watch afterwards, and takes no further snapshot.
    /// Breaks: INV-05
    ArmsAfterwards,
    /// Never polls, and ignores removals. Breaks: INV-06
    IgnoresRemoval,
    /// Never polls, and ignores renames. Breaks: INV-06
    IgnoresRename,
    /// Never polls, and ignores that events were lost. Breaks: INV-06
    IgnoresRescan,
    /// Treats the start of a worker as a manual reload. Breaks: INV-01
    StartsByHand,
    /// Publishes at every event. Breaks: INV-08
    PublishesUnchanged,
    /// Reports a refusal at every retry. Breaks: INV-11
    ReportsRetries,
    /// Reports success before the swap. Breaks: INV-11
    ReportsFirst,
    /// Treats a re-pointed link as a commit although no directory is held open. Breaks: INV-01
    CommitsWithoutHandles,
    /// Treats a file as unchanged by its path and bytes, regardless of its times. Breaks: INV-01
    KnowsByPath,
}

/// The designs that take no snapshot without an event.
const BY_EVENTS: [Wrong; 7] = [
    Wrong::NeverPolls,
    Wrong::WatchesParents,
    Wrong::WatchesFiles,
    Wrong::ArmsAfterwards,
    Wrong::IgnoresRemoval,
    Wrong::IgnoresRename,
    Wrong::IgnoresRescan,
];

/// A port of the simulated world.
pub(crate) trait Port: Fs {
    fn of(sim: &Sim) -> Self;
}

impl Port for SimFs {
    fn of(sim: &Sim) -> Self {
        sim.fs()
    }
}

impl Port for SimPathFs {
    fn of(sim: &Sim) -> Self {
        Self::new(sim)
    }
}

/// The design. `W` is a [`Wrong`], and `F` the port that it reads through.
pub(crate) struct Rebuilt<const W: u8, F = SimFs> {
    sim: Sim,
    fs: F,
    clock: Arc<SimClock>,
    paths: PathSet,
    machine: Machine<String>,
    served: (Files, Walk),
    candidate: Option<(Files, Walk, u64)>,
    late: Option<Contents>,
    numbers: u64,
    current: Arc<Published<Value>>,
    watcher: SimWatcher,
    watched: Vec<PathBuf>,
    woken: Arc<AtomicBool>,
    stopped: bool,
    /// Whether a manual reload waits for its answer.
    asked: bool,
}

fn contents(files: &Files) -> Contents {
    files.iter().map(|(_, bytes)| Some(Arc::new(bytes.to_vec()))).collect()
}

impl<const W: u8, F: Port> Rebuilt<W, F> {
    fn is(&self, wrong: Wrong) -> bool {
        W == wrong as u8
    }

    /// Returns whether the design ignores this event; `None` stands for lost events.
    fn ignores(what: Option<What>) -> bool {
        let wrong = match what {
            Some(What::Removed) => Wrong::IgnoresRemoval,
            Some(What::Renamed) => Wrong::IgnoresRename,
            None => Wrong::IgnoresRescan,
            Some(What::Made | What::Written) => return false,
        };
        W == wrong as u8
    }

    fn run(&mut self, input: Input<String>) {
        let mut effects: VecDeque<_> = self.machine.step(self.clock.now(), input).into();
        while let Some(effect) = effects.pop_front() {
            let answer = match effect {
                Effect::TakeSnapshot => Input::SnapshotTaken(self.snapshot()),
                Effect::Build(_) => Input::Built(self.build()),
                Effect::Publish { recovered, .. } => {
                    self.publish(recovered);
                    continue;
                }
                Effect::Report(notice) => {
                    self.report(notice);
                    continue;
                }
                Effect::Answer(_) => {
                    self.asked = false;
                    continue;
                }
            };
            effects.extend(self.machine.step(self.clock.now(), answer));
        }
    }

    fn take(&self) -> Snapshot {
        if !self.is(Wrong::ReadsByPath) {
            return snapshot::take(&self.fs, &self.paths);
        }
        let mut walk = Walk::default();
        let mut files = Vec::new();
        for path in self.paths.paths() {
            let one = snapshot::take(&self.fs, &PathSet::new([path]).unwrap());
            walk = one.walk;
            match one.files {
                Ok(file) => files.extend(file.iter().map(|(path, bytes)| (path.to_owned(), bytes.to_vec()))),
                Err(failure) => return Snapshot { walk, files: Err(failure) },
            }
        }
        Snapshot { walk, files: Ok(Files::new(files)) }
    }

    fn snapshot(&mut self) -> ReadOutcome<String> {
        let mut snapshot = self.take();
        for _ in 0..8 {
            if !self.arm(&snapshot.walk) {
                break;
            }
            snapshot = self.take();
        }
        let failure = match snapshot.files {
            Ok(files) => return self.seen(files, snapshot.walk),
            Err(failure) => failure,
        };
        if self.is(Wrong::DropsValue) {
            let (generation, files) = (self.current.generation, vec![None; 3]);
            self.current = Arc::new(Published::new(generation, Value { files }));
        }
        match &failure {
            Failure::Unreadable { path, .. }
                if self.is(Wrong::EmptyCa) && *path == self.paths.paths()[CA] =>
            {
                let pair = PathSet::new(&self.paths.paths()[..CA]).unwrap();
                let Ok(pair) = snapshot::take(&self.fs, &pair).files else {
                    return ReadOutcome::Torn { cause: String::new(), still: false };
                };
                let mut files: Vec<_> =
                    pair.iter().map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect();
                files.push((path.clone(), (&b""[..]).into()));
                self.seen(Files::new(files), snapshot.walk)
            }
            failure if failure.is_torn() => ReadOutcome::Torn { cause: failure.to_string(), still: false },
            failure => ReadOutcome::Failed(failure.to_string()),
        }
    }

    fn arm(&mut self, walk: &Walk) -> bool {
        if self.is(Wrong::WatchesFiles) {
            let new: Vec<_> = self.paths.paths().iter().map(|path| self.watcher.watch_file(path)).collect();
            return new.contains(&true);
        }
        let dirs: Vec<PathBuf> = if self.is(Wrong::WatchesParents) {
            self.paths.paths().iter().filter_map(|path| path.parent()).map(Path::to_owned).collect()
        } else {
            walk.dirs.iter().map(|dir| dir.path.clone()).collect()
        };
        let mut new = false;
        // Every watch is set anew at each snapshot, which is simple and correct on one thread.
        for dir in dirs {
            let known = self.watched.contains(&dir);
            if self.watcher.watch(&dir) == Ok(Watched::Armed) && !known {
                self.watched.push(dir);
                new = true;
            }
        }
        new
    }

    fn same(&self, files: &Files, walk: &Walk) -> bool {
        let (served, served_walk) = &self.served;
        if self.is(Wrong::ComparesLeaf) {
            return files.get(CHAIN).map(|(_, bytes)| bytes.chunks(8).next().map(<[u8]>::to_vec))
                == served.get(CHAIN).map(|(_, bytes)| bytes.chunks(8).next().map(<[u8]>::to_vec));
        }
        if self.is(Wrong::ComparesTimes) {
            let times = |walk: &Walk| -> Vec<_> {
                let stats = walk.entries.iter().map(|entry| match &entry.seen {
                    rustls_reload::internal::Lookup::Node(stat)
                        if stat.kind == rustls_reload::fs::Kind::File =>
                    {
                        stat.mtime
                    }
                    _ => 0,
                });
                stats.collect()
            };
            return times(walk) == times(served_walk);
        }
        files == served
    }

    fn seen(&mut self, files: Files, walk: Walk) -> ReadOutcome<String> {
        if self.same(&files, &walk) {
            if self.is(Wrong::PublishesUnchanged) {
                let passed = contents(&files);
                self.sim.note(Record::Evaluated { files: passed.clone(), passed: true });
                self.swap(passed, false);
            }
            self.served = (files, walk);
            self.candidate = None;
            return ReadOutcome::Served;
        }
        let at_once = self.is(Wrong::NeverSettles);
        let new_dir = self.is(Wrong::TrustsNewDirectories)
            && walk.dirs.iter().any(|dir| self.served.1.dirs.iter().all(|old| old.id != dir.id));
        let kind = if at_once || new_dir {
            ChangeKind::Atomic
        } else if F::HAS_DIR_HANDLES || self.is(Wrong::CommitsWithoutHandles) {
            walk.change_since(&self.served.1)
        } else {
            ChangeKind::InPlace
        };
        let lost = |old: &[u8], new: &[u8]| new.len() < old.len() && old.starts_with(new);
        let shrinks = self.served.0.iter().zip(files.iter()).any(|((_, old), (_, new))| lost(old, new));
        let by_path = self.is(Wrong::KnowsByPath);
        let is_same = |(old, way, _): &&(Files, Walk, u64)| *old == files && (by_path || way.same_as(&walk));
        let known = self.candidate.as_ref().filter(is_same);
        let content = known.map_or(self.numbers + 1, |(.., content)| *content);
        self.numbers = self.numbers.max(content);
        self.candidate = Some((files, walk, content));
        ReadOutcome::Changed { content, kind, shrinks }
    }

    fn build(&mut self) -> Verdict<String> {
        let Some((files, ..)) = &self.candidate else { return Verdict::Refused("nothing".to_owned()) };
        let files = contents(files);
        if self.is(Wrong::SwapsFirst) {
            self.swap(files.clone(), false);
        }
        let mut checked = files.clone();
        if self.is(Wrong::EmptyCa) && checked[CA].as_ref().is_some_and(|ca| ca.is_empty()) {
            checked[CA].clone_from(&self.current.value.files[CA]);
        }
        let passed = is_valid(&checked) || self.is(Wrong::NoKeyMatch);
        self.sim.note(Record::Evaluated { files, passed });
        if passed {
            return Verdict::Valid;
        }
        if self.is(Wrong::ReportsRetries) {
            let error = Error::new(Layer::Match, "the set does not pass");
            self.sim.note(Record::Reported(Event::Refused {
                error,
                generation: self.current.generation,
                set: None,
            }));
        }
        Verdict::Refused("the set does not pass".to_owned())
    }

    fn publish(&mut self, recovered: bool) {
        let Some((files, walk, _)) = self.candidate.take() else { return };
        let mut bytes = contents(&files);
        if self.is(Wrong::SwapsFirst) {
            self.served = (files, walk);
            return;
        }
        if self.is(Wrong::ReadsAgain)
            && let Ok(again) = snapshot::take(&self.fs, &self.paths).files
        {
            bytes = contents(&again);
        }
        if self.is(Wrong::TwoCells) {
            let mut pair = bytes.clone();
            pair[CA].clone_from(&self.current.value.files[CA]);
            if pair != self.current.value.files && pair != bytes {
                self.swap(pair, recovered);
            }
        }
        let before = self.current.value.files.clone();
        self.served = (files, walk);
        self.swap(bytes, recovered);
        if self.is(Wrong::Unserialised) && self.late.is_none() {
            self.late = Some(before.clone());
            self.sim.note(Record::Evaluated { files: before.clone(), passed: true });
            self.swap(before, false);
        }
    }

    fn swap(&mut self, files: Contents, recovered: bool) {
        let generation = self.current.generation + 1;
        let reported =
            Record::Reported(Event::Published { generation, old: None, new: None, recovered, set: None });
        if self.is(Wrong::ReportsFirst) {
            self.sim.note(reported.clone());
        }
        self.current = Arc::new(Published::new(generation, Value { files: files.clone() }));
        self.sim.note(Record::Published { generation, files });
        if !self.is(Wrong::ReportsFirst) {
            self.sim.note(reported);
        }
    }

    fn report(&self, notice: Notice<String>) {
        self.sim.note(Record::Reported(match notice {
            Notice::Refused(why) => {
                let layer = if why.contains("does not pass") { Layer::Match } else { Layer::Read };
                Event::Refused {
                    error: Error::new(layer, why),
                    generation: self.current.generation,
                    set: None,
                }
            }
            Notice::Recovered => Event::Recovered { set: None },
            Notice::Deferred(not_before) => Event::Deferred { not_before, set: None },
            Notice::StillChanging => Event::StillChanging { set: None },
        }));
    }
}

impl<const W: u8, F: Port> Design for Rebuilt<W, F> {
    fn load(sim: &Sim, paths: &[PathBuf]) -> Result<Self, String> {
        let paths = PathSet::new(paths).map_err(|error| error.to_string())?;
        let (fs, clock) = (F::of(sim), sim.clock());
        let snapshot = snapshot::take(&fs, &paths);
        let files = snapshot.files.map_err(|failure| failure.to_string())?;
        let bytes = contents(&files);
        sim.note(Record::Evaluated { files: bytes.clone(), passed: is_valid(&bytes) });
        let woken = Arc::new(AtomicBool::new(false));
        let wake = Arc::clone(&woken);
        let receive = move |what| {
            if !Self::ignores(what) {
                wake.store(true, Ordering::Relaxed);
            }
        };
        let mut timing = Timing::default();
        let is = |wrong: Wrong| W == wrong as u8;
        if BY_EVENTS.into_iter().any(is) {
            timing.poll = Duration::from_secs(86_400);
        }
        if is(Wrong::SettlesBriefly) {
            (timing.settle, timing.shrink_settle) = (Duration::from_millis(10), Duration::from_millis(10));
        }
        Ok(Self {
            machine: Machine::new(timing),
            watcher: SimWatcher::unfiltered(sim, receive),
            sim: sim.clone(),
            fs,
            clock,
            paths,
            served: (files, snapshot.walk),
            candidate: None,
            late: None,
            numbers: 0,
            current: Arc::new(Published::new(1, Value { files: bytes })),
            watched: Vec::new(),
            woken,
            stopped: false,
            asked: false,
        })
    }

    fn begin(&mut self) {
        if std::mem::take(&mut self.stopped) {
            self.machine.restart();
        }
        if self.is(Wrong::ArmsAfterwards) {
            let walk = self.take().walk;
            self.arm(&walk);
            // The loaded set counts as the result of a snapshot now.
            let now = self.clock.now();
            self.machine.step(now, Input::Tick);
            self.machine.step(now, Input::SnapshotTaken(ReadOutcome::Served));
        } else if self.is(Wrong::StartsByHand) {
            self.run(Input::Reload);
        } else {
            self.run(Input::Tick);
        }
    }

    fn turn(&mut self) -> Result<(), Option<Duration>> {
        if self.woken.swap(false, Ordering::Relaxed) {
            self.run(Input::Hint);
            return Ok(());
        }
        let now = self.clock.now();
        match self.machine.wake(now) {
            Some(wake) if wake <= now.mono => {
                self.run(Input::Tick);
                Ok(())
            }
            wake => Err(wake.map(|wake| wake - now.mono)),
        }
    }

    fn end(&mut self) {
        self.stopped = true;
    }

    fn ask(&mut self) {
        self.asked = !self.stopped;
        if self.asked {
            self.run(Input::Reload);
        }
    }

    fn is_answered(&mut self) -> bool {
        !self.asked
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.machine.hash(&mut hasher);
        let mut set = |files: &Files, walk: &Walk| {
            files.iter().for_each(|(_, bytes)| bytes.hash(&mut hasher));
            walk.hash(&mut hasher);
        };
        set(&self.served.0, &self.served.1);
        self.candidate.iter().for_each(|(files, walk, _)| set(files, walk));
        let content = self.candidate.as_ref().map(|(.., content)| *content);
        let current = (&self.current.value.files, self.current.generation);
        let rest = (content, self.numbers, &self.late, &self.watched, self.woken.load(Ordering::Relaxed));
        (rest, current).hash(&mut hasher);
        hasher.finish()
    }

    fn current(&self) -> Arc<Published<Value>> {
        Arc::clone(&self.current)
    }

    fn status(&self) -> Option<Status> {
        None
    }
}
