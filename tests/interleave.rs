//! Every interleaving of every publisher with the reader's verbs.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)]
// reason: tests stop at the first surprise, and print what they covered

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Instant,
};

use rustls_reload::testkit::sim::{self, Exhaustive, Publisher, Renewal, Replay, Scenario, Shipped};

#[test]
fn probe() {
    for publisher in Publisher::all(false) {
        let scenario = Scenario::new(publisher, if publisher == Publisher::StepRenew { Renewal::LeafOnly } else { Renewal::NewKey });
        let schedule = Arc::new(Mutex::new(Exhaustive::default()));
        let start = Instant::now();
        let mut looks = HashSet::new();
        let mut bad = 0;
        while schedule.lock().unwrap().next_run() {
            let run = sim::run::<Shipped>(&scenario, schedule.clone());
            looks.extend(run.looks.iter().copied());
            if let Err(violation) = sim::check(&scenario, &run) {
                bad += 1;
                if bad <= 2 {
                    println!("  {} {violation}\n   {}", publisher.name(), Replay::line(&run.choices));
                }
            }
            if start.elapsed().as_secs() > 5 {
                println!("  TOO LONG");
                break;
            }
        }
        let s = schedule.lock().unwrap();
        println!(
            "{:32} steps {} runs {} schedules {:.3e} states {} looks {} bad {bad} {:?}",
            publisher.name(),
            scenario.steps().0.len(),
            s.runs,
            s.schedules() as f64,
            s.states(),
            looks.len(),
            start.elapsed()
        );
    }
}
