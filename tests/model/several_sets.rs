//! Several sets under one driver, against a model of a few rules over all of them.
//!
//! Steps are random or enumerated. In a step one or more sets change, and then events arrive, a
//! poll is due, the clock is set, a manual reload is requested, or the driver is stopped and
//! started. After each step the whole observable state of the reloader is compared: events in order
//! with their sets and generations, the status of each set and of all, answers, and the served
//! value. [`plain`] does not use TLS; [`tls`] serves pairs and makes handshakes.
//!
//! Engine: generated.
//! Checks: INV-02, INV-03, INV-04, INV-05, INV-06, INV-08, INV-09, INV-11, INV-13, INV-14

mod compare;
mod model;
mod plain;
mod play;
mod tls;
mod wrong;

use std::{sync::Arc, time::Instant};

use plain::{CHANGES, Plain, SETS};
use play::{Action, Change, Draws, Kind, Play, Step, each_after_each, fails, plays, walk};
use rustls_reload_harness::{
    settings,
    sim::{Events, WorldConfig},
};
use tls::{Pool, Server};

/// Returns the number of walks; `SETS_WALKS` overrides that of the quick tier.
fn walks(quick: u64) -> u64 {
    settings::number("SETS_WALKS", quick)
}

/// Returns the steps with one of these changes to one of these sets, followed by one of these
/// actions.
fn single(sets: &[usize], changes: &[Change], actions: &[Action]) -> Vec<Step> {
    let of = |set: usize| {
        let with = move |change: Change| actions.iter().map(move |action| (vec![(set, change)], *action));
        changes.iter().flat_map(move |change| with(*change))
    };
    sets.iter().flat_map(|set| of(*set)).collect()
}

/// Engine: generated.
#[test]
fn inv11_each_step_after_each_over_three_sets_agrees_with_the_model() {
    let start = Instant::now();
    let changes = &CHANGES[..8];
    let actions = [Action::Hint, Action::Clock, Action::Reload, Action::Restart];
    let steps = each_after_each(&single(&[0, 2], changes, &actions));
    plays(&|| Play::new(Plain::default()), &steps);
    println!(
        "several sets: {} steps, each after each, 0 differences in {:.1?}",
        steps.len(),
        start.elapsed()
    );
}

/// Engine: generated. Each set's change is found by the set's own poll, whatever the others do.
#[test]
fn inv06_without_events_each_of_three_sets_is_polled() {
    let start = Instant::now();
    let config = WorldConfig { events: Events::Lost, ..WorldConfig::default() };
    let steps = single(&[0, 1, 2], &CHANGES[..7], &[Action::Tick]);
    let steps = each_after_each(&steps);
    plays(&|| Play::new_in(Plain::default(), config), &steps);
    println!(
        "without events: {} steps, each after each, 0 differences in {:.1?}",
        steps.len(),
        start.elapsed()
    );
}

/// Engine: generated.
#[test]
fn inv11_random_walks_over_three_sets_agree_with_the_model() {
    let (start, walks, length) = (Instant::now(), walks(60), 30);
    for seed in 1..=walks {
        let steps = walk(&mut Draws::new(seed), SETS, &CHANGES, length);
        plays(&|| Play::new(Plain::default()), &steps);
    }
    println!("several sets: {walks} walks of {length} steps, 0 differences in {:.1?}", start.elapsed());
}

type NewServer = Box<dyn Fn() -> Server>;

fn servers(pool: &Arc<Pool>) -> [NewServer; 3] {
    let [one, two, three] = [(); 3].map(|()| Arc::clone(pool));
    [
        Box::new(move || Server::of_pairs(&one, true)),
        Box::new(move || Server::of_pairs(&two, false)),
        Box::new(move || Server::of_clients(&three)),
    ]
}

/// Engine: generated. Every change to a set of a server follows every other: dates, names, keys,
/// client CAs and lists.
#[test]
fn inv02_each_change_after_each_agrees_with_the_model() {
    let (start, mut count) = (Instant::now(), 0);
    let changes = [
        Change::Renewed,
        Change::Broken,
        Change::Expired,
        Change::NotYetValid,
        Change::OtherKey,
        Change::OtherNames,
    ];
    for server in servers(&Pool::new()) {
        let sets: Vec<_> = (0..server().sets()).collect();
        let mut steps = each_after_each(&single(&sets, &changes, &[Action::Reload]));
        let actions = [Action::Reload, Action::Reload, Action::Tick, Action::Reload, Action::Clock];
        (0..).zip(&mut steps).for_each(|(place, step): (usize, _)| step.1 = actions[place % actions.len()]);
        plays(&|| Play::new(server()), &steps);
        count += steps.len();
    }
    println!("servers: {count} steps, each change after each, 0 differences in {:.1?}", start.elapsed());
}

/// Engine: generated.
#[test]
fn inv02_random_walks_over_pairs_agree_with_the_model() {
    let (start, walks, length) = (Instant::now(), walks(8), 20);
    for (number, server) in (0..).zip(servers(&Pool::new())) {
        for seed in 1..=walks {
            let steps = walk(&mut Draws::new(3 * seed + number), server().sets(), &tls::CHANGES, length);
            plays(&|| Play::new(server()), &steps);
        }
    }
    println!("servers: 3 x {walks} walks of {length} steps, 0 differences in {:.1?}", start.elapsed());
}

/// Returns how many walks it takes to find a wrong design.
fn found<K: Kind>(loaded: impl Fn() -> Play<K>, sets: usize, changes: &[Change]) -> Option<u64> {
    (1..=60).find(|seed| match loaded().started() {
        Ok(play) => fails(play, &walk(&mut Draws::new(*seed), sets, changes, 30)).is_err(),
        Err(_) => true,
    })
}

#[test]
fn inv11_wrong_designs_of_several_sets_are_found() {
    for wrong in wrong::Wrong::ALL {
        let walks = found(
            || Play::loaded(Plain::default(), WorldConfig::default()).falsified(wrong.falsify()),
            SETS,
            &CHANGES,
        );
        println!("{wrong:?}: found by walk {walks:?}");
        assert!(walks.is_some(), "{wrong:?}");
    }
    let pool = Pool::new();
    for (wrong, of_clients) in
        [(tls::Wrong::AnswersAll, false), (tls::Wrong::FirstNames, false), (tls::Wrong::NoLists, true)]
    {
        let server = || if of_clients { Server::of_clients(&pool) } else { Server::of_pairs(&pool, true) };
        let walks = found(
            || Play::loaded(server().wrong(wrong), WorldConfig::default()),
            server().sets(),
            &tls::CHANGES,
        );
        println!("{wrong:?}: found by walk {walks:?}");
        assert!(walks.is_some(), "{wrong:?}");
    }
}
