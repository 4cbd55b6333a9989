//! The drill on this project's own server.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{drill, results_in_time, run, stdout};

/// Groups of which every third scenario is played. The sentences of the other groups about clients
/// and sessions are claims about this server too, so all of those are played.
const SAMPLED: [&str; 4] = ["publishers", "detection", "torn", "invalid"];

/// Every scenario that is played passes, and none is skipped. All are played by
/// `rustls-reload drill --strict`, which takes half a minute.
#[test]
fn scenarios_pass_on_serve() {
    let list: Vec<Value> = serde_json::from_str(&stdout(&run(drill(&["--list", "--json"])))).unwrap();
    let mut played = BTreeSet::new();
    for (number, scenario) in list.iter().enumerate() {
        let [group, name] = ["group", "name"].map(|field| scenario[field].as_str().unwrap());
        if number.is_multiple_of(3) || !SAMPLED.contains(&group) {
            played.insert(format!("{group}/{name}"));
        }
    }
    let command = |jobs: &str, only: &[&str]| {
        let mut command = drill(&["--jobs", jobs]);
        command.args(only.iter().flat_map(|name| ["--only", name]));
        command
    };
    let results = results_in_time(command, "12", &played.iter().map(String::as_str).collect::<Vec<_>>());
    let failed: Vec<_> = results.iter().filter(|(_, (result, _))| result != "passed").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(played.len() >= 50 && played.iter().all(|name| results.contains_key(name)), "{played:?}");
    let groups: BTreeSet<_> = results.keys().map(|name| name.split('/').next().unwrap()).collect();
    assert_eq!(groups.len(), 8, "{groups:?}");
}
