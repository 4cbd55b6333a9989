//! The points at which a schedule chooses, and the moves that follow.

use std::{sync::PoisonError, time::Duration};

use super::{
    ASIDE, Aside, DEATH, Move, PASSED, World,
    partial_order_reduction::{Ahead, Asks},
};

impl World {
    pub(super) fn choose(&mut self, place: u8, options: usize) -> Option<usize> {
        let state = || self.state(place);
        let chosen = self.schedule.lock().unwrap_or_else(PoisonError::into_inner).choose(&state, options);
        match chosen {
            Some(choice) if options > 1 => self.chose(choice),
            Some(_) => {}
            None => self.ended = true,
        }
        chosen
    }

    /// Records a choice. A choice beside the calls is preceded by the number of occasions that
    /// passed.
    pub(super) fn chose(&mut self, choice: usize) {
        let passed = std::mem::take(&mut self.passed);
        if choice >= ASIDE {
            self.choices.extend(std::iter::repeat_n(PASSED, passed));
        }
        self.choices.push(choice);
    }

    pub(super) fn aside(&mut self, place: u8, what: Aside) -> bool {
        let state = || self.state(place);
        let happens = self.schedule.lock().unwrap_or_else(PoisonError::into_inner).aside(&state, what);
        match (happens, what) {
            (Some(true), Aside::Death) => self.chose(DEATH),
            (Some(true), Aside::Step) => self.chose(ASIDE),
            (Some(false), _) => self.passed += 1,
            (None, _) => {}
        }
        self.ended |= happens.is_none();
        happens == Some(true)
    }

    /// Lets the owner act, if the schedule says so, before a verb or a reading of the clock.
    pub(super) fn interrupt(&mut self) {
        if !self.quiet
            && !self.ended
            && self.interrupt.is_some()
            && self.choose(6, 2) == Some(1)
            && let Some((act, interrupt)) = self.interrupt.take()
        {
            self.acts(act);
            interrupt();
        }
    }

    /// Lets the publisher take as many steps as the schedule says before a question of the reader.
    pub(super) fn give_way(&mut self, asks: Asks<'_>) {
        // Without pauses a step moves no clock. The reader may then be taken to ask its clock
        // directly after its last act.
        let idle = matches!(asks, Asks::Time) && self.config.pause == Duration::ZERO;
        // The reader also asks its clock at the end of each snapshot, build and callback.
        if asks.is_verb() || matches!(asks, Asks::Time) {
            self.interrupt();
        }
        if self.quiet || self.ended || self.is_done() || idle {
            return;
        }
        if self.skips {
            self.skip_ahead(&asks);
            return;
        }
        let (is_verb, place) = (asks.is_verb(), asks.place());
        while !self.ended && !self.is_done() {
            // A reader that never idles must not starve the publisher for ever.
            let starved = is_verb && self.now.mono >= self.last_step + self.config.rest;
            let steps = starved
                || if is_verb { self.choose(place, 2) == Some(1) } else { self.aside(place, Aside::Step) };
            if !steps {
                break;
            }
            self.step_and_live(place);
        }
    }

    /// Gives way by the moves after which the reader gets other answers; see [`Ahead`].
    pub(super) fn skip_ahead(&mut self, asks: &Asks<'_>) {
        let state = || self.state(asks.place());
        let mut moves = || Ahead::moves(self, asks);
        let chosen =
            self.schedule.lock().unwrap_or_else(PoisonError::into_inner).skip_ahead(&state, &mut moves);
        let Some(Move { steps, dies }) = chosen else {
            self.ended = true;
            return;
        };
        for left in (0..steps).rev() {
            self.chose(if asks.is_verb() { 1 } else { ASIDE });
            self.step();
            let lives = left > 0 || !dies;
            self.passed += usize::from(self.script.mortal && lives && !self.is_done());
        }
        if dies {
            self.chose(DEATH);
            self.crashed = true;
        } else if !self.is_done() && asks.is_verb() {
            self.chose(0);
        } else if !self.is_done() {
            self.passed += 1;
        }
    }

    /// Takes a step, after which the publisher may die.
    pub(super) fn step_and_live(&mut self, place: u8) {
        self.step();
        if self.script.mortal && !self.is_done() {
            self.crashed = self.aside(8 + place, Aside::Death);
        }
    }

    /// Lets either the publisher step or time pass up to `wake`.
    pub(super) fn wait_or_step(&mut self, wake: Duration) -> bool {
        let may_wait = self.is_done()
            || (self.waited < self.config.waits
                && self.now.mono < self.last_step + self.config.max_quiet_wait);
        let may_step = !self.is_done();
        let options = usize::from(may_wait) + usize::from(may_step);
        match self.choose(1, options) {
            None => return false,
            Some(0) if may_wait => {
                let event = self.late.first().map(|(at, ..)| *at);
                let to = event.map_or(wake, |event| event.min(wake));
                self.waited += usize::from(may_step);
                self.advance(to);
            }
            Some(_) => self.step_and_live(1),
        }
        true
    }
}
