//! The machine against a dumb twin, over every sequence of rounds up to a stated depth.
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

/// The same decisions, put down as plainly as possible; times are milliseconds.
#[derive(Clone, Default)]
struct Twin {
    stopped: bool,
    asked: Option<u64>,
    hinted: bool,
    run: Option<(Content, u64, u64)>, // since when the content has held still, and how long it must
    moving: Option<(u64, bool)>,      // since when nothing held still; whether that was told
    bad: Option<(Cause, Option<Content>, u64, bool)>, // cause, of which content, since when, told
    pause: u64,                       // the next back-off
    retry: Option<u64>,
    held: Option<(Content, Duration)>,
    last_told: Option<Cause>,
    owes: bool,
}

#[rustfmt::skip] // reason: it is read at a glance, as the list of rules that it is
impl Twin {
    fn looked(&mut self, now: Now, seen: &Seen<Cause>, verdict: &Verdict<Cause>, out: &mut Outcome) {
        let t = now.mono.as_millis() as u64;
        match *seen {
            Seen::Served => self.well(out),
            Seen::Failed(cause) => { self.run = None; self.bad(t, cause, None, out); }
            Seen::Torn(cause) => {
                (self.run, self.retry) = (None, Some(t + 5));
                self.bad = self.bad.filter(|bad| bad.3);
                self.restless(t, out);
                if self.asked.is_some_and(|since| t >= since + 5_000) { self.reply(Answer::Refused(cause), out); }
            }
            Seen::Changed { content, motion, shrinks } => {
                self.bad = self.bad.filter(|bad| bad.3);
                if self.held.is_some_and(|held| held.0 != content) && self.asked.is_none() { self.held = None; }
                let wait = match motion { Motion::Committed => 0, _ if shrinks => 5_000, Motion::Tied => 30, Motion::Loose => 500 };
                let ready = if self.asked.is_some() { true }
                    else if let Some((_, date)) = self.held {
                        (self.retry, self.moving) = (None, None);
                        let over = now.wall < date;
                        if over { self.last_told = None; if self.bad.take().is_some() { out.told.push(Notice::Held(date)); } }
                        !over
                    }
                    else if self.bad.is_some_and(|bad| bad.1 == Some(content)) { self.retry.is_none_or(|at| t >= at) }
                    else if wait == 0 { true }
                    else {
                        self.retry = None;
                        let fresh = self.run.is_none_or(|run| run.0 != content);
                        self.run = Some((content, if fresh { t } else { self.run.unwrap().1 }, wait));
                        if fresh { self.restless(t, out); }
                        t >= self.run.unwrap().1 + wait
                    };
                if ready { self.run = None; out.built = Some(content); self.built(now, content, verdict, out); }
            }
        }
    }
    fn due(&self, now: Now, last_look: Option<Duration>) -> u64 {
        let Some(last_look) = last_look.map(|at| at.as_millis() as u64) else { return 0 };
        let poll = if self.hinted || self.asked.is_some() { 0 } else { 10_000 };
        let date = self.held.filter(|_| self.retry.is_none()).map(|(_, date)| (now.mono + date.saturating_sub(now.wall)).as_millis() as u64);
        let untold = self.bad.filter(|bad| !bad.3).map(|bad| bad.2 + 500);
        [Some(last_look + poll), self.run.map(|run| run.1 + run.2), self.retry, untold, date].into_iter().flatten().min().unwrap().max(last_look + 5)
    }
    fn built(&mut self, now: Now, content: Content, verdict: &Verdict<Cause>, out: &mut Outcome) {
        let t = now.mono.as_millis() as u64;
        match *verdict {
            Verdict::Valid => { out.published = Some(content); self.owes = false; self.well(out); }
            Verdict::Refused(cause) => { self.held = None; self.bad(t, cause, Some(content), out); }
            Verdict::NotYet(date) => {
                if self.held.is_none_or(|held| held.0 != content) { out.told.push(Notice::Held(date)); }
                (self.held, self.bad, self.retry, self.moving) = (Some((content, date.max(now.wall + ms(50)))), None, None, None);
                self.last_told = None;
                self.reply(Answer::Held(date), out);
            }
        }
    }
    fn well(&mut self, out: &mut Outcome) {
        if self.owes { out.told.push(Notice::Recovered); }
        *self = Self { asked: self.asked, pause: 50, ..Self::default() };
        self.reply(if out.published.is_some() { Answer::Reloaded } else { Answer::Unchanged }, out);
    }
    fn bad(&mut self, t: u64, cause: Cause, of: Option<Content>, out: &mut Outcome) {
        let (since, told) = match self.bad { Some((c, _, since, told)) if c == cause => (since, told),
            old => { self.pause = 50; (old.filter(|old| !old.3).map_or(t, |old| old.2), self.last_told == Some(cause)) } };
        let tell = !told && (of.is_some() || self.asked.is_some() || t >= since + 500);
        if tell { self.owes = true; self.last_told = Some(cause); out.told.push(Notice::Refused(cause)); }
        (self.bad, self.moving, self.retry) = (Some((cause, of, since, told || tell)), None, Some(t + self.pause));
        self.pause = (self.pause * 2).min(10_000);
        self.reply(Answer::Refused(cause), out);
    }
    fn restless(&mut self, t: u64, out: &mut Outcome) {
        let (since, told) = *self.moving.get_or_insert((t, false));
        if !told && t >= since + 5_000 { (self.moving, self.owes) = (Some((since, true)), true); out.told.push(Notice::StillChanging); }
    }
    fn reply(&mut self, answer: Answer<Cause>, out: &mut Outcome) { if self.asked.take().is_some() { out.answered.push(answer); } }
}

#[derive(Clone)]
struct World {
    machine: Machine<Cause>,
    twin: Twin,
    now: Now,
    last_look: Option<Duration>,
}

impl World {
    fn new() -> Self {
        let now = Now { mono: ms(0), wall: Duration::from_secs(1_000) };
        Self {
            machine: Machine::new(Timing::default()),
            twin: Twin { pause: 50, ..Twin::default() },
            now,
            last_look: None,
        }
    }

    /// Plays a round on both and returns what the machine did, having asserted that the twin does the same.
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
                    Effect::Publish { content, .. } => did.published = Some(content),
                    Effect::Tell(notice) => did.told.push(notice),
                    Effect::Answer(answer) => did.answered.push(answer),
                }
            }
            effects = next;
        }
        let mut want = Outcome::default();
        self.twin.stopped |= round.input == Input::Stop;
        self.twin.hinted |= round.input == Input::Hint;
        let due = self.twin.due(self.now, self.last_look);
        let due = due <= self.now.mono.as_millis() as u64 || round.input == Input::Reload;
        want.looked = due && !self.twin.stopped;
        if want.looked {
            self.last_look = Some(self.now.mono);
            self.twin.hinted = false;
            if round.input == Input::Reload {
                self.twin.asked.get_or_insert(self.now.mono.as_millis() as u64);
            }
            self.twin.looked(self.now, &round.seen, &round.verdict, &mut want);
        }
        assert_eq!(did, want);
        if let Some(wake) = self.machine.wake(self.now) {
            let due = self.twin.due(self.now, self.last_look);
            let (now, due) = (self.now.mono, ms(due));
            assert_eq!(wake.max(now), due.max(now), "woken at another time than something is due");
        }
        did
    }

    /// INV-05: from here on the disk rests, nothing hints, and every build passes.
    fn converges(mut self, motion: Motion) {
        if self.twin.stopped {
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
    rounds.push(idle.clone());
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
