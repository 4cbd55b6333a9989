//! Finds the sections of a text, classifies them by their labels, and decodes them.

use super::{
    boundary::{self, Line},
    foreign,
    lines::{Numbered, holds, lines},
};
use crate::{
    pki::base64,
    report::error::{Error, Layer},
};

/// Limit of sections read from one file; Debian's whole CA bundle has about 150.
pub const SECTION_LIMIT: usize = 4096;

/// One section from `BEGIN` to `END`, both lines included.
pub(super) struct Section<'a> {
    pub(super) label: &'a str,
    pub(super) text: &'a [u8],
    /// The number of its first line.
    pub(super) line: usize,
}

/// Kinds of sections, by their labels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Certificate,
    Key,
    EncryptedKey,
    /// Key parameters, public keys and certificate requests: openssl writes them beside a pair, and
    /// no pair needs them.
    Beside,
    RevocationList,
    TrustedCertificate,
    /// A label that belongs in no file that is read here, or a damaged label.
    Other,
}

impl Section<'_> {
    pub(super) fn kind(&self) -> Kind {
        match self.label {
            "CERTIFICATE" | "X509 CERTIFICATE" => Kind::Certificate,
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => Kind::Key,
            "ENCRYPTED PRIVATE KEY" => Kind::EncryptedKey,
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Kind::Beside,
            "X509 CRL" => Kind::RevocationList,
            "TRUSTED CERTIFICATE" => Kind::TrustedCertificate,
            label if label.ends_with(" PARAMETERS") || label.ends_with("PUBLIC KEY") => Kind::Beside,
            _ => Kind::Other,
        }
    }
}

/// Finds the sections of a text.
///
/// 1. A byte order mark at the start is skipped. Editors add it, and the first line would not
///    count.
/// 2. `-----BEGIN label-----` opens a section, and `-----END label-----` closes it. White space
///    around them is ignored. A line of dashes that may have been either is damage, see
///    [`boundary`].
/// 3. A section that does not close, closes with another label, or holds another `BEGIN` is damage.
///
/// # Errors
/// [`Layer::Pem`] for damage, for a text without sections, and for more than [`SECTION_LIMIT`].
pub(super) fn sections(text: &[u8]) -> Result<Vec<Section<'_>>, Error> {
    // 1.
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if text.is_empty() {
        return Err(Error::new(Layer::Pem, "the file is empty"));
    }
    let mut found: Vec<Section<'_>> = Vec::new();
    let mut open: Option<Section<'_>> = None;
    for Numbered { number, start, line } in lines(text) {
        let end = start + line.len();
        // 2.
        match boundary::read(line, end == text.len(), open.is_some()) {
            Ok(Line::Begin(label)) => {
                if let Some(outer) = open {
                    let how = format!("has no END line before the BEGIN of line {number}");
                    return Err(damaged(outer.line, outer.label, &how));
                }
                open = Some(Section { label, text: &text[start..], line: number });
            }
            Ok(Line::End(label)) => match open.take() {
                Some(section) if section.label == label => {
                    let length = section.text.len() - (text.len() - end);
                    found.push(without_zeros(Section { text: &section.text[..length], ..section })?);
                    if found.len() > SECTION_LIMIT {
                        return Err(Error::new(Layer::Pem, format!("more than {SECTION_LIMIT} sections")));
                    }
                }
                Some(outer) => {
                    let how = format!("ends with another label on line {number}");
                    return Err(damaged(outer.line, outer.label, &how));
                }
                None => return Err(unopened(&text[..start], number, label)),
            },
            Ok(Line::Text) => {}
            // DER and text with wide characters have such lines.
            Err(boundary::ZEROS) if found.is_empty() && open.is_none() && !holds(text, b"-----BEGIN ") => {
                return Err(Error::new(Layer::Pem, foreign::describe(text)));
            }
            Err(why) => return Err(Error::on_line(Layer::Pem, number, why)),
        }
    }
    // 3.
    if let Some(section) = open {
        return Err(unclosed(&section));
    }
    if found.is_empty() {
        return Err(Error::new(Layer::Pem, foreign::describe(text)));
    }
    Ok(found)
}

/// Rejects a section that is never decoded and has zeros, which may have replaced another section
/// within it.
fn without_zeros(section: Section<'_>) -> Result<Section<'_>, Error> {
    if matches!(section.kind(), Kind::Beside | Kind::RevocationList) && section.text.contains(&0) {
        let how = "has zeros in it, as a crash leaves them while a file is written";
        return Err(damaged(section.line, section.label, how));
    }
    Ok(section)
}

/// Makes the error of an END line without its BEGIN line, by the text before it.
fn unopened(before: &[u8], number: usize, label: &str) -> Error {
    match foreign::hidden(before) {
        Some(why) => Error::new(Layer::Pem, why),
        None => damaged(number, label, "has an END and no BEGIN line"),
    }
}

/// Makes the error of a section that does not close.
fn unclosed(section: &Section<'_>) -> Error {
    match odd_line(section) {
        Some((line, why)) => {
            let how = format!("has no END line, and line {line} is not valid base64: {why}");
            damaged(section.line, section.label, &how)
        }
        None => {
            let how = "has no END line: the file is cut off, or still being written";
            damaged(section.line, section.label, how)
        }
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Decodes a section into a buffer that is allocated once.
pub(super) fn decode(section: &Section<'_>, layer: Layer, name: &str) -> Result<Vec<u8>, Error> {
    if let Some(der) = body(section.text).and_then(base64::decode).filter(|der| !der.is_empty()) {
        return Ok(der);
    }
    let (line, why) = not_base64(section);
    let begins =
        if line == section.line { String::new() } else { format!(" (begins on line {})", section.line) };
    Err(Error::on_line(layer, line, format!("{name}{begins} is not valid base64: {why}")))
}

/// Returns the bytes between the first and the last line of a section. Each of the two has to begin
/// with its dashes.
fn body(section: &[u8]) -> Option<&[u8]> {
    let ends_line = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let (from, to) = (section.iter().position(ends_line)?, section.iter().rposition(ends_line)?);
    let dashed = section.starts_with(b"-----") && section[to + 1..].starts_with(b"-----");
    dashed.then(|| &section[from..to])
}

/// Returns the line that keeps a section from being decoded, and the reason.
fn not_base64(section: &Section<'_>) -> (usize, &'static str) {
    odd_line(section).unwrap_or_else(|| {
        let is_empty = lines(section.text)
            .all(|line| line.line.starts_with(b"-----") || line.line.trim_ascii().is_empty());
        let why = if is_empty {
            "the section is empty"
        } else {
            "characters are missing or superfluous, or its padding is wrong"
        };
        (section.line, why)
    })
}

/// Returns the first line of a section that is neither base64 nor an intact `BEGIN` or `END` line.
fn odd_line(section: &Section<'_>) -> Option<(usize, &'static str)> {
    for Numbered { number, line, .. } in lines(section.text) {
        let number = section.line + number - 1;
        if line.first().is_some_and(u8::is_ascii_whitespace) && line.trim_ascii_start().starts_with(b"-----")
        {
            let why = "white space stands before the dashes, as in YAML: `sed 's/^[[:space:]]*//' old > new` removes it";
            return Some((number, why));
        }
        if line.starts_with(b"-----") {
            continue;
        }
        if line.trim_ascii_start().starts_with(b"END ") {
            return Some((number, "it looks like an END line without its dashes"));
        }
        let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        let Some(odd) = line.iter().find(|byte| !is_digit(byte) && !matches!(byte, b'\t'..=b'\r' | b' '))
        else {
            continue;
        };
        let why = match odd {
            0 => "zeros are in it, as a crash leaves them while a file is written",
            0x80.. => "a character that is not ASCII (looks like the work of an editor or a web page)",
            b'-' if holds(line, b"END ") => "it looks like a damaged END line",
            b'-' | b'_' => "it has - or _, as base64url has",
            b':' => "it looks like a header line: remove the lines between BEGIN and the base64",
            b'#' => "it looks like a comment, which is allowed only before BEGIN and after END",
            b'\\' => "it looks like line breaks written out as \\n",
            _ => "a character that base64 does not have",
        };
        return Some((number, why));
    }
    None
}

fn damaged(line: usize, label: &str, how: &str) -> Error {
    Error::on_line(Layer::Pem, line, format!("a section {} {how}", quoted(label)))
}

/// Quotes the label, if it consists of the characters of labels. A damaged file may have anything
/// there, a key included.
pub(super) fn quoted(label: &str) -> String {
    let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b' ' | b'.' | b'#');
    let known = label.len() <= 24 && label.contains(' ') || matches!(label, "CERTIFICATE" | "PKCS7" | "CMS");
    if known && label.bytes().all(plain) { format!("{label:?}") } else { "with a strange label".to_owned() }
}
