//! Lines for people: stderr, each whole and on its own.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Writes one line to stderr. A control character, of a path perhaps, cannot begin another line.
///
/// Nobody may be reading any more; that is no reason to stop serving.
pub(crate) fn say(line: impl Display) {
    let mut text = String::new();
    for c in line.to_string().chars() {
        if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
    }
    text.push('\n');
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
