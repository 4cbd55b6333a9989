//! What may be told of a case, whichever world it was played in: the invariants over one history.

use std::{collections::HashMap, fmt, time::Duration};

use rustls_reload::{Event, Status, Timing};
use rustls_reload_harness::sim::{self, At, BY_PATH, Contents, EPOCH, Events, Record, Run};
use rustls_reload_testkit::Op as Step;

use super::{case::Act, plan::Plan};

/// What happened in a case.
pub struct CaseHistory {
    pub history: Vec<At>,
    /// What the server said of itself at the end of each calm, by the number of the operation.
    pub status: HashMap<usize, Status>,
    pub timing: Timing,
    /// What became of file events; `None` where nobody can say.
    pub events: Option<Events>,
    /// What each of the clients saw, in order.
    pub sights: Vec<Vec<Observation>>,
}

/// A handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub generation: u64,
    /// Which object was served.
    pub object: usize,
    /// What the client was shown; it is not shown the key.
    pub files: Contents,
}

/// An invariant that does not hold, and what was seen.
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

/// The bound of INV-05 with everything that may come together: the files only shrink, no event arrives, and a retry has
/// just begun to wait.
pub fn longest(timing: &Timing) -> Duration {
    timing.shrink_settle + timing.poll + timing.poll + LOOK
}

/// For looks and builds themselves, in simulated worlds: late events and the gaps between looks are in it too.
const LOOK: Duration = Duration::from_millis(100);

/// For what a real file system's timestamps tick by at most, and what a loaded machine adds.
const TICK: Duration = Duration::from_millis(20);

/// Judges a case.
///
/// # Errors
/// The first violation.
pub fn judge(plan: &Plan, tale: &CaseHistory) -> Verdict {
    let faulted = tale.history.iter().any(|at| match &at.record {
        // Other users of the machine may have taken all watchers there are.
        Record::Told(Event::Degraded { error }) => {
            tale.events.is_none() && error.to_string().contains("inotify instances")
        }
        _ => false,
    });
    let run = Run {
        history: tale.history.clone(),
        choices: Vec::new(),
        breached: true,
        crashed: false,
        complete: true,
        outcome: 0,
        looks: Vec::new(),
        last_step: Duration::ZERO,
        faulted,
        status: None,
    };
    sim::at_every_moment(&run).map_err(|violation| Violation(violation.to_string()))?;
    let mut judge = Judge::new(plan, tale);
    for at in &tale.history {
        judge.takes(at)?;
    }
    tale.sights.iter().try_for_each(|sights| judge.sees(sights))
}

struct Judge<'a> {
    plan: &'a Plan,
    tale: &'a CaseHistory,
    /// The port has no directory handles: nothing is committed by a rename.
    by_path: bool,
    /// What the paths held, and from when until when.
    stood: Vec<(Duration, Duration, &'a Contents)>,
    /// A step that changes what the paths hold may have been taken or not.
    taking: bool,
    /// When a link was last renamed into the place of a directory: what is written within the same tick is not known to
    /// be younger.
    renamed: Duration,
    /// When what came so soon after that began to stand.
    tied: Vec<Duration>,
    /// The last step, or whatever else somebody did: after it the bound of INV-05 begins.
    last_step: Duration,
    running: bool,
    by_hand: bool,
    /// What was judged by hand: somebody has said that it is finished.
    asserted: Vec<&'a Contents>,
    /// By how much the wall clock was set, in seconds.
    clock: i64,
    published: Vec<(Duration, u64, &'a Contents)>,
    /// Something was told to be wrong and not that it is over.
    trouble: bool,
    /// Something was refused, or the clock was set, since the last calm.
    eventful: bool,
    /// All is as it has to be, and nothing has changed since.
    calm: bool,
    /// When the last calm ended.
    calmed: Duration,
}

impl<'a> Judge<'a> {
    fn new(plan: &'a Plan, tale: &'a CaseHistory) -> Self {
        Self {
            plan,
            tale,
            by_path: tale.history.iter().any(|at| matches!(at.record, Record::Mark(BY_PATH, _))),
            stood: Vec::new(),
            taking: false,
            renamed: Duration::ZERO,
            tied: Vec::new(),
            last_step: Duration::ZERO,
            running: false,
            by_hand: false,
            asserted: Vec::new(),
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
                // What was out of reach for a moment and is back as it was has stood all the while; and so has, for all that a
                // stamp shows, what was written anew with the same bytes within the tick in which it began to stand.
                let whole = |held: &Contents| held.iter().all(Option::is_some);
                let last = self.stood.iter().rev().find(|(.., held)| whole(held));
                let tick = self.plan.weather.tick;
                let same = |(from, _, held): &&(Duration, Duration, &Contents)| {
                    *held == contents && at.mono < *from + tick
                };
                let before = last.filter(|(.., held)| *held == contents);
                let before = before.or_else(|| self.stood.iter().rev().find(same));
                let since = before.map_or(at.mono, |(from, ..)| *from);
                self.stood.push((since, at.mono, contents));
                self.tied.extend((at.mono < self.renamed + TICK).then_some(since));
                // On a simulated disk it is taken with that.
                self.taking = self.tale.events.is_none();
                self.calm = false;
            }
            Record::Step(index) => {
                self.last_step = at.mono;
                self.renames(at.mono, *index);
                // What is not served settles anew when it is touched, and why it cannot be read may change.
                let disk = self.stood.last().map(|(.., disk)| *disk);
                self.calm &= disk == self.published.last().map(|(.., files)| *files);
            }
            Record::Judged { files, .. } => self.finished(at.mono, files)?,
            Record::Published { generation, files } => {
                if *generation > 1 {
                    self.publishes(at.mono, files)?;
                }
                self.published.push((at.mono, *generation, files));
            }
            Record::Told(event) => self.tells(event)?,
            Record::Mark(what, number) => self.mark(at.mono, what, *number)?,
            _ => {}
        }
        Ok(())
    }

    fn mark(&mut self, mono: Duration, what: &str, number: usize) -> Verdict {
        match what {
            "start" => (self.running, self.last_step) = (true, mono),
            // Whoever asked has been answered with that.
            "stop" => (self.running, self.by_hand) = (false, false),
            "ask" => self.by_hand = true,
            "answer" => self.by_hand = false,
            // A real step is noted before it is taken, and this when it has been.
            "taken" => {
                self.stands(mono);
                self.taking = false;
                self.renames(mono, number);
            }
            "clock" => {
                let Act::Clock(minutes) = self.plan.parts[number].op.act else { return Ok(()) };
                self.clock += i64::from(minutes) * 60;
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

    /// What was there until now was there until now; and so may be what was there before a step that may not be taken yet.
    fn stands(&mut self, mono: Duration) {
        let last = if self.taking { 2 } else { 1 };
        self.stood.iter_mut().rev().take(last).for_each(|(_, until, _)| *until = mono);
    }

    /// INV-01 (b), INV-11: what is judged is a finished update, or has stood for the settle time (which breaks ASM-05), or
    /// somebody has said that it is finished.
    fn finished(&mut self, mono: Duration, files: &'a Contents) -> Verdict {
        self.stands(mono);
        if self.by_hand {
            self.asserted.push(files);
        }
        let Plan { contents, finished, .. } = self.plan;
        let is_whole = || contents.iter().zip(finished).any(|(whole, done)| *done && whole == files);
        let stood = || {
            let long = |(from, until, held): &(Duration, Duration, &Contents)| {
                *held == files && *from + self.enough(*from) <= *until
            };
            self.stood.iter().any(long)
        };
        let asserted = self.asserted.contains(&files);
        // Both looks came after it was there, and they are a settle time apart.
        let settled = |(from, _, held): &(Duration, Duration, &Contents)| {
            *held == files && *from + self.tale.timing.settle <= mono
        };
        if self.by_path && !asserted && !self.stood.iter().any(settled) {
            return broken(format!("INV-01 (b): judged before it had settled: {}", show(files)));
        }
        if asserted || is_whole() || stood() {
            return Ok(());
        }
        broken(format!("INV-01 (b): an unfinished update was judged: {}", show(files)))
    }

    fn renames(&mut self, mono: Duration, step: usize) {
        if matches!(&self.plan.steps[step], Step::Rename(_, to) if to.ends_with("..data") || to.ends_with("current"))
        {
            self.renamed = mono;
        }
    }

    /// How long what began to stand then has to stand to count as finished. On real files whoever looks and whoever notes
    /// may be late, so that ASM-05 and ASM-06 are kept only where they are kept with room.
    fn enough(&self, from: Duration) -> Duration {
        let timing = &self.tale.timing;
        match self.tale.events {
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
            // That the date came is what has changed.
            self.calm &= date <= self.wall(self.calmed);
        }
        Ok(())
    }

    fn wall(&self, mono: Duration) -> Duration {
        let wall = EPOCH.wall + mono.saturating_sub(EPOCH.mono);
        let by = Duration::from_secs(self.clock.unsigned_abs());
        if self.clock < 0 { wall.saturating_sub(by) } else { wall + by }
    }

    fn tells(&mut self, event: &Event) -> Verdict {
        match event {
            Event::Refused { .. } | Event::StillChanging { .. } => {
                (self.trouble, self.eventful) = (true, true)
            }
            Event::Published { .. } | Event::Recovered { .. } => self.trouble = false,
            _ => {}
        }
        let daily = matches!(event, Event::Started | Event::Stopped | Event::Warning { .. });
        if self.calm && !daily {
            return broken(format!("INV-08: told while nothing changed: {event}"));
        }
        Ok(())
    }

    /// INV-05, INV-08, INV-11, at the end of a calm.
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
            return broken(format!("INV-11: the disk cannot be served and nothing tells so: {}", show(disk)));
        }
        if self.running && same && self.trouble {
            return broken("INV-11: the end of trouble was not told");
        }
        if same && *published >= *since {
            let date = sim::not_before(disk).unwrap_or_default();
            let due = published.saturating_sub(self.wall(*published).saturating_sub(date));
            self.in_time(*published, due)?;
        }
        let Some(status) = self.tale.status.get(&number).filter(|_| self.running) else { return Ok(()) };
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

    /// INV-05, where every event arrives and nothing else happened: the settle time, and that is it.
    fn in_time(&self, published: Duration, due: Duration) -> Verdict {
        let late = published.saturating_sub(self.last_step.max(due));
        let timing = &self.tale.timing;
        let prompt = matches!(self.tale.events, Some(Events::Delivered | Events::Doubled | Events::Late));
        let bound = match self.tale.events {
            // The machine may be loaded.
            None => return Ok(()),
            Some(_) if self.eventful || !prompt => longest(timing),
            Some(_) if self.shrank() => timing.shrink_settle + LOOK,
            Some(_) => timing.settle + LOOK,
        };
        if late > bound {
            return broken(format!("INV-05: served {late:?} after the last step, the bound is {bound:?}"));
        }
        Ok(())
    }

    /// Whether the last publication lacks an end of the one before it.
    fn shrank(&self) -> bool {
        let [.., (_, _, old), (_, _, new)] = self.published[..] else { return false };
        old.iter().zip(new).any(|files| match files {
            (Some(old), Some(new)) => new.len() < old.len() && old.starts_with(new),
            _ => false,
        })
    }

    /// INV-01, INV-03, INV-04 as a client sees them: generations never go back, each is one object, and it is what was
    /// published under its number.
    fn sees(&self, sights: &[Observation]) -> Verdict {
        let mut last: Option<&Observation> = None;
        for sight in sights {
            let Observation { generation, object, files } = sight;
            if last.is_some_and(|last| last.generation > *generation) {
                return broken(format!("INV-04: a client sees {generation} after {last:?}"));
            }
            if last.is_some_and(|last| last.generation == *generation && last.object != *object) {
                return broken(format!("INV-03: generation {generation} is two objects"));
            }
            let published = self.published.iter().find(|(_, number, _)| number == generation);
            let Some((_, _, whole)) = published else {
                return broken(format!("INV-03: a client sees {generation}, which was not published"));
            };
            if files[sim::CHAIN] != whole[sim::CHAIN] || files[sim::CA] != whole[sim::CA] {
                return broken(format!("INV-01: a client is shown {}, not {}", show(files), show(whole)));
            }
            last = Some(sight);
        }
        Ok(())
    }
}

/// The blocks of a set, in short.
pub fn show(files: &Contents) -> String {
    let file = |bytes: &Option<std::sync::Arc<Vec<u8>>>| match bytes {
        None => "-".to_owned(),
        Some(bytes) => String::from_utf8_lossy(bytes).trim_end().replace('\n', "."),
    };
    files.iter().map(file).collect::<Vec<_>>().join(" | ")
}
