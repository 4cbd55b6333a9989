//! Lines of dashes: `BEGIN` and `END` lines (RFC 7468 section 3), rulers, and remains of either
//! after a torn write.
//!
//! RFC 7468 section 2 allows text around sections, and a ruler of dashes is text. A damaged `BEGIN`
//! or `END` line that counted as text would silently remove its section, so every line that may be
//! one is rejected.

/// The meaning of one line, outside or inside a section.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// `-----BEGIN label-----`.
    Begin(&'a str),
    /// `-----END label-----`.
    End(&'a str),
    /// Text that neither begins nor ends a section, and cannot have done so before it was damaged.
    Text,
}

/// Classifies one line without its line break. `cut` says that the file ends here without a line
/// break. `inside` says that a section is open, in which no line of dashes is text.
///
/// # Errors
/// Returns the damage of a line that may be a `BEGIN` or `END` line.
pub(super) fn read(line: &[u8], cut: bool, inside: bool) -> Result<Line<'_>, &'static str> {
    let line = line.trim_ascii();
    if let Some(rest) = line.strip_prefix(b"-----BEGIN ") {
        return label(rest).map(Line::Begin).ok_or_else(|| damage(rest, cut));
    }
    if let Some(rest) = line.strip_prefix(b"-----END ") {
        return label(rest).map(Line::End).ok_or_else(|| damage(rest, cut));
    }
    let printed = printed(line);
    let dashes = printed.iter().take_while(|byte| **byte == b'-').count();
    let is_dashes = without_dashes(printed).is_empty();
    let hyphens = printed.iter().filter(|byte| **byte == b'-').count();
    let hidden = || line.first() != Some(&b'-');
    // The line may be cut off within its first dashes. A longer ruler cannot be.
    if cut && is_dashes && (1..=5).contains(&hyphens) {
        return Err(if hidden() { HIDDEN } else { ENDS_IN_DASHES });
    }
    if dashes < 5 {
        return match () {
            () if is_marker(printed) => Err(damage(printed, cut)),
            () if hyphens > 0 && line.contains(&0) => Err(ZEROS),
            () if is_older_tail(printed) => Err(OLDER),
            () => Ok(Line::Text),
        };
    }
    if hidden() {
        return Err(HIDDEN);
    }
    if inside {
        return Err("a line of dashes within a section");
    }
    if is_marker(printed) {
        return Err(damage(&printed[dashes..], cut));
    }
    if is_older_tail(printed) {
        return Err(OLDER);
    }
    let is_text = std::str::from_utf8(line).is_ok_and(|line| {
        line.chars().all(|c| c.is_alphanumeric() || c.is_ascii_graphic() || " \t".contains(c))
    });
    if is_text { Ok(Line::Text) } else { Err("a line of dashes with bytes in it that are not printed") }
}

const HIDDEN: &str = "a byte order mark, or another byte that is not printed, before dashes: \
                      `LC_ALL=C sed 's/[^ -~]//g' old > new` removes such bytes";
/// The command also mends text that was escaped twice, and carriage returns.
pub(super) const ESCAPED: &str = "its line breaks are written out as \\n: \
                                  `awk '{gsub(/(\\\\+r)?\\\\+n/, \"\\n\")}1' old > new` makes line breaks of them";
pub(super) const ZEROS: &str =
    "zeros beside dashes, as a crash leaves them in a BEGIN or END line while a file is written";
const OLDER: &str = "a line of dashes that ends like a BEGIN or END line: the file may hold the end of an older, \
                     longer one, write it anew";
const ENDS_IN_DASHES: &str = "the file ends within a line of dashes: it may be cut off";

/// Returns the label of a `BEGIN` or `END` line, from the text after its opening; `None` for a
/// damaged line.
fn label(rest: &[u8]) -> Option<&str> {
    let label = std::str::from_utf8(rest.strip_suffix(b"-----")?).ok()?;
    (!label.contains("-----")).then_some(label)
}

/// Returns the damage of a `BEGIN` or `END` line, from the text after its first dashes or its
/// opening.
fn damage(rest: &[u8], cut: bool) -> &'static str {
    if holds(rest, b"\\n") {
        return ESCAPED;
    }
    if holds(rest, b"%20") || holds(rest, b"%0A") {
        return "it looks percent-encoded, as in a URL or in the header of a proxy: decode it";
    }
    let closed = rest.windows(5).position(|window| window == b"-----");
    if closed.is_some_and(|at| !rest[at..].trim_ascii().iter().all(|byte| *byte == b'-')) {
        return if holds(rest, b"----------BEGIN ") {
            "an END and a BEGIN line are joined, the line break between them is missing: \
             `awk '{gsub(/-----(BEGIN|END) [^-]+-----/, \"\\n&\\n\")}1' old > new` puts it there"
        } else {
            "line breaks are lost, a BEGIN or END line stands in one line with other text: \
             `awk '{gsub(/-----(BEGIN|END) [^-]+-----/, \"\\n&\\n\")}1' old > new` puts them back"
        };
    }
    if cut && closed.is_none() && rest.is_ascii() {
        return "the file ends within a BEGIN or END line: it may be cut off";
    }
    if !rest.is_ascii() {
        return "a damaged BEGIN or END line with characters that are not ASCII (looks like dashes or spaces of an editor or a \
                web page): `LC_ALL=C sed -E 's/^[^A-Za-z0-9]{2,}(BEGIN|END)[^A-Z]*((RSA |EC |DH |X9.42 |ENCRYPTED |X509 )*(CERTIFICATE|CRL|PRIVATE KEY|PUBLIC KEY|PARAMETERS))[^A-Z0-9]*$/-----\\1 \\2-----/' \
                old > new` writes such lines anew";
    }
    if [&b"begin "[..], b"end "]
        .iter()
        .any(|word| rest.len() > word.len() && rest[..word.len()].eq_ignore_ascii_case(word))
        && rest.iter().any(u8::is_ascii_lowercase)
        && rest.ends_with(b"-----")
    {
        return "a BEGIN or END line in lower case: `awk '/^ *-----/{$0=toupper($0)}1' old > new` writes such lines in \
                upper case";
    }
    "a damaged BEGIN or END line: `LC_ALL=C sed -E \
     's/^[^A-Za-z0-9]{2,}(BEGIN|END)[^A-Z]*((RSA |EC |DH |X9.42 |ENCRYPTED |X509 )*(CERTIFICATE|CRL|PRIVATE KEY|PUBLIC KEY|PARAMETERS))[^A-Z0-9]*$/-----\\1 \\2-----/' old > new` writes such lines anew"
}

/// Returns whether a line begins like a `BEGIN` or `END` line of which dashes, spaces or the rest
/// of the word are lost or replaced.
///
/// It works on the bytes in place: a damaged line may hold a key, of which no copy may be made
/// (INV-10).
fn is_marker(line: &[u8]) -> bool {
    let rest = without_dashes(line);
    // A single hyphen begins the item of a list.
    if line.len() - rest.len() < 2 {
        return false;
    }
    let glued = rest.trim_ascii_start();
    let is_glued = glued.len() == rest.len();
    let word = &glued[..glued.iter().take_while(|byte| byte.is_ascii_alphabetic()).count()];
    // `END OF THE CHAIN` is prose, and no label begins so.
    let next = glued[word.len()..].split(|byte| matches!(byte, b' ' | b'\t')).find(|part| !part.is_empty());
    if !is_glued && next.is_some_and(|next| next.eq_ignore_ascii_case(b"OF")) {
        return false;
    }
    let names_section = || [&b"CERTIFICATE"[..], b"KEY", b"CRL"].iter().any(|name| holds(line, name));
    let is = |marker: &[u8]| {
        word == marker
            || word.eq_ignore_ascii_case(marker) && (is_glued || names_section())
            || is_glued && word.starts_with(marker)
            // Accepts `-----BE`, of which the rest was never written, and `-----BE---`, which ends
            // with the last dashes of an older line.
            || is_glued
                && !word.is_empty()
                && marker.starts_with(word)
                && without_dashes(&rest[word.len()..]).is_empty()
    };
    is(b"BEGIN") || is(b"END")
}

/// Returns whether a line that begins with dashes ends like the `END` line of an older file. A
/// writer that does not truncate leaves such a line if it stops within the dashes or letters of a
/// `BEGIN` line.
///
/// The title in a ruler has a space before the dashes that follow it.
fn is_older_tail(line: &[u8]) -> bool {
    let Some(last) = line.iter().rposition(|byte| *byte != b'-') else { return false };
    let (text, closing) = line.split_at(last + 1);
    let letters = text.iter().rev().take_while(|byte| byte.is_ascii_uppercase()).count();
    let word = &text[text.len() - letters..];
    let is_tail = |word: &[u8]| {
        let words = [&b"CERTIFICATE"[..], b"KEY", b"CRL", b"PARAMETERS", b"REQUEST"];
        !word.is_empty() && words.iter().any(|whole| whole.ends_with(word))
    };
    line.starts_with(b"-")
        && closing.len() >= 5
        && (0..5).any(|begun| word.strip_prefix(&b"BEGIN"[..begun]).is_some_and(is_tail))
}

/// Returns whether `text` occurs in a line, without regard to ASCII case.
fn holds(line: &[u8], text: &[u8]) -> bool {
    line.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text))
}

fn without_dashes(mut line: &[u8]) -> &[u8] {
    while let Some(length) = dash(line) {
        line = &line[length..];
    }
    line
}

/// Returns the length of a leading dash: a hyphen-minus, or a character that editors and web pages
/// put in its place.
fn dash(line: &[u8]) -> Option<usize> {
    match line {
        [b'-', ..] => Some(1),
        [0xe2, 0x80, 0x90..=0x95, ..]
        | [0xe2, 0x88, 0x92, ..]
        | [0xef, 0xb9, 0x98 | 0xa3, ..]
        | [0xef, 0xbc, 0x8d, ..] => Some(3),
        _ => None,
    }
}

/// Returns a line without leading and trailing bytes that no ASCII text shows. They are byte order
/// marks, where marked files were joined, or zeros, where a crash came after a file's length was
/// written and before its bytes. Dashes of any kind stay.
fn printed(line: &[u8]) -> &[u8] {
    let is_printed = |byte: &u8| byte.is_ascii_graphic();
    let begins = |at: &usize| is_printed(&line[*at]) || dash(&line[*at..]).is_some();
    let from = (0..line.len()).find(begins).unwrap_or(line.len());
    let to = line.iter().rposition(is_printed).map_or(from, |last| (last + 1).max(from));
    &line[from..to]
}
