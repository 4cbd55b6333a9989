//! Records that any code in the process emits through `log` and `tracing`, at every level.

use std::{
    fmt::{Debug, Write},
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// The records of one logging facade.
pub struct Channel {
    count: AtomicU64,
    warnings: Mutex<Vec<String>>,
}

/// Records of the `log` crate, which notify and mio use.
pub static LOG: Channel = Channel::new();
/// Events of the `tracing` crate, which this library uses.
pub static TRACING: Channel = Channel::new();

impl Channel {
    const fn new() -> Self {
        Self { count: AtomicU64::new(0), warnings: Mutex::new(Vec::new()) }
    }

    /// Returns the number of records of all levels.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Returns the records at WARN or above that contain this text.
    pub fn warnings(&self, about: &str) -> Vec<String> {
        let all = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|record| record.contains(about)).cloned().collect()
    }

    fn add(&self, warning: Option<String>) {
        self.count.fetch_add(1, Ordering::SeqCst);
        // Most records are no warnings, and notify emits thousands of them.
        if let Some(warning) = warning {
            self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
        }
    }
}

/// Receives the records of the whole process from now on.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Listener).expect("the only logger");
        log::set_max_level(log::LevelFilter::Trace);
        tracing::subscriber::set_global_default(Listener).expect("the only subscriber");
    });
}

struct Listener;

impl log::Log for Listener {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = || format!("{} {}: {}", record.level(), record.target(), record.args());
        LOG.add((record.level() <= log::Level::Warn).then(text));
    }

    fn flush(&self) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").expect("memory");
    }
}

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let meta = event.metadata();
        let text = || {
            let mut text = Text(format!("{} {}:", meta.level(), meta.target()));
            event.record(&mut text);
            text.0
        };
        TRACING.add((*meta.level() <= tracing::Level::WARN).then(text));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
