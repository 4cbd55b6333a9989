//! Each event is one line of at most [`LINE_LIMIT`] bytes, for all names, paths and messages, and
//! states how much was left out. Callbacks and `tracing` get the same line.
//!
//! These tests have a process of their own. While one thread has a subscriber, `tracing` switches a
//! callsite off for all threads if a thread without a subscriber reaches it first.
//!
//! Checks: INV-11, INV-12
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs)] // reason: a test

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls_reload::{
    Error, Event, Fingerprint, Layer, Leaf, Reload, RemovedTrust, ServerReloader, Timing,
    internal::{LINE_LIMIT, TEXT_LIMIT, described_leaf},
};
use rustls_reload_testkit::{Authority, PrivateKey, Subject};
use tracing::{
    Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// A leaf with so many names that no line has room for them.
fn leaf(names: usize) -> (String, String, Leaf) {
    let mut subject = Subject::server("x");
    subject.names = (0..names).map(|n| format!("{n}.a-long-name.{}.test", "b".repeat(10))).collect();
    let pair = Authority::root("root").issue(&subject, &PrivateKey::p256());
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("c"), &pair.chain).unwrap();
    std::fs::write(path("k"), &pair.key).unwrap();
    let server = ServerReloader::builder(path("c"), path("k"))
        .timing(Timing { settle: Duration::from_millis(20), ..Timing::default() });
    let leaf = server.load().unwrap().current().value.leaf.clone();
    (pair.chain, pair.key, leaf)
}

/// Returns paths and messages of every length around the limits. Each consists of one character,
/// escaped or not.
fn texts() -> Vec<String> {
    let lengths = [0, 1, 700, 767, 768, 769, 1023, 1024, 1025, 2047, 2048, 2049, 4096, 70_000];
    let characters = ["a", "/", "\u{e9}", "\u{1f512}", "\n", "[", " ", "\u{2028}", "\u{202e}"];
    lengths.iter().flat_map(|length| characters.map(|c| c.repeat(*length))).collect()
}

/// Returns whether a character ends a line, or turns the text around it (UAX #9).
fn breaks_line(c: char) -> bool {
    let turns =
        "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
    c.is_control() || c == '\u{2028}' || c == '\u{2029}' || turns.contains(c)
}

/// Returns every kind of event that contains text from outside.
fn events(text: &str, leaf: &Leaf) -> Vec<Event> {
    let set: Option<Arc<Path>> = Some(Path::new(text).into());
    let error = || Error::new(Layer::Rehearsal, text).at(text);
    let lost = |issuer: String| RemovedTrust::Revocation { issuer, more: 1 };
    let mut all = vec![
        Event::Published {
            generation: u64::MAX,
            old: Some(leaf.clone()),
            new: Some(leaf.clone()),
            recovered: true,
            set: set.clone(),
        },
        Event::Refused { error: error(), generation: u64::MAX, set: set.clone() },
        Event::Recovered { set: set.clone() },
        Event::Deferred { not_before: Duration::MAX / 4, set: set.clone() },
        Event::StillChanging { set },
        Event::Degraded { error: error() },
        Event::Started { watched: vec![text.into(); 3] },
        Event::Warning { warning: error().into() },
    ];
    let many = (0..20).map(|_| lost(text.to_owned()));
    let one = RemovedTrust::ClientCa { subject: text.to_owned(), fingerprint: Fingerprint([0xff; 32]) };
    all.push(Event::TrustReduced {
        generation: u64::MAX,
        epoch: u64::MAX,
        lost: many.chain([one]).collect(),
    });
    all
}

#[test]
fn inv11_every_event_is_one_line_of_4_kib_at_most() {
    let (_, _, leaf) = leaf(1024);
    assert_eq!(leaf.names.len(), 1024);
    let (mut cut, mut longest) = (0, 0);
    for text in texts() {
        for event in events(&text, &leaf) {
            let line = event.to_string();
            longest = longest.max(line.len());
            assert!(line.len() <= TEXT_LIMIT, "{} bytes: {line}", line.len());
            assert!(!line.contains(breaks_line), "{line}");
            // A log writes a time before it, and a line break after it.
            assert!(line.len() + "2026-01-01T00:00:00.000Z \n".len() <= LINE_LIMIT);
            assert!(event.shorthand().is_none_or(|shorthand| shorthand == line));
            let is_long = text.len() > LINE_LIMIT;
            let says =
                ["bytes left out", "bytes_left_out", "more_names:"].iter().any(|words| line.contains(words));
            assert!(!is_long || says, "nothing says that something was left out: {line}");
            cut += usize::from(says);
        }
    }
    assert!(cut > 100 && longest > 3000, "{cut} cut, {longest} bytes at most");
}

#[test]
fn inv11_names_that_have_no_room_are_counted() {
    let (_, _, leaf) = leaf(1024);
    let event = Event::Published { generation: 1, old: None, new: Some(leaf), recovered: false, set: None };
    let line = event.to_string();
    let (_, names) = line.split_once(" names:").unwrap();
    let (shown, rest) = names.split_once(" more_names:").unwrap();
    let more: usize = rest.trim_end_matches(']').parse().unwrap();
    assert_eq!(shown.split(',').count() + more, 1024, "{line}");
    assert!(shown.split(',').all(|name| name.ends_with(".test")), "a name was cut: {line}");
    // A long path is shortened, but the reason and the end of the line stay.
    let long = "/long".repeat(1000) + "/tls.crt";
    let error = Error::new(Layer::Pem, "line 7: the reason").at(&long);
    let line = Event::Refused { error, generation: 3, set: None }.to_string();
    assert!(line.ends_with("/tls.crt: line 7: the reason [still serving generation:3]"), "{line}");
    // An error without a path is of this file set.
    let (error, set) = (Error::new(Layer::Panic, "the build panicked"), Some(Path::new("/b/tls.crt").into()));
    let of_set = Event::Refused { error, generation: 3, set }.to_string();
    assert!(of_set.ends_with("panicked [still serving generation:3 set:/b/tls.crt]"), "{of_set}");
    let left_out = line.split_once("...(").unwrap().1.split_once("_bytes_left_out)...").unwrap().0;
    let shown = line.split_once("pem: ").unwrap().1.split_once(": line").unwrap().0;
    let marker = format!("...({left_out}_bytes_left_out)...");
    assert_eq!(shown.len() - marker.len() + left_out.parse::<usize>().unwrap(), long.len(), "{line}");
}

/// Records the messages of `tracing`.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<String>>>);

impl Subscriber for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Message<'a>(&'a Kept);
        impl Visit for Message<'_> {
            fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
                self.0.0.lock().unwrap().push(format!("{value:?}"));
            }
        }
        if event.metadata().target() == "rustls_reload" {
            event.record(&mut Message(self));
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Escaping makes names longer, and still leaves room for the count.
#[test]
fn inv11_escaped_names_leave_room_for_the_count_of_lost_trust() {
    for name in ["\n", "\u{1}", "\u{85}"] {
        let lost = |_| RemovedTrust::Revocation { issuer: name.repeat(400), more: 1 };
        let line =
            Event::TrustReduced { generation: 2, epoch: 1, lost: (0..20).map(lost).collect() }.to_string();
        assert!(line.ends_with(" and 12 more"), "{} bytes: {line}", line.len());
        assert!(line.len() <= TEXT_LIMIT);
        let set = Some(Path::new(&name.repeat(4_000)).into());
        let line = Event::Published { generation: 2, old: None, new: None, recovered: false, set }
            .shorthand()
            .unwrap();
        assert!(line.ends_with(']') && line.len() <= LINE_LIMIT, "{} bytes: {line}", line.len());
    }
}

#[test]
fn inv11_tracing_gets_one_bounded_line_per_event() {
    let kept = Kept::default();
    let (chain, key, _) = leaf(1);
    let (large, large_key, _) = leaf(600);
    let dir = tempfile::tempdir().unwrap();
    let long =
        dir.path().join("d".repeat(250)).join("e".repeat(250)).join("f".repeat(250)).join("g".repeat(250));
    std::fs::create_dir_all(&long).unwrap();
    let put = |chain: &str, key: &str| {
        std::fs::write(long.join("tls.crt"), chain).unwrap();
        std::fs::write(long.join("tls.key"), key).unwrap();
    };
    put(&chain, &key);
    let reported = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&reported);
    tracing::subscriber::with_default(kept.clone(), || {
        let receive = move |event: &Event| sink.lock().unwrap().push(event.to_string());
        let reloader = ServerReloader::builder(long.join("tls.crt"), long.join("tls.key"))
            .timing(Timing { settle: Duration::from_millis(20), ..Timing::default() })
            .on_event(receive)
            .load()
            .unwrap();
        put(&large, &large_key);
        reloader.reload_now();
        put("nothing", &large_key);
        reloader.reload_now();
    });
    let traced = kept.0.lock().unwrap().clone();
    assert_eq!(traced, *reported.lock().unwrap(), "tracing and the callback differ");
    assert!(traced.iter().all(|line| line.len() <= TEXT_LIMIT), "{traced:?}");
    assert!(traced.iter().any(|line| line.contains("more_names:")), "{traced:?}");
    assert!(traced.iter().any(|line| line.contains("RELOAD_FAILED")), "{traced:?}");
}

/// Panics at each event of this crate.
struct Failing;

impl Subscriber for Failing {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "rustls_reload"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        std::panic::resume_unwind(Box::new("by design"));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Checks: INV-15.
#[test]
fn inv15_tracing_subscriber_that_panics_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let [chain, key] = ["tls.crt", "tls.key"].map(|name| dir.path().join(name));
    let put = |(pem, private, _): &(String, String, Leaf)| {
        std::fs::write(&chain, pem).unwrap();
        std::fs::write(&key, private).unwrap();
    };
    put(&leaf(1));
    let received = Arc::new(Mutex::new(0));
    let count = Arc::clone(&received);
    let receive = move |event: &Event| *count.lock().unwrap() += u64::from(event.shorthand().is_some());
    tracing::subscriber::with_default(Failing, || {
        let timing = Timing { settle: Duration::from_millis(20), ..Timing::default() };
        let builder = ServerReloader::builder(&chain, &key).timing(timing);
        let reloader = builder.on_event(receive).load().unwrap();
        let mut events = reloader.events();
        for generation in 2..4 {
            put(&leaf(1));
            assert_eq!(reloader.reload_now(), Reload::Reloaded);
            assert_eq!(reloader.status().generation, generation);
        }
        let warned = std::iter::from_fn(|| events.try_next()).filter(|reported| match &*reported.event {
            Event::Warning { warning } => warning.why() == "a subscriber of `tracing` panicked",
            _ => false,
        });
        assert_eq!(warned.count(), 2);
    });
    assert_eq!(*received.lock().unwrap(), 2, "the callback does not get what the subscriber missed");
}

#[test]
fn inv11_no_character_of_unicode_ends_a_line_or_turns_it_around() {
    for c in ('\0'..=char::MAX).filter(|c| breaks_line(*c)) {
        let text = format!("/a{c}b");
        for event in events(&text, &described_leaf([1; 32], Duration::ZERO, Duration::ZERO)) {
            let line = event.to_string();
            assert!(!line.contains(breaks_line), "{line:?}");
            assert!(!event.message().contains(breaks_line), "{line:?}");
        }
        let line = Error::new(Layer::Read, &text).at(&text).to_string();
        assert_eq!(line.matches(&c.escape_default().to_string()).count(), 2, "{line}");
    }
}

/// Checks: INV-16. A CRL that lists nothing new can reject clients all the same.
#[test]
fn inv16_revocation_counts_certificates_only_where_there_are_some() {
    let line = |more| RemovedTrust::Revocation { issuer: "CN=ca".to_owned(), more }.to_string();
    assert_eq!(line(0), "other CRLs count for CN=ca");
    assert_eq!(line(2), "2 more certificates revoked by CN=ca");
}
