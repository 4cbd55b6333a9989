//! The checks of a history. They know the promises of the public interface and none of the code.

use std::collections::BTreeMap;

use rustls_reload::{Event, Layer, Reload, StartError};

use super::{
    history::{Outcome, Phase, Record, Tick, Verdict},
    plan::Kind,
};

/// A call that has ended.
#[derive(Clone, Debug)]
pub struct Called {
    pub call: usize,
    pub reloader: usize,
    pub kind: Kind,
    /// Whether code called by the reloader's driver made the call.
    pub driver: bool,
    pub phase: Phase,
    pub begin: Tick,
    pub end: Tick,
    pub outcome: Outcome,
    /// The generations served at the begin and the end of the call.
    pub generations: [u64; 2],
}

impl Called {
    fn stops(&self) -> bool {
        matches!(self.kind, Kind::Stop | Kind::Drop)
    }

    fn starts(&self) -> bool {
        self.outcome == Outcome::Start(Ok(()))
    }

    fn during(&self, from: Tick, to: Tick) -> bool {
        self.begin < to && from < self.end
    }
}

pub struct Seen {
    pub records: Vec<Record>,
    pub calls: Vec<Called>,
}

impl Seen {
    pub fn of(records: Vec<Record>) -> Self {
        let mut begun = BTreeMap::new();
        let mut calls = Vec::new();
        for (tick, record) in records.iter().enumerate() {
            match record {
                Record::Began { call, reloader, kind, driver, phase } => {
                    begun.insert(*call, (tick, *reloader, *kind, *driver, *phase));
                }
                Record::Ended { call, outcome, generations } => {
                    let Some((begin, reloader, kind, driver, phase)) = begun.remove(call) else {
                        continue;
                    };
                    let (call, outcome, generations, end) = (*call, outcome.clone(), *generations, tick);
                    let called =
                        Called { call, reloader, kind, driver, phase, begin, end, outcome, generations };
                    calls.push(called);
                }
                _ => {}
            }
        }
        Self { records, calls }
    }

    pub fn of_one(&self, reloader: usize) -> impl Iterator<Item = &Called> {
        self.calls.iter().filter(move |call| call.reloader == reloader)
    }

    /// Returns the begin of a start that no stop can have undone.
    pub fn must_run_since(&self, reloader: usize) -> Option<Tick> {
        let starts = self.of_one(reloader).filter(|call| call.starts());
        let undone = |from| self.of_one(reloader).any(|call| call.stops() && call.end > from);
        starts.map(|start| start.begin).filter(|begin| !undone(*begin)).max()
    }

    pub fn was_started(&self, reloader: usize) -> bool {
        self.of_one(reloader).any(Called::starts)
    }

    /// Returns whether the reloader was certainly stopped from `from` until `to`.
    pub fn is_stopped(&self, reloader: usize, from: Tick, to: Tick) -> bool {
        let undone =
            |stop: &Called| self.of_one(reloader).any(|start| start.starts() && start.during(stop.begin, to));
        self.of_one(reloader).any(|stop| stop.stops() && stop.end < from && !undone(stop))
    }

    /// Returns whether a stop may explain an answer between these times.
    fn may_be_stopped(&self, reloader: usize, from: Tick, to: Tick) -> bool {
        let undone = |stop: &Called| {
            self.of_one(reloader).any(|start| start.starts() && start.begin > stop.end && start.end < from)
        };
        // Every stop is waited for, so each has ended by the end of the history.
        self.of_one(reloader).any(|stop| stop.stops() && stop.begin < to && !undone(stop))
    }

    /// Returns whether a stop ended, or may have ended, after `tick`.
    pub fn stopped_after(&self, reloader: usize, tick: Tick) -> bool {
        self.of_one(reloader).any(|call| call.stops() && call.end > tick)
    }

    /// Returns the numbers that were published, by generation.
    fn published(&self, reloader: usize) -> BTreeMap<u64, u64> {
        let published = self.records.iter().filter_map(|record| match record {
            Record::Published { reloader: of, generation, number } if *of == reloader => {
                Some((*generation, *number))
            }
            _ => None,
        });
        published.chain([(1, 0)]).collect()
    }

    /// Returns the verdicts, recorded before `to`, of builds whose attempts began after `from`.
    fn builds(&self, reloader: usize, from: Tick, to: Tick) -> impl Iterator<Item = &Verdict> {
        self.records[..to].iter().filter_map(move |record| match record {
            Record::Built { reloader: of, attempt, verdict, .. } if *of == reloader && *attempt > from => {
                Some(verdict)
            }
            _ => None,
        })
    }

    /// Returns the files that each attempt read, by the begin of the attempt.
    fn reads(&self, reloader: usize) -> BTreeMap<Tick, [Option<&str>; 2]> {
        let mut reads = BTreeMap::<Tick, [Option<&str>; 2]>::new();
        for record in &self.records {
            match record {
                Record::Read { reloader: of, attempt, file, text } if *of == reloader => {
                    reads.entry(*attempt).or_default()[*file] = Some(text);
                }
                _ => {}
            }
        }
        reads
    }

    /// Returns every violation by one reloader.
    pub fn violations(&self, reloader: usize) -> Vec<String> {
        let mut wrong = Vec::new();
        for called in self.of_one(reloader) {
            let why = match &called.outcome {
                Outcome::Reload(answer) => self.reload(called, answer),
                Outcome::Start(answer) => self.start(called, answer),
                Outcome::Stop(Err(stuck)) => Some(format!("{stuck}")),
                Outcome::Stop(Ok(())) | Outcome::Done => None,
            };
            wrong.extend(why.map(|why| format!("{called:?}: {why}")));
        }
        wrong.extend(self.after_stops(reloader));
        wrong.extend(self.publications(reloader));
        wrong
    }

    /// Checks that the answer of a reload is that of an attempt to read that began after the
    /// request.
    fn reload(&self, called: &Called, answer: &Reload) -> Option<String> {
        let &Called { reloader, begin, end, generations: [before, after], .. } = called;
        let says = |holds: bool, why: &str| (!holds).then(|| why.to_owned());
        if self.is_stopped(reloader, begin, end) && *answer != Reload::Stopped {
            return Some("it was stopped all along".to_owned());
        }
        if called.driver && !matches!(answer, Reload::Queued | Reload::Stopped) {
            return Some("asked for by the driver itself, which cannot wait".to_owned());
        }
        let published = self.published(reloader);
        match answer {
            Reload::Queued => says(called.driver, "queued, and the caller does not drive it"),
            Reload::Stopped if !self.may_be_stopped(reloader, begin, end) => {
                Some("nobody has stopped it".to_owned())
            }
            Reload::Stopped => {
                // Where only this call makes the driver read, every publication is its answer.
                let others = |other: &Called| {
                    other.begin < end
                        && (other.starts()
                            || (other.kind == Kind::Reload && other.call != called.call && other.end > begin))
                };
                let alone = !self.of_one(reloader).any(others);
                says(!alone || before == after, "published for it all the same")
            }
            Reload::Reloaded => {
                let numbers: Vec<_> =
                    published.range(before + 1..=after.max(before + 1)).map(|(_, n)| *n).collect();
                let mut built = self.builds(reloader, begin, end);
                let holds = built.any(|verdict| matches!(verdict, Verdict::Valid(n) if numbers.contains(n)));
                says(holds, "nothing that was read after the call was published during it")
            }
            Reload::Unchanged => {
                let served: Vec<_> = published.range(before..=after).map(|(_, number)| *number).collect();
                let reads = self.reads(reloader);
                let holds = reads.range(begin + 1..end).any(|(_, texts)| {
                    let [Some(one), Some(other)] = texts else { return false };
                    let number = one.split_once(' ').and_then(|(_, number)| number.parse().ok());
                    one == other && number.is_some_and(|number| served.contains(&number))
                });
                says(holds, "nothing that was read after the call is what is served")
            }
            Reload::Deferred(_) => {
                let holds = self.builds(reloader, begin, end).any(|verdict| *verdict == Verdict::Held);
                says(holds, "nothing that was read after the call waits for a date")
            }
            Reload::Refused(error) if error.layer() == Layer::Panic => {
                let holds = self.records[..end].iter().any(|record| {
                    matches!(record, Record::Panicked { reloader: of, attempt } if *of == reloader && *attempt > begin)
                });
                says(holds, "nothing panicked in an attempt that began after the call")
            }
            Reload::Refused(error) => {
                let mut built = self.builds(reloader, begin, end);
                let holds =
                    built.any(|verdict| matches!(verdict, Verdict::Refused(why) if why == error.why()));
                says(holds, "nothing that was read after the call was refused so")
            }
            other => Some(format!("unknown: {other:?}")),
        }
    }

    fn start(&self, called: &Called, answer: &Result<(), StartError>) -> Option<String> {
        let &Called { reloader, begin, end, call, .. } = called;
        let others = || self.of_one(reloader).filter(|other| other.call != call && other.starts());
        let stops = || self.of_one(reloader).filter(|other| other.stops());
        match answer {
            Ok(()) => {
                // A run that no stop can have ended.
                let runs =
                    |other: &Called| other.end < begin && !stops().any(|stop| stop.during(other.begin, end));
                others().any(runs).then(|| "a second worker beside the first".to_owned())
            }
            Err(StartError::AlreadyRunning) => {
                // A stop that the driver itself does not make waits for the end of the run.
                let ended = |other: &Called| {
                    stops().any(|stop| !stop.driver && stop.begin > other.end && stop.end < begin)
                };
                let runs = |other: &Called| other.begin < end && !ended(other);
                (!others().any(runs)).then(|| "there is no worker that may run".to_owned())
            }
            Err(other) => Some(format!("{other}")),
        }
    }

    /// Checks that the generation after a stop stays until the next start.
    fn after_stops(&self, reloader: usize) -> Vec<String> {
        let mut wrong = Vec::new();
        for stop in self.of_one(reloader).filter(|call| call.stops()) {
            let left = stop.generations[1];
            for later in self.of_one(reloader).filter(|later| later.begin > stop.end) {
                let started =
                    self.of_one(reloader).any(|call| call.starts() && call.during(stop.begin, later.end));
                if !started && later.generations != [left; 2] {
                    wrong.push(format!("published after a stop that left {left}: {later:?}"));
                }
            }
        }
        wrong
    }

    /// Checks that generations are consecutive, and that each is one valid update that was read in
    /// one attempt.
    fn publications(&self, reloader: usize) -> Vec<String> {
        let mut wrong = Vec::new();
        let (mut last, reads) = (1, self.reads(reloader));
        let mut valid = None;
        for record in &self.records {
            match record {
                Record::Built { reloader: of, attempt, texts, verdict } if *of == reloader => {
                    let read = reads.get(attempt).copied().unwrap_or_default();
                    if read != [Some(&*texts[0]), Some(&*texts[1])] {
                        wrong.push(format!("built {texts:?}, read {read:?}"));
                    }
                    valid = match verdict {
                        Verdict::Valid(number) => Some(*number),
                        _ => None,
                    };
                }
                Record::Published { reloader: of, generation, number } if *of == reloader => {
                    if *generation != last + 1 || valid.take() != Some(*number) {
                        wrong.push(format!("generation {generation} of update {number} after {last}"));
                    }
                    last = *generation;
                }
                _ => {}
            }
        }
        wrong
    }

    /// Checks the events of a subscriber of all events against the callback and the publications.
    pub fn events(&self, reloader: usize, reported: &[std::sync::Arc<Event>]) -> Vec<String> {
        let mut wrong = Vec::new();
        let warns = |event: &Event| matches!(event, Event::Warning { .. });
        let called_back = self.records.iter().filter_map(|record| match record {
            Record::Reported { reloader: of, event } if *of == reloader && !warns(event) => Some(event),
            _ => None,
        });
        let mut called_back: Vec<_> = called_back.collect();
        let subscribed: Vec<_> =
            reported.iter().map(|event| &**event).filter(|event| !warns(event)).collect();
        // A worker that has dropped its own reloader ends without anybody waiting for it.
        let unawaited = self.of_one(reloader).any(|call| call.kind == Kind::Drop && call.driver);
        if unawaited {
            called_back.truncate(subscribed.len());
        }
        if called_back != subscribed {
            wrong.push(format!("called back with {called_back:#?}, subscribers read {subscribed:#?}"));
        }
        let (mut generation, mut shrunk, mut runs) = (1, None, false);
        // The refusals since the last event after which an equal one is reported again.
        let mut refused = Vec::new();
        for event in reported {
            match &**event {
                Event::Published { generation: new, .. } => {
                    if *new != generation + 1 {
                        wrong.push(format!("{event:?} after generation {generation}"));
                    }
                    generation = *new;
                    refused.clear();
                }
                Event::TrustReduced { generation: of, .. } => {
                    if *of != generation || shrunk.replace(*of) == Some(*of) {
                        wrong.push(format!("{event:?} of generation {generation}"));
                    }
                }
                Event::Refused { error, generation: of, .. } => {
                    if *of != generation {
                        wrong.push(format!("{event:?} while {generation} is served"));
                    }
                    if error.layer() == Layer::Panic {
                        refused.clear();
                    } else if refused.contains(&error) {
                        wrong.push(format!("reported twice: {event:?}"));
                    }
                    refused.push(error);
                }
                Event::Started { .. } | Event::Stopped => {
                    let starts = **event != Event::Stopped;
                    if starts && runs {
                        wrong.push("started twice".to_owned());
                    }
                    runs = starts;
                }
                Event::Recovered { .. } | Event::Deferred { .. } => refused.clear(),
                Event::Warning { .. } => {}
                other => wrong.push(format!("nothing explains {other:?}")),
            }
        }
        let published = self.published(reloader);
        if generation != published.len() as u64 {
            wrong.push(format!("events end with generation {generation}: {published:?}"));
        }
        for (generation, number) in &published {
            let text = format!("shrinks {number}");
            let shrinks = self.records.iter().any(|record| {
                matches!(record, Record::Built { reloader: of, texts, .. } if *of == reloader && texts[0] == text)
            });
            let reported = reported.iter().any(
                |event| matches!(&**event, Event::TrustReduced { generation: of, .. } if of == generation),
            );
            if shrinks != reported {
                wrong.push(format!("trust shrinks with {generation}: {shrinks}, reported: {reported}"));
            }
        }
        wrong
    }
}
