//! One event of each kind, with the name, severity, status and message that it must have.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::DAY;
use rustls_reload::{
    CertificateValidity, Error, Event, EventStatus, Fingerprint, Layer, Leaf, RemovedTrust, ServerReloader,
    Severity, Warning, internal::described_leaf,
};
use rustls_reload_testkit::{Authority, PrivateKey, Subject};
use serde_json::{Value, json};

/// 2023-11-14T22:13:20.123Z
const AT: Duration = Duration::from_millis(1_700_000_000_123);

pub(super) fn at() -> SystemTime {
    UNIX_EPOCH + AT
}

pub(super) fn leaf(digest: u8, serial: &str, names: &[&str]) -> Leaf {
    let mut leaf = described_leaf([digest; 32], AT - DAY, AT + DAY);
    leaf.serial = serial.to_owned();
    leaf.names = names.iter().map(|name| (*name).to_owned()).collect();
    leaf
}

/// A certificate whose end is near. Only a reloader makes such a description; its values are
/// replaced.
pub(super) fn certificate(what: &str, path: &Path) -> CertificateValidity {
    static MADE: LazyLock<CertificateValidity> = LazyLock::new(|| {
        let (dir, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
        let subject = Subject::server("x").valid(now - 29 * DAY, now + DAY / 2);
        let pair = Authority::root("root").issue(&subject, &PrivateKey::p256());
        let [chain, key] = ["c", "k"].map(|name| dir.path().join(name));
        std::fs::write(&chain, &pair.chain).unwrap();
        std::fs::write(&key, &pair.key).unwrap();
        let reloader = ServerReloader::builder(chain, key).load().unwrap();
        reloader.reload_now();
        reloader.status().expiring.unwrap().certificate
    });
    let mut certificate = MADE.clone();
    (certificate.what, certificate.path) = (what.into(), path.to_owned());
    certificate.fingerprint = Fingerprint([7; 32]);
    (certificate.not_before, certificate.not_after) = (AT - 29 * DAY, AT + DAY / 2);
    certificate
}

pub(super) fn fingerprint(digest: u8) -> String {
    Fingerprint([digest; 32]).to_string()
}

/// One kind of event, and what each form of it has to say.
pub(super) struct Row {
    pub(super) event: Event,
    pub(super) name: &'static str,
    pub(super) severity: Severity,
    pub(super) status: Option<EventStatus>,
    pub(super) message: &'static str,
    /// The reason, for which OCSF has a field of its own.
    pub(super) why: Option<&'static str>,
    pub(super) fields: Value,
}

pub(super) fn set() -> Option<Arc<Path>> {
    Some(Path::new("/tls/tls.crt").into())
}

/// Returns a row for each kind of event.
pub(super) fn rows() -> Vec<Row> {
    use EventStatus::{Failure, Success};
    use Severity::{High, Informational, Low, Medium};
    let refused = || Error::new(Layer::Match, "the key is another's").at("/tls/tls.key");
    let row = |event, name, severity, status, message, why, fields| Row {
        event,
        name,
        severity,
        status,
        message,
        why,
        fields,
    };
    let dates = json!({ "not_before": "2023-11-13T22:13:20Z", "not_after": "2023-11-15T22:13:20Z" });
    let ends = |more: Value| {
        let mut fields = json!({
            "certificate": "the leaf",
            "path": "/tls/tls.crt",
            "fingerprint": fingerprint(7),
            "not_before": "2023-10-16T22:13:20Z",
            "not_after": "2023-11-15T10:13:20Z",
        });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fields
    };
    vec![
        row(
            Event::Published {
                generation: 2,
                old: Some(leaf(1, "0A", &["a.test", "b.test"])),
                new: Some(leaf(2, "0B", &["c.test"])),
                recovered: true,
                set: set(),
            },
            "published",
            Informational,
            Some(Success),
            "TLS certificate config reloaded successfully",
            None,
            json!({
                "generation": 2,
                "recovered": true,
                "fingerprint": fingerprint(2),
                "serial": "0B",
                "names": ["c.test"],
                "not_before": dates["not_before"],
                "not_after": dates["not_after"],
                "old_fingerprint": fingerprint(1),
                "old_serial": "0A",
                "old_names": ["a.test", "b.test"],
                "old_not_before": dates["not_before"],
                "old_not_after": dates["not_after"],
                "file_set": "/tls/tls.crt",
            }),
        ),
        row(
            Event::TrustReduced {
                generation: 3,
                epoch: 1,
                lost: vec![RemovedTrust::Revocation { issuer: "CN=ca".to_owned(), more: 2 }],
            },
            "trust_reduced",
            Low,
            Some(Success),
            "trust shrank with generation 3 (epoch 1), no longer trusted: 2 more certificates revoked by CN=ca",
            None,
            json!({ "generation": 3, "epoch": 1, "removed_trust": ["2 more certificates revoked by CN=ca"] }),
        ),
        row(
            Event::Refused { error: refused(), generation: 3, set: set() },
            "refused",
            Medium,
            Some(Failure),
            "TLS certificate reload failed: match: /tls/tls.key: the key is another's",
            Some("the key is another's"),
            json!({ "generation": 3, "layer": "match", "path": "/tls/tls.key", "file_set": "/tls/tls.crt" }),
        ),
        row(
            Event::Recovered { set: set() },
            "recovered",
            Low,
            Some(Success),
            "recovered: the files on disk are the served ones again",
            None,
            json!({ "file_set": "/tls/tls.crt" }),
        ),
        row(
            Event::Deferred { not_before: AT, set: set() },
            "deferred",
            Low,
            None,
            "deferred: the new certificate is not served before 2023-11-14T22:13:20Z, the previous one stays \
             served",
            None,
            json!({ "deferred_until": "2023-11-14T22:13:20Z", "file_set": "/tls/tls.crt" }),
        ),
        row(
            Event::Expiring { certificate: certificate("the leaf", Path::new("/tls/tls.crt")), within: DAY },
            "expiring",
            Low,
            None,
            "TLS certificate expires soon: validity: /tls/tls.crt: the leaf expires at 2023-11-15T10:13:20Z",
            None,
            ends(json!({ "within_seconds": 86_400 })),
        ),
        row(
            Event::Expired { certificate: certificate("the leaf", Path::new("/tls/tls.crt")) },
            "expired",
            High,
            Some(Failure),
            "TLS certificate has expired: validity: /tls/tls.crt: the leaf has expired at 2023-11-15T10:13:20Z",
            None,
            ends(json!({})),
        ),
        row(
            Event::StillChanging { set: set() },
            "still_changing",
            Medium,
            Some(Failure),
            "still changing: the files keep changing and are not loaded, the previous ones stay served",
            None,
            json!({ "file_set": "/tls/tls.crt" }),
        ),
        row(
            Event::Degraded { error: Error::new(Layer::Watch, "no watch is left") },
            "degraded",
            Low,
            Some(Failure),
            "degraded: file events are missing, the files are polled instead: watch: no watch is left",
            Some("no watch is left"),
            json!({ "layer": "watch" }),
        ),
        row(
            Event::Restored,
            "restored",
            Low,
            Some(Success),
            "restored: file events work again",
            None,
            json!({}),
        ),
        row(
            Event::Started { watched: vec!["/".into(), "/tls".into()] },
            "started",
            Informational,
            Some(Success),
            "started, watching /, /tls",
            None,
            json!({ "watched": ["/", "/tls"] }),
        ),
        row(Event::Stopped, "stopped", Informational, Some(Success), "stopped", None, json!({})),
        row(
            Event::Warning { warning: Warning::new(Layer::Key, "everybody can read it").at("/tls/tls.key") },
            "warning",
            Low,
            None,
            "warning: key: /tls/tls.key: everybody can read it",
            Some("everybody can read it"),
            json!({ "layer": "key", "path": "/tls/tls.key" }),
        ),
    ]
}
