//! Lines for people, each whole and on its own.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Writes one line to stderr.
///
/// Nobody may be reading any more; that is no reason to stop serving.
pub(crate) fn say(line: impl Display) {
    let text = one_line(line) + "\n";
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The text with its control characters escaped: one of a path, say, cannot begin another line.
pub(crate) fn one_line(text: impl Display) -> String {
    let mut line = String::new();
    for c in text.to_string().chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}
