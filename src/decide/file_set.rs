//! One file set: its last good state, its candidate and its machine. File sets share nothing but
//! the published value.

use std::{
    collections::{BTreeSet, VecDeque},
    path::Path,
    time::Duration,
};

use crate::{
    build::{Build, Built},
    clock::Now,
    decide::machine::{Machine, ReadOutcome, Timing},
    fs::Fs,
    read::{
        snapshot::{self, Files, PathSet, Snapshot},
        walk::{ChangeKind, Walk},
    },
    report::{
        error::Error,
        event::{CertificateValidity, Event},
        expiry::Expiry,
        status::{Refused, SetStatus},
    },
};

mod initial_settle;
mod state_hash;
pub(crate) use initial_settle::{InitialSettle, PreviousRead};

/// One consistent set of files and the walk to them.
pub(crate) struct ConsistentRead {
    pub(crate) files: Files,
    walk: Walk,
}

impl ConsistentRead {
    /// Returns whether both hold the same bytes, reached the same way, and nothing has moved since
    /// `earlier`.
    fn is_unchanged_since(&self, earlier: &Self) -> bool {
        self.files == earlier.files && self.walk.unchanged_since(&earlier.walk)
    }
}

/// A file set that is not served.
struct Candidate {
    set: ConsistentRead,
    /// How the candidate came to be; constant for as long as it is the same.
    kind: ChangeKind,
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
pub(crate) struct FileSet<V> {
    pub(crate) paths: PathSet,
    pub(crate) machine: Machine<Cause>,
    served: ConsistentRead,
    candidate: Option<Candidate>,
    /// The previous snapshot, if it was torn.
    torn: Option<Snapshot>,
    /// The last rejected or deferred bytes and their number, so that rewriting the same bytes is
    /// not reported again.
    last_evaluated: Option<(Files, u64)>,
    /// The bytes and the date that were last reported as deferred.
    reported_deferral: Option<(u64, Duration)>,
    /// The value with the candidate in it, once the candidate has passed every check.
    built: Option<Built<V>>,
    /// The number of contents and bytes that were numbered so far.
    numbers: u64,
    differs_since: Option<Duration>,
    /// When the rejection that stands, or stood last, was reported.
    refused_since: Duration,
    expiry: Expiry,
}

impl<V> FileSet<V> {
    /// Makes a file set that is served.
    pub(crate) fn new(paths: PathSet, served: ConsistentRead, timing: Timing, expiry: Expiry) -> Self {
        Self {
            paths,
            machine: Machine::new(timing),
            served,
            candidate: None,
            torn: None,
            last_evaluated: None,
            reported_deferral: None,
            built: None,
            numbers: 0,
            differs_since: None,
            refused_since: Duration::ZERO,
            expiry,
        }
    }

    /// Records how near its end the served leaf is, and returns the event that is due for it.
    pub(crate) fn check_expiry(&mut self, status: &mut SetStatus, now: Now) -> Option<Event> {
        self.expiry.serve(status.leaf.iter().map(|leaf| CertificateValidity::leaf(&status.path, leaf)));
        status.expiring = self.expiry.expiring(now.wall).pop();
        self.expiry.report(now).pop().map(Event::from)
    }

    /// Returns the first path, which names the file set.
    pub(crate) fn path(&self) -> &Path {
        self.paths.name()
    }

    /// Takes one snapshot, which spares calls where nothing has changed since the served files.
    ///
    /// After a torn snapshot it spares none. A symlink that is taken for the served one keeps the
    /// times of that, which would hide that a publisher recreates it.
    pub(crate) fn snapshot<F: Fs>(&self, fs: &F) -> Snapshot {
        let served = Some((&self.served.walk, &self.served.files));
        snapshot::take_since(fs, &self.paths, served.filter(|_| self.torn.is_none()))
    }

    /// Compares a snapshot of the file set of this number with the served files.
    pub(crate) fn compare<F: Fs, B: Build<Value = V>>(
        &mut self,
        build: &B,
        number: usize,
        snapshot: Snapshot,
    ) -> ReadOutcome<Cause> {
        let torn = self.torn.take();
        let files = match snapshot.files {
            Ok(files) => files,
            Err(ref failure) if failure.is_torn() => {
                let still = torn.is_some_and(|old| snapshot.is_torn_as(&old));
                let failure = failure.clone();
                let error = if still { failure.for_good() } else { failure.into() };
                self.torn = Some(snapshot);
                return ReadOutcome::Torn { cause: error.into(), still };
            }
            Err(failure) => return ReadOutcome::Failed(Error::from(failure).into()),
        };
        let set = ConsistentRead { files, walk: snapshot.walk };
        if set.files == self.served.files {
            // Equal bytes were reached another way, or touched. There is nothing to publish, but
            // the next change starts from here.
            self.served = set;
            self.candidate = None;
            (self.last_evaluated, self.reported_deferral) = (None, None);
            return ReadOutcome::Served;
        }
        let shrinks = build.shrinks(number, &self.served.files, &set.files);
        let known = self.candidate.as_ref();
        // A symlink that was read before commits nothing that has changed beneath it since,
        // whatever the timestamps say: the clock may have been set back.
        let kind = match known {
            _ if !F::HAS_DIR_HANDLES => ChangeKind::InPlace,
            Some(old) if set.is_unchanged_since(&old.set) => old.kind,
            Some(old) => set.walk.change_since(&self.served.walk).max(set.walk.change_since(&old.set.walk)),
            None => set.walk.change_since(&self.served.walk),
        };
        let content = known.filter(|old| set.is_unchanged_since(&old.set)).map(|old| old.content);
        let evaluated =
            || self.last_evaluated.as_ref().filter(|(files, _)| *files == set.files).map(|(_, bytes)| *bytes);
        let bytes = known.filter(|old| old.set.files == set.files).map(|old| old.bytes).or_else(evaluated);
        let content = content.unwrap_or_else(|| self.number());
        let bytes = bytes.unwrap_or_else(|| self.number());
        self.candidate = Some(Candidate { set, kind, content, bytes });
        ReadOutcome::Changed { content, kind, shrinks }
    }

    /// Records a snapshot in whose place another one was taken. Where it saw something else than
    /// the candidate, the candidate has to settle anew, although its bytes may have returned.
    pub(crate) fn note_discarded(&mut self, snapshot: Snapshot) {
        let Snapshot { walk, files } = snapshot;
        let seen = files.ok().map(|files| ConsistentRead { files, walk });
        let number = self.number();
        if let Some(known) = &mut self.candidate
            && !seen.is_some_and(|seen| seen.is_unchanged_since(&known.set))
        {
            known.content = number;
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Records since when the disk and the served files differ.
    pub(crate) fn note_difference(&mut self, served: bool, wall: Duration) {
        if served {
            self.differs_since = None;
        } else {
            self.differs_since.get_or_insert(wall);
        }
    }

    /// Returns the candidate's files and their number, and remembers them as the last evaluated
    /// ones.
    pub(crate) fn evaluate(&mut self) -> Option<(Files, u64)> {
        let candidate = self.candidate.as_ref()?;
        self.last_evaluated = Some((candidate.set.files.clone(), candidate.bytes));
        self.last_evaluated.clone()
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
    pub(crate) fn take_built(&mut self) -> Option<(Built<V>, ConsistentRead)> {
        Some((self.built.take()?, self.candidate.take()?.set))
    }

    /// Records the served files.
    pub(crate) fn note_published(&mut self, set: ConsistentRead) {
        self.served = set;
        (self.last_evaluated, self.reported_deferral) = (None, None);
        self.differs_since = None;
    }

    /// Records a rejection that is about to be reported.
    pub(crate) fn note_rejected(&mut self, wall: Duration) {
        self.refused_since = wall;
        self.reported_deferral = None;
    }

    /// Records a date that is about to be reported; returns whether it is news for these bytes.
    pub(crate) fn note_deferred(&mut self, date: Duration) -> bool {
        let deferred = self.candidate.as_ref().map(|candidate| (candidate.bytes, date));
        let new = deferred.is_none() || deferred != self.reported_deferral;
        if new {
            self.reported_deferral = deferred;
        }
        new
    }

    pub(crate) fn write_status(&self, status: &mut SetStatus) {
        let refused = self.machine.refusal().map(|(cause, count)| Refused {
            error: cause.error.clone(),
            since: self.refused_since,
            count,
        });
        // A deferred content is remembered, but is not on disk while a rejection stands.
        status.deferred_until = self.machine.deferred().filter(|_| refused.is_none());
        status.refused = refused;
        status.differs_since = self.differs_since;
    }
}

/// Determines the file set that comes next, without asking all of them.
pub(crate) struct RunQueue {
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

impl RunQueue {
    pub(crate) fn new(sets: usize) -> Self {
        Self {
            hinted: VecDeque::new(),
            is_hinted: vec![false; sets],
            due: BTreeSet::new(),
            at: vec![None; sets],
            dated: BTreeSet::new(),
        }
    }

    /// Records a hint for this file set.
    pub(crate) fn hint(&mut self, set: usize) {
        if !std::mem::replace(&mut self.is_hinted[set], true) {
            self.hinted.push_back(set);
        }
    }

    pub(crate) fn take_hinted(&mut self) -> Option<usize> {
        let set = self.hinted.pop_front()?;
        self.is_hinted[set] = false;
        Some(set)
    }

    pub(crate) fn has_hinted(&self) -> bool {
        !self.hinted.is_empty()
    }

    /// Records when the file set has to come back. Called after each of its steps.
    pub(crate) fn note<V>(&mut self, set: usize, of: &FileSet<V>, now: Now) {
        if let Some(at) = self.at[set].take() {
            self.due.remove(&(at, set));
        }
        if of.machine.deferred().is_some() {
            self.dated.insert(set);
            return;
        }
        self.dated.remove(&set);
        self.at[set] = of.machine.wake(now);
        self.due.extend(self.at[set].map(|at| (at, set)));
    }

    /// Returns the file set that has to come back first, and when.
    pub(crate) fn first<V>(&self, sets: &[FileSet<V>], now: Now) -> Option<(Duration, usize)> {
        let dated = self.dated.iter().filter_map(|set| Some((sets[*set].machine.wake(now)?, *set)));
        self.due.first().copied().into_iter().chain(dated).min()
    }
}
