//! Every schedule of a world, or one of each state that the reader can distinguish.

use std::{collections::HashMap, hash::BuildHasherDefault};

use super::{Aside, Move, Schedule};
use crate::sim::StateHasher;

/// Visits every schedule: depth first, and each state once.
///
/// Two schedules that lead to one state have the same rest, so the rest is run once and counted for
/// both.
///
/// With [`Exhaustive::reduced`], some schedules differ only in when a step was taken that the
/// reader noticed later. Of these, only the one in which each step comes as late as possible is
/// visited.
///
/// A run repeats the run before it up to the fork where they differ. The reader's state before it
/// is equal, and is hashed once.
#[derive(Debug, Default)]
pub struct Exhaustive {
    skips: bool,
    /// Whether every schedule is run to its own end, whatever is known.
    unpruned: bool,
    fine: bool,
    path: Vec<Fork>,
    depth: usize,
    /// The hashes of reader states on the current path, each with the number of forks before it.
    kept: Vec<(usize, u64)>,
    keeps: usize,
    /// Whether a run did not repeat the path that it had to repeat. Reported at its end, because
    /// the reader takes a panic for a failed snapshot.
    drifted: bool,
    /// The schedules from a state on, and the ones among them that break an assumption.
    known: HashMap<u64, (u128, u128), BuildHasherDefault<StateHasher>>,
    /// These numbers for the end of the current run; `None` if it went on to its end.
    rest: Option<(u128, u128)>,
    /// These numbers for all runs, once they have been made.
    total: (u128, u128),
    /// Runs so far.
    pub runs: u64,
    /// How often a state had another number of schedules than before, which means that two states
    /// were merged. Only without pruning is a state visited twice.
    pub confused: u64,
}

/// The second run, and one run in this many, hashes every state of its reader and compares it with
/// the earlier hash.
const CHECKED: u64 = 64;

#[derive(Debug)]
struct Fork {
    state: u64,
    options: usize,
    /// The options, where the publisher skips ahead.
    moves: Vec<Move>,
    chosen: usize,
    schedules: (u128, u128),
}

impl Exhaustive {
    /// Makes a schedule that skips steps that the reader cannot notice.
    #[must_use]
    pub fn reduced() -> Self {
        Self { skips: true, ..Self::default() }
    }

    /// Runs every schedule to its own end, whatever states it visits: for the smallest worlds.
    #[must_use]
    pub fn unpruned(self) -> Self {
        Self { unpruned: true, ..self }
    }

    /// Distinguishes states by each event that the watcher reported, which gives many times as many
    /// states.
    #[must_use]
    pub fn fine(self) -> Self {
        Self { fine: true, ..self }
    }

    /// Begins the next run; returns `false` when all have been made.
    pub fn next_run(&mut self) -> bool {
        if self.is_done() {
            return false;
        }
        self.runs += 1;
        (self.depth, self.keeps) = (0, 0);
        self.rest = None;
        true
    }

    /// Ends a run, and advances to the fork where the next one differs from it. `breached` says
    /// whether it broke an assumption.
    ///
    /// # Panics
    /// If the run did not follow its schedule, because then no run proves anything.
    pub fn end_run(&mut self, breached: bool) {
        assert!(!self.drifted, "a run is not a function of its schedule");
        let mut done = self.rest.unwrap_or((1, u128::from(breached)));
        while let Some(fork) = self.path.last_mut() {
            fork.schedules = (fork.schedules.0 + done.0, fork.schedules.1 + done.1);
            if fork.chosen + 1 < fork.options {
                fork.chosen += 1;
                // The states after this fork belong to another branch.
                self.kept.truncate(self.kept.partition_point(|(forks, _)| *forks < self.path.len()));
                return;
            }
            done = fork.schedules;
            // Without pruning, states are visited again and have the same rest.
            let known = self.known.insert(fork.state, done);
            self.confused += u64::from(known.is_some_and(|known| known != done));
            self.path.pop();
        }
        self.total = done;
    }

    /// Returns how many schedules the ended runs cover, and how many of them break an assumption.
    #[must_use]
    pub fn schedules(&self) -> (u128, u128) {
        // Each fork of the current path has the numbers of its finished branches.
        let open = self.path.iter().map(|fork| fork.schedules);
        open.fold(self.total, |sum, fork| (sum.0 + fork.0, sum.1 + fork.1))
    }

    /// Returns whether every schedule is covered.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.runs > 0 && self.path.is_empty()
    }

    /// Returns the number of distinct states in which a choice was made.
    #[must_use]
    pub fn states(&self) -> usize {
        self.known.len()
    }
}

impl Exhaustive {
    /// Returns the fork that a run is at; `None` if it leads to a known state.
    fn fork(
        &mut self,
        state: &dyn Fn() -> u64,
        options: impl FnOnce() -> (usize, Vec<Move>),
    ) -> Option<&Fork> {
        self.depth += 1;
        let index = self.depth - 1;
        if index < self.path.len() {
            // The state is checked where the paths differ; the way there was the same.
            let parting = self.depth == self.path.len();
            self.drifted |= parting && self.path[index].state != state();
            return self.path.get(index);
        }
        let state = state();
        if let Some(schedules) = self.known.get(&state).filter(|_| !self.unpruned) {
            self.rest = Some(*schedules);
            return None;
        }
        let (options, moves) = options();
        self.path.push(Fork { state, options, moves, chosen: 0, schedules: (0, 0) });
        self.path.last()
    }
}

impl Schedule for Exhaustive {
    fn choose(&mut self, state: &dyn Fn() -> u64, options: usize) -> Option<usize> {
        self.fork(state, || (options, Vec::new())).map(|fork| fork.chosen)
    }

    fn keep(&mut self, hash: &dyn Fn() -> u64) -> u64 {
        self.keeps += 1;
        let Some((_, known)) = self.kept.get(self.keeps - 1) else {
            let hash = hash();
            self.kept.push((self.depth, hash));
            return hash;
        };
        let checks = self.runs == 2 || self.runs.is_multiple_of(CHECKED);
        self.drifted |= checks && *known != hash();
        *known
    }

    fn aside(&mut self, state: &dyn Fn() -> u64, _: Aside) -> Option<bool> {
        self.fork(state, || (2, Vec::new())).map(|fork| fork.chosen == 1)
    }

    fn skips_ahead(&self) -> bool {
        self.skips
    }

    fn is_fine(&self) -> bool {
        self.fine
    }

    fn skip_ahead(&mut self, state: &dyn Fn() -> u64, moves: &mut dyn FnMut() -> Vec<Move>) -> Option<Move> {
        let listed = || {
            let moves = moves();
            (moves.len(), moves)
        };
        self.fork(state, listed).map(|fork| fork.moves[fork.chosen])
    }
}
