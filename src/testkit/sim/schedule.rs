//! Who goes next: every choice of a run is asked of one source, so that runs can be enumerated, sampled and replayed.

use std::{collections::HashMap, hash::BuildHasherDefault};

use super::Mix;

/// What a publisher does before the reader goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Move {
    /// So many steps.
    pub steps: usize,
    /// And it dies.
    pub dies: bool,
}

/// What may happen beside the reader's verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// The publisher takes a step between two verbs, where the reader asks its clock, its watcher or its hints.
    Step,
    /// The publisher dies, after a step.
    Death,
}

/// Decides between the reader (0) and the publisher (1) wherever both can go on.
pub trait Schedule: Send {
    /// Chooses one of `options`, which are at least one; `None` ends the run, because what would follow is known.
    ///
    /// `state` hashes everything that the rest of the run depends on; it is not called where that is known.
    fn choose(&mut self, state: &dyn Fn() -> u64, options: usize) -> Option<usize>;

    /// The hash of what the reader goes on with, where it begins a step or keeps no more of what it has seen; `hash` is not
    /// called where that is known, or where nobody asks for states.
    fn keep(&mut self, hash: &dyn Fn() -> u64) -> u64 {
        hash()
    }

    /// Whether this happens now; `None` as above.
    fn aside(&mut self, _state: &dyn Fn() -> u64, _what: Aside) -> Option<bool> {
        Some(false)
    }

    /// Whether [`Schedule::leap`] is asked instead, where a world allows it.
    fn leaps(&self) -> bool {
        false
    }

    /// Whether states are to differ where the watcher has reported something else, whatever its filter made of that.
    fn is_fine(&self) -> bool {
        false
    }

    /// Chooses one of the moves that lead to what the reader can tell apart; `None` as above.
    fn leap(&mut self, _state: &dyn Fn() -> u64, _moves: &mut dyn FnMut() -> Vec<Move>) -> Option<Move> {
        Some(Move::default())
    }
}

/// Visits every schedule: depth first, and each state once.
///
/// Two schedules that lead to the same state have the same rest, so the rest is run once and counted for both.
///
/// With [`Exhaustive::leaping`], of all schedules that differ only in when a step was taken that the reader did not
/// notice until later, the one in which each step comes as late as it can is visited for all of them.
///
/// A run repeats the one before it up to where they part. What the reader keeps there is the same, and hashed once.
#[derive(Debug, Default)]
pub struct Exhaustive {
    leaps: bool,
    /// Every schedule to its own end, whatever is known.
    unpruned: bool,
    fine: bool,
    path: Vec<Fork>,
    depth: usize,
    /// What was kept on the present path, each behind so many forks; and how many of these the present run has come by.
    kept: Vec<(usize, u64)>,
    keeps: usize,
    /// A run did not repeat what it should have. Told at its end: the reader takes a panic for a failed look.
    drifted: bool,
    /// Schedules from a state on, and those of them that break an assumption.
    known: HashMap<u64, (u128, u128), BuildHasherDefault<Mix>>,
    /// The same for the end of the present run; `None` where it went on to its end.
    rest: Option<(u128, u128)>,
    /// The same for all runs, once they have been made.
    total: (u128, u128),
    /// Runs so far.
    pub runs: u64,
    /// How often one state had another number of schedules than the time before: two were taken for one. Without pruning
    /// alone are states come to twice.
    pub confused: u64,
}

/// The second run, and one of so many, hashes all that its reader keeps, and compares it with what it was.
const CHECKED: u64 = 64;

#[derive(Debug)]
struct Fork {
    state: u64,
    options: usize,
    /// What the options are where the publisher leaps.
    moves: Vec<Move>,
    chosen: usize,
    schedules: (u128, u128),
}

impl Exhaustive {
    /// One that leaps over what the reader cannot notice.
    #[must_use]
    pub fn leaping() -> Self {
        Self { leaps: true, ..Self::default() }
    }

    /// The same with every schedule run to its own end, whatever states it goes through: for the smallest worlds.
    #[must_use]
    pub fn unpruned(self) -> Self {
        Self { unpruned: true, ..self }
    }

    /// The same with states that differ by each event that the watcher has reported: many times as many.
    #[must_use]
    pub fn fine(self) -> Self {
        Self { fine: true, ..self }
    }

    /// Begins the next run; `false` when all have been made.
    pub fn next_run(&mut self) -> bool {
        if self.is_done() {
            return false;
        }
        self.runs += 1;
        (self.depth, self.keeps) = (0, 0);
        self.rest = None;
        true
    }

    /// Ends a run, which has broken an assumption or not, and turns to where the next one parts from it.
    ///
    /// # Panics
    /// If it was found to be another than its schedule says: then nothing is proven by any of them.
    pub fn end_run(&mut self, breached: bool) {
        assert!(!self.drifted, "a run is not a function of its schedule");
        let mut done = self.rest.unwrap_or((1, u128::from(breached)));
        while let Some(fork) = self.path.last_mut() {
            fork.schedules = (fork.schedules.0 + done.0, fork.schedules.1 + done.1);
            if fork.chosen + 1 < fork.options {
                fork.chosen += 1;
                // What comes behind this fork is another one's.
                self.kept.truncate(self.kept.partition_point(|(forks, _)| *forks < self.path.len()));
                return;
            }
            done = fork.schedules;
            // Where nothing is pruned states are come to again, and have the same rest.
            let known = self.known.insert(fork.state, done);
            self.confused += u64::from(known.is_some_and(|known| known != done));
            self.path.pop();
        }
        self.total = done;
    }

    /// How many schedules the ended runs cover, and how many of them break an assumption.
    #[must_use]
    pub fn schedules(&self) -> (u128, u128) {
        // Each fork of the present path has those beneath the branches that it is done with.
        let open = self.path.iter().map(|fork| fork.schedules);
        open.fold(self.total, |sum, fork| (sum.0 + fork.0, sum.1 + fork.1))
    }

    /// Whether every schedule is covered.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.runs > 0 && self.path.is_empty()
    }

    /// Distinct states in which a choice was made.
    #[must_use]
    pub fn states(&self) -> usize {
        self.known.len()
    }
}

impl Exhaustive {
    /// The fork that a run is at; `None` if it leads to a known state.
    fn fork(
        &mut self,
        state: &dyn Fn() -> u64,
        options: impl FnOnce() -> (usize, Vec<Move>),
    ) -> Option<&Fork> {
        self.depth += 1;
        let index = self.depth - 1;
        if index < self.path.len() {
            // Checked where the paths part; the rest of the way there was the same.
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

    fn leaps(&self) -> bool {
        self.leaps
    }

    fn is_fine(&self) -> bool {
        self.fine
    }

    fn leap(&mut self, state: &dyn Fn() -> u64, moves: &mut dyn FnMut() -> Vec<Move>) -> Option<Move> {
        let listed = || {
            let moves = moves();
            (moves.len(), moves)
        };
        self.fork(state, listed).map(|fork| fork.moves[fork.chosen])
    }
}

/// How the choices stand in a line.
const LETTERS: [char; 5] = ['r', 'p', 't', 'x', 'n'];
/// Choices beside the reader's verbs.
pub(super) const ASIDE: usize = 2;
pub(super) const DEATH: usize = 3;
pub(super) const PASSED: usize = 4;

/// Follows a line such as `r12p3r`: twelve times the reader, three times the publisher, then the reader; and the reader from
/// there on. `t` is a step between two verbs of the reader, where it asks its clock, its watcher or its hints; `x` the death of
/// the publisher after a step, and `n` before either an occasion for one that passes.
#[derive(Clone, Debug)]
pub struct Replay {
    choices: Vec<usize>,
    next: usize,
}

impl Replay {
    /// Follows these choices.
    #[must_use]
    pub fn new(choices: Vec<usize>) -> Self {
        Self { choices, next: 0 }
    }

    /// Reads a line; `None` if it is none.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut choices = Vec::new();
        let mut rest = line.chars().peekable();
        while let Some(who) = rest.next() {
            let choice = LETTERS.iter().position(|letter| *letter == who)?;
            let mut count = String::new();
            while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                count.push(digit);
            }
            let count = if count.is_empty() { 1 } else { count.parse().ok()? };
            choices.extend(std::iter::repeat_n(choice, count));
        }
        Some(Self::new(choices))
    }

    /// The line that repeats these choices.
    #[must_use]
    pub fn line(choices: &[usize]) -> String {
        let runs = choices.chunk_by(|a, b| a == b);
        runs.map(|run| {
            let who = LETTERS[run[0]];
            if run.len() == 1 { who.to_string() } else { format!("{who}{}", run.len()) }
        })
        .collect()
    }
}

impl Schedule for Replay {
    fn choose(&mut self, _: &dyn Fn() -> u64, options: usize) -> Option<usize> {
        if options < 2 {
            return Some(0);
        }
        self.next += 1;
        Some(self.choices.get(self.next - 1).copied().unwrap_or(0).min(1))
    }

    fn keep(&mut self, _: &dyn Fn() -> u64) -> u64 {
        0
    }

    fn aside(&mut self, _: &dyn Fn() -> u64, what: Aside) -> Option<bool> {
        let letter = self.choices.get(self.next).copied();
        let happens = letter == Some(if what == Aside::Death { DEATH } else { ASIDE });
        let passes = letter == Some(PASSED);
        self.next += usize::from(happens || passes);
        Some(happens)
    }
}

/// Chooses by the bits of a string, then by its end alone: for fuzzing.
#[derive(Clone, Debug)]
pub struct Bytes {
    bytes: Vec<u8>,
    next: usize,
}

impl Bytes {
    /// One choice a bit, the lowest first; after the last bit the reader goes on.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), next: 0 }
    }
}

impl Schedule for Bytes {
    fn choose(&mut self, _: &dyn Fn() -> u64, options: usize) -> Option<usize> {
        if options < 2 {
            return Some(0);
        }
        let bit = self.bytes.get(self.next / 8).map_or(0, |byte| byte >> (self.next % 8) & 1);
        self.next += 1;
        Some(usize::from(bit))
    }

    fn keep(&mut self, _: &dyn Fn() -> u64) -> u64 {
        0
    }
}

/// Chooses at random, unpruned: in each run the publisher is as fast as that run's weight says.
#[derive(Clone, Debug)]
pub struct Sampled {
    state: u64,
    weight: u64,
}

impl Sampled {
    /// A run of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut sampled = Self { state: seed ^ 0x9e37_79b9_7f4a_7c15, weight: 0 };
        // From "almost never" to "almost always", so that runs differ in kind (swarm weights).
        sampled.weight = [4, 12, 30, 64, 128, 200, 240][(sampled.random() % 7) as usize];
        sampled
    }

    /// splitmix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Schedule for Sampled {
    fn choose(&mut self, _: &dyn Fn() -> u64, options: usize) -> Option<usize> {
        if options < 2 {
            return Some(0);
        }
        Some(usize::from(self.random() % 256 < self.weight))
    }

    fn keep(&mut self, _: &dyn Fn() -> u64) -> u64 {
        0
    }

    fn aside(&mut self, _: &dyn Fn() -> u64, what: Aside) -> Option<bool> {
        // One run in a few ends with a death, wherever that is.
        let weight = if what == Aside::Death { 8 } else { self.weight };
        Some(self.random() % 256 < weight)
    }
}
