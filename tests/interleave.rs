//! Every interleaving of every publisher with the reader's verbs.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)]
// reason: tests stop at the first surprise, and print what they covered

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustls_reload::testkit::sim::{self, Publisher, Renewal, Replay, Scenario, Shipped};

#[test]
fn probe() {
    let waits: usize = std::env::var("WAITS").map_or(1, |w| w.parse().unwrap());
    let pause: u64 = std::env::var("PAUSE").map_or(0, |w| w.parse().unwrap());
    for publisher in Publisher::all(false) {
        let mut scenario = Scenario::new(
            publisher,
            if publisher == Publisher::StepRenew { Renewal::LeafOnly } else { Renewal::NewKey },
        );
        scenario.weather.waits = waits;
        scenario.weather.pause = Duration::from_millis(pause);
        let n = scenario.steps().0.len();
        let stage = scenario.prepare();
        let start = Instant::now();
        let report = sim::explore::<Shipped>(&stage);
        println!(
            "{:32} steps {n} runs {} schedules {:.3e} breached {:.3e} states {} looks {} outcomes {} {:?}",
            publisher.name(),
            report.runs,
            report.schedules as f64,
            report.breached as f64,
            report.states,
            report.looks.len(),
            report.outcomes.len(),
            start.elapsed()
        );
        if let Some((violation, line)) = report.violation {
            println!("   {violation}\n   {line}");
        }
    }
}

#[test]
fn trace() {
    let Ok(line) = std::env::var("LINE") else { return };
    let name = std::env::var("PUB").unwrap();
    let publisher = Publisher::all(true).into_iter().find(|p| p.name() == name).unwrap();
    let scenario = Scenario::new(publisher, Renewal::NewKey);
    let steps = scenario.steps().0;
    let stage = scenario.prepare();
    let run = sim::run::<Shipped>(&stage, Arc::new(Mutex::new(Replay::parse(&line).unwrap())));
    for at in &run.history {
        let text = match &at.record {
            sim::Record::Step(i) => format!("step {i} {:?}", steps[*i]),
            record => format!("{record:?}"),
        };
        println!("{:?} {}", at.mono, text.chars().take(300).collect::<String>());
    }
    println!("{:?}", sim::check(&stage, &run));
}
