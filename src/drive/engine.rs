//! Runs the stages: carries out the decisions of the state machines, one step at a time and without
//! a thread of its own.
//!
//! One engine drives every file set: one file system, one watcher, one thread. A step takes a
//! snapshot of at most two file sets: the one hinted at first and the one due first. So no file set
//! waits for a sweep over all of them.

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    mem::{self, Discriminant},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Weak,
    time::Duration,
};

#[cfg(feature = "metrics")]
use crate::report::metrics;
use crate::{
    build::{Build, Built, Context},
    clock::Now,
    decide::{
        file_set::{Cause, FileSet, RunQueue},
        machine::{Effect, Input, Machine, Notice, ReadOutcome, Verdict},
    },
    drive::shared::{Ask, Drive, Shared},
    fs::Fs,
    probe::Probe,
    read::snapshot::Snapshot,
    report::{
        error::{Error, Layer, drop_payload},
        event::{self, Event},
        status::{Progress, Status},
        steps as trace,
    },
    sync::Arc,
    watch::{Hinted, MakeWatcher, Watch},
};

mod answers;
mod load;
mod state_hash;
mod steps;
mod watching;
use answers::Answers;
pub(crate) use load::InitialLoad;
use watching::FailedWatcher;

/// Everything from the files to the published value.
pub(crate) struct Engine<F: Fs, B: Build, P: Probe = ()> {
    fs: F,
    probe: P,
    build: B,
    /// The driver's last reading of the clock.
    read: Cell<Now>,
    make_watcher: Option<MakeWatcher>,
    watch: Option<Watch>,
    /// When the watcher was made, in monotonic time.
    watch_made: Duration,
    /// The last watcher that ended by itself.
    failed_watcher: Option<FailedWatcher>,
    sets: Vec<FileSet<B::Value>>,
    queue: RunQueue,
    /// The shared state that the watcher wakes, while a worker drives.
    wake: Option<Weak<Shared<B::Value>>>,
    /// Faults of the watching, by the file set that met them.
    faults: BTreeMap<usize, Error>,
    degraded: Option<(Error, Duration)>,
    answers: Answers,
    /// When the last snapshot ended, by the wall clock.
    last_snapshot: Duration,
    snapshots: u64,
    builds: u64,
    /// The number of directories that the last snapshot of each file set walked through.
    directories: BTreeMap<usize, usize>,
    running: Running,
}

/// The step in progress.
#[derive(Default, Hash)]
struct Running {
    set: usize,
    input: Option<Discriminant<Input<Cause>>>,
    /// Whether the file sets after this one take a step as well.
    each: bool,
}

impl<F: Fs, B: Build, P: Probe> Engine<F, B, P> {
    /// Reads the clock, as [`Shared::now`].
    fn now(&self, shared: &Shared<B::Value>) -> Now {
        let now = shared.now(self.read.get());
        self.read.set(now);
        now
    }

    /// Takes one step of one file set, carries out the effects of its machine, and checks the
    /// expiry of its leaf. Returns the time of the last stage.
    ///
    /// The clock is read once after each stage that takes time and after each callback. The effects
    /// that follow go by that reading.
    fn run(&mut self, shared: &Shared<B::Value>, set: usize, now: Now, input: Input<Cause>) -> Now {
        (self.running.set, self.running.input) = (set, Some(mem::discriminant(&input)));
        let reload = trace::Reload::of(self.sets[set].path());
        let now = reload.run(|| self.carry_out(shared, set, now, input));
        let expiring = self.check_expiry(&mut shared.lock().status, set, now);
        expiring.into_iter().for_each(|event| shared.report(event));
        self.queue.note(set, &self.sets[set], now);
        #[cfg(feature = "metrics")]
        shared.measure(set);
        now
    }

    /// Returns the expiry event that is due, as [`FileSet::check_expiry`] does. Called at each step,
    /// since the clock may be set at any time.
    pub(crate) fn check_expiry(&mut self, status: &mut Status, set: usize, now: Now) -> Option<Event> {
        self.sets[set].check_expiry(&mut status.sets[set], now)
    }

    /// Steps the machine and carries out its effects; returns the time of the last stage.
    fn carry_out(&mut self, shared: &Shared<B::Value>, set: usize, mut now: Now, input: Input<Cause>) -> Now {
        let mut effects: VecDeque<_> = self.sets[set].machine.step(now, input).into();
        let mut noted = false;
        let mut unpublished = None;
        while let Some(effect) = effects.pop_front() {
            noted = false;
            let answer = match effect {
                Effect::TakeSnapshot => Input::SnapshotTaken(self.see(shared, set, &mut now)),
                Effect::Build(_) => Input::Built(self.try_build(shared, set, &mut now)),
                Effect::Publish { recovered, .. } => {
                    if trace::publish(|| self.publish(shared, set, now, recovered)) {
                        // The callbacks may have taken any time.
                        now = self.now(shared);
                        continue;
                    }
                    self.take_back(shared, set, unpublished);
                    return now;
                }
                Effect::Report(notice) => {
                    self.report(shared, set, now.wall, notice);
                    now = self.now(shared);
                    continue;
                }
                Effect::Answer(answer) => {
                    if let Some(answer) = self.answers.note(set, answer) {
                        // The caller that gets the answer finds the status that goes with it.
                        shared.answer(&answer, |status| self.write_status(status, set));
                        noted = true;
                    }
                    continue;
                }
            };
            let machine = &mut self.sets[set].machine;
            unpublished = (answer == Input::Built(Verdict::Valid)).then(|| machine.clone());
            effects.extend(machine.step(now, answer));
        }
        if !noted {
            self.update_status(shared, set);
        }
        now
    }

    /// Takes a snapshot and records it; sets `now` to its end.
    fn see(&mut self, shared: &Shared<B::Value>, set: usize, now: &mut Now) -> ReadOutcome<Cause> {
        let (seen, times) = trace::read(|| {
            let began = self.begin_stage(shared, *now);
            (self.take_snapshot(shared, set, began), [began, self.now(shared)])
        });
        *now = times[1];
        self.note_snapshot(shared, set, &seen, times);
        steps::snapshot(self.sets[set].path(), &seen);
        seen
    }

    /// Builds the candidate and records that; sets `now` to the end of the build.
    fn try_build(&mut self, shared: &Shared<B::Value>, set: usize, now: &mut Now) -> Verdict<Cause> {
        let verdict = trace::build(|| {
            let began = self.begin_stage(shared, *now);
            let verdict = self.verdict(shared, set, began.wall);
            *now = self.now(shared);
            #[cfg(feature = "metrics")]
            shared.took(metrics::BUILD, set, now.mono.saturating_sub(began.mono));
            verdict
        });
        steps::built(self.sets[set].path(), &verdict);
        verdict
    }

    /// Returns when a stage begins: at the last reading of the clock, unless a subscriber of `tracing`
    /// was called since. Its time before a stage and at the begin of the stage's span is no part of it.
    fn begin_stage(&self, shared: &Shared<B::Value>, last: Now) -> Now {
        if trace::are_traced() { self.now(shared) } else { last }
    }

    /// Takes back the decision to publish, which a stop came before. The rejection that was reported
    /// still stands, and a later start has to know it. So the machine goes back to its state before
    /// the publication.
    fn take_back(&mut self, shared: &Shared<B::Value>, set: usize, before: Option<Machine<Cause>>) {
        if let Some(before) = before {
            self.sets[set].machine = before;
        }
        self.answers.give_up();
        shared.give_up(|status| self.write_status(status, set));
    }

    /// Records a snapshot that began and ended at these times.
    fn note_snapshot(
        &mut self,
        shared: &Shared<B::Value>,
        set: usize,
        seen: &ReadOutcome<Cause>,
        [began, now]: [Now; 2],
    ) {
        self.snapshots += 1;
        self.last_snapshot = now.wall;
        self.sets[set].note_difference(*seen == ReadOutcome::Served, now.wall);
        // Noted at once: the build and the callbacks that follow may hang.
        let poll = self.sets[set].machine.poll();
        let took = now.mono.saturating_sub(began.mono);
        shared.lock().progress = Progress::new(now, poll, took);
        #[cfg(feature = "metrics")]
        shared.took(metrics::SNAPSHOT, set, took);
    }

    fn compare(&mut self, set: usize, snapshot: Snapshot) -> ReadOutcome<Cause> {
        self.directories.insert(set, snapshot.walk.dirs.len());
        self.sets[set].compare::<F, B>(&self.build, set, snapshot)
    }

    /// Runs every check over the candidate.
    fn verdict(&mut self, shared: &Shared<B::Value>, set: usize, wall: Duration) -> Verdict<Cause> {
        self.builds += 1;
        let served = shared.cell.load();
        let context = Context { wall, served: Some(&served.value), set };
        let Some((files, bytes)) = self.sets[set].evaluate() else {
            return Verdict::Refused(Error::new(Layer::Changing, "nothing to build").into());
        };
        match caught(|| self.build.build(&files, &context)) {
            Err(error) => Verdict::Refused(FileSet::<B::Value>::refusal(error, bytes)),
            Ok(built) => match built.not_before {
                Some(date) if date > wall => {
                    shared.discard(built);
                    Verdict::NotYet(date)
                }
                _ => {
                    self.sets[set].keep(built);
                    Verdict::Valid
                }
            },
        }
    }

    /// Publishes the built value. Returns `false` if nothing was built or a stop came first.
    fn publish(&mut self, shared: &Shared<B::Value>, set: usize, now: Now, recovered: bool) -> bool {
        let Some((built, read)) = self.sets[set].take_built() else { return false };
        let Built { value, leaf, warnings, reduced_trust, .. } = built;
        if !shared.publish(set, value, leaf, reduced_trust, now, recovered) {
            return false;
        }
        self.sets[set].note_published(read);
        event::warnings(warnings).for_each(|warning| shared.report(warning));
        true
    }

    fn report(&mut self, shared: &Shared<B::Value>, set: usize, wall: Duration, notice: Notice<Cause>) {
        if matches!(notice, Notice::Refused(_)) {
            self.sets[set].note_rejected(wall);
        }
        self.update_status(shared, set);
        if let Notice::Deferred(date) = notice
            && !self.sets[set].note_deferred(date)
        {
            return;
        }
        let (generation, set) = {
            let status = &shared.lock().status;
            (status.generation, status.name_of(set))
        };
        shared.report(match notice {
            Notice::Refused(cause) => Event::Refused { error: cause.error, generation, set },
            Notice::Recovered => Event::Recovered { set },
            Notice::Deferred(not_before) => Event::Deferred { not_before, set },
            Notice::StillChanging => Event::StillChanging { set },
        });
    }

    fn update_status(&self, shared: &Shared<B::Value>, set: usize) {
        self.write_status(&mut shared.lock().status, set);
    }

    fn write_status(&self, status: &mut Status, set: usize) {
        self.sets[set].write_status(&mut status.sets[set]);
        status.degraded.clone_from(&self.degraded);
        status.last_snapshot = self.last_snapshot;
        status.snapshots = self.snapshots;
        status.builds = self.builds;
        status.directories = self.directories.values().copied().max().unwrap_or_default();
    }

    /// Steps the file set that was hinted at first, then the one that is due first.
    fn next_step(&mut self, shared: &Shared<B::Value>) {
        let mut now = self.now(shared);
        let hinted = self.queue.take_hinted();
        if let Some(set) = hinted {
            now = self.run(shared, set, now, Input::Hint);
        }
        let due = self.queue.first(&self.sets, now).filter(|(at, _)| *at <= now.mono);
        if let Some((_, set)) = due.filter(|(_, set)| hinted != Some(*set)) {
            self.run(shared, set, now, Input::Tick);
        }
    }

    /// Steps each file set in turn, the first of them at `now`, until the last one or a stop.
    fn each(&mut self, shared: &Shared<B::Value>, now: Now, input: &Input<Cause>) {
        self.running.each = true;
        for set in 0..self.sets.len() {
            if shared.lock().has_ended(matches!(input, Input::Reload)) {
                return;
            }
            let now = if set == 0 { now } else { self.now(shared) };
            self.run(shared, set, now, input.clone());
        }
    }
}

impl<F: Fs, B: Build, P: Probe> Drive<B::Value> for Engine<F, B, P>
where
    F::Dir: Send,
    F::File: Send,
{
    fn begin(&mut self, shared: &Arc<Shared<B::Value>>, now: Now) {
        self.read.set(now);
        self.wake = Some(Arc::downgrade(shared));
        self.answers.give_up();
        self.queue = RunQueue::new(self.sets.len());
        self.sets.iter_mut().for_each(|set| set.machine.restart());
        // First arm, then read: a change between the first load and now shows in this snapshot. No
        // caller asserts that such a change is complete, so it has to settle like any other.
        self.each(shared, now, &Input::Tick);
    }

    fn step(&mut self, shared: &Shared<B::Value>, ask: Ask) {
        if ask == Ask::Reload {
            self.answers.ask(self.sets.len());
            self.each(shared, self.now(shared), &Input::Reload);
            return;
        }
        if ask == Ask::Hint {
            // A hint without a watcher is about all file sets.
            let hinted = self.watch.as_ref().map_or(Hinted::All, Watch::take_hinted);
            match hinted {
                Hinted::All => (0..self.sets.len()).for_each(|set| self.queue.hint(set)),
                Hinted::Some(sets) => sets.into_iter().for_each(|set| self.queue.hint(set)),
            }
        }
        self.running = Running::default();
        self.keep(shared, &());
        self.next_step(shared);
    }

    fn pause(&self, shared: &Shared<B::Value>) -> Option<Duration> {
        if self.queue.has_hinted() {
            return Some(Duration::ZERO);
        }
        let now = self.now(shared);
        self.queue.first(&self.sets, now).map(|(at, _)| at.saturating_sub(now.mono))
    }

    fn end(&mut self, shared: &Shared<B::Value>) {
        for set in 0..self.sets.len() {
            let now = self.now(shared);
            self.sets[set].machine.step(now, Input::Stop);
        }
        self.watch = None;
        self.failed_watcher = None;
        self.wake = None;
        self.faults.clear();
        self.degraded = None;
        let status = &mut shared.lock().status;
        (0..self.sets.len()).for_each(|set| self.write_status(status, set));
    }
}

/// Runs a stage and turns a panic in it into a rejection. The panic message is not repeated: it may
/// hold anything (INV-10).
fn caught<T>(stage: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(stage)).unwrap_or_else(|payload| {
        drop_payload(payload);
        Err(Error::new(Layer::Panic, "the build panicked"))
    })
}
