//! Each wrong server fails in the scenarios that are about its fault, and in no other.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{Results, drill, results_in_time, wrong::Wrong};

/// Scenarios of which each fault concerns some.
const SCENARIOS: [&str; 12] = [
    "publishers/kubelet-volume",
    "publishers/in-place-key-first",
    "torn/chain-without-key",
    "torn/leaf-without-intermediate",
    "torn/pair-before-its-client-ca",
    "invalid/foreign-key-in-place",
    "trust/ca-removed-by-rename",
    "trust/empty-bundle",
    "revocation/revoked-in-place",
    "sessions/same-bytes-in-place",
    "sessions/ca-removed-in-place",
    "sessions/revoked-in-place",
];

/// Those that publish a valid set and wait for it.
const WITH_AN_UPDATE: [&str; 11] = [
    "publishers/kubelet-volume",
    "publishers/in-place-key-first",
    "torn/chain-without-key",
    "torn/leaf-without-intermediate",
    "torn/pair-before-its-client-ca",
    "invalid/foreign-key-in-place",
    "trust/ca-removed-by-rename",
    "trust/empty-bundle",
    "revocation/revoked-in-place",
    "sessions/ca-removed-in-place",
    "sessions/revoked-in-place",
];

/// Those that do so more than once.
const WITH_UPDATES: [&str; 8] = [
    "publishers/kubelet-volume",
    "publishers/in-place-key-first",
    "torn/chain-without-key",
    "torn/leaf-without-intermediate",
    "torn/pair-before-its-client-ca",
    "invalid/foreign-key-in-place",
    "trust/ca-removed-by-rename",
    "revocation/revoked-in-place",
];

/// Runs the drill. Four of these run at a time: each has a dozen servers with clients that take all
/// the time there is, and more would starve each other.
fn drilled(wrong: Wrong, only: &[&str]) -> Results {
    static LANES: [Mutex<()>; 4] = [const { Mutex::new(()) }; 4];
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let lane = &LANES[NEXT.fetch_add(1, Ordering::Relaxed) % LANES.len()];
    let _lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
    let server = wrong.command("CERT={cert} KEY={key} CA={ca} CRL={crl} PORT={port}");
    let command = |jobs: &str, only: &[&str]| {
        let mut command = drill(&["--server", &server, "--jobs", jobs]);
        command.args(only.iter().flat_map(|name| ["--only", name]));
        command
    };
    results_in_time(command, "16", only)
}

/// Returns how often a scenario is played in which this fault has to show. Half of a set is on disk
/// for 200 ms, and on a busy machine the server may take longer to serve it.
fn tries(wrong: Wrong) -> usize {
    if wrong == Wrong::DoesNotSettle { 5 } else { 1 }
}

/// Asserts that each of these scenarios fails, with this expectation among what does not hold, and
/// that every other passes.
#[track_caller]
fn fails(wrong: Wrong, wanted: &[(&[&str], &str)]) {
    let mut results = drilled(wrong, &SCENARIOS);
    for _ in 1..tries(wrong) {
        let shown = wanted.iter().flat_map(|(names, _)| *names).copied();
        let missed: Vec<_> = shown.filter(|name| results[*name].0 == "passed").collect();
        if missed.is_empty() {
            break;
        }
        results.extend(drilled(wrong, &missed));
    }
    let names: BTreeSet<_> = results.keys().map(String::as_str).collect();
    assert_eq!(names, SCENARIOS.into(), "the names are those of scenarios");
    for (name, (result, violated)) in &results {
        let of_name = wanted.iter().find(|(names, _)| names.contains(&name.as_str()));
        match of_name {
            None => assert_eq!(result, "passed", "{wrong:?} in {name}: {violated:?}"),
            Some((_, expectation)) => {
                assert_eq!(result, "failed", "{wrong:?} in {name}");
                let is_found = violated.iter().any(|one| one == expectation);
                assert!(is_found, "{wrong:?} in {name}: {violated:?}");
            }
        }
    }
}

#[test]
fn the_right_server_passes() {
    fails(Wrong::Nothing, &[]);
}

#[test]
fn a_server_that_never_reloads_takes_nothing() {
    fails(Wrong::NeverReloads, &[(&WITH_AN_UPDATE, "taken")]);
}

#[test]
fn a_server_that_reloads_once_takes_no_second_set() {
    fails(Wrong::ReloadsOnce, &[(&WITH_UPDATES, "taken")]);
}

#[test]
fn a_server_that_does_not_settle_serves_half_written_sets() {
    let torn = ["torn/leaf-without-intermediate", "torn/pair-before-its-client-ca"];
    fails(Wrong::DoesNotSettle, &[(&torn, "unfinished")]);
}

#[test]
fn a_server_that_takes_a_chain_without_its_key_is_not_whole() {
    let mismatched = ["torn/chain-without-key", "invalid/foreign-key-in-place"];
    fails(Wrong::TakesChainWithoutKey, &[(&mismatched, "whole")]);
}

#[test]
fn a_server_that_drops_connections_does_not_keep_them_alive() {
    let open = ["publishers/kubelet-volume", "publishers/in-place-key-first", "invalid/foreign-key-in-place"];
    fails(Wrong::DropsConnections, &[(&open, "alive")]);
}

#[test]
fn server_that_keeps_sessions_over_a_change_of_trust_fails() {
    let shrunk = [
        "trust/ca-removed-by-rename",
        "revocation/revoked-in-place",
        "sessions/ca-removed-in-place",
        "sessions/revoked-in-place",
    ];
    fails(Wrong::KeepsSessions, &[(&shrunk, "ends")]);
}

#[test]
fn a_server_that_loses_sessions_does_not_resume_them() {
    fails(Wrong::LosesSessions, &[(&["sessions/same-bytes-in-place"], "resumes")]);
}

#[test]
fn a_server_that_ignores_lists_does_not_take_them() {
    let revoked = ["revocation/revoked-in-place", "sessions/revoked-in-place"];
    fails(Wrong::IgnoresLists, &[(&revoked, "taken")]);
}

#[test]
fn server_that_fails_a_handshake_at_each_reload_fails() {
    fails(Wrong::FailsOneHandshake, &[(&WITH_AN_UPDATE, "completed")]);
}

#[test]
fn server_that_ends_at_an_invalid_set_fails() {
    let invalid = ["torn/chain-without-key", "invalid/foreign-key-in-place", "trust/empty-bundle"];
    fails(Wrong::DiesOfInvalidSets, &[(&invalid, "completed")]);
}

#[test]
fn server_that_accepts_strangers_amid_a_rejected_set_fails() {
    fails(Wrong::OpensWhenRejected, &[(&["trust/empty-bundle"], "refused")]);
}

/// Where the client CAs change alone, a client whose set it is may not connect at the right time.
#[test]
fn a_server_that_falls_back_to_an_older_set_is_not_ordered() {
    let results = drilled(Wrong::FallsBack, &SCENARIOS);
    for (name, (result, violated)) in &results {
        if WITH_UPDATES.contains(&name.as_str()) {
            assert_eq!(result, "failed", "{name}");
            assert!(violated.iter().any(|one| one == "ordered"), "{name}: {violated:?}");
        } else if !WITH_AN_UPDATE.contains(&name.as_str()) {
            assert_eq!(result, "passed", "{name}: {violated:?}");
        }
    }
}
