//! Reduces the schedules to those in which the reader gets different answers.
//!
//! Between two questions of a reader, the time of a publisher's step shows only in the answers. So
//! before each question the publisher skips to the *first* place of its script at which the answer
//! differs, for each possible answer. It never stops at later places with the same answer.
//!
//! No observation is lost. Take any schedule, with the publisher at place `b` at the reader's nth
//! question. Let the skipping publisher, which has given the same answers so far, be at `a <= b`.
//! The answer at `b` is first given at some place from `a` on, which is at most `b`: it is one of
//! those places. By induction the reader gets the same answers in the same order. At the end the
//! publisher takes the steps that the reader has not noticed.
//!
//! This needs the following conditions. Where one does not hold, the world does not skip, or the
//! reader counts as asking for everything:
//!
//! - An answer depends on the place alone, not on the times of the steps before it: no call takes
//!   time, and no inode number is reused. Waiting takes time, so each step during a wait is a
//!   choice of its own.
//! - Every effect of a step on the reader is an answer. Besides the disk, these are the time, where
//!   the publisher pauses, and the watcher's reports, when the reader takes its hints. Reports also
//!   matter before the reader handles ended watches, and before it subscribes to other names
//!   ([`Asks::Plan`]). Where a watch is placed decides about later reports, so there every step
//!   counts.
//! - A later step makes no checker more lenient: it leaves less on disk before a publication, and
//!   never more.

use std::time::Duration;

use super::{Events, Move, World, disk::Disk, hash};

/// A question of the reader.
pub(super) enum Asks<'a> {
    /// The result of this function on the disk.
    Disk(&'a dyn Fn(&Disk) -> u64),
    /// Whether anything was reported.
    Hints,
    /// The ended watches, or a subscription to other names from here on.
    Plan,
    /// The time.
    Time,
    /// Everything.
    All,
}

impl Asks<'_> {
    /// Returns whether it is a call of the file system, and not a question beside the calls.
    pub(super) fn is_verb(&self) -> bool {
        matches!(self, Self::Disk(_) | Self::All)
    }

    /// Distinguishes questions in one state of the reader.
    pub(super) fn place(&self) -> u8 {
        match self {
            Self::Disk(_) | Self::All => 0,
            Self::Hints => 2,
            Self::Plan => 3,
            Self::Time => 4,
        }
    }
}

/// The world after some further steps.
pub(super) struct Ahead<'a> {
    world: &'a World,
    disk: Disk,
    /// On the monotonic clock.
    now: Duration,
    last_step: Duration,
    watches: Vec<usize>,
    /// The number of reports so far.
    reported: usize,
    steps: usize,
}

impl<'a> Ahead<'a> {
    /// Returns the moves to the first place for each answer.
    pub(super) fn moves(world: &'a World, asks: &Asks<'_>) -> Vec<Move> {
        let mut ahead = Self {
            world,
            disk: world.disk.clone(),
            now: world.now.mono,
            last_step: world.last_step,
            watches: world.watches.iter().map(|(dir, _)| *dir).collect(),
            reported: 0,
            steps: 0,
        };
        let mortal = world.script.mortal;
        let left = world.script.steps.len() - world.next;
        let mut answers = vec![ahead.answer(asks)];
        let mut moves = vec![Move::default()];
        while ahead.steps < left {
            ahead.step();
            let answer = ahead.answer(asks);
            if answers.contains(&answer) {
                continue;
            }
            answers.push(answer);
            moves.push(Move { steps: ahead.steps, dies: false });
            // A publisher that dies after its last step has not died half-way.
            if mortal && ahead.steps < left {
                moves.push(Move { steps: ahead.steps, dies: true });
            }
        }
        moves
    }

    fn answer(&self, asks: &Asks<'_>) -> u64 {
        match asks {
            Asks::Disk(peek) => peek(&self.disk),
            // A late event arrives when its time comes.
            Asks::Hints | Asks::Plan if self.world.config.events == Events::Late => {
                hash(&(self.reported, self.now))
            }
            Asks::Hints | Asks::Plan => self.reported as u64,
            Asks::Time => hash(&self.now),
            Asks::All => self.steps as u64,
        }
    }

    #[allow(clippy::expect_used)] // reason: a scenario whose step fails is a bug of the scenario
    fn step(&mut self) {
        let World { script, config, now, watched_files, .. } = self.world;
        let due = (self.last_step + config.pause).max(self.now);
        let wall = now.wall + (due - now.mono);
        let op = &script.steps[self.world.next + self.steps];
        for happened in self.disk.apply(op, wall).expect("a step that can be taken") {
            match self.watches.iter().position(|dir| *dir == happened.dir) {
                Some(index) => {
                    self.reported += 1;
                    if happened.gone {
                        self.watches.remove(index);
                    }
                }
                None => {
                    let watched = happened.node.is_some_and(|node| watched_files.contains(&node));
                    self.reported += usize::from(watched);
                }
            }
        }
        (self.now, self.last_step) = (due, due);
        self.steps += 1;
    }
}
