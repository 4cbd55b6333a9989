//! The oracle: the invariants over the history of a case, which apply to both kinds of worlds.

mod observations;
mod promptness;

use std::{collections::HashMap, fmt, time::Duration};

use super::{case::Act, for_life::Meeting, plan::Plan};
pub use observations::Observation;
pub use promptness::longest;
use rustls_reload::{Event, Status, Timing};
use rustls_reload_harness::sim::{self, At, BY_PATH, Contents, EPOCH, Events, Record, Run};
use rustls_reload_testkit::Op as Step;

/// The history of a case.
pub struct CaseHistory {
    pub history: Vec<At>,
    /// The status of the server at the end of each calm, by the number of the operation.
    pub status: HashMap<usize, Status>,
    pub timing: Timing,
    /// The treatment of file events; `None` where it is unknown.
    pub events: Option<Events>,
    /// The observations of each client, in order.
    pub observations: Vec<Vec<Observation>>,
    /// The handshakes of one configuration for life.
    pub meetings: Vec<Meeting>,
}

/// A violated invariant with the observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

type Verdict = Result<(), Violation>;

fn broken(why: impl Into<String>) -> Verdict {
    Err(Violation(why.into()))
}

/// The longest tick of a real file system's timestamps, with the delay of a loaded machine.
const TICK: Duration = Duration::from_millis(20);

/// Evaluates a case.
///
/// # Errors
/// The first violation.
pub fn evaluate(plan: &Plan, case: &CaseHistory) -> Verdict {
    let faulted = case.history.iter().any(|at| match &at.record {
        // Other users of the machine may have taken all inotify instances.
        Record::Reported(Event::Degraded { error }) => {
            case.events.is_none() && error.to_string().contains("inotify instances")
        }
        _ => false,
    });
    let run = Run {
        history: case.history.clone(),
        choices: Vec::new(),
        breached: true,
        crashed: false,
        complete: true,
        outcome: 0,
        snapshots: Vec::new(),
        last_step: Duration::ZERO,
        faulted,
        status: None,
    };
    sim::at_every_moment(&run).map_err(|violation| Violation(violation.to_string()))?;
    let mut checker = Checker::new(plan, case);
    for (index, at) in case.history.iter().enumerate() {
        checker.before = &case.history[..index];
        checker.takes(at)?;
    }
    case.observations.iter().try_for_each(|observations| checker.sees(observations))?;
    case.meetings.iter().try_for_each(|meeting| checker.meets(meeting))
}

struct Checker<'a> {
    plan: &'a Plan,
    case: &'a CaseHistory,
    /// The records before the one at hand.
    before: &'a [At],
    /// Whether the port has no directory handles, so that no rename commits.
    by_path: bool,
    /// The contents of the paths, each with its first and last time.
    stood: Vec<(Duration, Duration, &'a Contents)>,
    /// Whether a step that changes the contents of the paths may or may not have been taken yet.
    taking: bool,
    /// The time of the last rename of a link in the place of a directory. A write within the same
    /// tick may be older or younger.
    renamed: Duration,
    /// The begin of contents that followed such a rename within a tick.
    tied: Vec<Duration>,
    /// Whether the clock was set back after such a rename and before an evaluation of what it moved. A write that follows then is older by its timestamps (limits, "a clock that is set
    /// back").
    antedated: bool,
    /// Whether contents were evaluated since that rename.
    looked: bool,
    /// The last step, or another action, from which the bound of INV-05 counts.
    last_step: Duration,
    running: bool,
    by_hand: bool,
    /// Contents that were evaluated for a manual reload, which says that they are finished.
    asserted: Vec<&'a Contents>,
    /// The last evaluated contents: rejected or deferred ones are evaluated again without settling
    /// again.
    evaluated: Option<&'a Contents>,
    /// The shift of the wall clock, in seconds.
    clock: i64,
    published: Vec<(Duration, u64, &'a Contents)>,
    /// Whether trouble was reported and its end was not.
    trouble: bool,
    /// Whether a refusal was reported or the clock was set since the last calm.
    eventful: bool,
    /// Whether the state is as it has to be, and nothing has changed since.
    calm: bool,
    /// The end of the last calm.
    calmed: Duration,
}

impl<'a> Checker<'a> {
    fn new(plan: &'a Plan, case: &'a CaseHistory) -> Self {
        Self {
            plan,
            case,
            before: &[],
            by_path: case.history.iter().any(|at| matches!(at.record, Record::Mark(BY_PATH, _))),
            stood: Vec::new(),
            taking: false,
            renamed: Duration::ZERO,
            tied: Vec::new(),
            antedated: false,
            looked: true,
            last_step: Duration::ZERO,
            running: false,
            by_hand: false,
            asserted: Vec::new(),
            evaluated: None,
            clock: 0,
            published: Vec::new(),
            trouble: false,
            eventful: false,
            calm: false,
            calmed: Duration::ZERO,
        }
    }

    fn takes(&mut self, at: &'a At) -> Verdict {
        match &at.record {
            Record::Disk(contents) => {
                self.stands(at.mono);
                // A file that was missing for a moment and is equal again counts as unchanged. As
                // far as timestamps show, so does a file that was rewritten with equal bytes within
                // the tick in which it appeared.
                let whole = |held: &Contents| held.iter().all(Option::is_some);
                let last = self.stood.iter().rev().find(|(.., held)| whole(held));
                let tick = self.plan.config.tick;
                let same = |(from, _, held): &&(Duration, Duration, &Contents)| {
                    *held == contents && at.mono < *from + tick
                };
                let before = last.filter(|(.., held)| *held == contents);
                let before = before.or_else(|| self.stood.iter().rev().find(same));
                let since = before.map_or(at.mono, |(from, ..)| *from);
                self.stood.push((since, at.mono, contents));
                self.tied.extend((at.mono < self.renamed + TICK).then_some(since));
                // On a simulated disk the record and the step happen together.
                self.taking = self.case.events.is_none();
                self.calm = false;
            }
            Record::Step(index) => {
                self.last_step = at.mono;
                self.renames(at.mono, *index);
                // Unserved files settle anew when they are touched, and the reason why they cannot
                // be read may change.
                let disk = self.stood.last().map(|(.., disk)| *disk);
                self.calm &= disk == self.published.last().map(|(.., files)| *files);
            }
            Record::Evaluated { files, .. } => self.finished(at.mono, files)?,
            Record::Published { generation, files } => {
                if *generation > 1 {
                    self.publishes(at.mono, files)?;
                }
                self.published.push((at.mono, *generation, files));
            }
            Record::Reported(event) => self.check_report(event)?,
            Record::Mark(what, number) => self.mark(at.mono, what, *number)?,
            _ => {}
        }
        Ok(())
    }

    fn mark(&mut self, mono: Duration, what: &str, number: usize) -> Verdict {
        match what {
            "start" => (self.running, self.last_step) = (true, mono),
            // The stop has answered every request.
            "stop" => (self.running, self.by_hand) = (false, false),
            "ask" => self.by_hand = true,
            "answer" => self.by_hand = false,
            // On real files a step is recorded before it is taken, and this record follows it.
            "taken" => {
                self.stands(mono);
                self.taking = false;
                self.renames(mono, number);
            }
            "clock" => {
                let Act::Clock(minutes) = self.plan.parts[number].op.act else { return Ok(()) };
                self.clock += i64::from(minutes) * 60;
                self.antedated |= minutes < 0 && !self.looked;
                (self.calm, self.eventful, self.last_step) = (false, true, mono);
            }
            "calm" => {
                self.is_calm(mono, number)?;
                (self.calm, self.eventful, self.calmed) = (self.running, false, mono);
            }
            _ => {}
        }
        Ok(())
    }

    /// Extends the present contents to this time, and also the contents before a step that may not
    /// be taken yet.
    fn stands(&mut self, mono: Duration) {
        let last = if self.taking { 2 } else { 1 };
        self.stood.iter_mut().rev().take(last).for_each(|(_, until, _)| *until = mono);
    }

    /// Checks INV-01 (b) and INV-11: evaluated contents are a finished update, or have stood for
    /// the settle time (which breaks ASM-05), or belong to a manual reload.
    fn finished(&mut self, mono: Duration, files: &'a Contents) -> Verdict {
        self.stands(mono);
        if self.by_hand {
            self.asserted.push(files);
        }
        // The first look alone: a symlink that was read before commits nothing that changes later.
        let antedated = std::mem::take(&mut self.antedated);
        let again = self.evaluated.replace(files) == Some(files);
        self.looked = true;
        let Plan { contents, finished, .. } = self.plan;
        let is_whole = || contents.iter().zip(finished).any(|(whole, done)| *done && whole == files);
        let stood = || {
            let long = |(from, until, held): &(Duration, Duration, &Contents)| {
                *held == files && *from + self.enough(*from) <= *until
            };
            self.stood.iter().any(long)
        };
        let asserted = self.asserted.contains(&files);
        // Both snapshots came after the content appeared, and they are a settle time apart.
        let settle = self.case.timing.settle;
        let appeared =
            |(from, _, held): &(Duration, Duration, &Contents)| *held == files && *from + settle <= mono;
        // A real port does not record its answers.
        let settled = || match self.case.events {
            Some(_) => sim::was_seen_to_settle(self.before, settle),
            None => self.stood.iter().any(appeared),
        };
        if self.by_path && !asserted && !again && !settled() {
            return broken(format!("INV-01 (b): evaluated before it had settled: {}", show(files)));
        }
        if asserted || antedated || is_whole() || stood() {
            return Ok(());
        }
        broken(format!("INV-01 (b): an unfinished update was evaluated: {}", show(files)))
    }

    fn renames(&mut self, mono: Duration, step: usize) {
        if matches!(&self.plan.steps[step], Step::Rename(_, to) if to.ends_with("..data") || to.ends_with("current"))
        {
            (self.renamed, self.antedated, self.looked) = (mono, false, false);
        }
    }

    /// Returns how long contents that appeared then have to stand to count as finished. On real
    /// files the reader and the recorder may be late, so that ASM-05 and ASM-06 need a margin.
    fn enough(&self, from: Duration) -> Duration {
        let timing = &self.case.timing;
        match self.case.events {
            Some(_) => timing.settle,
            None if self.tied.contains(&from) => timing.tie_recheck / 2,
            None => timing.settle * 3 / 4,
        }
    }

    fn publishes(&mut self, mono: Duration, files: &Contents) -> Verdict {
        if !self.running && !self.by_hand {
            return broken("INV-13: published after a stop");
        }
        if let Some(date) = sim::not_before(files) {
            if date > self.wall(mono) {
                return broken("INV-02: published before its date");
            }
            // The date has been reached, which is the change.
            self.calm &= date <= self.wall(self.calmed);
        }
        Ok(())
    }

    fn wall(&self, mono: Duration) -> Duration {
        let wall = EPOCH.wall + mono.saturating_sub(EPOCH.mono);
        let by = Duration::from_secs(self.clock.unsigned_abs());
        if self.clock < 0 { wall.saturating_sub(by) } else { wall + by }
    }

    fn check_report(&mut self, event: &Event) -> Verdict {
        match event {
            Event::Refused { .. } | Event::StillChanging { .. } => {
                (self.trouble, self.eventful) = (true, true)
            }
            Event::Published { .. } | Event::Recovered { .. } => self.trouble = false,
            _ => {}
        }
        let daily = matches!(event, Event::Started { .. } | Event::Stopped | Event::Warning { .. });
        if self.calm && !daily {
            return broken(format!("INV-08: reported while nothing changed: {event}"));
        }
        Ok(())
    }

    /// Checks INV-05, INV-08 and INV-11 at the end of a calm.
    fn is_calm(&self, mono: Duration, number: usize) -> Verdict {
        let (Some((since, _, disk)), Some((published, generation, served))) =
            (self.stood.last(), self.published.last())
        else {
            return Ok(());
        };
        let same = disk == served;
        let waits = sim::not_before(disk).filter(|date| *date > self.wall(mono) && sim::is_valid(disk));
        if self.running && !same && sim::is_valid(disk) && waits.is_none() {
            return broken(format!("INV-05: served: {}; on disk: {}", show(served), show(disk)));
        }
        if self.running && !sim::is_valid(disk) && !self.trouble {
            return broken(format!(
                "INV-11: the disk cannot be served and nothing reports it: {}",
                show(disk)
            ));
        }
        if self.running && same && self.trouble {
            return broken("INV-11: the end of trouble was not reported");
        }
        if same && *published >= *since {
            let date = sim::not_before(disk).unwrap_or_default();
            let due = published.saturating_sub(self.wall(*published).saturating_sub(date));
            self.in_time(*published, due)?;
        }
        let Some(status) = self.case.status.get(&number).filter(|_| self.running) else { return Ok(()) };
        let refused = status.refused.as_ref().map(|refused| refused.error.layer());
        let says =
            (status.generation, status.differs_since.is_some(), refused, status.deferred_until.is_some());
        let held = waits.is_some() && !same;
        let right = status.generation == *generation
            && status.differs_since.is_some() != same
            && refused.is_some() != (same || held)
            && status.deferred_until.is_some() == held;
        if right {
            return Ok(());
        }
        broken(format!("INV-11: the disk is served: {same}, generation {generation}; status says {says:?}"))
    }
}

/// Formats the blocks of a set briefly.
pub fn show(files: &Contents) -> String {
    let file = |bytes: &Option<std::sync::Arc<Vec<u8>>>| match bytes {
        None => "-".to_owned(),
        Some(bytes) => String::from_utf8_lossy(bytes).trim_end().replace('\n', "."),
    };
    files.iter().map(file).collect::<Vec<_>>().join(" | ")
}
