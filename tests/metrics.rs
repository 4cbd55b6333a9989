//! Reloads, rejections and handshakes change their metrics, and leave the others alone.
//!
//! These tests have a process of their own: its recorder is the one of the binary. Each reloader
//! has a name of its own, by which its series are found.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)] // reason: tests

mod common;
#[path = "metrics/file_sets.rs"]
mod file_sets;
#[path = "../cli/src/metrics.rs"]
mod recorder;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use common::{Generation, NamedFile, Volume, generations, invalid_updates, started};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use recorder::{Form, METRICS};
use rustls::KeyLog;
use rustls_reload::{
    Build, Builder, Built, ClientReloader, Context, Error, Event, Files, HandshakeFailure, InitialBuild,
    Layer, Reload, ServerReloader,
};
use rustls_reload_testkit::{PrivateKey, Subject};
use tokio::io::AsyncWriteExt;

const DAY: Duration = Duration::from_secs(86_400);

/// Returns the series of a reloader without its label, and the directory of its files as `DIR`.
fn seen(reloader: &str, dir: &Path) -> BTreeMap<String, f64> {
    let label = format!("reloader=\"{reloader}\"");
    let text = METRICS.render(Form::Text);
    let lines = text.lines().filter(|line| line.contains(&label));
    let series = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let series = series.replace(&label, "").replace("{,", "{").replace("{}", "");
        (series.replace(dir.to_str().unwrap(), "DIR"), value.parse().unwrap())
    });
    series.collect()
}

/// Returns the series that differ, with their values after.
fn changes(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    assert!(before.keys().all(|series| after.contains_key(series)), "no series ends");
    let changed = after.iter().filter(|(series, value)| before.get(*series) != Some(value));
    // Every snapshot and build adds to these.
    let by_time = ["tls_last_snapshot", "tls_snapshot_duration", "tls_build_duration"];
    let reported = changed.filter(|(series, _)| !by_time.iter().any(|begin| series.starts_with(begin)));
    reported.map(|(series, value)| (series.clone(), *value)).collect()
}

/// A build of a value without a leaf.
struct Nothing;

impl Build for Nothing {
    type Value = ();

    fn first(&mut self, _: &[Files], _: Duration) -> Result<InitialBuild<()>, Error> {
        Ok(InitialBuild::new(()))
    }

    fn build(&mut self, _: &Files, _: &Context<'_, ()>) -> Result<Built<()>, Error> {
        Ok(Built::new(()))
    }
}

fn of<const N: usize>(series: [(&str, f64); N]) -> BTreeMap<String, f64> {
    series.map(|(series, value)| (series.to_owned(), value)).into()
}

/// Loads the volume's pair under this name.
fn load(volume: &Volume, name: &str) -> ServerReloader {
    METRICS.install();
    volume.server().metrics_name(name).load().unwrap()
}

/// The files of the first generation with the key of the second.
fn mismatched(generations: &[Generation]) -> [NamedFile<'_>; 2] {
    let [chain, ..] = generations[0].files();
    let [_, key, _] = generations[1].files();
    [chain, key]
}

fn reloaded(result: &str, reason: &str) -> String {
    format!("tls_reload_total{{set=\"DIR/tls.crt\",result=\"{result}\",reason=\"{reason}\"}}")
}

/// Checks: INV-11.
#[test]
fn inv11_a_rejection_changes_its_counter_and_two_gauges() {
    let generations = generations(3);
    let mut volume = Volume::of(&generations[0]);
    let dir = volume.dir();
    let reloader = load(&volume, "rejects");
    let look = || seen("rejects", &dir);

    let loaded = look();
    let leaf = reloader.status().leaf.unwrap();
    let since = reloader.status().served_since;
    let shown = of([
        ("tls_generation", 1.0),
        ("tls_watch_degraded", 0.0),
        ("tls_reload_last_success_timestamp_seconds{set=\"DIR/tls.crt\"}", since.as_secs_f64()),
        ("tls_reload_refused{set=\"DIR/tls.crt\"}", 0.0),
        ("tls_served_matches_disk{set=\"DIR/tls.crt\"}", 1.0),
        ("tls_certificate_not_before_timestamp_seconds{set=\"DIR/tls.crt\"}", leaf.not_before.as_secs_f64()),
        ("tls_certificate_not_after_timestamp_seconds{set=\"DIR/tls.crt\"}", leaf.not_after.as_secs_f64()),
    ]);
    assert_eq!(changes(&BTreeMap::new(), &loaded), shown);

    volume.publish(&mismatched(&generations[1..]));
    assert!(matches!(reloader.reload_now(), Reload::Refused(_)));
    let refused = look();
    let two = [
        ("tls_reload_refused{set=\"DIR/tls.crt\"}", 1.0),
        ("tls_served_matches_disk{set=\"DIR/tls.crt\"}", 0.0),
    ];
    let mut wanted = of(two);
    wanted.insert(reloaded("refused", "match"), 1.0);
    assert_eq!(changes(&loaded, &refused), wanted);

    // A rejection that is met again is not reported again.
    assert!(matches!(reloader.reload_now(), Reload::Refused(_)));
    let again = look();
    assert_eq!(changes(&refused, &again), of([]));
    let last = "tls_last_snapshot_timestamp_seconds";
    assert!(again[last] > refused[last] && refused[last] > loaded[last]);
    let count = "tls_snapshot_duration_seconds_count{set=\"DIR/tls.crt\"}";
    assert_eq!(again[count] - refused[count], 1.0);

    // The served files are on disk again: nothing was reloaded.
    volume.publish(&generations[0].files());
    assert_eq!(reloader.reload_now(), Reload::Unchanged);
    let recovered = look();
    let wanted = two.map(|(series, value)| (series, 1.0 - value));
    assert_eq!(changes(&again, &recovered), of(wanted));

    volume.publish(&generations[2].files());
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    let after = look();
    let new = reloader.status().leaf.unwrap();
    let mut wanted = of([
        ("tls_generation", 2.0),
        (
            "tls_reload_last_success_timestamp_seconds{set=\"DIR/tls.crt\"}",
            reloader.status().served_since.as_secs_f64(),
        ),
    ]);
    wanted.insert(reloaded("reloaded", "none"), 1.0);
    // The two leaves may be of one second.
    for (edge, old, new) in
        [("before", leaf.not_before, new.not_before), ("after", leaf.not_after, new.not_after)]
    {
        if old != new {
            let gauge = format!("tls_certificate_not_{edge}_timestamp_seconds{{set=\"DIR/tls.crt\"}}");
            wanted.insert(gauge, new.as_secs_f64());
        }
    }
    assert_eq!(changes(&recovered, &after), wanted);
}

/// Checks: INV-11.
#[test]
fn inv11_a_deferred_leaf_is_counted_and_is_no_rejection() {
    let generations = generations(1);
    let mut volume = Volume::of(&generations[0]);
    let reloader = load(&volume, "defers");
    let before = seen("defers", &volume.dir());
    let now = SystemTime::now();
    let subject = Subject::server("localhost").valid(now + DAY, now + 2 * DAY);
    let next = generations[0].ca.issue(&subject, &PrivateKey::p256());
    volume.publish(&[("tls.crt", next.chain.as_bytes()), ("tls.key", next.key.as_bytes())]);
    assert!(matches!(reloader.reload_now(), Reload::Deferred(_)));
    let mut wanted = of([("tls_served_matches_disk{set=\"DIR/tls.crt\"}", 0.0)]);
    wanted.insert(reloaded("deferred", "none"), 1.0);
    let after = seen("defers", &volume.dir());
    assert_eq!(changes(&before, &after), wanted);
    // No event reports that the served files are back, and the gauge knows.
    volume.publish(&generations[0].files());
    assert_eq!(reloader.reload_now(), Reload::Unchanged);
    let wanted = of([("tls_served_matches_disk{set=\"DIR/tls.crt\"}", 1.0)]);
    assert_eq!(changes(&after, &seen("defers", &volume.dir())), wanted);
}

/// Checks: INV-11.
#[test]
fn inv11_missing_file_events_show_while_the_driver_runs() {
    let volume = Volume::of(&Generation::new(0));
    METRICS.install();
    let reloader = volume.server().metrics_name("polls").watcher(None).load().unwrap();
    let degraded = || seen("polls", &volume.dir())["tls_watch_degraded"];
    assert_eq!(degraded(), 0.0);
    let mut events = reloader.events();
    reloader.start().unwrap();
    started(&mut events);
    assert_eq!(degraded(), 1.0);
    // A poll that finds nothing new is reported by no event, and shows that the driver lives.
    let last = || seen("polls", &volume.dir())["tls_last_snapshot_timestamp_seconds"];
    let (begun, snapshots) = (last(), reloader.status().snapshots);
    let start = std::time::Instant::now();
    while reloader.status().snapshots < snapshots + 2 {
        assert!(start.elapsed() < common::DEADLINE);
        std::thread::yield_now();
    }
    assert!(last() > begun);
    reloader.stop().unwrap();
    assert_eq!(degraded(), 0.0);
}

/// Checks: INV-12. Whatever is on disk, the labels are the set's first path, a result and a layer.
#[test]
fn inv12_no_rejection_makes_a_label_of_its_own() {
    let first = Generation::new(0);
    let mut volume = Volume::of(&first);
    METRICS.install();
    let builder = volume.server().client_ca(volume.path("ca.crt"), rustls_reload::ClientAuth::Optional);
    let reloader = builder.metrics_name("bounded").load().unwrap();
    let mut layers = BTreeSet::new();
    for (number, update) in invalid_updates().into_iter().enumerate() {
        let next = Generation::new(number + 1);
        volume.publish_invalid(&next.files(), |payload| (update.invalidate)(payload));
        let Reload::Refused(error) = reloader.reload_now() else { panic!("{}", update.what) };
        layers.insert(error.layer().name());
        let good = Generation::new(number + 1000);
        volume.publish(&good.files());
        assert_eq!(reloader.reload_now(), Reload::Reloaded, "after {}", update.what);
    }
    let series = seen("bounded", &volume.dir());
    let count = |begin: &str| series.keys().filter(|series| series.starts_with(begin)).count();
    assert!(layers.len() >= 6, "{layers:?}");
    assert_eq!(count("tls_reload_total"), layers.len() + 1, "{series:#?}");
    assert!(layers.iter().all(|layer| series.contains_key(&reloaded("refused", layer))), "{series:#?}");
    // Eight gauges, and the count and the sum of two durations.
    assert_eq!(series.len(), layers.len() + 1 + 8 + 4, "{series:#?}");
}

/// A key log that panics, as code of the embedder in a handshake may.
#[derive(Debug)]
struct Breaks;

impl KeyLog for Breaks {
    fn log(&self, _: &str, _: &[u8], _: &[u8]) {
        std::panic::resume_unwind(Box::new("by design"));
    }
}

#[tokio::test]
async fn a_handshake_that_panics_is_counted_as_a_failure() {
    METRICS.install();
    let volume = Volume::of(&Generation::new(0));
    let builder = volume.server().metrics_name("breaks");
    let server = builder.configure(|config| config.key_log = Arc::new(Breaks)).load().unwrap();
    let client = ClientReloader::builder().roots(volume.path("ca.crt")).load().unwrap();
    let (acceptor, connector) = (server.acceptor(), client.connector());
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (accepted, connected) =
        tokio::join!(acceptor.accept(ours), connector.connect("localhost".try_into().unwrap(), theirs));
    let error = accepted.unwrap_err();
    assert_eq!(error.to_string(), "the handshake panicked");
    assert_eq!(HandshakeFailure::of_io(&error), HandshakeFailure::Other);
    assert!(connected.is_err());
    let series = seen("breaks", &volume.dir());
    assert_eq!(series["tls_handshakes_total{result=\"failed\",reason=\"other\"}"], 1.0);
}

/// The handshakes of an acceptor are counted. Reloaders have the names of their kinds unless they
/// are given others.
#[tokio::test]
async fn handshakes_are_counted_by_reason_under_the_default_names() {
    METRICS.install();
    let generation = Generation::new(0);
    let mut volume = Volume::of(&generation);
    let server = volume.server().load().unwrap();
    let client = ClientReloader::builder().roots(volume.path("ca.crt")).load().unwrap();
    let generic = Builder::new([volume.path("tls.crt")], Nothing).load().unwrap();
    let (acceptor, connector) = (server.acceptor(), client.connector());
    for _ in 0..2 {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (accepted, connected) =
            tokio::join!(acceptor.accept(ours), connector.connect("localhost".try_into().unwrap(), theirs));
        assert!(accepted.is_ok() && connected.is_ok());
    }
    let (ours, mut theirs) = tokio::io::duplex(1 << 16);
    theirs.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert!(acceptor.accept(ours).await.is_err());
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    drop(theirs);
    assert!(acceptor.accept(ours).await.is_err());
    let dir = volume.dir();
    let handshakes: BTreeMap<_, _> =
        seen("server", &dir).into_iter().filter(|(series, _)| series.contains("handshakes")).collect();
    let wanted = of([
        ("tls_handshakes_total{result=\"completed\",reason=\"none\"}", 2.0),
        ("tls_handshakes_total{result=\"failed\",reason=\"connection_lost\"}", 1.0),
        ("tls_handshakes_total{result=\"failed\",reason=\"not_tls\"}", 1.0),
    ]);
    assert_eq!(handshakes, wanted);
    assert_eq!(seen("client", &dir)["tls_generation"], 1.0);
    // A value without a leaf has no dates.
    assert_eq!(generic.status().leaf, None);
    let names: Vec<_> = seen("generic", &dir).into_keys().collect();
    assert!(names.len() == 6 && !names.iter().any(|name| name.contains("certificate")), "{names:?}");

    volume.publish(&mismatched(&generations(2)));
    assert!(matches!(server.reload_now(), Reload::Refused(_)));
    // The manual's table has each name, and each has a description.
    let manual = include_str!("../src/manual/embedding.md");
    let listed: BTreeSet<_> = manual
        .lines()
        .filter_map(|line| line.strip_prefix("| `tls_")?.split_once('`'))
        .map(|row| row.0)
        .collect();
    let text = METRICS.render(Form::Text);
    let reported = text.lines().filter_map(|line| line.strip_prefix("# TYPE tls_")?.split_once(' '));
    assert_eq!(reported.map(|(name, _)| name).collect::<BTreeSet<_>>(), listed);
    assert!(!text.lines().any(|line| line.starts_with("# HELP") && line.split(' ').count() < 5), "{text}");
}

/// A recorder that fails.
struct Panics;

impl Recorder for Panics {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        panic!("no counter")
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        panic!("no gauge")
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        panic!("no histogram")
    }
}

#[test]
fn inv15_a_recorder_that_panics_stops_no_reload() {
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let reloader = load(&volume, "panics");
    let mut events = reloader.events();
    volume.publish(&generations[1].files());
    let outcome = metrics::with_local_recorder(&Panics, || reloader.reload_now());
    assert_eq!(outcome, Reload::Reloaded);
    // The recorder is called many times, and for each handshake of a client: it is reported once.
    let mut warned = 0;
    for event in common::drain(&mut events) {
        if let Event::Warning { warning } = &*event {
            assert_eq!(
                (warning.layer(), warning.why()),
                (Layer::Panic, "the recorder of `metrics` panicked")
            );
            warned += 1;
        }
    }
    assert_eq!((warned, common::presented(&reloader)[0].clone()), (1, generations[1].server.leaf.clone()));
}
