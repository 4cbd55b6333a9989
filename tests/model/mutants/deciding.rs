//! Wrong rules for taking snapshots, behind the same two methods as the machine.

use std::time::Duration;

use rustls_reload::{
    Now, Timing,
    internal::{
        ChangeKind,
        machine::{Effect, Input, Machine, ReadOutcome, Verdict},
    },
};

use super::{Tried, caught};

/// A rule that decides when to take a snapshot.
trait Decides {
    /// Takes an input. Returns whether to take a snapshot now.
    fn takes(&mut self, now: Now, hint: bool) -> bool;
    /// Takes the result of a snapshot: a set that one rename committed. Returns whether it is
    /// published.
    fn finds(&mut self, now: Now) -> bool;
    /// Returns the time of the next call.
    fn wake(&self, now: Now) -> Duration;
}

impl Decides for Machine<u8> {
    fn takes(&mut self, now: Now, hint: bool) -> bool {
        self.step(now, if hint { Input::Hint } else { Input::Tick }).contains(&Effect::TakeSnapshot)
    }

    fn finds(&mut self, now: Now) -> bool {
        let seen = ReadOutcome::Changed { content: 1, kind: ChangeKind::Atomic, shrinks: false };
        self.step(now, Input::SnapshotTaken(seen));
        let effects = self.step(now, Input::Built(Verdict::Valid));
        effects.iter().any(|effect| matches!(effect, Effect::Publish { .. }))
    }

    fn wake(&self, now: Now) -> Duration {
        self.wake(now).unwrap()
    }
}

/// Breaks: INV-05, INV-06. Waits until no event arrived for a second, without a limit.
struct QuietPeriod {
    received: Duration,
}

impl Decides for QuietPeriod {
    fn takes(&mut self, now: Now, hint: bool) -> bool {
        if hint {
            self.received = now.mono;
        }
        now.mono >= self.received + Duration::from_secs(1)
    }

    fn finds(&mut self, _: Now) -> bool {
        true
    }

    fn wake(&self, _: Now) -> Duration {
        self.received + Duration::from_secs(1)
    }
}

/// Breaks: INV-12. Takes a snapshot at every event.
struct EveryEvent;

impl Decides for EveryEvent {
    fn takes(&mut self, _: Now, hint: bool) -> bool {
        hint
    }

    fn finds(&mut self, _: Now) -> bool {
        false
    }

    fn wake(&self, now: Now) -> Duration {
        now.mono + Duration::from_secs(10)
    }
}

/// Sends a hint every `every` for a minute. Returns the time of the first publication and the
/// number of snapshots.
fn storm(design: &mut dyn Decides, every: Duration) -> (Option<Duration>, u32) {
    let (start, minute) = (Duration::from_secs(100), Duration::from_secs(60));
    let (mut mono, mut hint, mut published, mut snapshots) = (start, start, None, 0);
    while mono < start + minute {
        let now = Now { mono, wall: mono };
        if design.takes(now, mono >= hint) {
            snapshots += 1;
            if design.finds(now) {
                published.get_or_insert(mono - start);
            }
        }
        if mono >= hint {
            hint += every;
        }
        mono = hint.min(design.wake(now)).max(mono + Duration::from_micros(1));
    }
    (published, snapshots)
}

fn prompt(design: &mut dyn Decides) -> Result<(), String> {
    let (published, _) = storm(design, Duration::from_millis(100));
    let bound = Timing::default().settle;
    published.filter(|after| *after <= bound).map(drop).ok_or(format!("INV-05: published {published:?}"))
}

fn bounded(design: &mut dyn Decides) -> Result<(), String> {
    let (_, snapshots) = storm(design, Duration::from_micros(100));
    // The bound is 200 snapshots a second, and one at either end.
    if snapshots <= 60 * 200 + 2 { Ok(()) } else { Err(format!("INV-12: {snapshots} snapshots in a minute")) }
}

fn row(name: &str, invariant: &str, verdict: Result<(), String>) -> Result<(), String> {
    caught((name, "storm"), &[invariant], Tried::runs(1), verdict)
}

#[test]
fn inv05_inv12_machine_is_prompt_and_bounded_in_a_storm() {
    let shipped = || Machine::new(Timing::default());
    assert_eq!(prompt(&mut shipped()), Ok(()));
    assert_eq!(bounded(&mut shipped()), Ok(()));
    assert_eq!(row("QuietPeriod", "INV-05", prompt(&mut QuietPeriod { received: Duration::ZERO })), Ok(()));
    assert_eq!(row("EveryEvent", "INV-12", bounded(&mut EveryEvent)), Ok(()));
    assert!(row("(repaired)", "INV-05", prompt(&mut shipped())).is_err());
    assert!(row("(repaired)", "INV-12", bounded(&mut shipped())).is_err());
}
