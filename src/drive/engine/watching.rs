//! Takes snapshots, and watches every directory on the way to the files.

use std::{path::Path, sync::Weak, time::Duration};

use super::{Engine, caught};
use crate::{
    build::Build,
    clock::Now,
    decide::{
        file_set::Cause,
        machine::{Input, ReadOutcome},
    },
    drive::shared::Shared,
    fs::Fs,
    probe::Probe,
    read::walk::Walk,
    report::{
        error::{Error, Layer, Warning},
        event::Event,
    },
    watch::{Armed, Watch},
};

/// Changes of the watch plan after which one step stops following them. The file set is then hinted
/// at again, so the next step continues soon and without an event.
const ARM_LIMIT: usize = 8;
/// A watcher that ended by itself.
pub(super) struct FailedWatcher {
    pub(super) why: Error,
    /// Set once its end counts as a fault. That is reported before another watcher is made.
    pub(super) noted: bool,
    /// Earliest time at which the watcher may be recreated, in monotonic time.
    pub(super) until: Duration,
    /// The pause that led to that time.
    pub(super) pause: Duration,
}

impl<F: Fs, B: Build, P: Probe> Engine<F, B, P> {
    /// Takes a snapshot and arms the watch for it; repeats both while that changes the watch plan.
    /// First arm, then read: a change in between shows in the next snapshot.
    pub(super) fn take_snapshot(
        &mut self,
        shared: &Shared<B::Value>,
        set: usize,
        now: Now,
    ) -> ReadOutcome<Cause> {
        // A panic in a snapshot costs a retry, not the driver: the build's comparison and the
        // watcher are callers' code.
        caught(|| Ok(self.watched_snapshot(shared, set, now)))
            .unwrap_or_else(|error| ReadOutcome::Failed(error.into()))
    }

    fn watched_snapshot(&mut self, shared: &Shared<B::Value>, set: usize, now: Now) -> ReadOutcome<Cause> {
        // A snapshot is the last effect of a step, so no other effect is pending.
        self.keep(shared, &());
        let mut snapshot = self.sets[set].snapshot(&self.fs);
        let mut fault = self.faults.get(&set).cloned();
        let mut never_watched = None;
        for attempt in 1.. {
            let Some(armed) = self.arm(shared, set, &snapshot.walk) else {
                return self.compare(set, snapshot);
            };
            // A new fault takes a second snapshot: the directory may not be on the way any
            // more, and then it need not be watched.
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
                    // Every snapshot finds the directory and no attempt can watch it. The
                    // directory is polled instead, since the loop would otherwise never end.
                    Some(dir) => fault = Some(never_armed(&dir)),
                    // The directories of this snapshot are armed, but may have changed before
                    // that.
                    None => self.queue.hint(set),
                }
                break;
            }
            self.keep(shared, &(attempt, &fault, &never_watched));
            let discarded = std::mem::replace(&mut snapshot, self.sets[set].snapshot(&self.fs));
            self.sets[set].note_discarded(discarded);
        }
        self.watching(shared, set, now, fault);
        if let Some(failed) = &mut self.failed_watcher {
            failed.noted = true;
        }
        self.compare(set, snapshot)
    }

    /// Watches the directories of a walk. Returns `None` without a worker, when nothing is watched.
    fn arm(&mut self, shared: &Shared<B::Value>, set: usize, walk: &Walk) -> Option<Armed> {
        let wake = Weak::clone(self.wake.as_ref()?);
        let unwatched = |fault| Some(Armed { fault: Some(fault), ..Armed::default() });
        let watch = match self.watch.take().map_or_else(|| self.new_watch(shared, wake), Ok) {
            Ok(watch) => self.watch.insert(watch),
            Err(fault) => return unwatched(fault),
        };
        let armed = watch.arm(set, &walk.dirs);
        if let Some(why) = watch.end() {
            self.drop_failed_watcher(shared, set, why.clone());
            return unwatched(why);
        }
        armed.others.iter().for_each(|other| self.queue.hint(*other));
        let denied = watch.denied();
        let news = {
            let state = &mut *shared.lock();
            for dir in &armed.unwatched {
                state.watched.remove(dir);
            }
            state.watched.extend(armed.watched.iter().cloned());
            let known = std::mem::replace(&mut state.status.unwatched, denied.iter().cloned().collect());
            denied.iter().filter(|dir| !known.contains(dir)).cloned().collect::<Vec<_>>()
        };
        for dir in news {
            let why = "the directory may be searched but not read, so it cannot be watched: the next poll \
                       finds its changes";
            shared.report(Event::Warning { warning: Warning::new(Layer::Watch, why).at(dir) });
        }
        Some(armed)
    }

    /// Makes a watcher that wakes the driver, unless the last one ended a moment ago.
    fn new_watch(&mut self, shared: &Shared<B::Value>, wake: Weak<Shared<B::Value>>) -> Result<Watch, Error> {
        let now = self.now(shared).mono;
        let failed = self.failed_watcher.as_ref().filter(|failed| !failed.noted || now < failed.until);
        if let Some(failed) = failed {
            return Err(failed.why.clone());
        }
        let Some(make) = &mut self.make_watcher else {
            let why = "no watcher is configured, or the feature `notify` is off";
            return Err(Error::new(Layer::Watch, why));
        };
        let hint = move || {
            if let Some(shared) = wake.upgrade() {
                shared.hint();
            }
        };
        let watch = Watch::new(make, hint)?;
        self.watch_made = now;
        Ok(watch)
    }

    /// Drops a watcher that has ended. Where it has lived for less than a poll interval, the next
    /// one is made after twice the last pause, at most a poll interval.
    ///
    /// The given file set has met the end. All others count as unwatched as well, until each has
    /// armed the next watcher.
    fn drop_failed_watcher(&mut self, shared: &Shared<B::Value>, set: usize, why: Error) {
        self.watch = None;
        let now = self.now(shared);
        let timing = self.sets[0].machine.timing();
        let lived = now.mono.saturating_sub(self.watch_made) >= timing.poll;
        let last = self.failed_watcher.take().filter(|_| !lived).map(|failed| failed.pause);
        let pause = last.map_or(timing.retry, |last| last.saturating_mul(2).min(timing.poll));
        for other in (0..self.sets.len()).filter(|other| *other != set) {
            self.faults.insert(other, why.clone());
            self.sets[other].machine.step(now, Input::Watching(false));
            self.queue.note(other, &self.sets[other], now);
        }
        self.failed_watcher = Some(FailedWatcher { why, noted: false, until: now.mono + pause, pause });
        let state = &mut *shared.lock();
        state.watched.clear();
        state.status.unwatched.clear();
    }

    /// Records whether everything is watched, and reports a change of that.
    fn watching(&mut self, shared: &Shared<B::Value>, set: usize, now: Now, fault: Option<Error>) {
        let watching = fault.is_none();
        match fault {
            Some(fault) => drop(self.faults.insert(set, fault)),
            None => drop(self.faults.remove(&set)),
        }
        // Only a file set with a fault polls faster.
        self.sets[set].machine.step(now, Input::Watching(watching));
        let event = match (&mut self.degraded, self.faults.values().next().cloned()) {
            // Reported once, whatever other fault follows before all faults are over. The status
            // keeps one reason that stands.
            (Some((known, _)), Some(error)) => {
                *known = error;
                return;
            }
            (None, Some(error)) => {
                self.degraded = Some((error.clone(), self.now(shared).wall));
                Event::Degraded { error }
            }
            (Some(_), None) => {
                self.degraded = None;
                Event::Restored
            }
            (None, None) => return,
        };
        self.update_status(shared, set);
        shared.report(event);
    }
}

/// Makes the fault of a directory that can never be watched, although it is there.
fn never_armed(dir: &Path) -> Error {
    Error::new(Layer::Watch, "each snapshot finds the directory, but it cannot be watched").at(dir)
}
