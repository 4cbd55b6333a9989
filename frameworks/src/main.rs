//! Puts each framework of `examples/` through the same rotations, and prints what passed.
//!
//! Arguments: names of examples (all without them), or `--update`, which writes the tables of
//! `README.md`. Without names the tables have to be those of `README.md`. The exit code is 1 if
//! anything differs from what is expected.

mod backend;
mod child;
mod clients;
mod peer;
mod rows;
mod servers;
mod table;
mod verdict;

use std::{env::args, fs, path::Path, process::ExitCode, rc::Rc, time::Instant};

use frameworks::AnyError;
use rows::{CLIENTS, Case, Row, SERVERS};
use table::Outcome;
use tokio::{sync::Semaphore, task::LocalSet};

/// Runs at a time: each waits most of the time. On a machine with little to spare, 16 had handshakes
/// that lasted longer than the 10 s that a server gives them.
const AT_ONCE: usize = 8;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, AnyError> {
    let begin = Instant::now();
    let (flags, names): (Vec<_>, Vec<_>) = args().skip(1).partition(|arg| arg.starts_with("--"));
    let update = flags == ["--update"];
    if !(flags.is_empty() || update && names.is_empty()) {
        return Err("arguments: [NAME...] or --update".into());
    }
    let rows = SERVERS.iter().chain(CLIENTS);
    let rows: Vec<_> =
        rows.filter(|row| names.is_empty() || names.iter().any(|name| name == row.example)).collect();
    if rows.is_empty() {
        return Err(format!("no example has a name of {names:?}").into());
    }
    let results = run(&rows).await;
    let unexpected: Vec<_> = results.iter().flat_map(Outcome::unexpected).collect();
    let tables = table::tables(&results)?;
    println!("{tables}");
    for line in &unexpected {
        println!("UNEXPECTED: {line}");
    }
    let mut failed = !unexpected.is_empty();
    if names.is_empty() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let (old, new) = table::readme(&fs::read_to_string(&path)?, &tables)?;
        if update && !failed {
            fs::write(&path, new)?;
        } else if old != new {
            println!("UNEXPECTED: the tables of {} are others; --update writes them", path.display());
            failed = true;
        }
    }
    println!("{} rows in {} s", results.len(), begin.elapsed().as_secs());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs the rows beside each other. Returns their results in the order of the rows.
async fn run(rows: &[&'static Row]) -> Vec<Outcome> {
    let (local, slots) = (LocalSet::new(), Rc::new(Semaphore::new(AT_ONCE)));
    let start = |case: Case| {
        let slots = Rc::clone(&slots);
        local.spawn_local(async move {
            let _slot = slots.acquire().await;
            let client = case.row.is_client();
            (case, if client { clients::run(&case).await } else { servers::run(&case).await })
        })
    };
    let tasks: Vec<_> =
        rows.iter().map(|row| (*row, row.cases().into_iter().map(start).collect::<Vec<_>>())).collect();
    local
        .run_until(async move {
            let mut outcomes = Vec::new();
            for (row, tasks) in tasks {
                let mut runs = Vec::new();
                for task in tasks {
                    runs.push(task.await.expect("no panic"));
                }
                let outcome = Outcome { row, runs };
                eprintln!("{}: {}", row.title(), outcome.count());
                outcomes.push(outcome);
            }
            outcomes
        })
        .await
}
