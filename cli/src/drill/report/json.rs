//! The results as JSON. Times are milliseconds from the begin of the scenario.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Report, Status};
use crate::drill::model::{Outcome, Played, Publication, Record, Scenario, Shown, Verdict, Violation};

impl Report {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "server": self.server,
            "seconds": self.took.as_secs_f64(),
            "scenarios": self.played.iter().map(played).collect::<Vec<_>>(),
        })
    }
}

/// Returns a row of the tables.
pub(super) fn scenario(scenario: &Scenario) -> Value {
    json!({
        "name": scenario.name,
        "group": scenario.group.name(),
        "source": scenario.source,
        "what": scenario.what,
        "advice": scenario.advice,
        "holds": scenario.holds().iter().map(|one| one.name()).collect::<Vec<_>>(),
    })
}

fn played(played: &Played) -> Value {
    let mut json = scenario(played.scenario);
    let (why, violations) = match &played.verdict {
        Verdict::Passed => (None, Vec::new()),
        Verdict::Failed(violations) => (None, violations.iter().map(violation).collect()),
        Verdict::Skipped(why) | Verdict::Broken(why) => (Some(why), Vec::new()),
    };
    json["result"] = Status::of(played).name().into();
    json["why"] = json!(why);
    json["violations"] = violations.into();
    json["seconds"] = played.took.as_secs_f64().into();
    json["sets"] = played.publications.iter().map(publication).collect::<Vec<_>>().into();
    json["handshakes"] = played.records.iter().map(|one| record(one, played)).collect::<Vec<_>>().into();
    json
}

fn violation(violation: &Violation) -> Value {
    json!({
        "expectation": violation.expectation.name(),
        "at": milliseconds(violation.at),
        "why": violation.why,
    })
}

fn publication(publication: &Publication) -> Value {
    json!({
        "serial": publication.serial,
        "valid": publication.valid,
        "begun": milliseconds(publication.begun),
        "done": publication.done.map(milliseconds),
        "served": publication.seen.map(milliseconds),
    })
}

fn record(record: &Record, played: &Played) -> Value {
    let (outcome, why) = match &record.outcome {
        Outcome::Accepted => ("accepted", None),
        Outcome::Refused(why) => ("refused", Some(why)),
        Outcome::Closed(why) => ("closed", Some(why)),
        Outcome::Failed(why) => ("failed", Some(why)),
    };
    let serial = |chain: usize| {
        let of_chain = played.publications.iter().find(|one| one.chain == chain);
        of_chain.map(|one| one.serial.as_str())
    };
    let (shown, serial) = match record.shown {
        Shown::Nothing => (None, None),
        Shown::Chain(chain) => (Some("whole"), serial(chain)),
        Shown::Half(chain) => (Some("half"), serial(chain)),
        Shown::Altered(chain) => (Some("altered"), serial(chain)),
        Shown::WrongKey(chain) => (Some("wrong key"), chain.and_then(serial)),
        Shown::Unknown => (Some("unknown"), None),
    };
    json!({
        "begun": milliseconds(record.begun),
        "ended": milliseconds(record.ended),
        "client": record.lane.who.name(),
        "tls": record.lane.version.name(),
        "resumed": record.resumed,
        "chain": shown,
        "serial": serial,
        "outcome": outcome,
        "why": why,
    })
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
