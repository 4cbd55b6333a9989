//! Searches many worlds on every core, sums the results per publisher, and prints them in a fixed
//! order.

use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustls_reload_harness::{
    settings::{self, number},
    sim::{self, Design, Publisher, Report, Scenario, Shipped},
};

/// Returns whether the whole tier was selected by `INTERLEAVE=whole`, as `scripts/interleave` does.
pub(crate) fn is_whole() -> bool {
    settings::is("INTERLEAVE", "whole")
}

/// Returns the name of the only publisher to run, if one was selected.
pub(crate) fn only() -> Option<String> {
    std::env::var("INTERLEAVE_PUBLISHER").ok()
}

/// Returns the limit of runs for a world. A world that exceeds it is cut off, and the table says
/// so. Worlds without pauses are far smaller, and a higher limit lets most of them end. The quick
/// tier has fewer runs than samples, because the runs of a search that is cut off stay in one
/// branch.
fn limit(scenario: &Scenario) -> u64 {
    let paused = scenario.config.pause > Duration::ZERO;
    match is_whole() {
        true if paused => number("INTERLEAVE_PAUSED_RUNS", 300),
        true => number("INTERLEAVE_RUNS", 500),
        false => number("INTERLEAVE_RUNS", 30),
    }
}

/// Returns a limit that no completely searched world reaches. A world that exceeds it is cut off
/// and counted as such.
fn whole_limit() -> u64 {
    number("INTERLEAVE_WHOLE_RUNS", 8_000_000)
}

/// Returns the number of random schedules for each world that was cut off.
fn samples() -> u64 {
    number("INTERLEAVE_SAMPLES", if is_whole() { 100 } else { 40 })
}

pub(crate) fn seed() -> u64 {
    number("INTERLEAVE_SEED", 1)
}

/// Prints a line past the capture of `cargo test`, so that a decreasing count is noticed.
pub(crate) fn say(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
}

/// Totals of one publisher.
#[derive(Default)]
pub(crate) struct Row {
    worlds: usize,
    crashes: usize,
    cut: usize,
    runs: u64,
    schedules: u128,
    breached: u128,
    snapshots: HashSet<u64>,
    mixture: Option<String>,
    violations: u64,
    took: Duration,
}

impl Row {
    /// Adds a report. A violation ends the test with the line that the test `replay` runs.
    fn take(&mut self, scenario: &str, replay: &str, report: Report) {
        self.violations += u64::from(report.violation.is_some());
        if let Some((violation, line)) = report.violation {
            panic!(
                "{violation}\nREPLAY='{scenario} {line}' cargo test --test model interleave::{replay} -- --nocapture"
            );
        }
        self.worlds += usize::from(!report.is_sample);
        self.cut += usize::from(!report.whole && !report.is_sample);
        self.runs += report.runs;
        self.schedules = self.schedules.saturating_add(report.schedules);
        self.breached = self.breached.saturating_add(report.breached);
        self.snapshots.extend(report.snapshots);
        let mixture = report.mixture.map(|line| format!("{scenario} {line}"));
        self.mixture = self.mixture.take().or(mixture);
    }

    /// Adds the results of one world.
    fn add(&mut self, scenario: &Scenario, replay: &str, found: Found) {
        let name = scenario.name();
        self.took += found.took;
        // A world in which the schedule chooses the publisher's death counts once for each place of
        // death.
        let deaths = [&found.report, &found.sample].map(|report| &report.deaths);
        let deaths: HashSet<_> = deaths.into_iter().flatten().collect();
        self.crashes += deaths.len() + usize::from(scenario.crash.is_some());
        self.take(&name, replay, found.report);
        if found.sample.runs > 0 {
            self.take(&name, replay, found.sample);
        }
    }

    /// Formats the row of one publisher: the coverage, and that there was no violation.
    fn summary(&self, title: &str, publisher: &str) -> String {
        let extent = match self.cut {
            0 => "whole".to_owned(),
            cut => format!("bounded in {cut} of {} worlds", self.worlds),
        };
        format!(
            "summary: {title}: {publisher}: {extent}: {} runs, at least {:.3e} schedules covered, {} distinct reader observations, \
             {} crashes, {} violations",
            self.runs,
            self.schedules as f64,
            self.snapshots.len(),
            self.crashes,
            self.violations
        )
    }

    fn line(&self, title: &str, publisher: &str) -> String {
        format!(
            "{title:24} {publisher:30} {:>6} {:>7} {:>4} {:>9} {:>10.3e} {:>10.3e} {:>8} {} ({:.1?})",
            self.worlds,
            self.crashes,
            self.cut,
            self.runs,
            self.schedules as f64,
            self.breached as f64,
            self.snapshots.len(),
            self.violations,
            self.took
        )
    }
}

/// The results of searching one world, and of sampling it where the search was cut off.
struct Found {
    report: Report,
    sample: Report,
    took: Duration,
}

fn search<D: Design>(scenario: &Scenario, limit: u64, samples: u64) -> Found {
    let start = Instant::now();
    let stage = scenario.clone().prepare();
    let report = sim::explore::<D>(&stage, limit);
    let mut sample = Report::default();
    if !report.whole && report.violation.is_none() {
        // A search that is cut off has covered only one branch, because it goes depth first. The
        // rest is sampled.
        sample = sim::sample::<D>(&stage, seed(), samples);
    }
    Found { report, sample, took: start.elapsed() }
}

/// Runs `work` for each item on all cores, one table at a time, and passes each result to `take` in
/// the order of the items as soon as possible.
fn in_order<T: Sync, R: Send>(todo: &[T], work: impl Fn(&T) -> R + Sync, take: impl FnMut(&T, R) + Send) {
    static TABLE: Mutex<()> = Mutex::new(());
    let _one = TABLE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let next = AtomicUsize::new(0);
    let done: Vec<Option<R>> = todo.iter().map(|_| None).collect();
    let done = Mutex::new((0, done, take));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some((index, task)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, todo.get(i)?)))
                {
                    let result = work(task);
                    let mut done = done.lock().unwrap();
                    let (printed, results, take) = &mut *done;
                    results[index] = Some(result);
                    while let Some(result) = results.get_mut(*printed).and_then(Option::take) {
                        take(&todo[*printed], result);
                        *printed += 1;
                    }
                }
            });
        }
    });
}

/// Returns the publishers of this tier, or the selected one.
pub(crate) fn publishers() -> Vec<Publisher> {
    let Some(only) = only() else { return Publisher::all(is_whole()) };
    let named = Publisher::all(true).into_iter().find(|publisher| publisher.name() == only);
    vec![named.unwrap_or_else(|| panic!("INTERLEAVE_PUBLISHER={only}: no publisher has this name"))]
}

/// Explores the scenarios that `worlds` makes for each publisher, and prints the table.
pub(crate) fn table(title: &str, worlds: impl Fn(Publisher) -> Vec<Scenario>) {
    rows::<Shipped>(title, publishers(), worlds, (limit, samples()), "replay", |_, _| {});
}

/// Explores the scenarios completely. A mortal publisher has died after every step but its last.
/// Nothing may be cut off, unless a lower limit was set; then that is printed.
pub(crate) fn whole_table(title: &str, of: Vec<Publisher>, worlds: impl Fn(Publisher) -> Vec<Scenario>) {
    rows::<Shipped>(
        title,
        of,
        worlds,
        (|_: &Scenario| whole_limit(), samples()),
        "replay",
        |scenario, report| {
            let is_limited = settings::set_number::<u64>("INTERLEAVE_WHOLE_RUNS").is_some();
            if report.violation.is_some() || (is_limited && !report.whole) {
                return;
            }
            assert!(report.whole, "{} was cut off", scenario.name());
            let steps = scenario.steps().0.len();
            assert!(!scenario.mortal || report.deaths.iter().copied().eq(1..steps), "{}", scenario.name());
        },
    );
}

/// Explores another design. Outside of the whole tier each world gets at most `runs` runs, and as
/// many samples if that does not complete it.
pub(crate) fn table_of<D: Design>(
    title: &str,
    runs: u64,
    replay: &str,
    worlds: impl Fn(Publisher) -> Vec<Scenario>,
) {
    let most = |scenario: &Scenario| if is_whole() { limit(scenario) } else { runs };
    let samples = if is_whole() { samples() } else { runs };
    rows::<D>(title, publishers(), worlds, (most, samples), replay, |_, _| {});
}

fn rows<D: Design>(
    title: &str,
    of: Vec<Publisher>,
    worlds: impl Fn(Publisher) -> Vec<Scenario>,
    (limit, samples): (impl Fn(&Scenario) -> u64 + Sync, u64),
    replay: &str,
    check: impl Fn(&Scenario, &Report) + Sync,
) {
    say(&format!(
        "{title:24} {:30} {:>6} {:>7} {:>4} {:>9} {:>10} {:>10} {:>8} violations",
        "publisher", "worlds", "crashes", "cut", "runs", "schedules", "breached", "snapshots"
    ));
    let mut todo = Vec::new();
    for publisher in of {
        let worlds = worlds(publisher);
        let last = worlds.len().saturating_sub(1);
        todo.extend(worlds.into_iter().enumerate().map(|(index, scenario)| (scenario, index == last)));
    }
    let mut row = Row::default();
    let (mut publishers, mut ended, mut runs) = (0, 0, 0);
    in_order(
        &todo,
        |(scenario, _)| search::<D>(scenario, limit(scenario), samples),
        |(scenario, is_last), found| {
            check(scenario, &found.report);
            row.add(scenario, replay, found);
            if *is_last {
                let publisher = scenario.publisher.name();
                let row = std::mem::take(&mut row);
                say(&row.line(title, &publisher));
                if let Some(line) = &row.mixture {
                    say(&format!("    beyond its assumption a mixture is published: {line}"));
                }
                say(&row.summary(title, &publisher));
                publishers += 1;
                ended += usize::from(row.cut == 0);
                runs += row.runs;
            }
        },
    );
    say(&format!(
        "total: {title}: {ended} of {publishers} publishers searched to their ends, {runs} runs, 0 violations"
    ));
}
