//! The status as JSON, field by field as in `Status`; times are RFC 3339, absent things are null.

use std::time::Duration;

use rustls_reload::{Error, Leaf, Status, Timestamp};
use serde_json::{Value, json};

pub(crate) fn to_json(status: &Status) -> Value {
    json!({
        "generation": status.generation,
        "leaf": status.leaf.as_ref().map(leaf),
        "served_since": time(status.served_since),
        "refused": status.refused.as_ref().map(|refused| json!({
            "error": error(&refused.error),
            "since": time(refused.since),
            "count": refused.count,
        })),
        "held_until": status.held_until.map(time),
        "differs_since": status.differs_since.map(time),
        "running": status.running,
        "degraded": status.degraded.as_ref().map(|(why, since)| json!({
            "error": error(why),
            "since": time(*since),
        })),
        "watched": status.watched.iter().map(|dir| dir.to_string_lossy()).collect::<Vec<_>>(),
        "last_look": time(status.last_look),
        "looks": status.looks,
        "builds": status.builds,
    })
}

fn leaf(leaf: &Leaf) -> Value {
    json!({
        "fingerprint": leaf.fingerprint.to_string(),
        "serial": leaf.serial,
        "names": leaf.names,
        "not_before": time(leaf.not_before),
        "not_after": time(leaf.not_after),
    })
}

fn error(error: &Error) -> Value {
    json!({
        "layer": error.layer().name(),
        "path": error.path().map(|path| path.to_string_lossy()),
        "why": error.why(),
    })
}

fn time(since_epoch: Duration) -> String {
    Timestamp(since_epoch).to_string()
}
