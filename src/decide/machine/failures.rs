//! Failures: when one becomes a rejection, when that is reported, and when it is retried.

use std::time::Duration;

use super::{Answer, ContentId, Effect, Machine, Notice};
use crate::clock::Now;

/// The rejection that stands. It was reported.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Refusal<E> {
    pub(super) cause: E,
    /// How often it was met, the first time included.
    pub(super) count: u64,
    /// The rejected content; `None` where nothing could be read.
    pub(super) content: Option<ContentId>,
    pub(super) retry: Retry,
}

/// The next retry of a failure. The pause doubles each time the failure is met, whatever was read
/// in between. Failures of one content count as one failure, whatever their cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Retry {
    pub(super) at: Duration,
    /// The pause from that retry to the one after it, should it fail too.
    pub(super) pause: Duration,
}

/// A failure to read that was not reported yet. It replaces no rejection, because the next snapshot
/// may end it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Unread<E> {
    pub(super) cause: E,
    /// Since when every snapshot has failed to read, whatever the causes.
    pub(super) since: Duration,
    /// How often this cause was met in a row.
    pub(super) count: u64,
    pub(super) retry: Retry,
}

impl<E: Clone + PartialEq> Machine<E> {
    /// Handles a torn snapshot. Where nothing has moved for longer than a publisher may pause
    /// (ASM-05), no publisher is at work, and the file cannot be read.
    pub(super) fn tear(&mut self, now: Now, cause: E, since: Duration, pause: Duration) -> Vec<Effect<E>> {
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
    pub(super) fn fail(&mut self, now: Now, cause: E, since: Duration) -> Vec<Effect<E>> {
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
    pub(super) fn refuse(
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
}
