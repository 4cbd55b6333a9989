//! The status as JSON, field by field as in `Status`. Times are RFC 3339, absent values are null.

use std::{path::Path, time::Duration};

use rustls_reload::{Error, Expiring, Layer, Leaf, Refused, SetStatus, Status, Timestamp, Warning};
use serde_json::{Value, json};

pub(crate) fn to_json(status: &Status) -> Value {
    json!({
        "generation": status.generation,
        "leaf": status.leaf.as_ref().map(leaf),
        "served_since": time(status.served_since),
        "trust_reduced": status.trust_reduced,
        "refused": status.refused.as_ref().map(refused),
        "deferred_until": status.deferred_until.map(time),
        "differs_since": status.differs_since.map(time),
        "expiring": status.expiring.as_ref().map(expiring),
        "sets": status.sets.iter().map(set).collect::<Vec<_>>(),
        "running": status.running,
        "stalled_since": status.stalled_since.map(time),
        "degraded": status.degraded.as_ref().map(|(why, since)| json!({
            "error": error(why),
            "since": time(*since),
        })),
        "watched": status.watched.iter().map(|dir| dir.to_string_lossy()).collect::<Vec<_>>(),
        "unwatched": status.unwatched.iter().map(|dir| dir.to_string_lossy()).collect::<Vec<_>>(),
        "last_snapshot": time(status.last_snapshot),
        "snapshots": status.snapshots,
        // Scripts read the two fields above under these names.
        "last_look": time(status.last_snapshot),
        "looks": status.snapshots,
        "builds": status.builds,
        "directories": status.directories,
    })
}

fn set(set: &SetStatus) -> Value {
    json!({
        "path": set.path.to_string_lossy(),
        "leaf": set.leaf.as_ref().map(leaf),
        "generation": set.generation,
        "served_since": time(set.served_since),
        "refused": set.refused.as_ref().map(refused),
        "deferred_until": set.deferred_until.map(time),
        "differs_since": set.differs_since.map(time),
        "expiring": set.expiring.as_ref().map(expiring),
    })
}

fn refused(refused: &Refused) -> Value {
    json!({ "error": error(&refused.error), "since": time(refused.since), "count": refused.count })
}

fn expiring(expiring: &Expiring) -> Value {
    json!({
        "path": expiring.certificate.path.to_string_lossy(),
        "fingerprint": expiring.certificate.fingerprint.to_string(),
        "not_after": time(expiring.certificate.not_after),
        "within_seconds": expiring.within.map(|within| within.as_secs()),
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

pub(crate) fn error(error: &Error) -> Value {
    reason(error.layer(), error.path(), error.why())
}

pub(crate) fn warning(warning: &Warning) -> Value {
    reason(warning.layer(), warning.path(), warning.why())
}

fn reason(layer: Layer, path: Option<&Path>, why: &str) -> Value {
    json!({ "layer": layer.name(), "path": path.map(|path| path.to_string_lossy()), "why": why })
}

fn time(since_epoch: Duration) -> String {
    Timestamp(since_epoch).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // reason: a test
mod tests {
    use std::{collections::BTreeSet, fs};

    use rustls_reload::{Reload, ServerReloader};

    use super::*;
    use crate::testkit::{Authority, Pair, PrivateKey, Subject};

    /// Returns the status of a polled server of `pair`, after its chain was replaced by the one of
    /// `other`: the update is rejected, and the files are not watched.
    fn degraded_and_refused(dir: &std::path::Path, [pair, other]: [&Pair; 2]) -> Status {
        let (chain, key) = (dir.join("tls.crt"), dir.join("tls.key"));
        fs::write(&chain, &pair.chain).unwrap();
        fs::write(&key, &pair.key).unwrap();
        let reloader = ServerReloader::builder(&chain, &key).watcher(None).load().unwrap();
        fs::write(&chain, &other.chain).unwrap();
        assert!(matches!(reloader.reload_now(), Reload::Refused(_)));
        let mut events = reloader.events();
        reloader.start().unwrap();
        let limit = Duration::from_secs(20);
        while !matches!(*events.next_within(limit).unwrap().event, rustls_reload::Event::Started { .. }) {}
        reloader.status()
    }

    /// Checks: INV-11.
    #[test]
    fn inv11_everything_in_the_status_is_in_the_json() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::root("CA");
        let pair = || ca.issue(&Subject::server("localhost"), &PrivateKey::p256());
        let status = degraded_and_refused(dir.path(), [&pair(), &pair()]);
        let json = to_json(&status);
        // Debug prints each field on a line of its own.
        let text = format!("{status:#?}");
        let field = |line: &str| {
            let name = line.strip_prefix("    ")?.split_once(": ")?.0;
            (!name.starts_with(' ')).then(|| name.to_owned())
        };
        let fields: BTreeSet<_> = text.lines().filter_map(field).collect();
        let mut keys: BTreeSet<_> = json.as_object().unwrap().keys().cloned().collect();
        for (earlier, name) in [("last_look", "last_snapshot"), ("looks", "snapshots")] {
            assert!(keys.remove(earlier));
            assert_eq!(json[earlier], json[name]);
        }
        assert_eq!(fields, keys);
        let ((why, since), refused) = (status.degraded.clone().unwrap(), status.refused.clone().unwrap());
        assert_eq!(json["degraded"], json!({ "error": error(&why), "since": time(since) }));
        assert_eq!(json["refused"]["since"], time(refused.since));
        assert_eq!(json["refused"]["count"], refused.count);
        assert_eq!(json["refused"]["error"]["layer"], "match");
        assert_eq!(json["refused"]["error"]["path"], dir.path().join("tls.key").to_str().unwrap());
        assert_eq!(json["differs_since"], time(status.differs_since.unwrap()));
        assert_eq!(
            (&json["last_snapshot"], &json["running"]),
            (&json!(time(status.last_snapshot)), &json!(true))
        );
        assert_eq!((&json["generation"], &json["deferred_until"]), (&json!(1), &Value::Null));
        assert_eq!(json["leaf"]["names"], json!(["localhost"]));
        assert_eq!(json["watched"], json!([]), "nothing is watched without a watcher");
        // Every directory on the way to the files counts, the root included.
        assert_eq!(json["directories"], dir.path().canonicalize().unwrap().ancestors().count());
        assert_eq!(json["expiring"], Value::Null);
        let [only] = &status.sets[..] else { panic!("{:?}", status.sets) };
        assert_eq!(json["sets"], json!([set(only)]));
        let text = format!("{only:#?}");
        let fields: BTreeSet<_> = text.lines().filter_map(field).collect();
        assert_eq!(fields, json["sets"][0].as_object().unwrap().keys().cloned().collect());
        assert_eq!(json["sets"][0]["refused"], json["refused"]);
        let mut healthy = status;
        (healthy.degraded, healthy.watched) = (None, vec!["/".into(), dir.path().to_owned()]);
        healthy.unwatched = vec!["/closed".into()];
        let json = to_json(&healthy);
        assert_eq!(json["watched"], json!(["/", dir.path().to_str().unwrap()]));
        assert_eq!((&json["unwatched"], &json["degraded"]), (&json!(["/closed"]), &Value::Null));
    }
}
