//! The stages in a row: carries out what the machine decides, one step at a time and without a thread of its own.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Weak,
    time::Duration,
};

use crate::{
    build::{Build, Built, Context},
    clock::{Clock, Now},
    error::{Error, Layer},
    event::Event,
    fs::Fs,
    machine::{Answer, Effect, Input, Machine, Notice, Seen, Timing, Verdict},
    shared::{Ask, Drive, Reload, Shared},
    snapshot::{self, Files, PathSet},
    status::{Refused, Status},
    sync::Arc,
    walk::{Motion, Walk},
    watch::{Armed, MakeWatcher, Watch},
};

/// After this many changes of the watch plan in one look, the next look goes on: soon, and by itself.
const ARM_LIMIT: usize = 8;

/// One consistent set of files and the way to it.
struct Set {
    files: Files,
    walk: Walk,
}

/// A set that is not served, by the number the machine knows it by.
struct Candidate {
    set: Set,
    /// How it came to be; the same for as long as it is the same.
    motion: Motion,
    content: u64,
    /// Grows when the bytes differ from those of the candidate before.
    bytes: u64,
}

/// Why something is refused, and which bytes were: the same reason with other bytes is another refusal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Cause {
    error: Error,
    bytes: Option<u64>,
}

/// Everything from the files to the published value.
pub(crate) struct Engine<F: Fs, B: Build> {
    fs: F,
    paths: PathSet,
    build: B,
    clock: Arc<dyn Clock>,
    make_watcher: Option<MakeWatcher>,
    watch: Option<Watch>,
    machine: Machine<Cause>,
    served: Set,
    candidate: Option<Candidate>,
    /// The bytes refused or held last, by their number: written once more, with others in between, they are the same.
    judged: Option<(Files, u64)>,
    /// The bytes and the date told last to be held.
    held_told: Option<(u64, Duration)>,
    /// The value of the candidate, once it has passed.
    built: Option<Built<B::Value>>,
    /// Numbers given to contents and bytes so far.
    numbers: u64,
    /// Whom the watcher wakes, while a worker drives.
    wake: Option<Weak<Shared<B::Value>>>,
    degraded: Option<(Error, Duration)>,
    differs_since: Option<Duration>,
    /// When the refusal that stands, or stood last, was told.
    refused_since: Duration,
    /// On the wall clock.
    last_look: Duration,
    looks: u64,
    builds: u64,
}

/// What the first load brings besides the engine.
pub(crate) struct First<F: Fs, B: Build> {
    pub(crate) engine: Engine<F, B>,
    pub(crate) built: Built<B::Value>,
    pub(crate) now: Now,
}

impl<F: Fs, B: Build> Engine<F, B> {
    /// The first load: synchronous and strict.
    ///
    /// Files that have not changed for the settle time count as still; otherwise two equal looks that far apart do.
    /// A torn read is tried again for as long as the patience lasts; any other failure is one at once.
    pub(crate) fn load(
        fs: F,
        paths: PathSet,
        mut build: B,
        clock: Arc<dyn Clock>,
        timing: Timing,
        make_watcher: Option<MakeWatcher>,
    ) -> Result<First<F, B>, Error> {
        let start = clock.now().mono;
        let mut before: Option<(Set, Duration)> = None;
        let served = loop {
            let now = clock.now();
            let look = snapshot::take(&fs, &paths);
            let late = now.mono >= start + timing.patience + timing.settle;
            match look.files {
                Err(failure) if failure.is_torn() && !late => {
                    before = None;
                    clock.sleep(timing.gap);
                }
                Err(failure) => return Err(failure.into()),
                Ok(files) => {
                    let set = Set { files, walk: look.walk };
                    if is_old(&set.walk, now, timing.settle) {
                        break set;
                    }
                    let since = match &before {
                        Some((old, since)) if set.is(old) => *since,
                        _ if late => {
                            let why = "the files do not hold still";
                            return Err(Error::new(Layer::Changing, why).at(&paths.paths()[0]));
                        }
                        // From the end of this look to the begin of the next: either may be slow (ASM-05).
                        _ => clock.now().mono,
                    };
                    if now.mono >= since + timing.settle {
                        break set;
                    }
                    clock.sleep((since + timing.settle).saturating_sub(clock.now().mono));
                    before = Some((set, since));
                }
            }
        };
        let now = clock.now();
        let context = Context { wall: now.wall, served: None };
        let built = caught(|| build.build(&served.files, &context))?;
        let engine = Self {
            fs,
            paths,
            build,
            clock,
            make_watcher,
            watch: None,
            machine: Machine::new(timing),
            served,
            candidate: None,
            judged: None,
            held_told: None,
            built: None,
            numbers: 0,
            wake: None,
            degraded: None,
            differs_since: None,
            refused_since: now.wall,
            last_look: now.wall,
            looks: 1,
            builds: 1,
        };
        Ok(First { engine, built, now })
    }

    fn run(&mut self, shared: &Shared<B::Value>, input: Input<Cause>) {
        let mut effects: VecDeque<_> = self.machine.step(self.clock.now(), input).into();
        let mut noted = false;
        let mut unpublished = None;
        while let Some(effect) = effects.pop_front() {
            noted = false;
            let answer = match effect {
                Effect::Look => Input::Looked(self.look(shared)),
                Effect::Build(_) => Input::Built(self.verdict(shared)),
                Effect::Publish { recovered, .. } => {
                    if self.publish(shared, recovered) {
                        continue;
                    }
                    // What was told to be wrong still stands: a later start has to know.
                    if let Some(unpublished) = unpublished {
                        self.machine = unpublished;
                    }
                    shared.answer(&Reload::Stopped, |status| self.note(status));
                    return;
                }
                Effect::Tell(notice) => {
                    self.tell(shared, notice);
                    continue;
                }
                Effect::Answer(answer) => {
                    let answer = match answer {
                        Answer::Reloaded => Reload::Reloaded,
                        Answer::Unchanged => Reload::Unchanged,
                        Answer::Held(date) => Reload::Held(date),
                        Answer::Refused(cause) => Reload::Refused(cause.error),
                    };
                    // Who is answered finds the status to go with it.
                    shared.answer(&answer, |status| self.note(status));
                    noted = true;
                    continue;
                }
            };
            unpublished = (answer == Input::Built(Verdict::Valid)).then(|| self.machine.clone());
            effects.extend(self.machine.step(self.clock.now(), answer));
        }
        if !noted {
            self.note_status(shared);
        }
    }

    /// Looks, and arms the watch for what was found; looks again if that changed anything.
    fn look(&mut self, shared: &Shared<B::Value>) -> Seen<Cause> {
        // A panic in a look (the build's comparison and the watcher are callers' code) costs a retry, not the driver.
        let seen = caught(|| {
            let mut look = self.snapshot();
            let mut fault = self.degraded.as_ref().map(|(error, _)| error.clone());
            let mut never_watched = None;
            for attempt in 1.. {
                let Some(armed) = self.arm(shared, &look.walk) else { return Ok(self.seen(look)) };
                // A fault is looked at twice: the directory may not be on the way any more, and then it need not be watched.
                let news = armed.fault.is_some() && armed.fault != fault;
                fault = armed.fault;
                if !armed.new && !news && armed.gone.is_none() {
                    break;
                }
                if attempt == 1 {
                    never_watched = armed.gone;
                } else if never_watched != armed.gone {
                    never_watched = None;
                }
                if attempt > ARM_LIMIT {
                    match never_watched {
                        // Found by every look and by no attempt to watch it: polled, rather than looked at for ever.
                        Some(dir) => {
                            fault = Some(Error::new(Layer::Watch, "found, but not to be watched").at(dir))
                        }
                        // What this look went through is armed, but it may have changed before that.
                        None => shared.hint(),
                    }
                    break;
                }
                look = self.snapshot();
            }
            self.watching(shared, fault);
            Ok(self.seen(look))
        });
        let seen = seen.unwrap_or_else(|error| Seen::Failed(Cause { error, bytes: None }));
        self.looks += 1;
        self.last_look = self.clock.now().wall;
        if seen == Seen::Served {
            self.differs_since = None;
        } else {
            self.differs_since.get_or_insert(self.clock.now().wall);
        }
        seen
    }

    fn snapshot(&self) -> snapshot::Look {
        snapshot::take_since(&self.fs, &self.paths, Some((&self.served.walk, &self.served.files)))
    }

    fn seen(&mut self, look: snapshot::Look) -> Seen<Cause> {
        let files = match look.files {
            Ok(files) => files,
            Err(failure) => {
                let torn = failure.is_torn();
                let cause = Cause { error: failure.into(), bytes: None };
                return if torn { Seen::Torn(cause) } else { Seen::Failed(cause) };
            }
        };
        let set = Set { files, walk: look.walk };
        if set.files == self.served.files {
            // The same bytes by another way, or touched: nothing to publish, but the next change starts from here.
            self.served = set;
            self.candidate = None;
            (self.judged, self.held_told) = (None, None);
            return Seen::Served;
        }
        let shrinks = self.build.shrinks(&self.served.files, &set.files);
        let known = self.candidate.as_ref();
        // A link that was seen before commits nothing that has changed beneath it since, whatever the timestamps say: the
        // clock may have been set back.
        let motion = match known {
            _ if !F::PINS => Motion::Loose,
            Some(old) if set.is(&old.set) => old.motion,
            Some(old) => set.walk.motion_since(&self.served.walk).max(set.walk.motion_since(&old.set.walk)),
            None => set.walk.motion_since(&self.served.walk),
        };
        let content = known.filter(|old| set.is(&old.set)).map(|old| old.content);
        let judged =
            || self.judged.as_ref().filter(|(files, _)| *files == set.files).map(|(_, bytes)| *bytes);
        let bytes = known.filter(|old| old.set.files == set.files).map(|old| old.bytes).or_else(judged);
        let content = content.unwrap_or_else(|| self.number());
        let bytes = bytes.unwrap_or_else(|| self.number());
        self.candidate = Some(Candidate { set, motion, content, bytes });
        Seen::Changed { content, motion, shrinks }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Runs every check over the candidate.
    fn verdict(&mut self, shared: &Shared<B::Value>) -> Verdict<Cause> {
        self.builds += 1;
        let wall = self.clock.now().wall;
        let served = shared.cell.load();
        let context = Context { wall, served: Some(&served.value) };
        let Some(candidate) = &self.candidate else {
            let error = Error::new(Layer::Changing, "nothing to build");
            return Verdict::Refused(Cause { error, bytes: None });
        };
        self.judged = Some((candidate.set.files.clone(), candidate.bytes));
        let bytes = Some(candidate.bytes);
        match caught(|| self.build.build(&candidate.set.files, &context)) {
            Err(error) => Verdict::Refused(Cause { error, bytes }),
            Ok(built) => match built.not_before {
                Some(date) if date > wall => Verdict::NotYet(date),
                _ => {
                    self.built = Some(built);
                    Verdict::Valid
                }
            },
        }
    }

    /// Publishes what was built, unless a stop came first.
    fn publish(&mut self, shared: &Shared<B::Value>, recovered: bool) -> bool {
        let (Some(built), Some(candidate)) = (self.built.take(), self.candidate.take()) else {
            return false;
        };
        let Built { value, leaf, warnings, shrunk, .. } = built;
        if !shared.publish(value, leaf, shrunk, self.clock.now(), recovered) {
            return false;
        }
        self.served = candidate.set;
        (self.judged, self.held_told) = (None, None);
        self.differs_since = None;
        for error in warnings {
            shared.tell(Event::Warning { error });
        }
        true
    }

    fn tell(&mut self, shared: &Shared<B::Value>, notice: Notice<Cause>) {
        if matches!(notice, Notice::Refused(_)) {
            self.refused_since = self.clock.now().wall;
            self.held_told = None;
        }
        self.note_status(shared);
        if let Notice::Held(date) = notice {
            let held = self.candidate.as_ref().map(|candidate| (candidate.bytes, date));
            if held.is_some() && held == self.held_told {
                return;
            }
            self.held_told = held;
        }
        shared.tell(match notice {
            Notice::Refused(cause) => {
                let generation = shared.lock().status.generation;
                Event::Refused { error: cause.error, generation }
            }
            Notice::Recovered => Event::Recovered,
            Notice::Held(not_before) => Event::Held { not_before },
            Notice::StillChanging => Event::StillChanging,
        });
    }

    fn note_status(&self, shared: &Shared<B::Value>) {
        self.note(&mut shared.lock().status);
    }

    fn note(&self, status: &mut Status) {
        let refused = self.machine.refusal().map(|(cause, count)| Refused {
            error: cause.error.clone(),
            since: self.refused_since,
            count,
        });
        // What is remembered to be held is not on disk while that is refused.
        status.held_until = self.machine.held().filter(|_| refused.is_none());
        status.refused = refused;
        status.differs_since = self.differs_since;
        status.degraded.clone_from(&self.degraded);
        status.last_look = self.last_look;
        status.looks = self.looks;
        status.builds = self.builds;
    }

    /// Watches what was walked; `None` without a worker, when nothing is watched.
    fn arm(&mut self, shared: &Shared<B::Value>, walk: &Walk) -> Option<Armed> {
        let wake = Weak::clone(self.wake.as_ref()?);
        let watch = match &mut self.watch {
            Some(watch) => watch,
            none => {
                let hint = move || {
                    if let Some(shared) = wake.upgrade() {
                        shared.hint();
                    }
                };
                let made = match &mut self.make_watcher {
                    Some(make) => Watch::new(make, hint),
                    None => Err(Error::new(Layer::Watch, "built without file events")),
                };
                match made {
                    Ok(watch) => none.insert(watch),
                    Err(error) => {
                        return Some(Armed { new: false, changed: false, gone: None, fault: Some(error) });
                    }
                }
            }
        };
        let armed = watch.arm(&walk.dirs);
        let denied = watch.denied();
        let news = {
            let status = &mut shared.lock().status;
            if armed.changed {
                status.watched = watch.dirs();
            }
            let known = std::mem::replace(&mut status.unwatched, denied.to_vec());
            denied.iter().filter(|dir| !known.contains(dir)).collect::<Vec<_>>()
        };
        for dir in news {
            let why =
                "it may be searched but not read, and so not be watched: a change of it waits for the poll";
            shared.tell(Event::Warning { error: Error::new(Layer::Watch, why).at(dir) });
        }
        Some(armed)
    }

    /// Notes whether everything is watched, and tells when that changes.
    fn watching(&mut self, shared: &Shared<B::Value>, fault: Option<Error>) {
        let event = match (&mut self.degraded, fault) {
            // Told once, whatever else is amiss before all is well again; the status knows the last reason.
            (Some((known, _)), Some(error)) => {
                *known = error;
                return;
            }
            (None, Some(error)) => {
                self.degraded = Some((error.clone(), self.clock.now().wall));
                Event::Degraded { error }
            }
            (Some(_), None) => {
                self.degraded = None;
                Event::Restored
            }
            (None, None) => return,
        };
        let watching = self.degraded.is_none();
        self.machine.step(self.clock.now(), Input::Watching(watching));
        self.note_status(shared);
        shared.tell(event);
    }
}

impl Set {
    /// Whether these are the same bytes, reached the same way and not touched since.
    fn is(&self, earlier: &Self) -> bool {
        self.files == earlier.files && self.walk.held_still_since(&earlier.walk)
    }
}

impl<F: Fs, B: Build> Drive<B::Value> for Engine<F, B>
where
    F::Dir: Send,
    F::File: Send,
{
    fn begin(&mut self, shared: &Arc<Shared<B::Value>>) {
        self.wake = Some(Arc::downgrade(shared));
        self.machine.restart();
        // First arm, then look: a change between the first load and now shows in this look. Nobody asserts that such a
        // change is complete, so it has to settle like any other.
        self.run(shared, Input::Tick);
    }

    fn step(&mut self, shared: &Shared<B::Value>, ask: Ask) {
        self.run(
            shared,
            match ask {
                Ask::Hint => Input::Hint,
                Ask::Tick => Input::Tick,
                Ask::Reload => Input::Reload,
            },
        );
    }

    fn pause(&self) -> Option<Duration> {
        let now = self.clock.now();
        self.machine.wake(now).map(|wake| wake.saturating_sub(now.mono))
    }

    fn end(&mut self, shared: &Shared<B::Value>) {
        self.machine.step(self.clock.now(), Input::Stop);
        self.watch = None;
        self.wake = None;
        self.degraded = None;
        self.note_status(shared);
    }

    #[cfg(feature = "testkit")]
    fn digest(&self, mut state: &mut dyn std::hash::Hasher) {
        use std::hash::Hash;
        let mut set = |set: &Set| {
            set.walk.hash(&mut state);
            set.files.iter().for_each(|(_, bytes)| bytes.hash(&mut state));
        };
        set(&self.served);
        if let Some(candidate) = &self.candidate {
            set(&candidate.set);
        }
        self.candidate.as_ref().map(|candidate| candidate.motion).hash(&mut state);
        if let Some((files, _)) = &self.judged {
            files.iter().for_each(|(_, bytes)| bytes.hash(&mut state));
        }
        // Numbers matter by what they are compared with: those of the candidate and of what was judged last.
        let content = |number| u64::from(self.candidate.as_ref().is_some_and(|now| now.content == number));
        let bytes = |number: u64| {
            let judged = self.judged.as_ref().is_some_and(|(_, judged)| *judged == number);
            2 * u64::from(judged) + u64::from(self.candidate.as_ref().is_some_and(|now| now.bytes == number))
        };
        let cause = |cause: &Cause| Cause { error: cause.error.clone(), bytes: cause.bytes.map(bytes) };
        self.candidate.as_ref().map(|now| bytes(now.bytes)).hash(&mut state);
        self.held_told.map(|(told, date)| (bytes(told), date)).hash(&mut state);
        self.machine.renamed(content, cause).hash(&mut state);
        (self.differs_since.is_some(), &self.degraded).hash(&mut state);
        self.watch.as_ref().map(|watch| (watch.dirs(), watch.denied())).hash(&mut state);
    }
}

/// Runs a stage; a panic in it is a refusal. Its message is not repeated: it may hold anything (INV-10).
fn caught<T>(stage: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(stage))
        .unwrap_or_else(|_| Err(Error::new(Layer::Panic, "the build panicked")))
}

/// Whether nothing of the set changed within the settle time.
fn is_old(walk: &Walk, now: Now, settle: Duration) -> bool {
    let nanos = |time: Duration| i128::try_from(time.as_nanos()).unwrap_or(i128::MAX);
    walk.newest().is_none_or(|newest| newest + nanos(settle) <= nanos(now.wall))
}
