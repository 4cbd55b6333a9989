//! One file set: its last good state, its candidate and its machine. File sets share nothing but
//! the published value.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use crate::{
    build::{Build, Built},
    clock::{Clock, Now},
    error::{Error, Layer},
    event::Event,
    expiry::{Dated, Expiry},
    fs::{Fs, nanos},
    machine::{Machine, Seen, Timing},
    snapshot::{self, Files, Look, PathSet},
    status::{Refused, SetStatus},
    walk::{Motion, Walk},
};

mod state_hash;

/// One consistent set of files and the walk to them.
pub(crate) struct Set {
    pub(crate) files: Files,
    walk: Walk,
}

impl Set {
    /// Returns whether both hold the same bytes, reached the same way, and nothing has moved since
    /// `earlier`.
    fn is(&self, earlier: &Self) -> bool {
        self.files == earlier.files && self.walk.held_still_since(&earlier.walk)
    }
}

/// A file set that is not served.
struct Candidate {
    set: Set,
    /// How the candidate came to be; constant for as long as it is the same.
    motion: Motion,
    content: u64,
    /// Identifies the bytes among those of the previous candidate and the last evaluated ones.
    bytes: u64,
}

/// A reason for a rejection, and the rejected bytes: the same reason with other bytes is another
/// rejection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cause {
    pub(crate) error: Error,
    bytes: Option<u64>,
}

impl From<Error> for Cause {
    fn from(error: Error) -> Self {
        Self { error, bytes: None }
    }
}

/// Everything that concerns one file set alone.
pub(crate) struct Unit<V> {
    pub(crate) paths: PathSet,
    pub(crate) machine: Machine<Cause>,
    served: Set,
    candidate: Option<Candidate>,
    /// The previous snapshot, if it was torn.
    torn: Option<Look>,
    /// The last rejected or deferred bytes and their number, so that rewriting the same bytes is
    /// not reported again.
    judged: Option<(Files, u64)>,
    /// The bytes and the date that were last reported as deferred.
    held_told: Option<(u64, Duration)>,
    /// The value with the candidate in it, once the candidate has passed every check.
    built: Option<Built<V>>,
    /// The number of contents and bytes that were numbered so far.
    numbers: u64,
    differs_since: Option<Duration>,
    /// When the rejection that stands, or stood last, was reported.
    refused_since: Duration,
    expiry: Expiry,
}

impl<V> Unit<V> {
    /// Makes a file set that is served.
    pub(crate) fn new(paths: PathSet, served: Set, timing: Timing, expiry: Expiry) -> Self {
        Self {
            paths,
            machine: Machine::new(timing),
            served,
            candidate: None,
            torn: None,
            judged: None,
            held_told: None,
            built: None,
            numbers: 0,
            differs_since: None,
            refused_since: Duration::ZERO,
            expiry,
        }
    }

    /// Records how near its end the served leaf is, and returns the event that is due for it.
    pub(crate) fn nears_its_end(&mut self, status: &mut SetStatus, now: Now) -> Option<Event> {
        self.expiry.serve(status.leaf.iter().map(|leaf| Dated::leaf(&status.path, leaf)));
        status.expiring = self.expiry.near(now.wall).pop();
        self.expiry.tell(now).pop().map(Event::from)
    }

    /// Takes one snapshot.
    pub(crate) fn snapshot<F: Fs>(&self, fs: &F) -> Look {
        snapshot::take_since(fs, &self.paths, Some((&self.served.walk, &self.served.files)))
    }

    /// Compares a snapshot of the file set of this number with the served files.
    pub(crate) fn seen<F: Fs, B: Build<Value = V>>(
        &mut self,
        build: &B,
        number: usize,
        look: Look,
    ) -> Seen<Cause> {
        let torn = self.torn.take();
        let files = match look.files {
            Ok(files) => files,
            Err(ref failure) if failure.is_torn() => {
                let still = torn.is_some_and(|old| look.is_torn_as(&old));
                let failure = failure.clone();
                let error = if still { failure.for_good() } else { failure.into() };
                self.torn = Some(look);
                return Seen::Torn { cause: error.into(), still };
            }
            Err(failure) => return Seen::Failed(Error::from(failure).into()),
        };
        let set = Set { files, walk: look.walk };
        if set.files == self.served.files {
            // Equal bytes were reached another way, or touched. There is nothing to publish, but
            // the next change starts from here.
            self.served = set;
            self.candidate = None;
            (self.judged, self.held_told) = (None, None);
            return Seen::Served;
        }
        let shrinks = build.shrinks(number, &self.served.files, &set.files);
        let known = self.candidate.as_ref();
        // A symlink that was read before commits nothing that has changed beneath it since,
        // whatever the timestamps say: the clock may have been set back.
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

    /// Records since when the disk and the served files differ.
    pub(crate) fn looked(&mut self, served: bool, wall: Duration) {
        if served {
            self.differs_since = None;
        } else {
            self.differs_since.get_or_insert(wall);
        }
    }

    /// Returns the candidate's files and their number, and remembers them as the last evaluated
    /// ones.
    pub(crate) fn judge(&mut self) -> Option<(Files, u64)> {
        let candidate = self.candidate.as_ref()?;
        self.judged = Some((candidate.set.files.clone(), candidate.bytes));
        self.judged.clone()
    }

    /// Makes the cause that rejects these bytes.
    pub(crate) fn refusal(error: Error, bytes: u64) -> Cause {
        Cause { error, bytes: Some(bytes) }
    }

    /// Keeps a built value until it is published.
    pub(crate) fn keep(&mut self, built: Built<V>) {
        self.built = Some(built);
    }

    /// Takes the value to publish, and the files that it makes the served ones.
    pub(crate) fn take_built(&mut self) -> Option<(Built<V>, Set)> {
        Some((self.built.take()?, self.candidate.take()?.set))
    }

    /// Records the served files.
    pub(crate) fn serves(&mut self, set: Set) {
        self.served = set;
        (self.judged, self.held_told) = (None, None);
        self.differs_since = None;
    }

    /// Records a rejection that is about to be reported.
    pub(crate) fn refuses(&mut self, wall: Duration) {
        self.refused_since = wall;
        self.held_told = None;
    }

    /// Records a date that is about to be reported; returns whether it is news for these bytes.
    pub(crate) fn holds(&mut self, date: Duration) -> bool {
        let held = self.candidate.as_ref().map(|candidate| (candidate.bytes, date));
        let new = held.is_none() || held != self.held_told;
        if new {
            self.held_told = held;
        }
        new
    }

    pub(crate) fn note(&self, status: &mut SetStatus) {
        let refused = self.machine.refusal().map(|(cause, count)| Refused {
            error: cause.error.clone(),
            since: self.refused_since,
            count,
        });
        // A deferred content is remembered, but is not on disk while a rejection stands.
        status.held_until = self.machine.held().filter(|_| refused.is_none());
        status.refused = refused;
        status.differs_since = self.differs_since;
    }
}

/// A file set on its way through the first load.
pub(crate) enum Starting {
    /// Not stable yet, with the previous snapshot.
    Moving(Option<Before>),
    Still(Set),
}

/// The previous snapshot of the first load.
pub(crate) enum Before {
    /// A consistent snapshot, and since when nothing has moved.
    Whole(Set, Duration),
    /// A torn snapshot, since when it has been torn in the same way, and the pause before the next
    /// one.
    Torn(Look, Duration, Duration),
}

impl Starting {
    /// Takes one snapshot, and returns the pause before the next one; `None` once the file set is
    /// stable.
    ///
    /// Where changes can be pinned ([`Fs::PINS`]), files that have not changed for the settle time
    /// count as stable. Otherwise two equal snapshots that far apart are needed. A torn read is
    /// retried for the patience and the settle time together, or until nothing has moved for the
    /// settle time. Any other failure is an error at once. A file set that is not stable within the
    /// patience and the settle time is an error too.
    ///
    /// # Errors
    /// The cause of the failure, with its path.
    pub(crate) fn look<F: Fs>(
        &mut self,
        fs: &F,
        paths: &PathSet,
        clock: &dyn Clock,
        timing: &Timing,
        start: Duration,
    ) -> Result<Option<Duration>, Error> {
        let Self::Moving(before) = self else { return Ok(None) };
        let now = clock.now();
        let look = snapshot::take(fs, paths);
        let late = now.mono >= start + timing.patience + timing.settle;
        let files = match look.files {
            Err(ref failure) if failure.is_torn() && !late => {
                let (old, pause) = match before.take() {
                    Some(Before::Torn(old, since, pause)) => (Some((old, since)), timing.torn_pause(pause)),
                    _ => (None, timing.gap),
                };
                let same = old.filter(|(old, _)| look.is_torn_as(old)).map(|(_, since)| since);
                if same.is_some_and(|since| since + timing.settle <= now.mono) {
                    return Err(failure.clone().for_good());
                }
                let since = same.unwrap_or_else(|| clock.now().mono);
                *before = Some(Before::Torn(look, since, pause));
                return Ok(Some(pause));
            }
            Err(failure) => return Err(failure.into()),
            Ok(files) => files,
        };
        let set = Set { files, walk: look.walk };
        // Without change times a file that was copied or renamed here just now may show the time of
        // its original. Only two snapshots then show that no publisher is at work.
        if F::PINS && is_old(&set.walk, now, timing) {
            *self = Self::Still(set);
            return Ok(None);
        }
        let since = match &before {
            Some(Before::Whole(old, since)) if set.is(old) => *since,
            _ if late => {
                let why = "the files do not hold still";
                return Err(Error::new(Layer::Changing, why).at(paths.name()));
            }
            // Counted from the end of this snapshot to the begin of the next: either may be slow
            // (ASM-05).
            _ => clock.now().mono,
        };
        if now.mono >= since + timing.settle {
            *self = Self::Still(set);
            return Ok(None);
        }
        *before = Some(Before::Whole(set, since));
        Ok(Some((since + timing.settle).saturating_sub(clock.now().mono)))
    }
}

/// Returns whether nothing of the file set can have changed within the settle time.
fn is_old(walk: &Walk, now: Now, timing: &Timing) -> bool {
    walk.newest(timing.tie).is_none_or(|newest| newest + nanos(timing.settle) <= nanos(now.wall))
}

/// Determines the file set that comes next, without asking all of them.
pub(crate) struct Agenda {
    /// File sets with a hint, in the order of the hints.
    hinted: VecDeque<usize>,
    is_hinted: Vec<bool>,
    /// When the others have to come back, in monotonic time.
    due: BTreeSet<(Duration, usize)>,
    at: Vec<Option<Duration>>,
    /// File sets that are deferred until a date. The wall clock may be set meanwhile, so they are
    /// asked each time.
    dated: BTreeSet<usize>,
}

impl Agenda {
    pub(crate) fn new(units: usize) -> Self {
        Self {
            hinted: VecDeque::new(),
            is_hinted: vec![false; units],
            due: BTreeSet::new(),
            at: vec![None; units],
            dated: BTreeSet::new(),
        }
    }

    /// Records a hint for this file set.
    pub(crate) fn hint(&mut self, unit: usize) {
        if !std::mem::replace(&mut self.is_hinted[unit], true) {
            self.hinted.push_back(unit);
        }
    }

    pub(crate) fn take_hinted(&mut self) -> Option<usize> {
        let unit = self.hinted.pop_front()?;
        self.is_hinted[unit] = false;
        Some(unit)
    }

    pub(crate) fn has_hinted(&self) -> bool {
        !self.hinted.is_empty()
    }

    /// Records when the file set has to come back. Called after each of its steps.
    pub(crate) fn note<V>(&mut self, unit: usize, of: &Unit<V>, now: Now) {
        if let Some(at) = self.at[unit].take() {
            self.due.remove(&(at, unit));
        }
        if of.machine.held().is_some() {
            self.dated.insert(unit);
            return;
        }
        self.dated.remove(&unit);
        self.at[unit] = of.machine.wake(now);
        self.due.extend(self.at[unit].map(|at| (at, unit)));
    }

    /// Returns the file set that has to come back first, and when.
    pub(crate) fn first<V>(&self, units: &[Unit<V>], now: Now) -> Option<(Duration, usize)> {
        let dated = self.dated.iter().filter_map(|unit| Some((units[*unit].machine.wake(now)?, *unit)));
        self.due.first().copied().into_iter().chain(dated).min()
    }
}
