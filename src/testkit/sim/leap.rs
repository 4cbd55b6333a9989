//! Fewer schedules: those in which the reader gets other answers.
//!
//! Between two things that a reader asks, when exactly the publisher took a step shows in the answers and in nothing else.
//! So before each of them the publisher leaps to the *first* place of its script at which the answer is another one, for
//! each answer that there is, and not to the places after it that give the same.
//!
//! No observation is lost. Take any schedule, with the publisher at place `b` when the reader asks for the nth time, and
//! let the leaping publisher, which has given the same answers so far, be at `a <= b`. The answer that `b` gives is first
//! given at some place from `a` on, and that is at most `b`: it is one of the leaps. By induction the reader gets the same
//! answers in the same order, and at the end the publisher takes the steps that nobody has noticed.
//!
//! What has to hold for it, and where it would not, the world does not leap (or the reader counts as asking for everything):
//!
//! - An answer depends on the place alone, not on when the steps before it were taken: no verb takes time, and no inode
//!   number is used again. Waiting does take time, so there each step is chosen for itself.
//! - Everything that a step does to the reader is an answer. Besides what it reads of the disk that is: the time, where
//!   the publisher pauses; what the watcher has reported, when the reader takes its hints; what was reported before the
//!   reader sees to the watches that have ended, and before it begins to listen to other names ([`Asks::Plan`]); and where a watch is placed, for it decides what is reported
//!   later, every step.
//! - A judge is not kinder for it: a step that comes later puts less on disk before a publication, and never more.

use std::time::Duration;

use super::{Events, Move, World, disk::Disk, hash};

/// What the reader asks.
pub(super) enum Asks<'a> {
    /// What this makes of the disk.
    Disk(&'a dyn Fn(&Disk) -> u64),
    /// Whether something was reported.
    Hints,
    /// Which watches have ended, or to be told by other names from here on.
    Plan,
    /// The time.
    Time,
    /// Everything.
    All,
}

impl Asks<'_> {
    /// Whether it is a call of the file system, and not what the reader asks beside it.
    pub(super) fn is_verb(&self) -> bool {
        matches!(self, Self::Disk(_) | Self::All)
    }

    /// Tells apart what is asked in one state of the reader.
    pub(super) fn place(&self) -> u8 {
        match self {
            Self::Disk(_) | Self::All => 0,
            Self::Hints => 2,
            Self::Plan => 3,
            Self::Time => 4,
        }
    }
}

/// A world a few steps later.
pub(super) struct Ahead<'a> {
    world: &'a World,
    disk: Disk,
    /// Monotonic.
    now: Duration,
    last_step: Duration,
    watches: Vec<usize>,
    /// Reported so far.
    reported: usize,
    steps: usize,
}

impl<'a> Ahead<'a> {
    /// The moves to the first place for each answer.
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
            // Who dies after the last step has not died half-way.
            if mortal && ahead.steps < left {
                moves.push(Move { steps: ahead.steps, dies: true });
            }
        }
        moves
    }

    fn answer(&self, asks: &Asks<'_>) -> u64 {
        match asks {
            Asks::Disk(peek) => peek(&self.disk),
            // What is late comes when its time does.
            Asks::Hints | Asks::Plan if self.world.weather.events == Events::Late => {
                hash(&(self.reported, self.now))
            }
            Asks::Hints | Asks::Plan => self.reported as u64,
            Asks::Time => hash(&self.now),
            Asks::All => self.steps as u64,
        }
    }

    #[allow(clippy::expect_used)] // reason: a scenario whose step fails is a bug of the scenario
    fn step(&mut self) {
        let World { script, weather, now, watched_files, .. } = self.world;
        let due = (self.last_step + weather.pause).max(self.now);
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
