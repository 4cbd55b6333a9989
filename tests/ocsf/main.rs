//! Each kind of event as a line of OCSF and as a line of flat JSON: valid by the schema, complete,
//! bounded. `scripts/ocsf` has the lines of OCSF that these tests print checked by another
//! validator.
//!
//! Checks: INV-11
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)] // reason: a test

mod rows;
mod schema;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use rows::{at, certificate, leaf, rows};
use rustls_reload::{
    Error, Event, EventStatus, Fingerprint, Layer, Ocsf, RemovedTrust, Severity, Timestamp,
    internal::{LINE_LIMIT, TEXT_LIMIT, described_leaf, json},
};
use serde_json::{Value, json};

const DAY: Duration = Duration::from_secs(86_400);

/// Returns the names of all kinds of events, from the code.
fn kinds() -> BTreeSet<String> {
    let code = include_str!("../../src/report/event.rs");
    let (_, rest) = code.split_once("\npub enum Event {\n").unwrap();
    let variants = rest.split_once("\n}\n").unwrap().0.lines().filter_map(|line| line.strip_prefix("    "));
    let variants = variants.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    let snake = |line: &str| {
        let word = line.trim_end_matches([' ', '{', ',']);
        let mut name = String::new();
        for c in word.chars() {
            if c.is_ascii_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(c.to_ascii_lowercase());
        }
        name
    };
    variants.map(snake).collect()
}

#[test]
fn inv11_each_kind_of_event_has_name_severity_status_and_message() {
    let mut seen = BTreeSet::new();
    for row in rows() {
        let event = &row.event;
        seen.insert(event.name().to_owned());
        assert_eq!((event.name(), event.severity(), event.status()), (row.name, row.severity, row.status));
        assert_eq!(event.message(), row.message);
        // The line for people has the same severity and the same message.
        let tag = match row.severity {
            Severity::Informational => "[INFO]",
            Severity::Low => "[LOW]",
            Severity::Medium => "[MED]",
            _ => "[HIGH]",
        };
        let line = event.to_string();
        assert!(
            line.contains(row.message) && event.shorthand().is_none_or(|line| line.contains(tag)),
            "{line}"
        );
    }
    assert_eq!(seen, kinds());
    let severities = [Severity::Informational, Severity::Low, Severity::Medium, Severity::High];
    assert_eq!(severities.map(Severity::id), [1, 2, 3, 4]);
    assert_eq!(severities.map(Severity::name), ["Informational", "Low", "Medium", "High"]);
    assert!(severities.is_sorted());
    let statuses = [EventStatus::Success, EventStatus::Failure];
    assert_eq!(statuses.map(EventStatus::id), [1, 2]);
    assert_eq!(statuses.map(EventStatus::name), ["Success", "Failure"]);
}

#[test]
fn inv11_each_kind_of_event_is_a_valid_and_complete_line_of_ocsf() {
    for row in rows() {
        let line = Ocsf::new("host.test").line(&row.event, at());
        // scripts/ocsf reads these lines.
        println!("{line}");
        assert_eq!(schema::faults(&line), [""; 0], "{line}");
        let mut wanted = json!({
            "activity_id": 1,
            "activity_name": "Log",
            "category_uid": 5,
            "category_name": "Discovery",
            "class_uid": 5019,
            "class_name": "Device Config State Change",
            "type_uid": 501_901,
            "type_name": "Device Config State Change: Log",
            "device": { "hostname": "host.test", "type_id": 0, "type": "Unknown" },
            "metadata": {
                "version": "1.8.0",
                "product": { "name": "rustls-reload", "version": env!("CARGO_PKG_VERSION") },
                "event_code": row.name,
            },
            "message": row.message,
            "time": 1_700_000_000_123_u64,
            "severity_id": row.severity.id(),
            "severity": row.severity.name(),
            "state_id": 99,
            "state": row.name,
        });
        if row.name == "published" {
            (wanted["state_id"], wanted["state"]) = (2.into(), "Enabled".into());
        }
        if let Some(status) = row.status {
            (wanted["status_id"], wanted["status"]) = (status.id().into(), status.name().into());
        }
        if let Some(why) = row.why {
            wanted["status_detail"] = why.into();
        }
        if row.fields != json!({}) {
            wanted["unmapped"] = row.fields;
        }
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), wanted);
    }
}

#[test]
fn inv11_each_kind_of_event_is_a_flat_line_of_json() {
    for row in rows() {
        let mut wanted = json!({
            "time": "2023-11-14T22:13:20.123Z",
            "severity": row.severity.name(),
            "message": row.message,
            "event": row.name,
        });
        if let Some(status) = row.status {
            wanted["status"] = status.name().into();
        }
        if let Some(why) = row.why {
            wanted["why"] = why.into();
        }
        wanted.as_object_mut().unwrap().extend(row.fields.as_object().unwrap().clone());
        let line = json::event_line(&row.event, at().into());
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), wanted);
        let is_flat = |value: &Value| match value {
            Value::Object(_) => false,
            Value::Array(entries) => entries.iter().all(Value::is_string),
            _ => true,
        };
        assert!(wanted.as_object().unwrap().values().all(is_flat));
    }
    // The line of an error stands for itself.
    let error = Error::new(Layer::Changing, "why");
    let event = Event::Refused { error, generation: 1, set: None };
    let line: Value = serde_json::from_str(&json::event_line(&event, at().into())).unwrap();
    let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["event", "generation", "layer", "message", "severity", "status", "time", "why"]);
}

#[test]
fn inv11_texts_that_are_no_events_are_lines_too() {
    let note = json::note_line(Severity::Medium, "a \"text\"\n", at().into());
    let wanted = r#"{"message":"a \"text\"\\n","severity":"Medium","time":"2023-11-14T22:13:20.123Z"}"#;
    assert_eq!(note, wanted);
    let line = json::ocsf_note_line(Severity::Medium, "a \"text\"\n", at().into());
    println!("{line}");
    assert_eq!(schema::faults(&line), [""; 0], "{line}");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["message"], &line["severity_id"]), (&json!("a \"text\"\\n"), &json!(3)));
    assert_eq!((&line["class_uid"], &line["type_uid"]), (&json!(0), &json!(99)));
}

/// The manual's page has the line of a rejection in both forms, and a row for each kind of event.
#[test]
fn inv16_examples_and_severities_in_the_manual_are_of_the_code() {
    let page = include_str!("../../src/manual/binary.md");
    let blocks = page.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut shown: Vec<Value> = blocks.map(|block| serde_json::from_str(block).unwrap()).collect();
    // The page stays as it is when the version changes.
    shown[1]["metadata"]["product"]["version"] = env!("CARGO_PKG_VERSION").into();
    let rows = rows();
    let refused = &rows.iter().find(|row| row.name == "refused").unwrap().event;
    let lines = [json::event_line(refused, at().into()), Ocsf::new("host.test").line(refused, at())];
    assert_eq!(shown, lines.map(|line| serde_json::from_str::<Value>(&line).unwrap()));
    for row in &rows {
        let status = row.status.map_or("-", EventStatus::name);
        let wanted = format!("\n| `{}` | {} | {status} |\n", row.name, row.severity.name());
        assert!(page.contains(&wanted), "the page lacks {wanted}");
    }
}

/// Returns paths and messages of every length around the limits. Each consists of one character,
/// escaped or not.
fn texts() -> Vec<String> {
    let lengths = [0, 1, 60, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1024, 1025, 2048, 2049, 70_000];
    let characters = ["a", "\u{e9}", "\u{1f512}", "\n", "\"", "\\", "\u{2028}", "\u{202e}", "\u{1b}"];
    lengths.iter().flat_map(|length| characters.map(|c| c.repeat(*length))).collect()
}

/// Returns every kind of event that contains text from outside.
fn events(text: &str) -> Vec<Event> {
    let set: Option<Arc<Path>> = Some(Path::new(text).into());
    let error = || Error::new(Layer::Rehearsal, text).at(text);
    let leaf = |names| {
        let mut leaf = described_leaf([255; 32], Duration::MAX / 4, Duration::MAX / 4);
        (leaf.serial, leaf.names) = (text.to_owned(), vec![text.to_owned(); names]);
        Some(leaf)
    };
    let lost = RemovedTrust::ClientCa { subject: text.to_owned(), fingerprint: Fingerprint([255; 32]) };
    let certificate = || certificate(text, Path::new(text));
    vec![
        Event::Published {
            generation: u64::MAX,
            // A thousand of the longest texts would fill hundreds of megabytes.
            old: leaf(if text.len() < 10_000 { 1024 } else { 16 }),
            new: leaf(3),
            recovered: false,
            set: set.clone(),
        },
        Event::TrustReduced { generation: u64::MAX, epoch: u64::MAX, lost: vec![lost; 20] },
        Event::Refused { error: error(), generation: u64::MAX, set: set.clone() },
        Event::Recovered { set: set.clone() },
        Event::Deferred { not_before: Duration::MAX / 4, set: set.clone() },
        Event::StillChanging { set },
        Event::Expiring { certificate: certificate(), within: Duration::MAX },
        Event::Expired { certificate: certificate() },
        Event::Degraded { error: error() },
        Event::Started { watched: vec![text.into(); 100] },
        Event::Warning { warning: error().into() },
    ]
}

/// The number of bytes that a message leaves out is that of the whole message.
#[test]
fn inv11_a_message_is_cut_once_and_counts_all_that_it_leaves_out() {
    let why = "x".repeat(70_000);
    let error = || Error::new(Layer::Rehearsal, &why).at("/tls/tls.crt");
    let certificate = || certificate(&why, Path::new("/tls/tls.crt"));
    let lost = RemovedTrust::ClientCa { subject: why.clone(), fingerprint: Fingerprint([255; 32]) };
    for (event, copies) in [
        (Event::Refused { error: error(), generation: 1, set: None }, 1),
        (Event::Degraded { error: error() }, 1),
        (Event::Warning { warning: error().into() }, 1),
        (Event::Expired { certificate: certificate() }, 1),
        (Event::TrustReduced { generation: 2, epoch: 2, lost: vec![lost; 8] }, 8),
    ] {
        let lines = [json::event_line(&event, at().into()), Ocsf::new("host.test").line(&event, at())];
        for line in lines {
            let object: Value = serde_json::from_str(&line).unwrap();
            let (shown, rest) = object["message"].as_str().unwrap().split_once(" ... (").unwrap();
            let left_out: usize = rest.strip_suffix(" bytes left out)").unwrap().parse().unwrap();
            // The words around the texts, and the fingerprints, are less than 1,000 bytes.
            let all = copies * why.len();
            assert!((all..all + 1_000).contains(&(shown.len() + left_out)), "{line}");
        }
    }
}

/// Engine: generated: every kind of event with texts of every length around the limits.
#[test]
fn inv11_every_line_is_valid_and_4_kib_at_most_whatever_the_texts() {
    let (mut cut, mut whole, mut longest) = (0, 0, 0);
    for text in texts() {
        let ocsf = Ocsf::new(text.clone());
        let later = UNIX_EPOCH + Duration::from_secs(1 << 40);
        let notes = [json::note_line(Severity::Low, &text, at().into())];
        let mut lines = vec![json::ocsf_note_line(Severity::Low, &text, at().into())];
        for event in events(&text) {
            lines.push(ocsf.line(&event, later));
            lines.push(json::event_line(&event, later.into()));
            let message = event.message();
            assert!(message.len() <= TEXT_LIMIT && !message.contains(char::is_control), "{message}");
        }
        for line in notes.iter().chain(&lines) {
            longest = longest.max(line.len());
            // A log writes a line break after it.
            assert!(line.len() < LINE_LIMIT, "{} bytes: {line}", line.len());
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{2028}' || c == '\u{202e}'), "{line}");
            let object: Value = serde_json::from_str(line).unwrap();
            let says =
                ["bytes left out", "bytes_left_out", "\"more_"].iter().any(|words| line.contains(words));
            assert!(says || text.len() < LINE_LIMIT, "nothing says that something was left out: {line}");
            if object.get("class_uid").is_some() {
                assert_eq!(schema::faults(line), [""; 0], "{line}");
                assert_eq!(
                    object["metadata"].get("is_truncated"),
                    says.then_some(&Value::Bool(true)),
                    "{line}"
                );
            }
            *if says { &mut cut } else { &mut whole } += 1;
        }
    }
    println!("{cut} lines were cut, {whole} were not; the longest has {longest} bytes");
    assert!(cut > 500 && whole > 500 && longest > 3_500);
}

#[test]
fn inv11_names_without_room_are_counted() {
    // With quotes and comma 128 bytes, so that 16 fill half a line.
    let names: Vec<_> = (0..1000).map(|number| format!("{number:0125}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let new = Some(leaf(1, "0A", &names));
    let event = Event::Published { generation: 2, old: None, new, recovered: false, set: None };
    for line in [Ocsf::new("host").line(&event, at()), json::event_line(&event, at().into())] {
        let object: Value = serde_json::from_str(&line).unwrap();
        let fields = object.get("unmapped").unwrap_or(&object);
        let shown = fields["names"].as_array().unwrap();
        assert!(shown.iter().zip(&names).all(|(shown, name)| shown == name), "{line}");
        assert_eq!(shown.len() as u64 + fields["more_names"].as_u64().unwrap(), 1000, "{line}");
        assert_eq!(shown.len(), 16, "{line}");
    }
}

#[test]
fn a_time_prints_as_many_digits_of_a_second_as_asked() {
    let time = Timestamp(Duration::new(1_700_000_000, 12_345_678));
    let printed = [format!("{time}"), format!("{time:.0}"), format!("{time:.3}"), format!("{time:.20}")];
    let wanted = ["20", "20", "20.012", "20.012345678"].map(|seconds| format!("2023-11-14T22:13:{seconds}Z"));
    assert_eq!(printed, wanted);
    assert_eq!(Timestamp::from(time.system_time()), time);
    assert_eq!(Timestamp::from(UNIX_EPOCH - DAY), Timestamp(Duration::ZERO));
}

/// Breaks: INV-11. Lines with one fault each, of every kind that the schema excludes.
#[test]
fn lines_that_the_schema_excludes_are_found() {
    let line = Ocsf::new("host.test").line(&rows()[0].event, at());
    let good: Value = serde_json::from_str(&line).unwrap();
    let edits: [(&str, Value, &str); 10] = [
        ("/severity_id", 7.into(), "/severity_id: enum"),
        ("/severity_id", "3".into(), "/severity_id: type"),
        ("/category_uid", 4.into(), "/category_uid: const"),
        ("/activity_id", 2.into(), "type_uid: it is not class_uid * 100 + activity_id"),
        ("/class_uid", 5020.into(), "class_uid: 5020"),
        ("/device", json!({ "type_id": 0 }), "/device: anyOf"),
        ("/device", json!({ "hostname": "h" }), "/device: required"),
        ("/metadata/product", json!({ "name": "n", "fingerprint": "f" }), "additionalProperties"),
        ("/time", 1.5.into(), "/time: type"),
        ("/unmapped", json!([]), "/unmapped: type"),
    ];
    for (place, value, fault) in edits {
        let mut bad = good.clone();
        *bad.pointer_mut(place).unwrap() = value;
        let faults = schema::faults(&bad.to_string());
        assert!(faults.iter().any(|found| found.contains(fault)), "{place}: {faults:?}");
    }
    for key in ["activity_id", "category_uid", "device", "metadata", "severity_id", "time", "type_uid"] {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(key);
        assert!(!schema::faults(&bad.to_string()).is_empty(), "{key}");
    }
    assert!(!schema::faults(&line[1..]).is_empty());
}
