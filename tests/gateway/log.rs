//! The records of `tracing`, of all tests of this process.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Condvar, Mutex},
    thread::{self, ThreadId},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::LIMIT;

#[derive(Clone, Debug)]
pub struct Record {
    /// The thread that reported it.
    pub thread: ThreadId,
    pub target: String,
    pub level: Level,
    pub fields: BTreeMap<&'static str, String>,
}

impl Record {
    pub fn message(&self) -> &str {
        &self.fields["message"]
    }
}

static RECORDS: Mutex<Vec<Record>> = Mutex::new(Vec::new());
static RECORDED: Condvar = Condvar::new();

/// Installs the subscriber of this process.
pub fn install() {
    tracing::subscriber::set_global_default(Log).unwrap();
}

/// Returns the audit records of this thread. A reload without a worker is made by its caller.
pub fn audit_of_this_thread() -> Vec<Record> {
    let records = RECORDS.lock().unwrap();
    let own = |record: &&Record| record.thread == thread::current().id() && record.target == "audit";
    records.iter().filter(own).cloned().collect()
}

/// Waits for a record, and returns the first.
pub fn wait_for(what: &str, is_wanted: impl Fn(&Record) -> bool) -> Record {
    let found = |records: &mut Vec<Record>| records.iter().any(&is_wanted);
    let records = RECORDS.lock().unwrap();
    let (records, _) = RECORDED.wait_timeout_while(records, LIMIT, |records| !found(records)).unwrap();
    records
        .iter()
        .find(|record| is_wanted(record))
        .unwrap_or_else(|| panic!("no {what}: {records:#?}"))
        .clone()
}

struct Log;

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        RECORDS.lock().unwrap().push(Record {
            thread: thread::current().id(),
            target: metadata.target().to_owned(),
            level: *metadata.level(),
            fields: fields.0,
        });
        RECORDED.notify_all();
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}
