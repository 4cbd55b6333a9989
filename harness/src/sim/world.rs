//! The world itself: time, the publisher's steps, and the events that the watcher gets.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls_reload_testkit::Op;

use super::{
    At, Disk, EventSink, Events, Interrupt, OwnerAct, Record, Schedule, Script, What, WorldConfig,
    disk::Happened, hash,
};
use rustls_reload::Now;

/// The delay of a late event.
const LATE: Duration = Duration::from_millis(20);

/// The state of a world, which all parts of the simulation share.
pub(super) struct World {
    pub(super) disk: Disk,
    /// The hash of everything that the disk depends on: its base, the steps taken, and their
    /// timestamps.
    pub(super) disk_hash: u64,
    pub(super) now: Now,
    pub(super) script: Arc<Script>,
    pub(super) next: usize,
    pub(super) last_step: Duration,
    /// The time of the last change of the paths' contents.
    pub(super) last_change: Duration,
    pub(super) settle: Duration,
    pub(super) breached: bool,
    pub(super) config: WorldConfig,
    pub(super) schedule: Arc<Mutex<dyn Schedule>>,
    pub(super) choices: Vec<usize>,
    /// Occasions for a step between two calls, or for a death, that passed since the last choice.
    pub(super) passed: usize,
    /// Whether only the reader acts, while a world is prepared.
    pub(super) quiet: bool,
    pub(super) ended: bool,
    /// Whether the publisher takes no further step.
    pub(super) crashed: bool,
    /// Whether the schedule chooses only between moves that the reader can distinguish, where these
    /// are known.
    pub(super) skips: bool,
    /// Whether states differ by each event too.
    pub(super) fine: bool,
    pub(super) reader: u64,
    /// The hash of the reader's observations since its step began.
    pub(super) log: u64,
    /// The hash of its earlier observations in this step that it kept.
    pub(super) kept: u64,
    /// The hash of the reports that were pending at each update of its watches since then. The
    /// reader takes some of them and acts upon them later.
    pub(super) taken: u64,
    /// The reports since the reader asked for its hints in this step, by its subscriptions at that
    /// time.
    pub(super) received: Vec<u64>,
    /// The number of changes of its subscriptions since then.
    pub(super) plans: u64,
    pub(super) reported: u64,
    pub(super) snapshots: Vec<u64>,
    pub(super) at_once: usize,
    pub(super) waited: usize,
    pub(super) watches: Vec<(usize, PathBuf)>,
    /// Files that are watched themselves: their events are reported even if their directory is not
    /// watched.
    pub(super) watched_files: Vec<usize>,
    pub(super) sink: Option<EventSink>,
    pub(super) late: Vec<(Duration, PathBuf, What)>,
    /// The act by which the owner of the reloader may interrupt before a verb or a reading of the
    /// clock.
    pub(super) interrupt: Option<(OwnerAct, Interrupt)>,
    pub(super) history: Vec<At>,
    /// The latest answer to each question of a reader without directory handles.
    pub(super) answers: HashMap<u64, u64>,
    /// The sum of these, and the time of the last answer that differed from the one before.
    pub(super) answered: (u64, Duration),
}

impl World {
    pub(super) fn note(&mut self, record: Record) {
        if self.ended {
            return;
        }
        match &record {
            Record::Published { generation, files } => {
                self.reported = hash(&(self.reported, generation, files))
            }
            Record::Reported(event) => self.reported = hash(&(self.reported, format!("{event:?}"))),
            Record::Loaded(result) => self.reported = hash(&(self.reported, result)),
            Record::Observed { asked, seen } => self.observed(*asked, *seen),
            _ => {}
        }
        self.history.push(At { mono: self.now.mono, record });
    }

    /// Notes an answer to a reader without directory handles.
    fn observed(&mut self, asked: u64, seen: u64) {
        let old = self.answers.insert(asked, seen);
        let (sum, differed) = &mut self.answered;
        if old != Some(seen) {
            *differed = self.now.mono;
            *sum =
                sum.wrapping_sub(old.map_or(0, |old| hash(&(asked, old)))).wrapping_add(hash(&(asked, seen)));
        }
    }

    /// Ends a snapshot, unless the end of the run cut it short.
    pub(super) fn saw(&mut self, log: u64) {
        if !self.ended {
            self.snapshots.push(log);
        }
    }

    /// Reduces the reader's knowledge to the observations that it keeps, and its reports to whether
    /// there were any.
    pub(super) fn forget(&mut self, kept: u64) {
        let log = std::mem::take(&mut self.log);
        self.saw(log);
        (self.reader, self.kept, self.taken, self.plans) = (0, kept, 0, 0);
        if !self.received.is_empty() {
            self.received = vec![0];
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.crashed || self.next == self.script.steps.len()
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended || (self.is_done() && self.now.mono >= self.last_step + self.config.rest)
    }

    /// Returns the hash of everything that the rest of the run depends on, and of the reports so
    /// far.
    pub(super) fn state(&self, place: u8) -> u64 {
        let late: Vec<_> = self.late.iter().collect();
        // The shipped filter has a hash of its pending events. A listener gets all events, so all
        // of them count.
        let pending = self.pending();
        let events = (self.fine || pending.is_none()).then_some(&self.received);
        hash(&(
            (
                place,
                (self.reader, self.kept, self.taken),
                self.log,
                self.reported,
                self.next,
                self.last_step,
                self.last_change,
                self.breached,
                self.crashed,
            ),
            (self.disk_hash, self.now.mono, self.waited, (&self.watches, &self.watched_files), late),
            // The checker of readers without directory handles goes by these answers.
            self.answered,
            (self.plans, !self.received.is_empty(), pending, events, self.interrupt.is_some()),
        ))
    }

    pub(super) fn pending(&self) -> Option<u64> {
        self.sink.as_ref().and_then(EventSink::pending)
    }

    /// Records an act of the reloader's owner, after which the world goes on as long as after a
    /// step of the publisher.
    pub(super) fn acts(&mut self, act: OwnerAct) {
        self.last_step = self.now.mono;
        self.reported = hash(&(self.reported, act, self.next));
        self.note(Record::Owner(act));
    }

    /// Lets a call take its time.
    pub(super) fn pass_verb(&mut self) {
        self.advance(self.now.mono + self.config.verb);
    }

    pub(super) fn advance(&mut self, to: Duration) {
        if to > self.now.mono {
            self.now.wall += to - self.now.mono;
            self.now.mono = to;
            self.at_once = 0;
        }
        let mid_update = self.script.mid_update[self.next];
        self.breached |= mid_update && self.now.mono >= self.last_change + self.settle;
        while self.late.first().is_some_and(|(at, ..)| *at <= self.now.mono) {
            let (_, path, what) = self.late.remove(0);
            self.receive(&path, Some(what));
        }
    }

    /// Lets the watcher report. The report is in the state until the reader's next step begins,
    /// whose digest includes it.
    pub(super) fn receive(&mut self, path: &Path, what: Option<What>) {
        let Some(sink) = &self.sink else { return };
        match what {
            Some(what) => sink.receives(path, what),
            None => sink.lost(),
        }
        let received = hash(&(self.plans, path, what));
        if let Err(place) = self.received.binary_search(&received) {
            self.received.insert(place, received);
        }
    }

    #[allow(clippy::expect_used)] // reason: a scenario whose step fails is a bug of the scenario
    pub(super) fn step(&mut self) {
        let due = (self.last_step + self.config.pause).max(self.now.mono);
        self.advance(due);
        let script = Arc::clone(&self.script);
        self.note(Record::Step(self.next));
        let happened = self.carry_out(&script.steps[self.next]).expect("a step that can be taken");
        self.next += 1;
        self.last_step = due;
        if script.contents[self.next] != script.contents[self.next - 1] {
            self.last_change = due;
            self.note(Record::Disk(script.contents[self.next].clone()));
        }
        happened.into_iter().for_each(|happened| self.report(&happened));
    }

    /// Performs a step on the disk, which changes the hash that the rest of the run depends on.
    pub(super) fn carry_out(&mut self, op: &Op) -> io::Result<Vec<Happened>> {
        let happened = self.disk.apply(op, self.now.wall)?;
        self.at_once = 0;
        // Open descriptors matter only to the numbering of new inodes.
        let numbering = self.config.reuse.then_some(&self.disk);
        self.disk_hash = hash(&(self.disk_hash, self.disk.stamp(self.now.wall), numbering));
        Ok(happened)
    }

    /// Performs a step and reports it to the watcher.
    pub(super) fn take(&mut self, op: &Op) -> io::Result<()> {
        let happened = self.carry_out(op)?;
        happened.iter().for_each(|happened| self.report(happened));
        Ok(())
    }

    /// Reports a change to the watcher.
    pub(super) fn report(&mut self, happened: &Happened) {
        let path = match self.watches.iter().position(|(dir, _)| *dir == happened.dir) {
            Some(index) => {
                let dir = self.watches[index].1.clone();
                if happened.gone {
                    self.watches.remove(index);
                }
                happened.name.as_ref().map_or(dir.clone(), |name| dir.join(name))
            }
            None if happened.node.is_some_and(|node| self.watched_files.contains(&node)) => PathBuf::new(),
            None => return,
        };
        match self.config.events {
            _ if self.sink.is_none() => {}
            Events::Delivered => self.receive(&path, Some(happened.what)),
            Events::Lost => {}
            Events::Doubled => (0..2).for_each(|_| self.receive(&path, Some(happened.what))),
            Events::Late => self.late.push((self.now.mono + LATE, path, happened.what)),
            Events::Overflowed => self.receive(&path, None),
        }
    }
}
