//! Events as JSON objects, each in a line of bounded length.

use std::{fmt::Display, path::Path};

use serde_json::{Map, Value};

use crate::report::{
    error::Layer,
    event::{CertificateValidity, Event, Leaf, Severity, Timestamp},
    line::{LINE_LIMIT, one_line, shortened, shortened_path},
};

/// An object of JSON.
pub(crate) type Object = Map<String, Value>;

/// Renders an event as one flat object: when it happened, how much it matters, what it says, and its
/// fields. Absent values are left out.
#[must_use]
pub fn event_line(event: &Event, at: Timestamp) -> String {
    line(|texts| {
        let mut object = note(event.severity(), &event.whole_message(), at, texts);
        object.insert("event".to_owned(), event.name().into());
        if let Some(status) = event.status() {
            object.insert("status".to_owned(), status.name().into());
        }
        object.extend(fields(event, texts));
        object
    })
}

/// Renders a text that is no event as an object like that of an event, without the fields of one.
#[must_use]
pub fn note_line(severity: Severity, text: &str, at: Timestamp) -> String {
    line(|texts| note(severity, text, at, texts))
}

fn note(severity: Severity, text: &str, at: Timestamp, texts: &mut Texts) -> Object {
    Object::from_iter([
        ("time".to_owned(), format!("{at:.3}").into()),
        ("severity".to_owned(), severity.name().into()),
        ("message".to_owned(), texts.text(text)),
    ])
}

/// Bytes between two entries of a list: the quotes and the comma.
const SEPARATOR: usize = 3;

/// Renders an object as one line of at most [`LINE_LIMIT`] bytes with the line break that a log
/// appends. Until the line is short enough, the object is made again with half the limit on each of
/// its texts. Without room for any text a line is short enough, so this ends.
pub(crate) fn line(object: impl Fn(&mut Texts) -> Object) -> String {
    let mut shown = LINE_LIMIT / 2;
    loop {
        let line = Value::Object(object(&mut Texts { shown, is_cut: false })).to_string();
        if line.len() < LINE_LIMIT {
            return line;
        }
        shown /= 2;
    }
}

/// Cuts the texts of one object.
pub(crate) struct Texts {
    /// Limit on the bytes of each text, and on those of each list.
    shown: usize,
    /// Whether a text or a list was cut.
    pub(crate) is_cut: bool,
}

impl Texts {
    /// Returns the text in one line, cut at its end.
    pub(crate) fn text(&mut self, text: impl Display) -> Value {
        self.cut(one_line(text), shortened).into()
    }

    /// Returns the path in one line, cut in its middle.
    fn path(&mut self, path: &Path) -> Value {
        self.cut(one_line(path.display()), shortened_path).into()
    }

    fn cut(&mut self, text: String, how: fn(String, usize) -> String) -> String {
        self.is_cut |= text.len() > self.shown;
        how(text, self.shown)
    }

    /// Inserts a list. The entries from the first without room are counted by another field, `more_`
    /// and the key.
    fn list(&mut self, object: &mut Object, key: &str, of: &[impl Display]) {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for entry in of {
            let text = one_line(entry);
            bytes += text.len() + SEPARATOR;
            if bytes > self.shown {
                self.is_cut = true;
                object.insert(format!("more_{key}"), (of.len() - entries.len()).into());
                break;
            }
            entries.push(Value::from(text));
        }
        object.insert(key.to_owned(), entries.into());
    }
}

/// Returns the fields of an event, all at one level.
pub(crate) fn fields(event: &Event, texts: &mut Texts) -> Object {
    let mut object = Object::new();
    let mut put = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
    match event {
        Event::Published { generation, old, new, recovered, set: _ } => {
            put("generation", (*generation).into());
            put("recovered", (*recovered).into());
            for (prefix, leaf) in [("", new), ("old_", old)] {
                if let Some(leaf) = leaf {
                    put_leaf(&mut object, prefix, leaf, texts);
                }
            }
        }
        Event::TrustReduced { generation, epoch, lost } => {
            put("generation", (*generation).into());
            put("epoch", (*epoch).into());
            texts.list(&mut object, "removed_trust", lost);
        }
        Event::Refused { error, generation, set: _ } => {
            put("generation", (*generation).into());
            put_reason(&mut object, error.layer(), error.path(), error.line(), error.why(), texts);
        }
        Event::Deferred { not_before, set: _ } => {
            put("deferred_until", Timestamp(*not_before).to_string().into());
        }
        Event::Expiring { certificate, within } => {
            put("within_seconds", within.as_secs().into());
            put_certificate(&mut object, certificate, texts);
        }
        Event::Expired { certificate } => put_certificate(&mut object, certificate, texts),
        Event::Degraded { error } => {
            put_reason(&mut object, error.layer(), error.path(), error.line(), error.why(), texts);
        }
        Event::Started { watched } => {
            let watched: Vec<_> = watched.iter().map(|dir| dir.display()).collect();
            texts.list(&mut object, "watched", &watched);
        }
        Event::Warning { warning } => {
            put_reason(&mut object, warning.layer(), warning.path(), None, warning.why(), texts);
        }
        Event::Recovered { .. } | Event::StillChanging { .. } | Event::Restored | Event::Stopped => {}
    }
    if let Some(set) = file_set(event) {
        object.insert("file_set".to_owned(), texts.path(set));
    }
    object
}

/// Returns the first path of the file set that an event belongs to, where there are several sets.
fn file_set(event: &Event) -> Option<&Path> {
    match event {
        Event::Published { set, .. }
        | Event::Refused { set, .. }
        | Event::Recovered { set }
        | Event::Deferred { set, .. }
        | Event::StillChanging { set } => set.as_deref(),
        _ => None,
    }
}

fn put_leaf(object: &mut Object, prefix: &str, leaf: &Leaf, texts: &mut Texts) {
    let mut put = |key: &str, value: Value| drop(object.insert(format!("{prefix}{key}"), value));
    put("fingerprint", leaf.fingerprint.to_string().into());
    put("serial", texts.text(&leaf.serial));
    put("not_before", Timestamp(leaf.not_before).to_string().into());
    put("not_after", Timestamp(leaf.not_after).to_string().into());
    texts.list(object, &format!("{prefix}names"), &leaf.names);
}

fn put_certificate(object: &mut Object, certificate: &CertificateValidity, texts: &mut Texts) {
    let mut put = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
    put("certificate", texts.text(&certificate.what));
    put("path", texts.path(&certificate.path));
    put("fingerprint", certificate.fingerprint.to_string().into());
    put("not_before", Timestamp(certificate.not_before).to_string().into());
    put("not_after", Timestamp(certificate.not_after).to_string().into());
}

fn put_reason(
    object: &mut Object,
    layer: Layer,
    path: Option<&Path>,
    line: Option<usize>,
    why: &str,
    texts: &mut Texts,
) {
    object.insert("layer".to_owned(), layer.name().into());
    object.extend(path.map(|path| ("path".to_owned(), texts.path(path))));
    object.extend(line.map(|line| ("line".to_owned(), line.into())));
    object.insert("why".to_owned(), texts.text(why));
}
