//! Lines of a text with their numbers.

/// A line without its line break.
pub(super) struct Numbered<'a> {
    /// The number, from 1.
    pub(super) number: usize,
    /// The offset of its first byte.
    pub(super) start: usize,
    pub(super) line: &'a [u8],
}

/// Returns the lines of a text. A line feed, a carriage return, or both in this order break a line.
/// An empty line may be returned between the two, which is not counted.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = Numbered<'_>> {
    let (mut start, mut number) = (0, 1);
    std::iter::from_fn(move || {
        let rest = text.get(start..)?;
        if start > 0 && text[start - 1] == b'\n' && (start < 2 || text[start - 2] != b'\r')
            || start > 0 && text[start - 1] == b'\r'
        {
            number += 1;
        }
        let line = rest.split(|byte| matches!(byte, b'\n' | b'\r')).next()?;
        let found = Numbered { number, start, line };
        start += line.len() + 1;
        Some(found)
    })
}

/// Returns the number of the line that contains the byte at `at`.
pub(super) fn line_at(text: &[u8], at: usize) -> usize {
    lines(text).take_while(|line| line.start <= at).last().map_or(1, |line| line.number)
}

/// Returns whether `text` contains `what`.
pub(super) fn holds(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}
