//! Decides when to take a snapshot, when to build and when to publish, for one file set. No other
//! code decides it.
//!
//! The machine is pure. It is given the time and what happened, and returns effects. It has no
//! thread, no clock and does no I/O, so every sequence of inputs can be tried.
//!
//! ```text
//!            hint, tick                   atomic, stable, manual reload
//!  waiting ------------> snapshot ------------------------------------> build --> publish
//!     ^                    |  in place, ambiguous: wait, read again       |
//!     '--------------------'<-------------- rejected, deferred -----------'
//! ```

use std::time::Duration;

use crate::{clock::Now, read::walk::ChangeKind};

mod failures;
mod protocol;
mod state_hash;
mod timing;
use failures::{Refusal, Retry, Unread};
pub use protocol::{Answer, ContentId, Effect, Input, Notice, ReadOutcome, Verdict};
pub use timing::Timing;

/// A content that has to be stable, and since when it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Settling {
    content: ContentId,
    since: Duration,
    /// When it has been stable for long enough.
    until: Duration,
}

/// A row of torn snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Torn {
    /// Since when they are torn in one way, and nothing has moved.
    since: Duration,
    /// The pause before the next snapshot, whatever asks for it.
    pause: Duration,
}

/// The effect that the driver has not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Busy {
    No,
    Looking,
    Building(ContentId),
}

/// The state of one file set's machine. Everything else is derived from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine<E> {
    timing: Timing,
    watching: bool,
    stopped: bool,
    busy: Busy,
    /// Since when a manual reload waits for its answer.
    by_hand: Option<Duration>,
    /// Another manual reload was asked for while busy: the snapshot under way began too early for
    /// it.
    by_hand_next: bool,
    /// When the last snapshot began; `None` before the first one, which is due at once.
    last_snapshot: Option<Duration>,
    /// A snapshot is due because of a hint.
    hinted: bool,
    settling: Option<Settling>,
    /// Since when the content has been neither served nor rejected, and whether that was reported.
    unsettled: Option<(Duration, bool)>,
    refusal: Option<Refusal<E>>,
    unread: Option<Unread<E>>,
    torn: Option<Torn>,
    /// A problem was reported, and its end was not.
    owes_recovery: bool,
    /// When the next snapshot is due because of the last one.
    retry_at: Option<Duration>,
    /// A valid content, and the time by the wall clock that it is deferred until.
    deferred: Option<(ContentId, Duration)>,
}

impl<E: Clone + PartialEq> Machine<E> {
    /// Makes the machine of a served file set. It takes a snapshot at its first input.
    #[must_use]
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            watching: true,
            stopped: false,
            busy: Busy::No,
            by_hand: None,
            by_hand_next: false,
            last_snapshot: None,
            hinted: false,
            settling: None,
            unsettled: None,
            refusal: None,
            unread: None,
            torn: None,
            owes_recovery: false,
            retry_at: None,
            deferred: None,
        }
    }

    /// Begins anew under another driver, with a snapshot at the first input. A reported rejection
    /// stands and a deferred content stays deferred, but rejected content has to settle again.
    pub fn restart(&mut self) {
        let old = std::mem::replace(self, Self::new(self.timing));
        self.refusal = old.refusal.map(|refusal| {
            let retry = Retry { pause: self.timing.retry, ..refusal.retry };
            Refusal { content: None, retry, ..refusal }
        });
        self.owes_recovery = old.owes_recovery;
        self.deferred = old.deferred;
    }

    /// Returns the delays in use.
    #[must_use]
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// Returns the longest time between two snapshots at present.
    pub(crate) fn poll(&self) -> Duration {
        if self.watching { self.timing.poll } else { self.timing.degraded_poll }
    }

    /// Returns the rejection that stands and how often it was met, if one was reported and is not
    /// over.
    #[must_use]
    pub fn refusal(&self) -> Option<(&E, u64)> {
        self.refusal.as_ref().map(|refusal| (&refusal.cause, refusal.count))
    }

    /// Returns the time, by the wall clock, that a valid content is deferred until, if one is.
    #[must_use]
    pub fn deferred(&self) -> Option<Duration> {
        self.deferred.map(|(_, date)| date)
    }

    /// Returns when to come back with [`Input::Tick`] at the latest, in monotonic time; `None`
    /// while busy and after a stop.
    #[must_use]
    pub fn wake(&self, now: Now) -> Option<Duration> {
        if self.stopped || self.busy != Busy::No {
            return None;
        }
        let Some(last_snapshot) = self.last_snapshot else { return Some(now.mono) };
        let mut wake = last_snapshot + self.poll();
        if self.hinted || self.by_hand.is_some() {
            wake = last_snapshot;
        }
        for at in [self.settling.map(|still| still.until), self.retry_at].into_iter().flatten() {
            wake = wake.min(at);
        }
        if let Some(unread) = &self.unread {
            wake = wake.min(unread.since + self.timing.settle);
        }
        if let (Some((_, date)), None) = (self.deferred, self.retry_at) {
            wake = wake.min(now.mono + date.saturating_sub(now.wall));
        }
        Some(wake.max(last_snapshot + self.torn.map_or(self.timing.min_interval, |torn| torn.pause)))
    }

    /// Takes one step: returns the effects of this input at this time.
    pub fn step(&mut self, now: Now, input: Input<E>) -> Vec<Effect<E>> {
        if self.stopped {
            return Vec::new();
        }
        let mut effects = match (input, self.busy) {
            (Input::Stop, _) => {
                self.stopped = true;
                return Vec::new();
            }
            (Input::Watching(watching), _) => {
                self.watching = watching;
                Vec::new()
            }
            (Input::Hint, _) => {
                self.hinted = true;
                self.snapshot_if_due(now)
            }
            (Input::Tick, _) => self.snapshot_if_due(now),
            (Input::Reload, Busy::No) => {
                self.by_hand.get_or_insert(now.mono);
                self.take_snapshot(now)
            }
            (Input::Reload, _) => {
                self.by_hand_next = true;
                Vec::new()
            }
            (Input::SnapshotTaken(seen), Busy::Looking) => {
                self.busy = Busy::No;
                self.snapshot_taken(now, seen)
            }
            (Input::Built(verdict), Busy::Building(content)) => {
                self.busy = Busy::No;
                self.built(now, content, verdict)
            }
            // An answer to a question that was not asked changes nothing.
            (Input::SnapshotTaken(_) | Input::Built(_), _) => Vec::new(),
        };
        if self.busy == Busy::No && std::mem::take(&mut self.by_hand_next) {
            self.by_hand.get_or_insert(now.mono);
            effects.extend(self.take_snapshot(now));
        }
        effects
    }

    fn snapshot_if_due(&mut self, now: Now) -> Vec<Effect<E>> {
        match self.wake(now) {
            Some(wake) if wake <= now.mono => self.take_snapshot(now),
            _ => Vec::new(),
        }
    }

    fn take_snapshot(&mut self, now: Now) -> Vec<Effect<E>> {
        self.busy = Busy::Looking;
        self.hinted = false;
        self.last_snapshot = Some(now.mono);
        vec![Effect::TakeSnapshot]
    }

    fn build(&mut self, content: ContentId) -> Vec<Effect<E>> {
        self.busy = Busy::Building(content);
        self.settling = None;
        vec![Effect::Build(content)]
    }

    fn snapshot_taken(&mut self, now: Now, seen: ReadOutcome<E>) -> Vec<Effect<E>> {
        let torn = self.torn.take();
        match seen {
            ReadOutcome::Served => {
                let mut effects = Vec::new();
                if self.settled() {
                    effects.push(Effect::Report(Notice::Recovered));
                }
                self.answer(&mut effects, Answer::Unchanged);
                effects
            }
            ReadOutcome::Changed { content, kind, shrinks } => self.changed(now, content, kind, shrinks),
            ReadOutcome::Torn { cause, still } => {
                let pause = torn.map_or(self.timing.min_interval, |torn| self.timing.torn_pause(torn.pause));
                let since = torn.filter(|_| still).map_or(now.mono, |torn| torn.since);
                self.torn = Some(Torn { since, pause });
                self.tear(now, cause, since, pause)
            }
            ReadOutcome::Failed(cause) => {
                self.settling = None;
                self.fail(now, cause, now.mono)
            }
        }
    }

    fn changed(&mut self, now: Now, content: ContentId, kind: ChangeKind, shrinks: bool) -> Vec<Effect<E>> {
        self.unread = None;
        if self.by_hand.is_some() {
            return self.build(content);
        }
        match self.deferred {
            Some((deferred, date)) if deferred == content => {
                self.retry_at = None;
                self.unsettled = None;
                if date <= now.wall {
                    return self.build(content);
                }
                // The rejection in between is over. It was reported, so the deferral that stands is
                // reported again.
                let over = self.refusal.take().map(|_| Effect::Report(Notice::Deferred(date)));
                return over.into_iter().collect();
            }
            _ => self.deferred = None,
        }
        if let Some(refusal) = self.refusal.as_ref().filter(|refusal| refusal.content == Some(content)) {
            // This content was complete and was rejected. A check may have failed for a reason
            // outside the files, so it is built again, at the pace of the retries.
            let at = refusal.retry.at;
            if at <= now.mono {
                return self.build(content);
            }
            self.retry_at = Some(at);
            self.settling = None;
            self.unsettled = None;
            return Vec::new();
        }
        let wait = match kind {
            ChangeKind::Atomic => return self.build(content),
            _ if shrinks => self.timing.shrink_settle,
            ChangeKind::AmbiguousTime => self.timing.tie_recheck,
            ChangeKind::InPlace => self.timing.settle,
        };
        self.settle(now, content, wait)
    }

    /// Builds the content once it has been stable for so long.
    fn settle(&mut self, now: Now, content: ContentId, wait: Duration) -> Vec<Effect<E>> {
        self.retry_at = None;
        match self.settling {
            Some(still) if still.content == content => {
                // Counted from the begin of this snapshot, not from its end: a slow one read the
                // files early on (ASM-05).
                if self.last_snapshot.is_some_and(|snapshot| still.since + wait <= snapshot) {
                    return self.build(content);
                }
                self.settling = Some(Settling { until: still.since + wait, ..still });
                Vec::new()
            }
            _ => {
                self.settling = Some(Settling { content, since: now.mono, until: now.mono + wait });
                self.unsettled(now)
            }
        }
    }

    fn built(&mut self, now: Now, content: ContentId, verdict: Verdict<E>) -> Vec<Effect<E>> {
        match verdict {
            Verdict::Valid => {
                let mut effects = vec![Effect::Publish { content, recovered: self.settled() }];
                self.answer(&mut effects, Answer::Reloaded);
                effects
            }
            Verdict::NotYet(date) => {
                let known = self.deferred.is_some_and(|(deferred, _)| deferred == content);
                // A date that has passed is checked again soon, not at once and in an endless loop.
                self.deferred = Some((content, date.max(now.wall + self.timing.retry)));
                self.refusal = None;
                self.retry_at = None;
                self.unsettled = None;
                let mut effects = Vec::new();
                if !known {
                    effects.push(Effect::Report(Notice::Deferred(date)));
                }
                self.answer(&mut effects, Answer::Deferred(date));
                effects
            }
            Verdict::Refused(cause) => {
                self.deferred = None;
                self.refuse(now, cause, Some(content), 1, None)
            }
        }
    }

    /// Records that the file set moves, and reports that once when it lasts.
    fn unsettled(&mut self, now: Now) -> Vec<Effect<E>> {
        let (since, reported) = *self.unsettled.get_or_insert((now.mono, false));
        if reported || now.mono < since + self.timing.still_changing_after {
            return Vec::new();
        }
        self.unsettled = Some((since, true));
        self.owes_recovery = true;
        vec![Effect::Report(Notice::StillChanging)]
    }

    /// Records that the served bytes are on disk. Returns whether the end of a problem has to be
    /// reported.
    fn settled(&mut self) -> bool {
        self.settling = None;
        self.unsettled = None;
        self.refusal = None;
        self.unread = None;
        self.retry_at = None;
        self.deferred = None;
        std::mem::take(&mut self.owes_recovery)
    }

    fn answer(&mut self, effects: &mut Vec<Effect<E>>, answer: Answer<E>) {
        if self.by_hand.take().is_some() {
            effects.push(Effect::Answer(answer));
        }
    }
}
