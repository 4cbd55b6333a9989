//! Checks that the schedules that a search leaves out have known results: visited states, and steps
//! that the reader cannot notice.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Instant,
};

use rustls_reload_harness::{
    settings,
    sim::{
        self, Aside, Events, Exhaustive, Move, ORDERS, Phase, Publisher, Renewal, Report, Scenario, Schedule,
        Shipped,
    },
};

use super::{
    millis,
    table::{is_whole, say, seed},
};

/// Returns the number of unpruned schedules of a world, by its share in percent of
/// `INTERLEAVE_UNPRUNED`. The larger worlds come in addition.
fn unpruned(share: u64) -> u64 {
    let sum = settings::number("INTERLEAVE_UNPRUNED", if is_whole() { 1_000_000 } else { 12_000 });
    (sum * share).div_ceil(100)
}

#[test]
fn pruning_by_state_loses_no_outcome() {
    // In larger worlds a sample does not reach every outcome, but each outcome that it reaches has
    // to be one of the search.
    let small =
        [(Publisher::StepRenew, 1, 40), (Publisher::DirSwapped, 1, 30), (Publisher::Release(false), 1, 30)];
    let large = [(Publisher::Certbot, 0, 5), (Publisher::InPlace(ORDERS[0]), 0, 5)];
    let mut drawn = 0;
    for (publisher, waits, share) in small.into_iter().chain(large) {
        let is_small = waits == 1;
        if !is_small && !is_whole() {
            continue;
        }
        let mut scenario = Scenario::new(publisher, Renewal::LeafOnly);
        scenario.config.waits = waits;
        let stage = scenario.prepare();
        let start = Instant::now();
        let whole = sim::explore::<Shipped>(&stage, u64::MAX);
        let searching = start.elapsed();
        let sample = sim::sample::<Shipped>(&stage, seed(), unpruned(share));
        assert!(whole.violation.is_none() && sample.violation.is_none());
        drawn += sample.runs;
        say(&format!(
            "{}: {} runs for {:.3e} schedules in {searching:.1?}, {} unpruned in {:.1?}; outcomes {} and {}",
            publisher.name(),
            whole.runs,
            whole.schedules as f64,
            sample.runs,
            start.elapsed() - searching,
            whole.outcomes.len(),
            sample.outcomes.len()
        ));
        assert!(sample.outcomes.is_subset(&whole.outcomes), "an outcome that pruning has lost");
        assert!(!is_small || whole.outcomes == sample.outcomes, "the sample misses an outcome");
    }
    say(&format!("unpruned in all: {drawn} schedules, the same outcomes"));
}

/// Runs every schedule of the smallest worlds to its own end, without sampling.
#[test]
fn pruning_by_state_loses_no_observation_of_any_schedule() {
    let mut of = vec![(Publisher::StepRenew, 5, 0, Events::Delivered)];
    of.extend(Events::ALL.map(|events| (Publisher::StepRenew, 0, 1, events)));
    if is_whole() {
        of.extend([Publisher::DirSwapped, Publisher::Release(false)].map(|of| (of, 0, 0, Events::Delivered)));
    }
    for (publisher, pause, waits, events) in of {
        for phase in [Phase::FirstLoad, Phase::Reload] {
            // The schedules of a publisher that may die contain those of one that lives.
            for mortal in if is_whole() { vec![false, true] } else { vec![true] } {
                let mut scenario = Scenario::new(publisher, Renewal::LeafOnly);
                (scenario.config.pause, scenario.config.waits) = (millis(pause), waits);
                (scenario.phase, scenario.mortal, scenario.config.events) = (phase, mortal, events);
                let name = scenario.name();
                let stage = scenario.prepare();
                let pruned = sim::explore::<Shipped>(&stage, u64::MAX);
                let each = sim::explore_unpruned::<Shipped>(&stage, u64::MAX);
                assert!(each.whole && each.violation.is_none(), "{name}");
                assert_eq!(
                    pruned.schedules,
                    u128::from(each.runs),
                    "{name}: a schedule is lost, or counted twice"
                );
                assert_eq!(each.confused, 0, "{name}: two states were taken for one");
                assert_eq!(pruned.breached, each.breached, "{name}");
                assert!(pruned.outcomes == each.outcomes, "{name}: outcomes");
                assert!(pruned.snapshots == each.snapshots, "{name}: snapshots");
                say(&format!("{name}: {} runs for {} schedules, each run", pruned.runs, each.runs));
            }
        }
    }
}

/// A state depends on events only through the pending hints of the filter. Two updates show that: a
/// hint of the first is still pending when the second is reported.
#[test]
fn states_of_equal_pending_hints_have_equal_schedules() {
    for publisher in [Publisher::DirSwapped, Publisher::Release(false)] {
        let mut scenario = Scenario::new(publisher, Renewal::LeafOnly);
        scenario.renewals.push(Renewal::ChainOnly);
        scenario.config.waits = 0;
        let name = scenario.name();
        let stage = scenario.prepare();
        let coarse = sim::explore::<Shipped>(&stage, u64::MAX);
        let fine = sim::explore_finely::<Shipped>(&stage, u64::MAX);
        assert!(coarse.violation.is_none() && fine.violation.is_none(), "{name}");
        assert_eq!((coarse.schedules, coarse.breached), (fine.schedules, fine.breached), "{name}");
        assert!(coarse.snapshots == fine.snapshots && coarse.outcomes == fine.outcomes, "{name}");
        assert!(coarse.states < fine.states, "{name}: nothing is saved");
        say(&format!(
            "{name}: {} states for {}, {} runs for {}",
            coarse.states, fine.states, coarse.runs, fine.runs
        ));
    }
}

/// A search that confuses many states.
struct Dim(Exhaustive);

impl Schedule for Dim {
    fn choose(&mut self, state: &dyn Fn() -> u64, options: usize) -> Option<usize> {
        self.0.choose(&|| state() % 1009, options)
    }

    fn skips_ahead(&self) -> bool {
        true
    }

    fn skip_ahead(&mut self, state: &dyn Fn() -> u64, moves: &mut dyn FnMut() -> Vec<Move>) -> Option<Move> {
        self.0.skip_ahead(&|| state() % 1009, moves)
    }
}

#[test]
fn two_states_that_are_taken_for_one_are_found_out() {
    let stage = Scenario::new(Publisher::StepRenew, Renewal::LeafOnly).prepare();
    let schedule = Arc::new(Mutex::new(Dim(Exhaustive::reduced().unpruned())));
    while schedule.lock().unwrap().0.next_run() {
        let run = sim::run::<Shipped>(&stage, schedule.clone());
        schedule.lock().unwrap().0.end_run(run.breached);
    }
    assert!(schedule.lock().unwrap().0.confused > 0);
}

/// A search that always computes the hash of the reader's observations again.
struct Fresh(Exhaustive);

impl Schedule for Fresh {
    fn choose(&mut self, state: &dyn Fn() -> u64, options: usize) -> Option<usize> {
        self.0.choose(state, options)
    }

    fn aside(&mut self, state: &dyn Fn() -> u64, what: Aside) -> Option<bool> {
        self.0.aside(state, what)
    }

    fn skips_ahead(&self) -> bool {
        self.0.skips_ahead()
    }

    fn skip_ahead(&mut self, state: &dyn Fn() -> u64, moves: &mut dyn FnMut() -> Vec<Move>) -> Option<Move> {
        self.0.skip_ahead(state, moves)
    }
}

#[test]
fn what_is_known_of_what_the_reader_keeps_is_what_it_keeps() {
    for scenario in compared() {
        let name = scenario.name();
        let stage = scenario.prepare();
        let known = sim::explore::<Shipped>(&stage, u64::MAX);
        let schedule = Arc::new(Mutex::new(Fresh(Exhaustive::reduced())));
        let (mut snapshots, mut outcomes) = (HashSet::new(), HashSet::new());
        while schedule.lock().unwrap().0.next_run() {
            let run = sim::run::<Shipped>(&stage, schedule.clone());
            schedule.lock().unwrap().0.end_run(run.breached);
            outcomes.extend(run.complete.then_some(run.outcome));
            snapshots.extend(run.snapshots);
        }
        let fresh = &schedule.lock().unwrap().0;
        assert_eq!((known.runs, known.states), (fresh.runs, fresh.states()), "{name}");
        assert_eq!((known.schedules, known.breached), fresh.schedules(), "{name}");
        assert!(known.snapshots == snapshots && known.outcomes == outcomes, "{name}");
    }
}

#[test]
#[should_panic(expected = "not a function of its schedule")]
fn a_reader_that_keeps_something_else_in_each_run_is_found_out() {
    let mut search = Exhaustive::default().unpruned();
    let mut kept = 0;
    while search.next_run() {
        kept += 1;
        search.keep(&|| kept);
        // No state shows the difference.
        (0..8).for_each(|place| assert!(search.choose(&|| place, 2).is_some()));
        search.end_run(false);
    }
}

/// Returns the worlds in which reduced and unreduced searches are compared: one for each kind of
/// publisher, world and phase.
fn compared() -> Vec<Scenario> {
    let small = [Publisher::StepRenew, Publisher::DirSwapped, Publisher::Release(false)];
    let large = [Publisher::Kubelet(ORDERS[0]), Publisher::RenamePerFile(ORDERS[0]), Publisher::LinkedVolume];
    let world = |publisher, pause, waits, mortal| {
        let mut scenario = Scenario::new(publisher, Renewal::LeafOnly);
        (scenario.config.pause, scenario.config.waits) = (millis(pause), waits);
        scenario.mortal = mortal;
        scenario
    };
    let mut worlds = Vec::new();
    for publisher in small {
        for mortal in [false, true] {
            worlds.push(world(publisher, 0, 0, mortal));
            worlds.push(Scenario { phase: Phase::FirstLoad, ..world(publisher, 0, 0, mortal) });
        }
    }
    // A pause lets the time distinguish each step, and late events depend on the time, so these use
    // the smallest world.
    for (pause, waits) in [(0, 1), (5, 0), (5, 1), (499, 1)] {
        worlds.push(world(Publisher::StepRenew, pause, waits, true));
    }
    for events in Events::ALL {
        for (pause, waits) in [(0, 1), (5, 1), (15, 0)] {
            let mut scenario = world(Publisher::StepRenew, pause, waits, false);
            scenario.config.events = events;
            worlds.push(scenario);
        }
    }
    if is_whole() {
        worlds.extend(small.map(|publisher| world(publisher, 0, 1, true)));
        worlds.extend(large.map(|publisher| world(publisher, 0, 0, true)));
        worlds.push(world(Publisher::DirSwapped, 5, 0, false));
    }
    worlds
}

#[test]
fn reduced_search_sees_all_that_an_unreduced_search_sees() {
    let mut sum = [0, 0];
    for scenario in compared() {
        let name = scenario.name();
        let stage = scenario.prepare();
        let reduced = sim::explore::<Shipped>(&stage, u64::MAX);
        let plain = sim::explore_unreduced::<Shipped>(&stage, u64::MAX);
        for report in [&reduced, &plain] {
            assert!(report.whole && report.violation.is_none(), "{name}: {:?}", report.violation);
        }
        for (what, reduced, plain) in [
            ("outcomes", &reduced.outcomes, &plain.outcomes),
            ("snapshots", &reduced.snapshots, &plain.snapshots),
        ] {
            let [lost, new] = [plain.difference(reduced).count(), reduced.difference(plain).count()];
            assert_eq!(
                (lost, new),
                (0, 0),
                "{name}: {what} of {} that the reduction loses, and that are new",
                plain.len()
            );
        }
        assert_eq!(reduced.deaths, plain.deaths, "{name}: crashes");
        assert!(reduced.runs <= plain.runs && reduced.schedules <= plain.schedules, "{name}");
        sum = [sum[0] + reduced.runs, sum[1] + plain.runs];
    }
    let [reduced, plain] = sum;
    say(&format!("reduced: {reduced} runs see the outcomes and snapshots of {plain} unreduced runs"));
    assert!(reduced * 3 < plain * 2, "the reduction saves less than a third");
}

/// Returns whether a move after the first is kept, by its number and the number of moves.
type Keeps = fn(usize, usize) -> bool;

/// A search that leaves out some places.
struct Blind {
    search: Exhaustive,
    keeps: Keeps,
}

impl Schedule for Blind {
    fn choose(&mut self, state: &dyn Fn() -> u64, options: usize) -> Option<usize> {
        self.search.choose(state, options)
    }

    fn aside(&mut self, state: &dyn Fn() -> u64, what: Aside) -> Option<bool> {
        self.search.aside(state, what)
    }

    fn skips_ahead(&self) -> bool {
        true
    }

    fn skip_ahead(&mut self, state: &dyn Fn() -> u64, moves: &mut dyn FnMut() -> Vec<Move>) -> Option<Move> {
        let keeps = self.keeps;
        let mut kept = || {
            let all = moves();
            let count = all.len();
            let kept = all.into_iter().enumerate().filter(|(index, _)| *index == 0 || keeps(*index, count));
            kept.map(|(_, kept)| kept).collect()
        };
        self.search.skip_ahead(state, &mut kept)
    }
}

#[test]
fn search_that_prunes_too_much_is_detected() {
    let blind: [(&str, Keeps); 3] = [
        ("never within a step of the reader", |_, _| false),
        ("never to the last place", |index, count| index + 1 < count),
        ("to the last place alone", |index, count| index + 1 == count),
    ];
    for publisher in [Publisher::StepRenew, Publisher::DirSwapped] {
        let stage = Scenario::new(publisher, Renewal::LeafOnly).prepare();
        let whole: Report = sim::explore_unreduced::<Shipped>(&stage, u64::MAX);
        for (name, keeps) in blind {
            let schedule = Arc::new(Mutex::new(Blind { search: Exhaustive::reduced(), keeps }));
            let mut snapshots = HashSet::new();
            while schedule.lock().unwrap().search.next_run() {
                let run = sim::run::<Shipped>(&stage, schedule.clone());
                schedule.lock().unwrap().search.end_run(run.breached);
                snapshots.extend(run.snapshots);
            }
            say(&format!(
                "{}, places {name}: {} of {} snapshots",
                publisher.name(),
                snapshots.len(),
                whole.snapshots.len()
            ));
            assert!(snapshots.is_subset(&whole.snapshots) && snapshots.len() < whole.snapshots.len());
        }
    }
}

/// Runs of a publisher that may die after any step are the runs of all publishers that die after a
/// certain step, and of the one that lives.
#[test]
fn publisher_that_may_die_covers_deaths_after_each_step() {
    for publisher in [Publisher::StepRenew, Publisher::DirSwapped, Publisher::Release(false)] {
        for phase in [Phase::FirstLoad, Phase::Reload] {
            let search = |mortal, crash| {
                let mut scenario = Scenario::new(publisher, Renewal::LeafOnly);
                (scenario.mortal, scenario.crash, scenario.phase) = (mortal, crash, phase);
                scenario.config.waits = 0;
                let report = sim::explore::<Shipped>(&scenario.prepare(), u64::MAX);
                assert!(report.whole && report.violation.is_none());
                report
            };
            let steps = Scenario::new(publisher, Renewal::LeafOnly).steps().0.len();
            let mortal = search(true, None);
            let each: Vec<_> = std::iter::once(None).chain((1..steps).map(Some)).collect();
            let each: Vec<_> = each.into_iter().map(|crash| search(false, crash)).collect();
            let outcomes: HashSet<u64> = each.iter().flat_map(|report| report.outcomes.clone()).collect();
            let snapshots: HashSet<u64> = each.iter().flat_map(|report| report.snapshots.clone()).collect();
            assert_eq!(mortal.outcomes, outcomes, "{}", publisher.name());
            assert_eq!(mortal.snapshots, snapshots, "{}", publisher.name());
            assert!(mortal.deaths.iter().copied().eq(1..steps), "{}", publisher.name());
        }
    }
}
