//! Who goes next: every choice of a run is asked of one source, so that runs can be enumerated, sampled and replayed.

use std::collections::HashMap;

/// Decides between the reader (0) and the publisher (1) wherever both can go on.
pub trait Schedule: Send {
    /// Chooses one of `options`, which are at least one; `None` ends the run, because what would follow is known.
    ///
    /// `state` hashes everything that the rest of the run depends on; it is not called where that is known.
    fn choose(&mut self, state: &dyn Fn() -> u64, options: usize) -> Option<usize>;
}

/// Visits every schedule: depth first, and each state once.
///
/// Two schedules that lead to the same state have the same rest, so the rest is run once and counted for both.
#[derive(Debug, Default)]
pub struct Exhaustive {
    path: Vec<Fork>,
    depth: usize,
    /// Schedules from a state on, and those of them that break an assumption.
    known: HashMap<u64, (u128, u128)>,
    /// The same for the end of the present run; `None` where it went on to its end.
    rest: Option<(u128, u128)>,
    /// The same for all runs, once they have been made.
    total: (u128, u128),
    /// Runs so far.
    pub runs: u64,
}

#[derive(Debug)]
struct Fork {
    state: u64,
    options: usize,
    chosen: usize,
    schedules: (u128, u128),
}

impl Exhaustive {
    /// Begins the next run; `false` when all have been made.
    pub fn next_run(&mut self) -> bool {
        if self.is_done() {
            return false;
        }
        self.runs += 1;
        self.depth = 0;
        self.rest = None;
        true
    }

    /// Ends a run, which has broken an assumption or not, and turns to where the next one parts from it.
    pub fn end_run(&mut self, breached: bool) {
        let mut done = self.rest.unwrap_or((1, u128::from(breached)));
        while let Some(fork) = self.path.last_mut() {
            fork.schedules = (fork.schedules.0 + done.0, fork.schedules.1 + done.1);
            if fork.chosen + 1 < fork.options {
                fork.chosen += 1;
                return;
            }
            done = fork.schedules;
            self.known.insert(fork.state, done);
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

impl Schedule for Exhaustive {
    fn choose(&mut self, state: &dyn Fn() -> u64, options: usize) -> Option<usize> {
        self.depth += 1;
        if let Some(fork) = self.path.get(self.depth - 1) {
            // Checked where the paths part; the rest of the way there was the same.
            let parting = self.depth == self.path.len();
            assert!(!parting || fork.state == state(), "a run is not a function of its schedule");
            return Some(fork.chosen);
        }
        let state = state();
        if let Some(schedules) = self.known.get(&state) {
            self.rest = Some(*schedules);
            return None;
        }
        self.path.push(Fork { state, options, chosen: 0, schedules: (0, 0) });
        Some(0)
    }
}

/// Follows a line such as `r12p3r`: twelve times the reader, three times the publisher, then the reader; and the reader from
/// there on.
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
            let choice = match who {
                'r' => 0,
                'p' => 1,
                _ => return None,
            };
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
            let who = if run[0] == 0 { 'r' } else { 'p' };
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
        Some(self.choices.get(self.next - 1).copied().unwrap_or(0))
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
}
