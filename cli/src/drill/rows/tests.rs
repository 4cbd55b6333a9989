#![allow(clippy::unwrap_used)] // reason: a test

use std::collections::BTreeSet;

use super::*;
use crate::drill::model::Expectation;

#[test]
fn each_scenario_has_a_unique_name_a_source_and_a_group() {
    let rows: Vec<_> = all().collect();
    let ids: BTreeSet<_> = rows.iter().map(|row| row.id()).collect();
    assert_eq!(ids.len(), rows.len());
    assert!(rows.len() >= 60, "{}", rows.len());
    for group in Group::ALL {
        assert!(rows.iter().filter(|row| row.group == group).count() >= 5, "{}", group.name());
    }
    for row in rows {
        let is_word = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        assert!(row.name.chars().all(is_word), "{}", row.name);
        assert!(!row.source.is_empty() && row.what.ends_with('.'), "{}", row.name);
    }
}

/// A scenario that no server can fail proves nothing.
#[test]
fn every_scenario_demands_something_of_its_steps() {
    for row in all() {
        assert!(row.holds().len() > 3, "{}", row.id());
    }
    for expectation in Expectation::ALL {
        assert!(all().any(|row| row.holds().contains(&expectation)), "{}", expectation.name());
    }
}

#[test]
fn a_member_is_admitted_by_every_set() {
    for row in all() {
        assert!(
            row.start.trust.contains(&Ca::A) && !row.start.revoked.contains(&Who::Member),
            "{}",
            row.id()
        );
    }
}
