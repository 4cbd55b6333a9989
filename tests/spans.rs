//! The stages of a reload are spans of `tracing`, whose begin and end take no time of the stage.
//!
//! This test has a process of its own, as those of event lines have.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)] // reason: a test

#[path = "../cli/src/metrics.rs"]
mod recorder;

use std::{
    fmt::Debug,
    fs,
    panic::resume_unwind,
    sync::{Arc, Mutex},
    time::Duration,
};

use recorder::{Form, METRICS};
use rustls_reload::{Clock, Now, Reload, ServerReloader, SystemClock, Timing};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};
use tracing::{
    Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// The time that each call of the subscriber takes, far longer than any stage.
const CALL: Duration = Duration::from_secs(1_000);

/// A subscriber that takes long, and the clock by which it does.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<Calls>>);

#[derive(Default)]
struct Calls {
    late: Duration,
    /// Whether spans are wanted, beside events.
    spans: bool,
    panics: bool,
    /// The names of all spans, each with its field. The number of a span is its place, from 1.
    names: Vec<String>,
    /// The names of the spans that are entered.
    open: Vec<String>,
    /// The names of each span that was entered, those around it first.
    entered: Vec<String>,
    events: usize,
}

impl Slow {
    fn call(&self, note: impl FnOnce(&mut Calls)) {
        let mut calls = self.0.lock().unwrap();
        calls.late += CALL;
        note(&mut calls);
        if calls.panics {
            drop(calls);
            resume_unwind(Box::new("by design"));
        }
    }

    fn entered(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().entered)
    }
}

impl Subscriber for Slow {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_wanted = !metadata.is_span() || self.0.lock().unwrap().spans;
        metadata.target() == "rustls_reload::steps" && is_wanted
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        struct Name(String);
        impl Visit for Name {
            fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}

            fn record_str(&mut self, field: &Field, value: &str) {
                self.0.push_str(&format!("({field}={value})"));
            }
        }
        assert_eq!(*span.metadata().level(), Level::DEBUG);
        let mut name = Name(span.metadata().name().to_owned());
        span.record(&mut name);
        let mut calls = self.0.lock().unwrap();
        calls.late += CALL;
        calls.names.push(name.0);
        span::Id::from_u64(calls.names.len() as u64)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        assert_eq!(*event.metadata().level(), Level::DEBUG);
        self.call(|calls| calls.events += 1);
    }

    fn enter(&self, id: &span::Id) {
        self.call(|calls| {
            calls.open.push(calls.names[id.into_u64() as usize - 1].clone());
            calls.entered.push(calls.open.join("/"));
        });
    }

    fn exit(&self, id: &span::Id) {
        self.call(|calls| assert_eq!(calls.open.pop().as_ref(), calls.names.get(id.into_u64() as usize - 1)));
    }
}

impl Clock for Slow {
    fn now(&self) -> Now {
        let now = SystemClock::new().now();
        Now { mono: now.mono + self.0.lock().unwrap().late, ..now }
    }

    fn sleep(&self, pause: Duration) {
        SystemClock::new().sleep(pause);
    }
}

fn pair() -> Pair {
    Authority::root("CA").issue(&Subject::server("localhost"), &PrivateKey::p256())
}

/// Returns the sum of all durations of a stage.
fn sum(stage: &str) -> Duration {
    let text = METRICS.render(Form::Text);
    let line = text.lines().find(|line| line.starts_with(&format!("tls_{stage}_duration_seconds_sum")));
    Duration::from_secs_f64(line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap())
}

/// Checks: INV-15. In the end every call of the subscriber panics that can.
#[test]
fn inv15_stages_are_spans_and_a_slow_or_broken_subscriber_is_in_none() {
    let dir = tempfile::tempdir().unwrap();
    let [chain, key] = ["tls.crt", "tls.key"].map(|name| dir.path().join(name));
    let put = |of_chain: &Pair, of_key: &Pair| {
        fs::write(&chain, &of_chain.chain).unwrap();
        fs::write(&key, &of_key.key).unwrap();
    };
    let renew = || {
        let next = pair();
        put(&next, &next);
    };
    let around = format!("reload(set={})", chain.display());
    let reload = |stages: &[&str]| {
        let stages = stages.iter().map(|stage| format!("{around}/{stage}"));
        [around.clone()].into_iter().chain(stages).collect::<Vec<_>>()
    };
    let whole = reload(&["read", "build", "build/parse", "build/parse", "build/rehearse", "publish"]);
    let slow = Slow::default();
    let run = || {
        renew();
        let timing = Timing { settle: Duration::from_millis(20), ..Timing::default() };
        let builder = ServerReloader::builder(&chain, &key).timing(timing).clock(Arc::new(slow.clone()));
        let reloader = builder.load().unwrap();
        // 1. Events alone: the durations of stages have none of their time.
        renew();
        assert_eq!(reloader.reload_now(), Reload::Reloaded);
        assert!(slow.0.lock().unwrap().events >= 2 && slow.entered().is_empty());
        assert!(sum("snapshot") < CALL && sum("build") < CALL);
        // 2. Spans too: only `parse` and `rehearse` are within another stage.
        slow.0.lock().unwrap().spans = true;
        tracing::callsite::rebuild_interest_cache();
        renew();
        assert_eq!(reloader.reload_now(), Reload::Reloaded);
        assert_eq!(slow.entered(), whole);
        assert!(sum("snapshot") < CALL);
        assert_eq!(reloader.reload_now(), Reload::Unchanged);
        assert_eq!(slow.entered(), reload(&["read"]));
        put(&pair(), &pair());
        assert!(matches!(reloader.reload_now(), Reload::Refused(_)));
        assert_eq!(slow.entered(), reload(&["read", "build", "build/parse"]));
        // 3. With panics no span is left out, and none stays open.
        slow.0.lock().unwrap().panics = true;
        renew();
        assert_eq!(reloader.reload_now(), Reload::Reloaded);
        assert_eq!(slow.entered(), whole);
        assert_eq!(slow.0.lock().unwrap().open, [""; 0]);
    };
    METRICS.install();
    tracing::subscriber::with_default(slow.clone(), run);
}
