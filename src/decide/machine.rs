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

use crate::{
    clock::{LONGEST, Now},
    read::walk::ChangeKind,
};

mod state_hash;

/// The delays and rates of a reloader. A delay of more than a hundred years counts as a hundred
/// years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// How long a file set that no single rename committed has to be stable (ASM-05). A failure to
    /// read is rejected after the same time. Default: 500 ms.
    pub settle: Duration,
    /// How long a candidate that only lacks an end of the served bytes has to be stable. Most
    /// likely it is still being written. Default: 5 s.
    pub shrink_settle: Duration,
    /// The pause before the next snapshot where timestamps are too coarse to order a rename and the
    /// writes beneath it. A timestamp may also be this much earlier than its change. Default:
    /// 30 ms.
    pub tie_recheck: Duration,
    /// The first pause after a failure; it doubles up to [`poll`](Self::poll). Default: 50 ms.
    pub retry: Duration,
    /// The longest time between two snapshots while file events work. Default: 10 s.
    pub poll: Duration,
    /// The longest time between two snapshots while file events are missing. Default: 1 s.
    pub degraded_poll: Duration,
    /// The shortest time between two snapshots of a file set: at most 200 a second, however many
    /// events arrive. Snapshots that are taken again because the directories on the way changed do
    /// not count. Default: 5 ms.
    pub min_interval: Duration,
    /// After this long without being stable, the file set is reported as still changing. A manual
    /// reload and the first load wait for a consistent snapshot about as long. Default: 5 s.
    pub still_changing_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(500),
            shrink_settle: Duration::from_secs(5),
            tie_recheck: Duration::from_millis(30),
            retry: Duration::from_millis(50),
            poll: Duration::from_secs(10),
            degraded_poll: Duration::from_secs(1),
            min_interval: Duration::from_millis(5),
            still_changing_after: Duration::from_secs(5),
        }
    }
}

impl Timing {
    /// Returns the pause after a further torn snapshot. It doubles from the shortest interval up to
    /// the first pause after a failure, which is 20 snapshots a second by default.
    pub(crate) fn torn_pause(&self, last: Duration) -> Duration {
        last.saturating_mul(2).min(self.retry).max(self.min_interval)
    }

    /// Limits every delay to one that can be added to any moment.
    pub(crate) fn bounded(self) -> Self {
        let Self {
            settle,
            shrink_settle,
            tie_recheck: tie,
            retry,
            poll,
            degraded_poll: poll_degraded,
            min_interval: gap,
            still_changing_after: patience,
        } = self;
        Self {
            settle: settle.min(LONGEST),
            shrink_settle: shrink_settle.min(LONGEST),
            tie_recheck: tie.min(LONGEST),
            retry: retry.min(LONGEST),
            poll: poll.min(LONGEST),
            degraded_poll: poll_degraded.min(LONGEST),
            min_interval: gap.min(LONGEST),
            still_changing_after: patience.min(LONGEST),
        }
    }
}

/// Identifies what the driver read: equal numbers mean equal bytes of a file set that has not
/// moved.
pub type ContentId = u64;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<E> {
    /// An event says that the files changed. It may be wrong (INV-06).
    Hint,
    /// Time passed.
    Tick,
    /// A caller asks for a reload and asserts that the writing is over.
    Reload,
    /// Whether the files are watched; without that, polling is faster.
    Watching(bool),
    /// A snapshot ended.
    SnapshotTaken(ReadOutcome<E>),
    /// A build ended.
    Built(Verdict<E>),
    /// The driver stops: nothing may be published any more.
    Stop,
}

/// The outcome of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome<E> {
    /// The files hold the served bytes.
    Served,
    /// The files hold other bytes.
    Changed {
        /// The number of what was read.
        content: ContentId,
        /// How far the change can be trusted to be complete.
        kind: ChangeKind,
        /// The candidate only lacks an end of the served bytes.
        shrinks: bool,
    },
    /// The files moved while they were read.
    Torn {
        /// The file that moved, and how.
        cause: E,
        /// The previous snapshot was torn in the same way, and nothing moved from then until now.
        still: bool,
    },
    /// A file could not be read.
    Failed(E),
}

/// The outcome of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<E> {
    /// Every check passed.
    Valid,
    /// Every check passed except the date: valid from this time on, since the Unix epoch by the
    /// wall clock.
    NotYet(Duration),
    /// A check rejected it.
    Refused(E),
}

/// An action for the driver. Effects are carried out in the order of the returned list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<E> {
    /// Take a snapshot and answer with [`Input::SnapshotTaken`].
    TakeSnapshot,
    /// Run every check over the content read last and answer with [`Input::Built`].
    Build(ContentId),
    /// Publish the value that was built last.
    Publish {
        /// The number of its content.
        content: ContentId,
        /// A problem was reported, and this publication ends it.
        recovered: bool,
    },
    /// Report a notice.
    Report(Notice<E>),
    /// Answer every caller that asked for a reload before the last snapshot began.
    Answer(Answer<E>),
}

/// A fact to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice<E> {
    /// A rejection that was not reported yet.
    Refused(E),
    /// The rejected files, or the endless change, have gone, and the served bytes are on disk
    /// again.
    Recovered,
    /// A valid file set is deferred until this time, since the Unix epoch.
    Deferred(Duration),
    /// The files have been changing for longer than [`Timing::still_changing_after`].
    StillChanging,
}

/// The answer to a manual reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<E> {
    /// A new generation is published.
    Reloaded,
    /// The files hold the served bytes.
    Unchanged,
    /// The files hold a valid file set, deferred until this time, since the Unix epoch.
    Deferred(Duration),
    /// The files were rejected; the served value stays served.
    Refused(E),
}

/// A content that has to be stable, and since when it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Settling {
    content: ContentId,
    since: Duration,
    /// When it has been stable for long enough.
    until: Duration,
}

/// The rejection that stands. It was reported.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Refusal<E> {
    cause: E,
    /// How often it was met, the first time included.
    count: u64,
    /// The rejected content; `None` where nothing could be read.
    content: Option<ContentId>,
    retry: Retry,
}

/// The next retry of a failure. The pause doubles each time the failure is met, whatever was read
/// in between. Failures of one content count as one failure, whatever their cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Retry {
    at: Duration,
    /// The pause from that retry to the one after it, should it fail too.
    pause: Duration,
}

/// A failure to read that was not reported yet. It replaces no rejection, because the next snapshot
/// may end it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Unread<E> {
    cause: E,
    /// Since when every snapshot has failed to read, whatever the causes.
    since: Duration,
    /// How often this cause was met in a row.
    count: u64,
    retry: Retry,
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

    /// Handles a torn snapshot. Where nothing has moved for longer than a publisher may pause
    /// (ASM-05), no publisher is at work, and the file cannot be read.
    fn tear(&mut self, now: Now, cause: E, since: Duration, pause: Duration) -> Vec<Effect<E>> {
        self.settling = None;
        self.unread = None;
        // Counted from the begin of this snapshot, as where a file set settles.
        if self
            .last_snapshot
            .is_some_and(|snapshot| since < now.mono && since + self.timing.settle <= snapshot)
        {
            return self.fail(now, cause, since);
        }
        self.retry_at = Some(now.mono + pause);
        let mut effects = self.unsettled(now);
        // A manual reload asks for one consistent snapshot, and waits for it as long as the first
        // load does.
        if self.by_hand.is_some_and(|since| now.mono >= since + self.timing.still_changing_after) {
            self.answer(&mut effects, Answer::Refused(cause));
        }
        effects
    }

    /// Handles a file that cannot be read. The failure becomes a rejection once it outlasts the
    /// time that a publisher may leave a name missing (ASM-05), and at once for a manual reload.
    fn fail(&mut self, now: Now, cause: E, since: Duration) -> Vec<Effect<E>> {
        let old = self.unread.take();
        let since = old.as_ref().map_or(since, |old| old.since);
        let old = old.filter(|old| old.cause == cause);
        let (count, retry) = old.map_or((1, None), |old| (old.count + 1, Some(old.retry)));
        let stands = self.refusal.as_ref().is_some_and(|refusal| refusal.cause == cause);
        // Counted from the begin of this snapshot, as where a file set settles.
        let lasts = self.last_snapshot.is_some_and(|snapshot| since + self.timing.settle <= snapshot);
        if stands || self.by_hand.is_some() || lasts {
            let count = if stands { 1 } else { count };
            return self.refuse(now, cause, None, count, retry);
        }
        let retry = self.plan_retry(now, retry);
        self.unread = Some(Unread { cause, since, count, retry });
        Vec::new()
    }

    /// Records a rejection, plans its next retry, and reports it unless it stands already. `met` is
    /// how often it was met before it stood, and `retry` how often it was retried so far.
    fn refuse(
        &mut self,
        now: Now,
        cause: E,
        content: Option<ContentId>,
        met: u64,
        retry: Option<Retry>,
    ) -> Vec<Effect<E>> {
        let mut effects = Vec::new();
        let old = self.refusal.take();
        let stood = old.as_ref().filter(|old| old.cause == cause).map(|old| old.count);
        let again = old.filter(|old| stood.is_some() || (content.is_some() && old.content == content));
        let retry = self.plan_retry(now, again.map(|old| old.retry).or(retry));
        if stood.is_none() {
            self.owes_recovery = true;
            effects.push(Effect::Report(Notice::Refused(cause.clone())));
        }
        // A name that is missing for a moment is part of a change that goes on.
        self.unsettled = None;
        let answer = Answer::Refused(cause.clone());
        let count = stood.unwrap_or(0) + met;
        self.refusal = Some(Refusal { cause, count, content, retry });
        self.answer(&mut effects, answer);
        effects
    }

    /// Plans the retry after `last` of the same failure.
    fn plan_retry(&mut self, now: Now, last: Option<Retry>) -> Retry {
        let pause = last.map_or(self.timing.retry, |last| last.pause);
        let at = now.mono + pause;
        self.retry_at = Some(at);
        Retry { at, pause: (pause * 2).min(self.timing.poll) }
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Checks: INV-12. Whatever is set, the moment that it leads to can be represented.
    #[test]
    fn inv12_no_delay_is_longer_than_can_be_added_to_a_moment() {
        let (short, endless) = (Duration::from_millis(3), Duration::MAX);
        let all = |time| Timing {
            settle: time,
            shrink_settle: time,
            tie_recheck: time,
            retry: time,
            poll: time,
            degraded_poll: time,
            min_interval: time,
            still_changing_after: time,
        };
        assert_eq!(all(endless).bounded(), all(LONGEST));
        assert_eq!(all(short).bounded(), all(short));
        // Also at a very late time.
        let now = Now { mono: LONGEST, wall: LONGEST };
        let mut machine = Machine::new(all(endless).bounded());
        machine.step(now, Input::Tick);
        machine.step(now, Input::SnapshotTaken(ReadOutcome::Failed("gone")));
        assert!(machine.wake(now).is_some_and(|wake| wake > now.mono));
    }
}
