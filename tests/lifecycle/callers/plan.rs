//! Plans of the actions of each thread and each hook of a schedule, made from a seed.

/// SplitMix64, after Steele, Lea and Flood 2014.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Good,
    Bad,
    /// Only the first file is written.
    Half,
    /// Valid, and reduces the trust.
    Shrinks,
    /// Valid from a distant date on.
    Later,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Reload,
    Start,
    Stop,
    /// Drops the reloader, and keeps the handles.
    Drop,
    Status,
    /// Subscribes, and reads the events of all subscribers.
    Events,
    Current,
    /// Calls `wait_published` with a short limit.
    Wait,
    /// Polls a future of the next publication.
    Published,
    /// Polls a future of the next loss of trust.
    Shrunk,
    /// Drops futures and subscribers.
    Forget,
    /// Writes both files one after the other, in place if true, or else by one rename each.
    Write(Content, bool),
}

impl Kind {
    pub const ALL: [Self; 12] = [
        Self::Reload,
        Self::Start,
        Self::Stop,
        Self::Drop,
        Self::Status,
        Self::Events,
        Self::Current,
        Self::Wait,
        Self::Published,
        Self::Shrunk,
        Self::Forget,
        Self::Write(Content::Good, true),
    ];

    pub fn index(self) -> usize {
        Self::ALL
            .iter()
            .position(|kind| std::mem::discriminant(kind) == std::mem::discriminant(&self))
            .unwrap()
    }

    /// Returns whether the call may wait for the driver.
    fn waits(self) -> bool {
        matches!(self, Self::Reload | Self::Start | Self::Stop | Self::Drop | Self::Wait)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Calls the reloader of this number.
    Call(usize, Kind),
    Panic,
    /// Waits for a moment at most until another thread acts.
    GiveWay,
    /// Holds the driver until the other thread has made its calls, and has returned from the last
    /// or sleeps in it.
    Hold,
    /// Holds the driver in the same way, then stops the reloader, and waits until the other thread
    /// returns.
    StopAndAwait,
    /// Stops the reloader once no other thread holds it, so that a later drop is the last.
    StopAlone,
    /// Waits until the driver is held for this many calls.
    AwaitHeld(usize),
    /// Waits until the worker has started.
    AwaitStarted,
}

/// An action that is taken after so many visits of its hook.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub skip: usize,
    pub action: Action,
}

impl From<Action> for Step {
    fn from(action: Action) -> Self {
        Self { skip: 0, action }
    }
}

/// A place where a reloader calls code of the embedder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A call of the file system.
    Snapshot,
    Build,
    Publish,
    Event,
    /// The callback for [`rustls_reload::Event::Stopped`].
    Stopped,
    /// The drop of the watcher.
    Ending,
    /// A call of a waker.
    Wake,
    /// The drop of a value by the driver, which was replaced or not published.
    Discard,
}

impl Hook {
    pub const ALL: [Self; 8] = [
        Self::Snapshot,
        Self::Build,
        Self::Publish,
        Self::Event,
        Self::Stopped,
        Self::Ending,
        Self::Wake,
        Self::Discard,
    ];
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Which of the reloaders are started before the threads begin; the length is their number.
    pub started: Vec<bool>,
    pub threads: Vec<Vec<Step>>,
    /// The steps of each reloader and hook.
    pub hooks: Vec<Vec<Vec<Step>>>,
    /// Whether drivers give way at random.
    pub noise: bool,
    /// Whether each step in a hook is reached, even long after the other threads have ended.
    pub complete: bool,
}

impl Plan {
    pub fn empty(seed: u64, started: Vec<bool>) -> Self {
        let hooks = vec![vec![Vec::new(); Hook::ALL.len()]; started.len()];
        Self { seed, started, threads: Vec::new(), hooks, noise: false, complete: true }
    }

    pub fn random(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let count = random.pick(&[1, 1, 2, 2, 3]);
        let started = (0..count).map(|_| random.below(2) == 0).collect();
        let mut plan = Self { noise: random.below(4) > 0, complete: false, ..Self::empty(seed, started) };
        for _ in 0..2 + random.below(3) {
            let steps = 2 + random.below(4);
            let steps = (0..steps).map(|_| Action::Call(random.below(count), kind(&mut random)).into());
            plan.threads.push(steps.collect());
        }
        for of in 0..count {
            for hook in Hook::ALL {
                for _ in 0..random.below(3) {
                    let step = Step { skip: random.below(3), action: in_hook(&mut random, of, count, hook) };
                    plan.hooks[of][hook as usize].push(step);
                }
            }
        }
        plan
    }
}

fn kind(random: &mut Random) -> Kind {
    use Kind::{Current, Drop, Events, Forget, Published, Reload, Shrunk, Start, Status, Stop, Wait};
    match random.below(24) {
        0..=5 => Reload,
        6..=10 => write(random),
        11..=13 => Start,
        14 | 15 => Stop,
        16 => random.pick(&[Drop, Stop, Forget]),
        17 => Status,
        18 => Events,
        19 => Current,
        20 => Wait,
        21 => Shrunk,
        _ => Published,
    }
}

fn write(random: &mut Random) -> Kind {
    use Content::{Bad, Good, Half, Later, Shrinks};
    Kind::Write(random.pick(&[Good, Good, Good, Bad, Half, Shrinks, Later]), random.below(2) == 0)
}

/// Returns an action that is allowed in this hook. The embedder has to order callbacks that wait
/// for other reloaders, so these wait only for reloaders of higher numbers.
fn in_hook(random: &mut Random, of: usize, count: usize, hook: Hook) -> Action {
    if hook == Hook::Wake {
        return Action::Call(of, random.pick(&[Kind::Status, Kind::Start, Kind::Stop, Kind::Current]));
    }
    match random.below(8) {
        0 => Action::GiveWay,
        1 if hook != Hook::Ending => Action::Panic,
        _ => {
            let kind = kind(random);
            let from = if kind.waits() { of } else { 0 };
            Action::Call(from + random.below(count - from), kind)
        }
    }
}
