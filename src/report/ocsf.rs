//! Events in the form of the Open Cybersecurity Schema Framework, one JSON object a line.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::report::{
    event::{Event, Severity, Timestamp},
    json::{self, Object, Texts},
};

/// The version of the schema.
const VERSION: &str = "1.8.0";

/// Renders events in the form of the Open Cybersecurity Schema Framework (OCSF) 1.8.0: one JSON
/// object of class 5019, Device Config State Change, in one line of at most 4 KiB with
/// its line break.
///
/// A fact for which the schema has a field is in that field. The other fields of the event are in
/// `unmapped`: fingerprints, serial numbers, names, dates, generation, file set, layer and path.
/// Texts that are cut say so, entries of lists without room are counted, and
/// `metadata.is_truncated` is set in both cases. [`Event::name`] is the value of
/// `metadata.event_code`.
///
/// ```
/// use std::time::SystemTime;
/// use rustls_reload::{Ocsf, ServerReloader};
///
/// let ocsf = Ocsf::new("gateway-1.example");
/// let builder = ServerReloader::builder("/etc/tls/tls.crt", "/etc/tls/tls.key")
///     .on_event(move |event| eprintln!("{}", ocsf.line(event, SystemTime::now())));
/// ```
#[derive(Clone, Debug)]
pub struct Ocsf {
    hostname: String,
}

impl Ocsf {
    /// Makes a renderer for the events of the machine with this name, `device.hostname` in OCSF.
    #[must_use]
    pub fn new(hostname: impl Into<String>) -> Self {
        Self { hostname: hostname.into() }
    }

    /// Returns an event as one line, without a line break at its end. `at` is when it happened.
    #[must_use]
    pub fn line(&self, event: &Event, at: SystemTime) -> String {
        json::line(|texts| self.event(event, at.into(), texts))
    }

    fn event(&self, event: &Event, at: Timestamp, texts: &mut Texts) -> Object {
        let mut unmapped = json::fields(event, texts);
        let why = unmapped.remove("why");
        let mut object = object(json!({
            "activity_id": 1,
            "activity_name": "Log",
            "category_uid": 5,
            "category_name": "Discovery",
            "class_uid": 5019,
            "class_name": "Device Config State Change",
            "type_uid": 501_901,
            "type_name": "Device Config State Change: Log",
            // Whether the machine is a server is not known here.
            "device": { "hostname": texts.text(&self.hostname), "type_id": 0, "type": "Unknown" },
        }));
        object.extend(common(event.severity(), &event.whole_message(), at, texts));
        let state = match event {
            // The new configuration is in force.
            Event::Published { .. } => json!({ "state_id": 2, "state": "Enabled" }),
            // `Other`: the source names the state.
            _ => json!({ "state_id": 99, "state": event.name() }),
        };
        object.extend(self::object(state));
        if let Some(status) = event.status() {
            object.extend(self::object(json!({ "status_id": status.id(), "status": status.name() })));
        }
        object.extend(why.map(|why| ("status_detail".to_owned(), why)));
        object["metadata"]["event_code"] = event.name().into();
        if !unmapped.is_empty() {
            object.insert("unmapped".to_owned(), unmapped.into());
        }
        object
    }
}

/// Renders a text that is no event of a reloader as a Base Event, the class of OCSF for events that
/// no other class defines.
#[must_use]
pub fn note_line(severity: Severity, text: &str, at: Timestamp) -> String {
    json::line(|texts| {
        let mut object = object(json!({
            "activity_id": 99,
            "activity_name": "Log",
            "category_uid": 0,
            "category_name": "Uncategorized",
            "class_uid": 0,
            "class_name": "Base Event",
            "type_uid": 99,
            "type_name": "Base Event: Other",
        }));
        object.extend(common(severity, text, at, texts));
        object
    })
}

/// Returns the fields that all classes have in common. The caller renders all other texts before,
/// because one of the fields says whether a text was cut.
fn common(severity: Severity, message: &str, at: Timestamp, texts: &mut Texts) -> Object {
    let message = texts.text(message);
    let product = json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") });
    let mut metadata = json!({ "product": product, "version": VERSION });
    if texts.is_cut {
        metadata["is_truncated"] = true.into();
    }
    object(json!({
        "message": message,
        "metadata": metadata,
        "severity_id": severity.id(),
        "severity": severity.name(),
        "time": u64::try_from(at.0.as_millis()).unwrap_or(u64::MAX),
    }))
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}
