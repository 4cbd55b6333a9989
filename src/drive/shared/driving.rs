//! The driver's loop: begins, takes steps that are asked for or due, and ends.
//!
//! The loop is resumable: each call takes the lock, does one thing, and returns a [`Next`]. A
//! thread carries out the waits on the condition variable, and a simulation lets its own time pass.
//! Nothing else differs between the two.

use std::{ops::RangeBounds, time::Duration};

use super::{Ask, Drive, Reload, Shared, State, Status};
use crate::{
    clock::Now,
    report::event::Event,
    sync::{Arc, MutexGuard},
};

type Locked<'a, T> = MutexGuard<'a, State<T>>;

/// The next action of a loop. The lock is held until the loop is over, so that no change is missed.
pub enum Next<'a, T, R> {
    /// The loop goes on at once.
    Again(Locked<'a, T>),
    /// The loop goes on after a change of the state, or after this time.
    Wait(Locked<'a, T>, Option<Duration>),
    /// The loop has ended, with this result.
    Over(R),
}

impl<T> State<T> {
    /// Counts a worker as started at `now` and lets it publish, unless another one runs. Returns
    /// whether that undoes a stop.
    ///
    /// From here on the status says that it runs: its thread may begin late, or wait for the driver
    /// of a manual reload, and if that takes too long it counts as stalled.
    pub fn start(&mut self, now: Now) -> Option<bool> {
        if self.status.running {
            return None;
        }
        self.status.running = true;
        self.progress = self.progress.begun(now);
        self.runs += 1;
        Some(std::mem::take(&mut self.stopped))
    }

    /// Forbids any publication from now on, and ends all manual reloads. A caller of one asserted
    /// that the writing was over at that time, and not that a later start finds finished files
    /// (INV-01 (b)).
    pub fn stop(&mut self) {
        self.stopped = true;
        self.ended = self.asked;
        // A reload that has begun is answered by its own outcome.
        let begun = std::mem::replace(&mut self.begun, self.asked);
        self.give_up(begun + 1..);
    }

    /// Answers the manual reloads in this range that have no answer yet: they were stopped. Where
    /// a file set was published for one before, it says so.
    fn give_up(&mut self, tickets: impl RangeBounds<u64>) {
        for (ticket, answer) in self.answers.iter_mut().filter(|(ticket, _)| tickets.contains(ticket)) {
            let published = *ticket <= self.published;
            answer.get_or_insert(if published { Reload::Reloaded } else { Reload::Stopped });
        }
    }

    /// Returns whether a stop has ended the step in progress. A start may have followed the stop of
    /// a manual reload, and files that are found from then on have to settle.
    pub(crate) fn has_ended(&self, is_reload: bool) -> bool {
        self.stopped || is_reload && self.ended >= self.begun
    }

    /// Returns whether a manual reload or a hint waits for a step.
    fn is_asked(&self) -> bool {
        self.asked > self.begun || self.hint
    }

    /// Takes the next reason for a step. A manual reload comes first, and a hint waits for the next
    /// step.
    fn asked_for(&mut self) -> Option<Ask> {
        if self.asked > self.begun {
            self.begun = self.asked;
            return Some(Ask::Reload);
        }
        std::mem::take(&mut self.hint).then_some(Ask::Hint)
    }

    /// Returns the answer to a manual reload, once there is one.
    fn answer_to(&mut self, ticket: u64) -> Option<Reload> {
        let answer = match self.answers.get(&ticket) {
            Some(Some(answer)) => answer.clone(),
            _ if !self.stopped => return None,
            _ if ticket <= self.published => Reload::Reloaded,
            _ => Reload::Stopped,
        };
        self.answers.remove(&ticket);
        Some(answer)
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// Returns whether the caller is a callback, a build or a watcher call of the driver.
    pub(crate) fn is_driver(state: &State<T>) -> bool {
        state.driving == Some(crate::sync::thread::current().id())
    }

    /// Runs the worker: takes the driver, drives until stopped, and puts it back.
    pub(crate) fn work(self: &Arc<Self>) {
        let mut worker = WorkerLoop::default();
        self.carry_out(self.lock(), |state| worker.go_on(self, state));
    }

    /// Asks for a reload and waits for its answer. Drives the reload itself if no other thread
    /// does.
    pub(crate) fn reload_now(self: &Arc<Self>) -> Reload {
        let mut state = self.lock();
        let is_driver = Self::is_driver(&state);
        match ManualReload::ask(self, &mut state, is_driver) {
            Ok(mut reload) => self.carry_out(state, |state| reload.go_on(self, state)),
            Err(answer) => answer,
        }
    }

    /// Ends every manual reload that was asked for before the present step began, because of a stop,
    /// and records the status that goes with it.
    pub(crate) fn give_up(&self, note: impl FnOnce(&mut Status)) {
        let mut state = self.lock();
        note(&mut state.status);
        let begun = state.begun;
        state.give_up(..=begun);
        drop(state);
        self.notify();
    }

    /// Runs a loop to its end on this thread.
    fn carry_out<'a, R>(
        &'a self,
        mut state: Locked<'a, T>,
        mut go_on: impl FnMut(Locked<'a, T>) -> Next<'a, T, R>,
    ) -> R {
        loop {
            state = match go_on(state) {
                Next::Again(state) => state,
                Next::Wait(state, limit) => self.wait(state, limit),
                Next::Over(result) => return result,
            };
        }
    }

    /// Takes the step that is asked for, or else the one that is due. Returns how long to wait
    /// where there is none.
    fn step<'a, R>(
        self: &'a Arc<Self>,
        mut state: Locked<'a, T>,
        drive: &mut dyn Drive<T>,
    ) -> Next<'a, T, R> {
        let ask = state.asked_for();
        if ask.is_none() {
            let due;
            (state, due) = self.unlocked(state, || drive.pause(self));
            if state.stopped || due != Some(Duration::ZERO) {
                let again = state.stopped || state.is_asked();
                return if again { Next::Again(state) } else { Next::Wait(state, due) };
            }
        }
        let (state, ()) = self.unlocked(state, || drive.step(self, ask.unwrap_or(Ask::Tick)));
        Next::Again(state)
    }

    /// Calls the driver, its clock or its callbacks without the lock. Meanwhile this thread is
    /// recorded as the driving one.
    fn unlocked<'a, R>(&'a self, mut state: Locked<'a, T>, call: impl FnOnce() -> R) -> (Locked<'a, T>, R) {
        state.driving = Some(crate::sync::thread::current().id());
        drop(state);
        let result = call();
        let mut state = self.lock();
        state.driving = None;
        (state, result)
    }

    /// Puts the driver back under the lock.
    fn rest(&self, state: &mut State<T>, drive: Box<dyn Drive<T>>) {
        state.idle = Some(drive);
        // A start may follow the stop before the waiting callers wake. The worker that it starts
        // does not know of their reloads, so they are answered here.
        let ended = state.ended;
        state.give_up(..=ended);
        self.notify();
    }
}

/// A worker's loop, from its start to its end.
pub struct WorkerLoop<T> {
    /// The driver, once it was free.
    pub(super) drive: Option<Box<dyn Drive<T>>>,
}

/// Makes a loop that has not begun.
impl<T> Default for WorkerLoop<T> {
    fn default() -> Self {
        Self { drive: None }
    }
}

impl<T: Send + Sync + 'static> WorkerLoop<T> {
    /// Begins, takes a step, or ends.
    pub fn go_on<'a>(&mut self, shared: &'a Arc<Shared<T>>, mut state: Locked<'a, T>) -> Next<'a, T, ()> {
        match self.drive.take().map_or_else(|| Err(state.idle.take()), Ok) {
            Ok(drive) if state.stopped => Self::end(shared, state, drive),
            Ok(drive) => shared.step(state, &mut **self.drive.insert(drive)),
            Err(Some(drive)) => Next::Again(Self::begin(shared, state, &mut **self.drive.insert(drive))),
            // A manual reload has the driver, and may hang in a read: a stop does not wait for
            // that.
            Err(None) if state.stopped => Self::over(shared, state),
            Err(None) => Next::Wait(state, None),
        }
    }

    /// Arms the watch and takes the first snapshots, unless stopped already.
    fn begin<'a>(
        shared: &'a Arc<Shared<T>>,
        state: Locked<'a, T>,
        drive: &mut dyn Drive<T>,
    ) -> Locked<'a, T> {
        let last = state.progress.at();
        let (mut state, now) = shared.unlocked(state, || shared.now(last));
        state.progress = state.progress.begun(now);
        if state.stopped {
            return state;
        }
        let begin = || {
            drive.begin(shared, now);
            let watched = shared.lock().watched.iter().cloned().collect();
            shared.report(Event::Started { watched });
        };
        shared.unlocked(state, begin).0
    }

    /// Frees the watch and puts the driver back.
    fn end<'a>(
        shared: &'a Arc<Shared<T>>,
        state: Locked<'a, T>,
        mut drive: Box<dyn Drive<T>>,
    ) -> Next<'a, T, ()> {
        let end = || {
            drive.end(shared);
            shared.report(Event::Stopped);
        };
        let (mut state, ()) = shared.unlocked(state, end);
        state.watched.clear();
        state.status.unwatched.clear();
        shared.rest(&mut state, drive);
        Self::over(shared, state)
    }

    /// Counts the worker as ended, and wakes all threads and tasks that wait for that.
    fn over<'a>(shared: &'a Shared<T>, mut state: Locked<'a, T>) -> Next<'a, T, ()> {
        state.status.running = false;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        shared.notify();
        shared.wake(wakers);
        Next::Over(())
    }
}

/// A manual reload, from the question to its answer.
pub struct ManualReload<T> {
    ticket: u64,
    /// The driver, while this caller drives.
    pub(super) drive: Option<Box<dyn Drive<T>>>,
}

impl<T: Send + Sync + 'static> ManualReload<T> {
    /// Asks for a reload; the driver itself, in a callback, does not wait for it.
    ///
    /// # Errors
    /// The answer, where there is nothing to wait for.
    pub fn ask(shared: &Shared<T>, state: &mut State<T>, is_driver: bool) -> Result<Self, Reload> {
        if state.stopped {
            return Err(Reload::Stopped);
        }
        state.asked += 1;
        if is_driver {
            return Err(Reload::Queued);
        }
        let ticket = state.asked;
        state.answers.insert(ticket, None);
        shared.notify();
        Ok(Self { ticket, drive: None })
    }

    /// Returns the answer, or waits for it, or takes a step for it where no other thread drives.
    pub fn go_on<'a>(&mut self, shared: &'a Arc<Shared<T>>, mut state: Locked<'a, T>) -> Next<'a, T, Reload> {
        if let Some(drive) = self.drive.take() {
            // Other callers that asked meanwhile wait for this drive too.
            let is_wanted = state.asked > state.begun || state.answers.values().any(Option::is_none);
            // Steps after a stop belong to the next worker, whose begin makes the driver ready for
            // them.
            if self.ticket > state.ended && is_wanted {
                return shared.step(state, &mut **self.drive.insert(drive));
            }
            shared.rest(&mut state, drive);
        }
        if let Some(answer) = state.answer_to(self.ticket) {
            return Next::Over(answer);
        }
        // A worker that was started takes the driver itself.
        if !state.status.running {
            self.drive = state.idle.take();
        }
        if self.drive.is_some() { Next::Again(state) } else { Next::Wait(state, None) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
