//! One set of files: its last good, its candidate, and its machine. Sets share nothing but the published whole.

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

/// One consistent set of files and the way to it.
pub(crate) struct Set {
    pub(crate) files: Files,
    walk: Walk,
}

impl Set {
    /// Whether these are the same bytes, reached the same way and not touched since.
    fn is(&self, earlier: &Self) -> bool {
        self.files == earlier.files && self.walk.held_still_since(&earlier.walk)
    }

    #[cfg(feature = "testkit")]
    fn digest(&self, mut state: &mut dyn std::hash::Hasher) {
        use std::hash::Hash;
        self.walk.hash(&mut state);
        self.files.iter().for_each(|(_, bytes)| bytes.hash(&mut state));
    }
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
pub(crate) struct Cause {
    pub(crate) error: Error,
    bytes: Option<u64>,
}

impl From<Error> for Cause {
    fn from(error: Error) -> Self {
        Self { error, bytes: None }
    }
}

/// Everything that concerns one set alone.
pub(crate) struct Unit<V> {
    pub(crate) paths: PathSet,
    pub(crate) machine: Machine<Cause>,
    served: Set,
    candidate: Option<Candidate>,
    /// The look before this one, if it was torn.
    torn: Option<Look>,
    /// The bytes refused or held last, by their number: written once more, with others in between, they are the same.
    judged: Option<(Files, u64)>,
    /// The bytes and the date told last to be held.
    held_told: Option<(u64, Duration)>,
    /// The whole with the candidate in it, once that has passed.
    built: Option<Built<V>>,
    /// Numbers given to contents and bytes so far.
    numbers: u64,
    differs_since: Option<Duration>,
    /// When the refusal that stands, or stood last, was told.
    refused_since: Duration,
    expiry: Expiry,
}

impl<V> Unit<V> {
    /// A set that is served.
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

    /// Notes how near its end the served leaf is, and returns what is to be told of that.
    pub(crate) fn nears_its_end(&mut self, status: &mut SetStatus, now: Now) -> Option<Event> {
        self.expiry.serve(status.leaf.iter().map(|leaf| Dated::leaf(&status.path, leaf)));
        status.expiring = self.expiry.near(now.wall).pop();
        self.expiry.tell(now).pop().map(Event::from)
    }

    /// Looks once.
    pub(crate) fn snapshot<F: Fs>(&self, fs: &F) -> Look {
        snapshot::take_since(fs, &self.paths, Some((&self.served.walk, &self.served.files)))
    }

    /// Compares a look of the set of this number with what is served.
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
            // The same bytes by another way, or touched: nothing to publish, but the next change starts from here.
            self.served = set;
            self.candidate = None;
            (self.judged, self.held_told) = (None, None);
            return Seen::Served;
        }
        let shrinks = build.shrinks(number, &self.served.files, &set.files);
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

    /// Notes since when disk and served differ.
    pub(crate) fn looked(&mut self, served: bool, wall: Duration) {
        if served {
            self.differs_since = None;
        } else {
            self.differs_since.get_or_insert(wall);
        }
    }

    /// The files to be judged, from now on known as judged, and their number.
    pub(crate) fn judge(&mut self) -> Option<(Files, u64)> {
        let candidate = self.candidate.as_ref()?;
        self.judged = Some((candidate.set.files.clone(), candidate.bytes));
        self.judged.clone()
    }

    /// That these bytes were refused.
    pub(crate) fn refusal(error: Error, bytes: u64) -> Cause {
        Cause { error, bytes: Some(bytes) }
    }

    /// Keeps the whole with the candidate in it until it is published.
    pub(crate) fn keep(&mut self, built: Built<V>) {
        self.built = Some(built);
    }

    /// The whole to publish and the set that it makes the served one.
    pub(crate) fn take_built(&mut self) -> Option<(Built<V>, Set)> {
        Some((self.built.take()?, self.candidate.take()?.set))
    }

    /// What is served from now on.
    pub(crate) fn serves(&mut self, set: Set) {
        self.served = set;
        (self.judged, self.held_told) = (None, None);
        self.differs_since = None;
    }

    /// Notes a refusal that is about to be told.
    pub(crate) fn refuses(&mut self, wall: Duration) {
        self.refused_since = wall;
        self.held_told = None;
    }

    /// Notes a date that is about to be told; whether it was not told yet of these bytes.
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
        // What is remembered to be held is not on disk while that is refused.
        status.held_until = self.machine.held().filter(|_| refused.is_none());
        status.refused = refused;
        status.differs_since = self.differs_since;
    }

    /// Hashes everything that what it does next depends on.
    #[cfg(feature = "testkit")]
    pub(crate) fn digest(&self, mut state: &mut dyn std::hash::Hasher) {
        use std::hash::Hash;
        self.served.digest(state);
        if let Some(candidate) = &self.candidate {
            candidate.set.digest(state);
        }
        self.candidate.as_ref().map(|candidate| candidate.motion).hash(&mut state);
        self.torn.as_ref().map(|torn| (&torn.walk, torn.files.as_ref().err())).hash(&mut state);
        if let Some((files, _)) = &self.judged {
            files.iter().for_each(|file| file.hash(&mut state));
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
        self.differs_since.is_some().hash(&mut state);
    }
}

/// A set on its way through the first load.
pub(crate) enum Starting {
    /// The look before.
    Moving(Option<Before>),
    Still(Set),
}

/// What a look of the first load came to, for the next one.
pub(crate) enum Before {
    /// It was consistent, and has held still since then.
    Whole(Set, Duration),
    /// It was torn, and has been in the same way since then; how long it waited for the next look.
    Torn(Look, Duration, Duration),
}

impl Starting {
    /// Looks once, and says for how long to wait before the next time; `None` once the set holds still.
    ///
    /// Files that have not changed for the settle time count as still, where changes can be pinned ([`Fs::PINS`]); otherwise
    /// two equal looks that far apart do. A torn read is tried again for as long as the patience lasts, or until it is plain that nobody is at work; any other
    /// failure is one at once.
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
        // Without change times a file that was copied or renamed here just now may show the time of its original: then only
        // two looks tell that nobody is at work.
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
            // From the end of this look to the begin of the next: either may be slow (ASM-05).
            _ => clock.now().mono,
        };
        if now.mono >= since + timing.settle {
            *self = Self::Still(set);
            return Ok(None);
        }
        *before = Some(Before::Whole(set, since));
        Ok(Some((since + timing.settle).saturating_sub(clock.now().mono)))
    }

    /// Hashes everything that the next look compares with.
    #[cfg(feature = "testkit")]
    pub(crate) fn digest(&self, mut state: &mut dyn std::hash::Hasher) {
        use std::hash::Hash;
        match self {
            Self::Still(set) => {
                0.hash(&mut state);
                set.digest(state);
            }
            Self::Moving(None) => 1.hash(&mut state),
            Self::Moving(Some(Before::Whole(set, since))) => {
                (2, since).hash(&mut state);
                set.digest(state);
            }
            Self::Moving(Some(Before::Torn(look, since, pause))) => {
                (3, since, pause, &look.walk, look.files.as_ref().err()).hash(&mut state);
            }
        }
    }
}

/// Whether nothing of the set can have changed within the settle time.
fn is_old(walk: &Walk, now: Now, timing: &Timing) -> bool {
    walk.newest(timing.tie).is_none_or(|newest| newest + nanos(timing.settle) <= nanos(now.wall))
}

/// Which unit comes next, without asking all of them.
pub(crate) struct Agenda {
    /// Those that something was said of, in the order in which it was.
    hinted: VecDeque<usize>,
    is_hinted: Vec<bool>,
    /// When the others have to come back, in monotonic time.
    due: BTreeSet<(Duration, usize)>,
    at: Vec<Option<Duration>>,
    /// Those that wait for a date: the wall clock may be set meanwhile, so they are asked each time.
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

    /// Something was said of this unit.
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

    /// Notes when the unit has to come back, after each step of it.
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

    /// The unit that has to come back first, and when.
    pub(crate) fn first<V>(&self, units: &[Unit<V>], now: Now) -> Option<(Duration, usize)> {
        let dated = self.dated.iter().filter_map(|unit| Some((units[*unit].machine.wake(now)?, *unit)));
        self.due.first().copied().into_iter().chain(dated).min()
    }

    #[cfg(feature = "testkit")]
    pub(crate) fn digest(&self, mut state: &mut dyn std::hash::Hasher) {
        // When a unit is due follows from its machine.
        std::hash::Hash::hash(&self.hinted, &mut state);
    }
}
