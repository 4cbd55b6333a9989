//! A simple reference model of the state machine, and a world that plays rounds on both.
//!
//! In a round time passes, the wall clock may step, and an input arrives. If the machine takes a
//! snapshot, the round says how it ends; if the machine builds, the round says how the build ends.
//! Each part of the model decides one matter, by the sequence of the results of snapshots.
//!
//! The parts of the model answer to one another, so they stay in one file.

use std::time::Duration;

use rustls_reload::{
    Now,
    internal::{
        ChangeKind,
        machine::{Answer, ContentId, Effect, Input, Machine, Notice, ReadOutcome, Timing, Verdict},
    },
};

/// The cause of a rejection, identified by a number.
pub type Cause = u8;

/// Converts a whole number of milliseconds, which keeps the model readable.
const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The date until which deferred contents wait.
pub const DATE: Duration = Duration::from_secs(5_000);

/// The events of one round.
#[derive(Clone, Debug)]
pub struct Round {
    /// The time that passes before the round.
    pub pass: Duration,
    /// The change of the wall clock meanwhile.
    pub wall: Wall,
    /// The input.
    pub input: Input<Cause>,
    /// The result of a snapshot, if one is taken.
    pub seen: ReadOutcome<Cause>,
    /// The result of a build, if there is one.
    pub verdict: Verdict<Cause>,
}

/// A change of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wall {
    /// The wall clock advances with the monotonic clock.
    Runs,
    /// The wall clock is set back by an hour.
    StepsBack,
    /// The wall clock is set to [`DATE`], unless it is past that.
    ReachesDate,
}

/// The effects of a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether a snapshot was taken.
    pub looked: bool,
    /// The content that was built, if any.
    pub built: Option<ContentId>,
    /// The content that was published, if any.
    pub published: Option<ContentId>,
    /// The notices that were reported.
    pub reported: Vec<Notice<Cause>>,
    /// The answers to manual reloads.
    pub answered: Vec<Answer<Cause>>,
}

/// The result of a snapshot. Each part of the model decides its matter by the sequence of these.
#[derive(Clone, Copy, Debug)]
enum End {
    Served,
    /// The files could not be read since this time, as far as is known.
    Unreadable(Cause, u64),
    /// The next snapshot follows after this many milliseconds.
    Torn(Cause, u64),
    /// The content was not stable before.
    Moves,
    /// The content is stable, but not for long enough.
    Settles,
    /// The content was rejected and waits until its retry at this time.
    Pends(u64),
    /// The content is deferred until its date.
    Held(Duration),
    Published(ContentId),
    NotYet(ContentId, Duration),
    Refused(ContentId, Cause),
}

/// Decides WHICH content is stable or deferred. This part and the others count milliseconds.
#[derive(Clone, Default)]
struct Settling {
    still: Option<(ContentId, u64, u64)>, // since when, and for how long it has to be stable
    deferred: Option<(ContentId, Duration)>,
}

impl Settling {
    /// Returns the reason that keeps a content from being built; the content has to be stable for
    /// `wait` milliseconds.
    fn keeps(&mut self, now: Now, content: ContentId, wait: u64) -> Option<End> {
        self.deferred = self.deferred.filter(|deferred| deferred.0 == content);
        if let Some((_, date)) = self.deferred {
            return (now.wall < date).then_some(End::Held(date));
        }
        let known = self.still.filter(|still| still.0 == content);
        let since = known.map_or(millis(now.mono), |known| known.1);
        self.still = Some((content, since, wait));
        let waits = millis(now.mono) < since + wait;
        waits.then_some(if known.is_some() { End::Settles } else { End::Moves })
    }

    fn ends(&mut self, now: Now, end: End) {
        match end {
            End::Moves | End::Settles | End::Held(_) => return,
            End::NotYet(content, date) => self.deferred = Some((content, date.max(now.wall + ms(50)))),
            End::Served | End::Published(_) | End::Refused(..) => self.deferred = None,
            End::Unreadable(..) | End::Torn(..) | End::Pends(_) => {}
        }
        self.still = None;
    }
}

/// Decides WHEN to retry, and the pause after that.
#[derive(Clone, Default)]
struct Retrying {
    refused: Option<(Cause, Option<ContentId>, u64, u64)>, // the standing rejection
    unread: Option<(Cause, u64)>,                          // unreadable files that were not reported
    at: Option<u64>,
}

impl Retrying {
    /// Takes a result; `stands` says that unreadable files are a rejection that was reported.
    fn ends(&mut self, t: u64, end: End, stands: bool) {
        let unread = self.unread.take();
        let content = if let End::Refused(content, _) = end { Some(content) } else { None };
        let refused = self.refused;
        let pause = |cause| {
            let again = |old: &(Cause, Option<ContentId>, u64, u64)| {
                old.0 == cause || (content.is_some() && old.1 == content)
            };
            let refused = refused.filter(again).map(|old| old.3);
            let met = refused.or(unread.filter(|unread| unread.0 == cause).map(|unread| unread.1));
            met.map_or(50, |pause| (pause * 2).min(10_000))
        };
        self.at = match end {
            End::Unreadable(cause, _) | End::Refused(_, cause) => Some(t + pause(cause)),
            End::Torn(_, wait) => Some(t + wait),
            End::Pends(at) => Some(at),
            _ => None,
        };
        match end {
            End::Unreadable(cause, _) if stands => self.refused = Some((cause, None, 0, pause(cause))),
            End::Unreadable(cause, _) => self.unread = Some((cause, pause(cause))),
            End::Refused(content, cause) => {
                self.refused = Some((cause, Some(content), t + pause(cause), pause(cause)));
            }
            End::Served | End::Held(_) | End::Published(_) | End::NotYet(..) => self.refused = None,
            End::Torn(..) | End::Pends(_) | End::Moves | End::Settles => {}
        }
    }
}

/// Decides WHICH notices are REPORTED.
#[derive(Clone, Default)]
struct Reporting {
    moving: Option<(u64, bool)>, // since when nothing was stable; whether that was reported
    unread: Option<u64>,         // since when nothing can be read, not reported yet
    bad: Option<Cause>,          // the reported rejection that stands
    owes: bool,
}

impl Reporting {
    fn ends(
        &mut self,
        t: u64,
        end: End,
        by_hand: bool,
        deferred: Option<ContentId>,
    ) -> Option<Notice<Cause>> {
        let unread = self.unread.take();
        match end {
            End::Served | End::Published(_) => std::mem::take(self).owes.then_some(Notice::Recovered),
            End::Refused(_, cause) => self.bad(cause),
            End::Unreadable(cause, since) => {
                let since = unread.unwrap_or(since);
                if self.bad == Some(cause) || by_hand || t >= since + 500 {
                    return self.bad(cause);
                }
                self.unread = Some(since);
                None
            }
            End::Settles => None,
            End::Pends(_) => {
                self.moving = None;
                None
            }
            End::Torn(..) | End::Moves => {
                let (since, reported) = *self.moving.get_or_insert((t, false));
                let report = !reported && t >= since + 5_000;
                (self.moving, self.owes) = (Some((since, reported || report)), self.owes || report);
                report.then_some(Notice::StillChanging)
            }
            End::Held(date) => {
                self.moving = None;
                self.bad.take().map(|_| Notice::Deferred(date))
            }
            End::NotYet(content, date) => {
                *self = Self { owes: self.owes, ..Self::default() };
                (deferred != Some(content)).then_some(Notice::Deferred(date))
            }
        }
    }

    fn bad(&mut self, cause: Cause) -> Option<Notice<Cause>> {
        let report = self.bad != Some(cause);
        (self.bad, self.owes, self.moving) = (Some(cause), true, None);
        report.then_some(Notice::Refused(cause))
    }
}

/// Returns the ANSWER to a manual reload that was requested at `asked`, if there is one.
fn answer(t: u64, asked: u64, end: End) -> Option<Answer<Cause>> {
    match end {
        End::Served => Some(Answer::Unchanged),
        End::Published(_) => Some(Answer::Reloaded),
        End::NotYet(_, date) => Some(Answer::Deferred(date)),
        End::Unreadable(cause, _) | End::Refused(_, cause) => Some(Answer::Refused(cause)),
        End::Torn(cause, _) => (t >= asked + 5_000).then_some(Answer::Refused(cause)),
        End::Moves | End::Settles | End::Pends(_) | End::Held(_) => None,
    }
}

/// Decides WHETHER a publisher is at work, by consecutive torn snapshots.
#[derive(Clone, Default)]
struct Tearing {
    same: u64,  // since when nothing has changed
    count: u32, // of torn snapshots
}

impl Tearing {
    /// Returns the pause before the next snapshot.
    fn pause(&self) -> u64 {
        [5, 10, 20, 40].get(self.count.saturating_sub(1) as usize).copied().unwrap_or(50)
    }

    fn ends(&mut self, t: u64, cause: Cause, still: bool) -> End {
        let same = if still && self.count > 0 { self.same } else { t };
        *self = Self { same, count: self.count + 1 };
        if t >= same + 500 { End::Unreadable(cause, same) } else { End::Torn(cause, self.pause()) }
    }
}

/// All parts of the model, and the decision WHEN a snapshot is due.
#[derive(Clone, Default)]
struct Model {
    settling: Settling,
    tearing: Tearing,
    retrying: Retrying,
    reporting: Reporting,
    asked: Option<u64>,
    hinted: bool,
    degraded: bool,
    stopped: bool,
}

impl Model {
    fn due(&self, now: Now, last_snapshot: Option<Duration>) -> u64 {
        let Some(last) = last_snapshot.map(millis) else { return 0 };
        let poll = if self.degraded { 1_000 } else { 10_000 };
        let poll = if self.hinted || self.asked.is_some() { 0 } else { poll };
        let Settling { still, deferred } = self.settling;
        let date = deferred.map(|(_, date)| millis(now.mono + date.saturating_sub(now.wall)));
        let unreported = self.reporting.unread.map(|since| since + 500);
        let retry = self.retrying.at;
        let gap = if self.tearing.count > 0 { self.tearing.pause() } else { 5 };
        let wakes = [Some(last + poll), still.map(|still| still.1 + still.2), retry.or(date), unreported];
        wakes.into_iter().flatten().min().unwrap_or(u64::MAX).max(last + gap)
    }

    /// Returns the expected effects of the snapshot of a round.
    fn take_snapshot(&mut self, now: Now, round: &Round) -> Outcome {
        let (t, end) = (millis(now.mono), round.end(now, self));
        let deferred = self.settling.deferred.map(|deferred| deferred.0);
        self.settling.ends(now, end);
        let reported = self.reporting.ends(t, end, self.asked.is_some(), deferred).into_iter().collect();
        self.retrying.ends(
            t,
            end,
            matches!(end, End::Unreadable(cause, _) if self.reporting.bad == Some(cause)),
        );
        let answered: Vec<_> = self.asked.and_then(|asked| answer(t, asked, end)).into_iter().collect();
        self.asked = self.asked.filter(|_| answered.is_empty());
        let (built, published) = end.done();
        Outcome { looked: true, built, published, reported, answered }
    }
}

impl End {
    /// Returns the content that is built and the content that is published.
    fn done(self) -> (Option<ContentId>, Option<ContentId>) {
        match self {
            Self::Published(content) => (Some(content), Some(content)),
            Self::NotYet(content, _) | Self::Refused(content, _) => (Some(content), None),
            _ => (None, None),
        }
    }
}

impl Round {
    /// Returns the result of the round's snapshot.
    fn end(&self, now: Now, model: &mut Model) -> End {
        if let ReadOutcome::Torn { cause, still } = self.seen {
            return model.tearing.ends(millis(now.mono), cause, still);
        }
        model.tearing = Tearing::default();
        let (content, kind, shrinks) = match self.seen {
            ReadOutcome::Served => return End::Served,
            ReadOutcome::Failed(cause) | ReadOutcome::Torn { cause, .. } => {
                return End::Unreadable(cause, millis(now.mono));
            }
            ReadOutcome::Changed { content, kind, shrinks } => (content, kind, shrinks),
        };
        let wait = match kind {
            ChangeKind::Atomic => 0,
            _ if shrinks => 5_000,
            ChangeKind::AmbiguousTime => 30,
            ChangeKind::InPlace => 500,
        };
        let refused = model.retrying.refused.filter(|refused| refused.1 == Some(content));
        let kept = match (model.asked, refused) {
            (Some(_), _) => None,
            (None, Some((.., at, _))) => (at > millis(now.mono)).then_some(End::Pends(at)),
            (None, None) => model.settling.keeps(now, content, wait),
        };
        kept.unwrap_or(match self.verdict {
            Verdict::Valid => End::Published(content),
            Verdict::NotYet(date) => End::NotYet(content, date),
            Verdict::Refused(cause) => End::Refused(content, cause),
        })
    }
}

/// A state machine and its reference model, which are asserted to agree.
#[derive(Clone)]
pub struct World {
    machine: Machine<Cause>,
    model: Model,
    now: Now,
    last_snapshot: Option<Duration>,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// Returns both in their initial state.
    #[must_use]
    pub fn new() -> Self {
        let now = Now { mono: ms(0), wall: Duration::from_secs(1_000) };
        Self { machine: Machine::new(Timing::default()), model: Model::default(), now, last_snapshot: None }
    }

    /// Plays a round on both. Returns the effects of the state machine, after asserting that the
    /// model expects the same.
    ///
    /// # Panics
    /// If they disagree.
    pub fn play(&mut self, round: &Round) -> Outcome {
        self.now.mono += round.pass;
        self.now.wall = match round.wall {
            Wall::Runs => self.now.wall + round.pass,
            Wall::StepsBack => self.now.wall.saturating_sub(Duration::from_secs(3_600)),
            Wall::ReachesDate => self.now.wall.max(DATE),
        };
        let did = self.machine_does(round);
        assert_eq!(did, self.model_wants(round));
        if let Some(wake) = self.machine.wake(self.now) {
            let due = self.model.due(self.now, self.last_snapshot);
            let (now, due) = (self.now.mono, ms(due));
            assert_eq!(wake.max(now), due.max(now), "woken at another time than something is due");
        }
        did
    }

    /// Steps the machine, and each effect of it in turn.
    fn machine_does(&mut self, round: &Round) -> Outcome {
        let mut did = Outcome::default();
        let mut effects = self.machine.step(self.now, round.input.clone());
        while !effects.is_empty() {
            let mut next = Vec::new();
            for effect in effects {
                match effect {
                    Effect::TakeSnapshot => {
                        assert!(!did.looked, "two snapshots in one round");
                        did.looked = true;
                        next.extend(self.machine.step(self.now, Input::SnapshotTaken(round.seen.clone())));
                    }
                    Effect::Build(content) => {
                        did.built = Some(content);
                        next.extend(self.machine.step(self.now, Input::Built(round.verdict.clone())));
                    }
                    Effect::Publish { content, recovered } => {
                        did.published = Some(content);
                        did.reported.extend(recovered.then_some(Notice::Recovered));
                    }
                    Effect::Report(notice) => did.reported.push(notice),
                    Effect::Answer(answer) => did.answered.push(answer),
                }
            }
            effects = next;
        }
        did
    }

    /// Returns what the model expects of the round.
    fn model_wants(&mut self, round: &Round) -> Outcome {
        self.model.stopped |= round.input == Input::Stop;
        self.model.hinted |= round.input == Input::Hint;
        // A report that watching is degraded, or no longer degraded, makes no snapshot due.
        let watching = matches!(round.input, Input::Watching(_));
        self.model.degraded =
            if watching { round.input == Input::Watching(false) } else { self.model.degraded };
        let due = self.model.due(self.now, self.last_snapshot);
        let due = !watching && due <= millis(self.now.mono) || round.input == Input::Reload;
        if due && !self.model.stopped {
            self.last_snapshot = Some(self.now.mono);
            self.model.hinted = false;
            if round.input == Input::Reload {
                self.model.asked.get_or_insert(millis(self.now.mono));
            }
            return self.model.take_snapshot(self.now, round);
        }
        Outcome::default()
    }

    /// INV-05: from here on the disk does not change, no hint arrives, and every build passes.
    ///
    /// # Panics
    /// If nothing is published within the bound.
    pub fn converges(mut self, kind: ChangeKind) {
        if self.model.stopped {
            return;
        }
        let start = self.now.mono;
        let bound = start + ms(500 + 10_000 + 10_000);
        loop {
            let wake = self.machine.wake(self.now).unwrap_or(Duration::MAX);
            assert!(wake <= bound, "no publication within the bound: {:?}", self.machine);
            let pass = wake.saturating_sub(self.now.mono);
            let seen = ReadOutcome::Changed { content: 99, kind, shrinks: false };
            let round = Round { pass, wall: Wall::Runs, input: Input::Tick, seen, verdict: Verdict::Valid };
            if self.play(&round).published == Some(99) {
                return;
            }
        }
    }
}
