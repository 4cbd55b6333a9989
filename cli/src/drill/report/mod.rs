//! Reports of a drill: lines while it runs, JSON, JUnit XML and a page.

mod html;
mod json;
mod junit;
mod svg;

use std::{
    fmt::Arguments,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use super::model::{Group, Played, Scenario, Verdict};
use crate::Failure;

/// Lines of a server's log that are printed with a failure.
const LOG_LINES: usize = 6;
/// Violations that are printed of one scenario.
const VIOLATIONS: usize = 5;

/// How a scenario counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Passed,
    /// Advice that does not hold.
    Weak,
    Failed,
    Skipped,
    Broken,
}

impl Status {
    fn of(played: &Played) -> Self {
        match played.verdict {
            Verdict::Passed => Self::Passed,
            Verdict::Failed(_) if played.scenario.advice => Self::Weak,
            Verdict::Failed(_) => Self::Failed,
            Verdict::Skipped(_) => Self::Skipped,
            Verdict::Broken(_) => Self::Broken,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Weak => "weak",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Broken => "broken",
        }
    }
}

/// All results of a drill, in the order of `--list` once it is finished.
pub(super) struct Report {
    json: bool,
    strict: bool,
    server: String,
    played: Vec<Played>,
    took: Duration,
}

impl Report {
    pub(super) fn new(json: bool, strict: bool, server: String) -> Self {
        Self { json, strict, server, played: Vec::new(), took: Duration::ZERO }
    }

    /// Adds a scenario that is over, and prints its line.
    pub(super) fn add(&mut self, played: Played) -> Result<(), Failure> {
        if !self.json {
            lines(&played)?;
        }
        self.played.push(played);
        Ok(())
    }

    /// Prints the sum.
    pub(super) fn finish(&mut self, took: Duration) -> Result<(), Failure> {
        self.took = took;
        let order: Vec<_> = super::rows::all().map(Scenario::id).collect();
        self.played.sort_by_key(|played| order.iter().position(|id| *id == played.scenario.id()));
        if self.json {
            return print(format_args!("{:#}", self.to_json()));
        }
        print(format_args!("{}", self.sum()))
    }

    fn sum(&self) -> String {
        use Status::{Broken, Failed, Passed, Skipped, Weak};
        let counts = [Passed, Failed, Weak, Skipped, Broken].map(|status| {
            let count = self.played.iter().filter(|played| Status::of(played) == status).count();
            (status, count)
        });
        let named = counts.iter().filter(|(status, count)| *status == Passed || *count > 0);
        let named: Vec<_> = named.map(|(status, count)| format!("{count} {}", status.name())).collect();
        let (all, took) = (self.played.len(), self.took.as_secs_f32());
        format!("{all} scenarios on {}: {} in {took:.1} s", self.server, named.join(", "))
    }

    /// Returns 0 if all pass, 1 if one fails, 2 if one could not be run.
    pub(super) fn exit_code(&self) -> ExitCode {
        let has = |wanted: &[Status]| self.played.iter().any(|played| wanted.contains(&Status::of(played)));
        if has(&[Status::Failed]) || self.strict && has(&[Status::Weak, Status::Skipped]) {
            ExitCode::FAILURE
        } else if has(&[Status::Broken]) {
            ExitCode::from(2)
        } else {
            ExitCode::SUCCESS
        }
    }

    fn of_group(&self, group: Group) -> impl Iterator<Item = &Played> {
        self.played.iter().filter(move |played| played.scenario.group == group)
    }
}

/// Prints the lines of one scenario.
fn lines(played: &Played) -> Result<(), Failure> {
    let (status, id) = (Status::of(played).name(), played.scenario.id());
    print(format_args!("{status:<8} {id:<46} {}", figures(played)))?;
    let mut details = Vec::new();
    match &played.verdict {
        Verdict::Passed => {}
        Verdict::Skipped(why) => details.push(why.clone()),
        Verdict::Broken(why) => details.extend(why.lines().map(str::to_owned)),
        Verdict::Failed(violations) => {
            for one in violations.iter().take(VIOLATIONS) {
                details.push(format!("{} at {}: {}", one.expectation.name(), seconds(one.at), one.why));
            }
            if violations.len() > VIOLATIONS {
                details.push(format!("and {} more", violations.len() - VIOLATIONS));
            }
            let log: Vec<_> = played.log.lines().collect();
            let last = log.iter().skip(log.len().saturating_sub(LOG_LINES));
            details.extend(last.map(|line| format!("server: {line}")));
        }
    }
    details.iter().try_for_each(|line| print(format_args!("         {line}")))
}

/// Returns the figures of a scenario that was run.
fn figures(played: &Played) -> String {
    if played.records.is_empty() {
        return String::new();
    }
    let taken = played.slowest().map(|time| format!(", served after {} ms at most", time.as_millis()));
    format!(
        "{} sets, {} handshakes{}",
        played.publications.len(),
        played.records.len(),
        taken.unwrap_or_default()
    )
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

/// Prints the scenarios.
pub(super) fn list(scenarios: &[&Scenario], json: bool) -> Result<(), Failure> {
    if json {
        let rows: Vec<_> = scenarios.iter().map(|scenario| json::scenario(scenario)).collect();
        return print(format_args!("{:#}", serde_json::Value::from(rows)));
    }
    for scenario in scenarios {
        let holds: Vec<_> = scenario.holds().iter().map(|one| one.name()).collect();
        let advice = if scenario.advice { " (advice)" } else { "" };
        print(format_args!(
            "{}{advice}\n    {}\n    source: {}\n    holds:  {}",
            scenario.id(),
            scenario.what,
            scenario.source,
            holds.join(", ")
        ))?;
    }
    print(format_args!("{} scenarios. What must hold:", scenarios.len()))?;
    for one in super::model::Expectation::ALL {
        print(format_args!("    {:<11} {}", one.name(), one.text()))?;
    }
    Ok(())
}

fn print(line: Arguments<'_>) -> Result<(), Failure> {
    Ok(writeln!(io::stdout().lock(), "{line}")?)
}

/// Returns the text with the characters escaped that XML and HTML give a meaning, and without those
/// that XML forbids.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(letter),
            letter if letter.is_control() => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
