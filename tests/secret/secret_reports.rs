//! No key material in any report, over every refusal: events as text and as `Debug`, the OCSF
//! shorthand, `tracing`, answers, status, the findings of an inspection, and a panic whose message
//! is the key.

use std::{
    collections::BTreeSet,
    fmt::Write,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use crate::common::{self, Generation, InvalidUpdate, Volume, invalid_updates, refused};
use rustls_reload::{ClientAuth, Error, Layer, Ocsf, Reload, internal::json::event_line};
use rustls_reload_testkit::leaks;
use tracing::{
    Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Everything that was reported in any way.
#[derive(Clone, Default)]
struct Reported(Arc<Mutex<String>>);

impl Reported {
    fn put(&self, text: impl std::fmt::Display) {
        writeln!(self.0.lock().unwrap(), "{text}").unwrap();
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

/// Records the fields of every event.
impl Subscriber for Reported {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields<'a>(&'a Reported);
        impl Visit for Fields<'_> {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                self.0.put(format_args!("tracing {field}={value:?}"));
            }
        }
        event.record(&mut Fields(self));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The tracing subscriber and the panic hook belong to the process, so both are set once for all
/// tests. The message that the hook gets is the panicking closure's, not this crate's, and so it is
/// kept apart.
fn process() -> &'static (Reported, Reported) {
    static PROCESS: std::sync::LazyLock<(Reported, Reported)> = std::sync::LazyLock::new(Default::default);
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::subscriber::set_global_default(PROCESS.0.clone()).unwrap();
        let (hook, printed) = (PROCESS.1.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            hook.put(panic);
            printed(panic);
        }));
    });
    &PROCESS
}

/// Further faults that files cannot show: the closure replaces a setting of the crate, or panics
/// with the key as its message.
fn further(fails: &Arc<AtomicBool>, panics: &Arc<AtomicBool>) -> [InvalidUpdate; 2] {
    [("a closure that replaces the storage", Layer::Config, fails), ("a panic", Layer::Panic, panics)].map(
        |(what, layer, flag)| {
            let flag = Arc::clone(flag);
            InvalidUpdate {
                what,
                layer,
                blamed: None,
                invalidate: Box::new(move |_| flag.store(true, Ordering::SeqCst)),
            }
        },
    )
}

/// Returns whether the text holds a window of the key.
fn holds(text: &str, generation: &Generation) -> bool {
    let pair = &generation.server;
    leaks(text.as_bytes(), &pair.key_der(), &pair.key)
}

/// Checks: INV-10. Engine: generated.
#[test]
fn inv10_report_of_a_rejection_holds_no_window_of_either_key() {
    let (tracing, hooked) = process();
    let numbers: Vec<_> = (0..all_invalid_updates().0.len()).collect();
    let refusals = common::at_once(&numbers, |number| refusal(*number));
    let text = tracing.text();
    for generation in refusals.iter().flat_map(|refusal| &refusal.generations) {
        assert!(!holds(&text, generation), "by tracing");
    }
    let searched: usize = refusals.iter().map(|refusal| refusal.searched).sum();
    let layers: BTreeSet<_> = refusals.iter().map(|refusal| refusal.layer).collect();
    println!("{searched} bytes reported and {} traced over refusals by {layers:?}", text.len());
    assert!(layers.len() >= 9, "{layers:?}");
    assert!(text.contains("RELOAD_FAILED") && text.len() > 5_000, "tracing received nothing");
    // The closure did panic with the key, so that the search had something to find.
    assert!(hooked.text().contains("-----BEGIN PRIVATE KEY-----"), "{:?}", hooked.text());
}

/// Returns a way for every refusal, and the flags that two of them set.
fn all_invalid_updates() -> (Vec<InvalidUpdate>, [Arc<AtomicBool>; 2]) {
    let flags: [Arc<AtomicBool>; 2] = Default::default();
    let [fails, panics] = &flags;
    (invalid_updates().into_iter().chain(further(fails, panics)).collect(), flags)
}

/// The results of a refusal.
struct Refusal {
    layer: Layer,
    generations: [Generation; 2],
    searched: usize,
}

/// Makes a reloader refuse the broken update of this number, and searches every report about it.
fn refusal(number: usize) -> Refusal {
    let (invalid_updates, [fails, panics]) = all_invalid_updates();
    let InvalidUpdate { what, layer, invalidate, .. } = invalid_updates.into_iter().nth(number).unwrap();
    let (old, new) = (Generation::new(0), Generation::new(number + 1));
    let mut volume = Volume::of(&old);
    let reported = Reported::default();
    let (reported_too, key) = (reported.clone(), new.server.key.clone());
    let replaced = common::server_in(&volume.dir()).load().unwrap().config();
    let server = || volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required);
    let configure = {
        let storage = Arc::clone(&replaced.session_storage);
        move |config: &mut rustls::ServerConfig| {
            if fails.load(Ordering::SeqCst) {
                config.session_storage = Arc::clone(&storage);
            }
            if panics.load(Ordering::SeqCst) {
                std::panic::panic_any(key.clone());
            }
        }
    };
    let reloader = server()
        .configure(configure.clone())
        .on_event(move |event| {
            reported_too.put(format_args!("{event} {event:?} {event:#?} {:?}", event.shorthand()));
            let (ocsf, at) = (Ocsf::new("host"), SystemTime::now());
            reported_too.put(format_args!(
                "{} {} {}",
                event.message(),
                ocsf.line(event, at),
                event_line(event, at.into())
            ));
        })
        .on_publish({
            let reported = reported.clone();
            move |published| reported.put(format_args!("{published:?}"))
        })
        .load()
        .unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    common::started(&mut events);
    volume.publish_invalid(&new.files(), |payload| invalidate(payload));
    let error = refused(&mut events);
    assert_eq!(error.layer(), layer, "{what}");
    let all = |error: &Error| format!("{error} {error:?} {error:#?} {}", error.why());
    reported.put(all(&error));
    let answer = reloader.reload_now();
    assert!(matches!(answer, Reload::Refused(_)), "{what}: {answer:?}");
    reported.put(format_args!("{answer:?} {:#?} {reloader:?} {:?}", reloader.status(), reloader.current()));
    drop(reloader);
    // These files are also refused in a first load, and in an inspection.
    let server = || {
        volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required).configure(configure.clone())
    };
    match server().load() {
        Err(error) => reported.put(all(&error)),
        Ok(_) => assert_eq!(layer, Layer::Validity, "{what}: it loads"),
    }
    reported.put(format_args!("{:?}", server().inspect(Duration::ZERO)));
    let text = reported.text();
    assert!(text.contains(layer.name()) && text.contains("RELOAD_FAILED"), "{what}: nothing was reported");
    assert!(text.contains("\"class_uid\":5019"), "{what}: no line of OCSF");
    for generation in [&old, &new] {
        assert!(!holds(&text, generation), "{what}: {text}");
    }
    Refusal { layer, searched: text.len(), generations: [old, new] }
}

/// Breaks: INV-10. Designs from the field: a refusal repeats the message of a panic, or the line
/// that does not parse.
#[test]
fn a_refusal_that_repeats_the_panic_or_the_line_is_found() {
    let generation = Generation::new(0);
    let key = &generation.server.key;
    let caught = std::panic::catch_unwind(|| std::panic::panic_any(key.clone())).unwrap_err();
    let said = caught.downcast_ref::<String>().unwrap();
    let repeats = Error::new(Layer::Panic, format!("the build panicked: {said}"));
    assert!(holds(&repeats.to_string(), &generation));
    let line = key.lines().nth(2).unwrap();
    let repeats = Error::new(Layer::Key, format!("line 2 does not parse: {line}"));
    assert!(holds(&format!("{repeats:?}"), &generation));
    let der = generation.server.key_der();
    let repeats = Error::new(Layer::Key, format!("bad key: {:02x?}", &der.secret_der()[30..60]));
    assert!(holds(&repeats.to_string(), &generation));
}
