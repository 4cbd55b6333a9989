//! Tests of `rustls-reload drill`: servers with one fault each fail in the scenarios that are about
//! it and pass the others, and every argument does what its help says.
//! The modules: `wrong` has those servers, `faults` drills them, `serve` drills the right one,
//! `arguments` tests the command line.
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)] // reason: a test may panic and print

mod arguments;
mod faults;
mod serve;
mod wrong;

use std::{
    collections::BTreeMap,
    process::{Command, Output},
};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_rustls-reload");

fn drill(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("drill").args(arguments);
    command
}

/// Runs the command to its end.
fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A scenario's result, and the expectations that did not hold.
type Results = BTreeMap<String, (String, Vec<String>)>;

/// Returns the results by scenario. Scenarios that were skipped because the machine was too slow
/// are played again, one at a time.
fn results_in_time(command: impl Fn(&str, &[&str]) -> Command, jobs: &str, only: &[&str]) -> Results {
    let mut all = results(command(jobs, only));
    for _ in 0..3 {
        let slow: Vec<_> =
            all.iter().filter(|(_, (result, _))| result == "skipped").map(|(name, _)| name.clone()).collect();
        if slow.is_empty() {
            break;
        }
        all.extend(results(command("1", &slow.iter().map(String::as_str).collect::<Vec<_>>())));
    }
    all
}

/// Runs the drill with `--json` and returns its results by scenario.
fn results(mut command: Command) -> Results {
    let output = run({
        command.arg("--json");
        command
    });
    let json: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let result = |one: &Value| {
        let violated = one["violations"].as_array().unwrap().iter().map(|one| text(&one["expectation"]));
        let mut violated: Vec<_> = violated.collect();
        violated.sort();
        violated.dedup();
        let name = format!("{}/{}", text(&one["group"]), text(&one["name"]));
        println!("{name}: {} {} {}", one["result"], one["why"], one["violations"]);
        (name, (text(&one["result"]), violated))
    };
    json["scenarios"].as_array().unwrap().iter().map(result).collect()
}
