//! The simulated world, which is far faster than the real one, and in which every instant is known.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls_reload::{Published, Timing};
use rustls_reload_harness::sim::{Design, Record, Schedule, Sim, Value};

use super::{
    case::Act,
    oracle::{CaseHistory, longest},
    plan::{Part, Plan},
};

/// Chooses who goes next. The publisher takes at most the allowed steps.
struct Turns {
    allowed: usize,
    /// Whether the publisher goes next in any case.
    due: bool,
    dice: u64,
    /// The publisher's weight out of 256.
    weight: u64,
}

impl Schedule for Turns {
    fn choose(&mut self, _: &dyn Fn() -> u64, options: usize) -> Option<usize> {
        if options < 2 || self.allowed == 0 {
            return Some(0);
        }
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let steps = std::mem::take(&mut self.due) || self.dice >> 40 & 255 < self.weight;
        self.allowed -= usize::from(steps);
        Some(usize::from(steps))
    }

    fn keep(&mut self, _: &dyn Fn() -> u64) -> u64 {
        0
    }
}

struct Player<D> {
    sim: Sim,
    turns: Arc<Mutex<Turns>>,
    design: D,
    /// The value of the last handshake.
    served: Option<Arc<Published<Value>>>,
    running: bool,
    /// The operation of a manual reload that waits for its answer.
    asked: Option<usize>,
    timing: Timing,
}

/// Runs a plan on a design.
pub fn play<D: Design>(plan: &Plan) -> CaseHistory {
    let timing = Timing::default();
    let turns = Arc::new(Mutex::new(Turns { allowed: 0, due: false, dice: 0, weight: 0 }));
    let sim = Sim::new(&plan.script, timing.settle, plan.config, turns.clone());
    let design = D::load(&sim, &plan.paths).unwrap_or_else(|why| panic!("a base that can be loaded: {why}"));
    let first = design.current();
    sim.note(Record::Published { generation: first.generation, files: first.value.files.clone() });
    sim.note(Record::Loaded(Ok(())));
    sim.release();
    let mut player = Player { sim, turns, design, served: None, running: false, asked: None, timing };
    player.start(0);
    let mut status = HashMap::new();
    for (number, part) in plan.parts.iter().enumerate() {
        player.go_on(timing.settle * part.op.wait / 100);
        player.part(number, part);
        if part.op.act == Act::Calm {
            status.extend(player.design.status().map(|status| (number, status)));
        }
    }
    let history = player.sim.history();
    CaseHistory {
        history,
        status,
        timing,
        events: Some(plan.config.events),
        observations: Vec::new(),
        meetings: Vec::new(),
    }
}

impl<D: Design> Player<D> {
    fn turns(&self) -> std::sync::MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&mut self, number: usize) {
        if !self.running {
            self.running = true;
            self.sim.note(Record::Mark("start", number));
            self.sim.begin_step(&|| 0);
            self.design.begin();
            self.observe();
        }
    }

    fn part(&mut self, number: usize, part: &Part) {
        let begun = !part.steps.is_empty();
        if begun {
            let weights = [2, 8, 24, 60, 128, 230];
            let mut turns = self.turns();
            turns.dice = u64::from(part.op.salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            turns.weight = weights[usize::from(part.op.salt) % weights.len()];
        }
        if part.pause == 0 {
            self.steps(part.steps.len());
        } else {
            for _ in part.steps.clone() {
                self.go_on(self.timing.settle * part.pause / 100);
                self.steps(1);
            }
        }
        match part.op.act {
            Act::Clock(minutes) => {
                self.sim.note(Record::Mark("clock", number));
                self.sim.set_clock(i64::from(minutes) * 60);
            }
            Act::Reload => self.reload(number),
            Act::Ask => self.ask(number),
            Act::Stop if self.running => {
                self.design.end();
                (self.running, self.asked) = (false, None);
                self.sim.note(Record::Mark("stop", number));
            }
            Act::Start => self.start(number),
            Act::Calm => {
                self.go_on(longest(&self.timing));
                self.sim.note(Record::Mark("calm", number));
            }
            _ => {}
        }
    }

    fn ask(&mut self, number: usize) {
        self.sim.note(Record::Mark("ask", number));
        self.design.ask();
        self.asked = Some(number);
        self.answer();
    }

    fn answer(&mut self) {
        if let Some(number) = self.asked
            && self.design.is_answered()
        {
            self.sim.note(Record::Mark("answer", number));
            self.asked = None;
        }
    }

    fn reload(&mut self, number: usize) {
        self.ask(number);
        let patient = self.sim.now().mono + self.timing.still_changing_after + self.timing.poll;
        while self.asked.is_some() && !self.sim.ended() {
            if self.sim.now().mono > patient {
                self.sim.note(Record::StopTimeout("a reload by hand is not answered"));
                return;
            }
            self.turn(self.timing.poll);
        }
    }

    /// Lets the publisher take this many steps, each at a random moment before the reader runs out
    /// of work.
    fn steps(&mut self, count: usize) {
        self.turns().allowed = count;
        while self.turns().allowed > 0 && !self.sim.ended() {
            if !self.running || !self.work() {
                self.turns().due = true;
                self.sim.idle(Some(Duration::from_secs(1)));
            }
        }
    }

    /// Lets time pass, in which the reader goes on.
    fn go_on(&mut self, time: Duration) {
        let end = self.sim.now().mono + time;
        loop {
            let left = end.saturating_sub(self.sim.now().mono);
            if left.is_zero() || self.sim.ended() {
                return;
            }
            self.turn(left);
        }
    }

    /// Lets the reader take a step. Without one, lets time pass until there is one, for at most
    /// `limit`.
    fn turn(&mut self, limit: Duration) {
        if !self.running {
            self.sim.idle(Some(limit));
        } else {
            self.sim.begin_step(&|| 0);
            match self.design.turn() {
                Ok(()) => {}
                Err(pause) => {
                    self.sim.idle(pause.map(|pause| pause.min(limit)));
                }
            }
            self.observe();
        }
    }

    /// Lets the reader take a step, if one is due.
    fn work(&mut self) -> bool {
        self.sim.begin_step(&|| 0);
        let works = self.design.turn().is_ok();
        self.observe();
        works
    }

    /// Makes a handshake, and records its value if that is new.
    fn observe(&mut self) {
        self.answer();
        let current = self.design.current();
        if self.served.as_ref().is_none_or(|served| !Arc::ptr_eq(served, &current)) {
            let (generation, object) = (current.generation, Arc::as_ptr(&current).addr());
            self.sim.note(Record::Served { generation, object, files: current.value.files.clone() });
            self.served = Some(current);
        }
    }
}
