//! The drill on this project's own server.

use std::collections::BTreeSet;

use crate::{drill, results};

/// Every scenario passes, and none is skipped.
///
/// The sentences of the scenarios about clients and sessions are claims about this server too.
#[test]
fn every_scenario_passes_on_serve() {
    let results = results(drill(&[]));
    let failed: Vec<_> = results.iter().filter(|(_, (result, _))| result != "passed").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(results.len() >= 60, "{}", results.len());
    let groups: BTreeSet<_> = results.keys().map(|name| name.split('/').next().unwrap()).collect();
    assert_eq!(groups.len(), 8, "{groups:?}");
}
