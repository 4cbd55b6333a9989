//! Renders lines of bounded length, with a count of the bytes that were left out.
//!
//! A name list, a path or a message may be as long as its author likes. Log collectors split or
//! drop long records, and half of a record is read as the whole.

/// Bytes of one rendered event. A pipe takes that many at once, and log collectors take no more for
/// one record.
pub const LINE_LIMIT: usize = 4096;

/// Escapes control characters: the author of a path or of a symlink's target must not write lines
/// of a log (INV-11).
pub(crate) fn one_line(text: impl std::fmt::Display) -> String {
    let mut line = String::new();
    for c in text.to_string().chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// Cuts a text that is longer than `limit` bytes, at the end of a character, and appends how many
/// bytes are left out.
pub(crate) fn shortened(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let kept = floor(&text, limit.saturating_sub(ROOM));
        let left_out = text.len() - kept;
        text.truncate(kept);
        text.push_str(&format!(" ... ({left_out} bytes left out)"));
    }
    text
}

/// Cuts the middle out of a path that is longer than `limit` bytes, because its end says most.
/// Inserts no white space, so that a field stays one field.
pub(crate) fn shortened_path(text: String, limit: usize) -> String {
    if text.len() <= limit {
        return text;
    }
    let half = limit.saturating_sub(ROOM) / 2;
    let (from, to) = (floor(&text, half), ceil(&text, text.len() - half));
    format!("{}...({}_bytes_left_out)...{}", &text[..from], to - from, &text[to..])
}

/// Bytes reserved for the words that replace the cut part.
const ROOM: usize = 48;

fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn ceil(text: &str, at: usize) -> usize {
    (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}
