//! The order of steps: one source makes every choice of a run, so that runs can be enumerated,
//! sampled and replayed.

mod exhaustive;
pub use exhaustive::Exhaustive;

/// The acts of a publisher before the reader goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Move {
    /// The number of steps.
    pub steps: usize,
    /// Whether it dies after them.
    pub dies: bool,
}

/// An act that may happen beside the reader's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// The publisher takes a step between two calls, where the reader asks its clock, its watcher
    /// or its hints.
    Step,
    /// The publisher dies, after a step.
    Death,
}

/// Chooses between the reader (0) and the publisher (1) wherever both can go on.
pub trait Schedule: Send {
    /// Chooses one of `options`, of which there is at least one. `None` ends the run, because the
    /// rest is known.
    ///
    /// `state` hashes everything that the rest of the run depends on. It is not called where the
    /// hash is known.
    fn choose(&mut self, state: &dyn Fn() -> u64, options: usize) -> Option<usize>;

    /// Returns the hash of the reader's state, where it begins a step or forgets earlier
    /// observations. `hash` is not called where the hash is known or states are not used.
    fn keep(&mut self, hash: &dyn Fn() -> u64) -> u64 {
        hash()
    }

    /// Returns whether this act happens now; `None` as in [`choose`](Self::choose).
    fn aside(&mut self, _state: &dyn Fn() -> u64, _what: Aside) -> Option<bool> {
        Some(false)
    }

    /// Returns whether [`Schedule::skip_ahead`] is used instead, where a world allows it.
    fn skips_ahead(&self) -> bool {
        false
    }

    /// Returns whether states differ by each report of the watcher, whatever its filter made of it.
    fn is_fine(&self) -> bool {
        false
    }

    /// Chooses one of the moves that the reader can distinguish; `None` as in
    /// [`choose`](Self::choose).
    fn skip_ahead(
        &mut self,
        _state: &dyn Fn() -> u64,
        _moves: &mut dyn FnMut() -> Vec<Move>,
    ) -> Option<Move> {
        Some(Move::default())
    }
}

/// The letters of the choices in a line.
const LETTERS: [char; 5] = ['r', 'p', 't', 'x', 'n'];
/// Choices beside the reader's calls.
pub(super) const ASIDE: usize = 2;
pub(super) const DEATH: usize = 3;
pub(super) const PASSED: usize = 4;

/// Follows a line such as `r12p3r`: twelve steps of the reader, three of the publisher, then the
/// reader, which goes on from there.
///
/// `t` is a step between two calls of the reader, where it asks its clock, its watcher or its
/// hints. `x` is the death of the publisher after a step. `n` before either is an occasion for one
/// that passes.
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

    /// Parses a line; `None` if it is malformed.
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

    /// Formats the line that repeats these choices.
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

/// Chooses by the bits of a string, for fuzzing.
#[derive(Clone, Debug)]
pub struct Bytes {
    bytes: Vec<u8>,
    next: usize,
}

impl Bytes {
    /// Makes one choice per bit, the lowest first. After the last bit the reader goes on.
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

/// Chooses at random, without pruning. In each run the publisher is as fast as the run's weight
/// says.
#[derive(Clone, Debug)]
pub struct Sampled {
    state: u64,
    weight: u64,
}

impl Sampled {
    /// Makes the schedule of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut sampled = Self { state: seed ^ 0x9e37_79b9_7f4a_7c15, weight: 0 };
        // The weights go from "almost never" to "almost always", so that runs differ in kind (swarm
        // testing).
        sampled.weight = [4, 12, 30, 64, 128, 200, 240][(sampled.random() % 7) as usize];
        sampled
    }

    /// Returns the next number of splitmix64.
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
        // A few runs end with a death, at any place.
        let weight = if what == Aside::Death { 8 } else { self.weight };
        Some(self.random() % 256 < weight)
    }
}
