//! Every kind of change to the files, ten times in a row, with none missed: on the real file system
//! with real handshakes, and in the simulated world, whose results have to agree.
//!
//! `scripts/detection` runs these scenarios with the default delays.
//!
//! These tests have a process of their own. Some scenarios are measured in milliseconds, and all of
//! them listen to `log` and `tracing` for the whole process.
#![cfg(all(any(target_os = "linux", windows), not(loom)))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, unreachable_pub)]
// reason: tests stop at the first surprise, and print what they measured

#[path = "../common/mod.rs"]
mod common;
mod measure;
mod real;
#[path = "../common/records.rs"]
mod records;
mod run;
mod scenarios;
mod simulated;
mod watcher;
mod world;

use std::{path::Path, process::Command, time::Duration};

use measure::{Share, by_defaults, check_simulated, go, say, show, timing};
use real::Real;
use run::Pace;
use scenarios::Scenario;
use simulated::Simulated;

/// Runs a scenario in both worlds and checks the results.
fn holds(scenario: Scenario) {
    let simulated = go(&mut Simulated::new(&scenario, timing(&scenario, 1)), &scenario);
    let simulated = simulated.unwrap_or_else(|()| panic!("time passes only when it is let pass"));
    let times = check_simulated(&scenario, &simulated);
    if cfg!(windows) && scenario.has_links() {
        say(&format!("detection {:02} {}: links, simulated only", scenario.number, scenario.name));
        return;
    }
    // Scenarios measured in milliseconds run alone, and so does the neighbour that writes without a
    // pause.
    let alone = simulated.took.contains_key(&Pace::Commit) || scenario.number == 20;
    let (real, real_times) = show(|timing| Real::new(&scenario, timing), &scenario, alone);
    let (Scenario { number, name, .. }, published) = (&scenario, real.published);
    let simulation = format!("simulated: {} published{times}", simulated.published);
    say(&format!("detection {number:02} {name}: {published} published{real_times} | {simulation}"));
    assert_eq!(published, simulated.published, "{name}: the worlds disagree");
    assert_eq!(real.reported, simulated.reported, "{name}: the worlds disagree");
}

/// Runs several scenarios at the same time, where they need not run alone.
fn all_hold(scenarios: &[fn() -> Scenario]) {
    common::at_once(scenarios, |scenario| holds(scenario()));
}

/// Scenario 1.
#[test]
fn inv05_inv06_a_kubelet_update_is_served_each_time() {
    holds(scenarios::kubelet());
}

/// Scenario 2.
#[test]
fn inv05_inv06_repointed_parent_link_is_followed_each_time() {
    holds(scenarios::parent_re_pointed());
}

/// Scenario 3.
#[test]
fn inv05_inv06_repointed_grandparent_link_is_followed_each_time() {
    holds(scenarios::grandparent_re_pointed());
}

/// Scenario 4.
#[test]
fn inv05_inv06_a_link_into_a_volume_elsewhere_is_followed_each_time() {
    holds(scenarios::linked_volume());
}

/// Scenario 5.
#[test]
fn inv05_inv06_link_target_rewritten_in_place_is_served() {
    holds(scenarios::target_rewritten());
}

/// Scenario 6.
#[test]
fn inv05_inv06_certbots_links_replaced_one_by_one_are_followed() {
    holds(scenarios::certbot());
}

/// Scenario 7.
#[test]
fn inv05_files_removed_for_seconds_keep_the_old_pair_meanwhile() {
    holds(scenarios::removed_for_seconds());
}

/// Scenario 8.
#[test]
fn inv05_inv06_directory_made_again_is_served_and_watched() {
    holds(scenarios::directory_remade());
}

/// Scenario 9.
#[test]
fn inv05_inv06_directory_renamed_away_and_replaced_is_followed() {
    holds(scenarios::directory_swapped());
}

/// Scenario 10.
#[test]
fn inv05_inv06_directory_missing_at_each_level_is_found_again() {
    holds(scenarios::missing_at_every_level());
}

/// Scenario 11, injected: the watcher gets no events of the rotation, then reports that it lost
/// events.
#[test]
fn inv06_event_queue_overflow_during_a_rotation_costs_nothing() {
    holds(scenarios::overflow());
}

/// Scenario 12.
#[test]
fn inv05_inv06_change_between_first_load_and_watch_is_served() {
    use scenarios::{change_before_the_start, change_while_arming, rewritten_before_the_start};
    all_hold(&[change_before_the_start, rewritten_before_the_start, change_while_arming]);
}

/// Scenario 13: a watcher that never reports an event.
#[test]
fn inv06_a_file_system_without_events_is_polled() {
    all_hold(&[scenarios::no_events, scenarios::no_events_in_place]);
}

/// Scenario 14, injected.
#[test]
fn inv06_inv11_lack_of_watcher_or_watches_is_reported_and_recovers() {
    all_hold(&[scenarios::no_watcher, scenarios::no_watches]);
}

/// Scenario 15.
#[test]
fn inv05_other_bytes_of_equal_size_and_mtime_are_served() {
    holds(scenarios::same_size_and_time());
}

/// Scenario 16.
#[test]
fn inv05_two_updates_within_a_second_on_one_inode_are_both_served() {
    holds(scenarios::twice_within_a_second());
}

/// Scenario 17.
#[test]
fn inv05_a_new_leaf_alone_is_served_with_the_key_reused() {
    scenarios::only_the_leaf().into_iter().for_each(holds);
}

/// Scenario 18.
#[test]
fn inv05_a_new_intermediate_alone_is_served() {
    scenarios::only_an_intermediate().into_iter().for_each(holds);
}

/// Scenario 19.
#[test]
fn inv05_a_new_client_ca_alone_is_served() {
    scenarios::only_the_client_ca().into_iter().for_each(holds);
}

/// Scenario 20. With the default delays for a minute.
#[test]
fn inv05_inv12_chatty_neighbour_causes_no_delay_and_no_snapshot() {
    holds(scenarios::chatty_neighbour(Duration::from_secs(if by_defaults() { 50 } else { 2 })));
    holds(scenarios::chatty_neighbour_in_place());
}

/// Scenario 21.
#[test]
fn inv06_inv12_own_reads_cause_no_snapshot() {
    holds(scenarios::own_reads());
}

/// Scenario 22.
#[test]
fn inv05_path_that_changes_kind_is_served_once_it_is_a_file() {
    holds(scenarios::kinds());
}

/// Scenario 23, as with a file that is mounted alone: nothing ever changes.
#[test]
fn inv05_inv12_unchanged_files_are_read_by_the_poll_alone() {
    all_hold(&[|| scenarios::nothing_happens(true), || scenarios::nothing_happens(false)]);
}

/// The port of platforms without directory handles, on real files: no change is missed, and no set
/// is served before it has settled. The time beyond that depends on the machine.
#[cfg(target_os = "linux")]
#[test]
fn inv01_inv05_every_change_settles_and_is_served_without_handles() {
    use scenarios as of;
    let scenarios: [fn() -> Scenario; 15] = [
        of::kubelet,
        of::parent_re_pointed,
        of::grandparent_re_pointed,
        of::linked_volume,
        of::target_rewritten,
        of::certbot,
        of::removed_for_seconds,
        of::directory_remade,
        of::directory_swapped,
        of::missing_at_every_level,
        of::rewritten_before_the_start,
        of::no_events,
        of::no_watcher,
        of::same_size_and_time,
        of::kinds,
    ];
    let _share = Share::take(false);
    common::at_once(&scenarios, |scenario| {
        let scenario = scenario();
        // A publisher that was held up is given more time, because only the machine decides how
        // long it takes.
        let tried = (1..=measure::TRIES).find_map(|round| {
            let settle = Duration::from_millis(50) * 2_u32.pow(round);
            let timing = rustls_reload::Timing { settle, ..common::quick() };
            let mut world = Real::by_path(&scenario, scenario.timing(timing));
            let mut run = run::Run::new(&mut world, 2);
            run.handles = false;
            Some((settle, measure::played(run, &scenario).ok()?))
        });
        let (settle, outcome) =
            tried.unwrap_or_else(|| panic!("{}: the publisher was held up", scenario.name));
        let hasty = outcome.took.values().flatten().find(|took| **took < settle);
        assert_eq!(hasty, None, "{}: it did not settle", scenario.name);
        assert!(outcome.published > 1, "{}", scenario.name);
        say(&format!(
            "detection {:02} {}, by path: {} published",
            scenario.number, scenario.name, outcome.published
        ));
    });
}

/// Scenario 24. The working directory belongs to a process, so these paths are tested in a process
/// of their own. The simulation has no working directory and tests only the path with dots.
#[test]
fn inv05_inv06_relative_bare_and_dotted_paths_are_followed() {
    const NAME: &str = "inv05_inv06_relative_bare_and_dotted_paths_are_followed";
    const CHILD: &str = "DETECTION_IN_ITS_OWN_DIRECTORY";
    if std::env::var_os(CHILD).is_some() {
        let root = std::env::current_dir().unwrap();
        let up = Path::new("..").join(root.file_name().unwrap());
        for (prefix, scenario) in [
            (Path::new(""), scenarios::relative("a relative path")),
            (&up, scenarios::relative("a path that leads up")),
            (Path::new(""), scenarios::bare()),
        ] {
            let world = |timing| {
                for entry in std::fs::read_dir(&root).unwrap() {
                    let path = entry.unwrap().path();
                    let is_dir = path.symlink_metadata().unwrap().is_dir();
                    if is_dir { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
                }
                Real::beneath(root.clone(), prefix, &scenario, timing)
            };
            let (outcome, line) = show(world, &scenario, true);
            say(&format!("detection 24 {}: {} published{line}", scenario.name, outcome.published));
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let quiet = Share::take(true);
    let child = Command::new(std::env::current_exe().unwrap())
        .args([NAME, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .current_dir(dir.path().canonicalize().unwrap())
        .output()
        .unwrap();
    drop(quiet);
    let (out, err) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success(), "{out}{err}");
    let lines: Vec<_> = out.lines().filter(|line| line.starts_with("detection 24")).collect();
    assert_eq!(lines.len(), 3, "{out}");
    lines.iter().for_each(|line| say(line));
    holds(scenarios::dotted());
}
