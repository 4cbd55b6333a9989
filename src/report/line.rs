//! Renders lines of bounded length, with a count of the bytes that were left out.
//!
//! A name list, a path or a message may be as long as its author likes. Log collectors split or
//! drop long records, and half of a record is read as the whole.

/// Bytes of one line with its line break. A pipe takes that many at once, and log collectors take no
/// more for one record.
pub const LINE_LIMIT: usize = 4096;

/// Bytes of an event as text. A log writes a time before it and a line break after it.
pub const TEXT_LIMIT: usize = LINE_LIMIT - 32;

/// Returns whether a character would end a line of a log, or change the order in which a terminal
/// shows the characters of a line: control characters, the line and paragraph separators of Unicode,
/// and its marks of direction.
pub(crate) fn breaks_line(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Escapes characters that break a line: the author of a path or of a symlink's target must not
/// write lines of a log (INV-11).
pub fn one_line(text: impl std::fmt::Display) -> String {
    let mut line = String::new();
    for c in text.to_string().chars() {
        if breaks_line(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// Cuts a text that is longer than `limit` bytes, at the end of a character, and appends how many
/// bytes are left out.
pub fn shortened(mut text: String, limit: usize) -> String {
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
