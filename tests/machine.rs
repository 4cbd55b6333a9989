//! The machine against dumb twins, over every sequence of rounds up to a stated depth.
//!
//! A round is: time passes, the wall clock may step, something comes in, and if the machine looks, the look ends some
//! way, and if it builds, the build ends some way. Checks INV-02 to INV-06, INV-08 and INV-11 as far as they are
//! decided in the machine: it publishes what was built valid and nothing else, never early, never late, and tells each
//! thing once. After each sequence the disk comes to rest with a valid set, and the machine must publish it within the
//! bound of INV-05 with no hint at all.
//!
//! Engine: generated. Checks: INV-02, INV-03, INV-04, INV-06, INV-08, INV-11
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)] // reason: a test

use std::time::Duration;

use rustls_reload::{
    Motion, Now, Timing,
    machine::{Answer, Content, Effect, Input, Machine, Notice, Seen, Verdict},
};

type Cause = u8;

/// A whole number of milliseconds, to keep the twin readable.
const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

/// The date that held contents wait for.
const DATE: Duration = Duration::from_secs(5_000);

#[derive(Clone, Debug)]
struct Round {
    pass: Duration,
    wall: Wall,
    input: Input<Cause>,
    seen: Seen<Cause>,
    verdict: Verdict<Cause>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wall {
    Runs,
    StepsBack,
    ReachesDate,
}

/// What a round may lead to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Outcome {
    looked: bool,
    built: Option<Content>,
    published: Option<Content>,
    told: Vec<Notice<Cause>>,
    answered: Vec<Answer<Cause>>,
}

/// What a look comes to: each twin judges its own matter by the sequence of these.
#[derive(Clone, Copy, Debug)]
enum End {
    Served,
    Unreadable(Cause),
    Torn(Cause),
    /// Something that did not hold still before.
    Moves,
    /// It holds still, but not for long enough.
    Settles,
    /// It was refused and waits for its retry.
    Pends,
    /// It waits for its date.
    Held(Duration),
    Published(Content),
    NotYet(Content, Duration),
    Refused(Content, Cause),
}

/// WHAT holds still or is held. This twin and the others count milliseconds.
#[derive(Clone, Default)]
struct Settling {
    still: Option<(Content, u64, u64)>, // since when, and for how long it has to
    held: Option<(Content, Duration)>,
}

impl Settling {
    /// What keeps a set from being built; it has to hold still for so long.
    fn keeps(&mut self, now: Now, content: Content, wait: u64) -> Option<End> {
        self.held = self.held.filter(|held| held.0 == content);
        if let Some((_, date)) = self.held {
            return (now.wall < date).then_some(End::Held(date));
        }
        let known = self.still.filter(|still| still.0 == content);
        let since = known.map_or(millis(now.mono), |known| known.1);
        self.still = Some((content, since, wait));
        let waits = millis(now.mono) < since + wait;
        waits.then_some(if known.is_some() { End::Settles } else { End::Moves })
    }

    fn ends(&mut self, now: Now, end: End) {
        match end {
            End::Moves | End::Settles | End::Pends | End::Held(_) => return,
            End::NotYet(content, date) => self.held = Some((content, date.max(now.wall + ms(50)))),
            End::Served | End::Published(_) | End::Refused(..) => self.held = None,
            End::Unreadable(_) | End::Torn(_) => {}
        }
        self.still = None;
    }
}

/// WHEN to try again.
#[derive(Clone, Default)]
struct Retrying {
    refused: Option<(Cause, Option<Content>)>,
    at: Option<u64>,
    pause: u64,
}

impl Retrying {
    /// `untold`: until now there was a failure to read that nobody was told.
    fn ends(&mut self, t: u64, end: End, untold: bool) {
        self.refused = self.refused.filter(|_| !untold || matches!(end, End::Unreadable(_)));
        match end {
            End::Unreadable(cause) => self.again(t, cause, None),
            End::Refused(content, cause) => self.again(t, cause, Some(content)),
            End::Torn(_) => self.at = Some(t + 5),
            End::Moves | End::Settles => self.at = None,
            End::Pends => {}
            End::Served | End::Held(_) | End::Published(_) | End::NotYet(..) => *self = Self::default(),
        }
    }

    fn again(&mut self, t: u64, cause: Cause, content: Option<Content>) {
        let same = self.refused.is_some_and(|refused| refused.0 == cause);
        self.pause = if same { (self.pause * 2).min(10_000) } else { 50 };
        (self.refused, self.at) = (Some((cause, content)), Some(t + self.pause));
    }
}

/// What is TOLD.
#[derive(Clone, Default)]
struct Telling {
    moving: Option<(u64, bool)>, // since when nothing has held still; whether that was told
    bad: Option<(Cause, u64, bool)>, // the failure, since when, and whether it was told
    last: Option<Cause>,         // what was told last of what is not over
    owes: bool,
}

impl Telling {
    fn ends(&mut self, t: u64, end: End, at_once: bool, held: Option<Content>) -> Option<Notice<Cause>> {
        self.bad = self.bad.filter(|bad| bad.2 || matches!(end, End::Unreadable(_)));
        match end {
            End::Served | End::Published(_) => std::mem::take(self).owes.then_some(Notice::Recovered),
            End::Unreadable(cause) | End::Refused(_, cause) => self.bad(t, cause, at_once),
            End::Settles | End::Pends => None,
            End::Torn(_) | End::Moves => {
                let (since, told) = *self.moving.get_or_insert((t, false));
                let tell = !told && t >= since + 5_000;
                (self.moving, self.owes) = (Some((since, told || tell)), self.owes || tell);
                tell.then_some(Notice::StillChanging)
            }
            End::Held(date) => {
                (self.moving, self.last) = (None, None);
                self.bad.take().map(|_| Notice::Held(date))
            }
            End::NotYet(content, date) => {
                *self = Self { owes: self.owes, ..Self::default() };
                (held != Some(content)).then_some(Notice::Held(date))
            }
        }
    }

    fn bad(&mut self, t: u64, cause: Cause, at_once: bool) -> Option<Notice<Cause>> {
        let since = self.bad.filter(|bad| bad.0 == cause || !bad.2).map_or(t, |bad| bad.1);
        let tell = self.last != Some(cause) && (at_once || t >= since + 500);
        (self.owes, self.last) = (self.owes || tell, if tell { Some(cause) } else { self.last });
        (self.bad, self.moving) = (Some((cause, since, self.last == Some(cause))), None);
        tell.then_some(Notice::Refused(cause))
    }
}

/// What is ANSWERED to who asked then, if anything is.
fn answer(t: u64, asked: u64, end: End) -> Option<Answer<Cause>> {
    match end {
        End::Served => Some(Answer::Unchanged),
        End::Published(_) => Some(Answer::Reloaded),
        End::NotYet(_, date) => Some(Answer::Held(date)),
        End::Unreadable(cause) | End::Refused(_, cause) => Some(Answer::Refused(cause)),
        End::Torn(cause) => (t >= asked + 5_000).then_some(Answer::Refused(cause)),
        End::Moves | End::Settles | End::Pends | End::Held(_) => None,
    }
}

/// All twins, and WHEN a look is due.
#[derive(Clone, Default)]
struct Twins {
    settling: Settling,
    retrying: Retrying,
    telling: Telling,
    asked: Option<u64>,
    hinted: bool,
    degraded: bool,
    stopped: bool,
}

impl Twins {
    fn due(&self, now: Now, last_look: Option<Duration>) -> u64 {
        let Some(last) = last_look.map(millis) else { return 0 };
        let poll = if self.degraded { 1_000 } else { 10_000 };
        let poll = if self.hinted || self.asked.is_some() { 0 } else { poll };
        let Settling { still, held } = self.settling;
        let date = held.map(|(_, date)| millis(now.mono + date.saturating_sub(now.wall)));
        let untold = self.telling.bad.filter(|bad| !bad.2).map(|bad| bad.1 + 500);
        let retry = self.retrying.at;
        let wakes = [Some(last + poll), still.map(|still| still.1 + still.2), retry.or(date), untold];
        wakes.into_iter().flatten().min().unwrap().max(last + 5)
    }

    /// What they want done about the look of a round.
    fn look(&mut self, now: Now, round: &Round) -> Outcome {
        let (t, end) = (millis(now.mono), round.end(now, self));
        let held = self.settling.held.map(|held| held.0);
        let untold = self.telling.bad.is_some_and(|bad| !bad.2);
        self.settling.ends(now, end);
        self.retrying.ends(t, end, untold);
        let at_once = self.asked.is_some() || matches!(end, End::Refused(..));
        let told = self.telling.ends(t, end, at_once, held).into_iter().collect();
        let answered: Vec<_> = self.asked.and_then(|asked| answer(t, asked, end)).into_iter().collect();
        self.asked = self.asked.filter(|_| answered.is_empty());
        let (built, published) = end.done();
        Outcome { looked: true, built, published, told, answered }
    }
}

impl End {
    /// What is built and published.
    fn done(self) -> (Option<Content>, Option<Content>) {
        match self {
            Self::Published(content) => (Some(content), Some(content)),
            Self::NotYet(content, _) | Self::Refused(content, _) => (Some(content), None),
            _ => (None, None),
        }
    }
}

impl Round {
    /// What its look comes to.
    fn end(&self, now: Now, twins: &mut Twins) -> End {
        let (content, motion, shrinks) = match self.seen {
            Seen::Served => return End::Served,
            Seen::Failed(cause) => return End::Unreadable(cause),
            Seen::Torn(cause) => return End::Torn(cause),
            Seen::Changed { content, motion, shrinks } => (content, motion, shrinks),
        };
        let wait = match motion {
            Motion::Committed => 0,
            _ if shrinks => 5_000,
            Motion::Tied => 30,
            Motion::Loose => 500,
        };
        let Retrying { refused, at: retry, .. } = twins.retrying;
        let kept = match twins.asked {
            Some(_) => None,
            None if refused.is_some_and(|refused| refused.1 == Some(content)) => {
                retry.filter(|at| *at > millis(now.mono)).map(|_| End::Pends)
            }
            None => twins.settling.keeps(now, content, wait),
        };
        kept.unwrap_or(match self.verdict {
            Verdict::Valid => End::Published(content),
            Verdict::NotYet(date) => End::NotYet(content, date),
            Verdict::Refused(cause) => End::Refused(content, cause),
        })
    }
}

#[derive(Clone)]
struct World {
    machine: Machine<Cause>,
    twins: Twins,
    now: Now,
    last_look: Option<Duration>,
}

impl World {
    fn new() -> Self {
        let now = Now { mono: ms(0), wall: Duration::from_secs(1_000) };
        Self { machine: Machine::new(Timing::default()), twins: Twins::default(), now, last_look: None }
    }

    /// Plays a round on both and returns what the machine did, having asserted that the twins want the same.
    fn play(&mut self, round: &Round) -> Outcome {
        self.now.mono += round.pass;
        self.now.wall = match round.wall {
            Wall::Runs => self.now.wall + round.pass,
            Wall::StepsBack => self.now.wall.saturating_sub(Duration::from_secs(3_600)),
            Wall::ReachesDate => self.now.wall.max(DATE),
        };
        let mut did = Outcome::default();
        let mut effects = self.machine.step(self.now, round.input.clone());
        while !effects.is_empty() {
            let mut next = Vec::new();
            for effect in effects {
                match effect {
                    Effect::Look => {
                        assert!(!did.looked, "two looks in one round");
                        did.looked = true;
                        next.extend(self.machine.step(self.now, Input::Looked(round.seen.clone())));
                    }
                    Effect::Build(content) => {
                        did.built = Some(content);
                        next.extend(self.machine.step(self.now, Input::Built(round.verdict.clone())));
                    }
                    Effect::Publish { content, recovered } => {
                        did.published = Some(content);
                        did.told.extend(recovered.then_some(Notice::Recovered));
                    }
                    Effect::Tell(notice) => did.told.push(notice),
                    Effect::Answer(answer) => did.answered.push(answer),
                }
            }
            effects = next;
        }
        let mut want = Outcome::default();
        self.twins.stopped |= round.input == Input::Stop;
        self.twins.hinted |= round.input == Input::Hint;
        // That the watching is degraded, or no longer, is no occasion to look.
        let told = matches!(round.input, Input::Watching(_));
        self.twins.degraded = if told { round.input == Input::Watching(false) } else { self.twins.degraded };
        let due = self.twins.due(self.now, self.last_look);
        let due = !told && due <= millis(self.now.mono) || round.input == Input::Reload;
        if due && !self.twins.stopped {
            self.last_look = Some(self.now.mono);
            self.twins.hinted = false;
            if round.input == Input::Reload {
                self.twins.asked.get_or_insert(millis(self.now.mono));
            }
            want = self.twins.look(self.now, round);
        }
        assert_eq!(did, want);
        if let Some(wake) = self.machine.wake(self.now) {
            let due = self.twins.due(self.now, self.last_look);
            let (now, due) = (self.now.mono, ms(due));
            assert_eq!(wake.max(now), due.max(now), "woken at another time than something is due");
        }
        did
    }

    /// INV-05: from here on the disk rests, nothing hints, and every build passes.
    fn converges(mut self, motion: Motion) {
        if self.twins.stopped {
            return;
        }
        let start = self.now.mono;
        let bound = start + ms(500 + 10_000 + 10_000);
        loop {
            let wake = self.machine.wake(self.now).unwrap();
            assert!(wake <= bound, "no publication within the bound: {:?}", self.machine);
            let pass = wake.saturating_sub(self.now.mono);
            let seen = Seen::Changed { content: 99, motion, shrinks: false };
            let round = Round { pass, wall: Wall::Runs, input: Input::Tick, seen, verdict: Verdict::Valid };
            if self.play(&round).published == Some(99) {
                return;
            }
        }
    }
}

/// Everything a round may be.
fn alphabet() -> Vec<Round> {
    let changed = |content, motion, shrinks| Seen::Changed { content, motion, shrinks };
    let seen = [
        Seen::Served,
        Seen::Torn(1),
        Seen::Failed(2),
        Seen::Failed(3),
        changed(1, Motion::Committed, false),
        changed(1, Motion::Tied, false),
        changed(1, Motion::Loose, false),
        changed(1, Motion::Loose, true),
        changed(1, Motion::Tied, true),
        changed(2, Motion::Loose, false),
    ];
    let verdicts = [Verdict::Valid, Verdict::NotYet(DATE), Verdict::Refused(4)];
    let mut rounds = Vec::new();
    for seen in seen {
        let builds = matches!(seen, Seen::Changed { .. });
        for verdict in verdicts.iter().take(if builds { 3 } else { 1 }) {
            let round =
                |pass, wall, input| Round { pass, wall, input, seen: seen.clone(), verdict: verdict.clone() };
            for (pass, input) in [
                (5, Input::Hint),
                (30, Input::Hint),
                (60, Input::Tick),
                (500, Input::Tick),
                (10_000, Input::Tick),
                (0, Input::Reload),
            ] {
                rounds.push(round(ms(pass), Wall::Runs, input));
            }
            for wall in [Wall::StepsBack, Wall::ReachesDate] {
                rounds.push(round(ms(5), wall, Input::Hint));
            }
        }
    }
    let idle = Round {
        pass: ms(0),
        wall: Wall::Runs,
        input: Input::Hint,
        seen: Seen::Served,
        verdict: Verdict::Valid,
    };
    for input in [Input::Hint, Input::Watching(false), Input::Watching(true)] {
        rounds.push(Round { input, ..idle.clone() });
    }
    // Enough for a poll of the degraded kind.
    rounds.push(Round { pass: ms(1_000), input: Input::Tick, ..idle.clone() });
    rounds.push(Round { input: Input::Stop, ..idle });
    rounds
}

fn every_sequence(world: &World, rounds: &[Round], depth: usize, line: &mut Vec<usize>, count: &mut u64) {
    if depth == 0 {
        *count += 1;
        for motion in [Motion::Committed, Motion::Loose] {
            world.clone().converges(motion);
        }
        return;
    }
    for (i, round) in rounds.iter().enumerate() {
        let mut next = world.clone();
        line.push(i);
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| next.play(round)));
        if played.is_err() {
            panic!("replay: rounds {line:?} of the alphabet; the last is {round:?}");
        }
        every_sequence(&next, rounds, depth - 1, line, count);
        line.pop();
    }
}

/// `MACHINE_DEPTH` sets another depth than the quick tier's.
#[test]
fn inv05_every_sequence_agrees_with_the_twin_and_converges() {
    let depth = std::env::var("MACHINE_DEPTH").map_or(3, |depth| depth.parse().unwrap());
    let rounds = alphabet();
    let mut count = 0;
    every_sequence(&World::new(), &rounds, depth, &mut Vec::new(), &mut count);
    println!("machine: {} rounds, depth {depth}, {count} sequences, 0 disagreements", rounds.len());
    assert_eq!(count, (rounds.len() as u64).pow(u32::try_from(depth).unwrap()));
}

/// Checks: INV-11. Who asks again does not make the one who asked first wait longer.
#[test]
fn inv11_a_second_reload_by_hand_does_not_prolong_the_first() {
    let mut world = World::new();
    let torn = |pass, input| Round {
        pass: ms(pass),
        wall: Wall::Runs,
        input,
        seen: Seen::Torn(1),
        verdict: Verdict::Valid,
    };
    assert_eq!(world.play(&torn(0, Input::Reload)).answered, []);
    assert_eq!(world.play(&torn(4_000, Input::Reload)).answered, []);
    assert_eq!(world.play(&torn(1_000, Input::Tick)).answered, [Answer::Refused(1)]);
}

/// Sequences too long to enumerate: back-off that has grown, patience that runs out. The seed is the replay.
#[test]
fn inv05_long_random_sequences_agree_with_the_twin() {
    let rounds = alphabet();
    let (walks, length) = (20_000u64, 60);
    for seed in 1..=walks {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut draw = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below as u64).unwrap()
        };
        let mut world = World::new();
        // A few kinds of rounds only, so that the same thing often happens again and again (swarm testing).
        let few: Vec<_> = (0..4).map(|_| &rounds[draw(rounds.len() - 1)]).collect();
        for _ in 0..length {
            let round = few[draw(few.len())];
            let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.play(round)));
            assert!(played.is_ok(), "replay: seed {seed}, at {round:?}");
        }
        world.converges(Motion::Loose);
    }
    println!("machine: {walks} random sequences of {length} rounds, 0 disagreements");
}
