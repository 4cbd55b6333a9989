//! Recognises files without a PEM section by how they begin, so that the message can say how to
//! mend them.
//!
//! Nothing is quoted, because any of these files may hold a key (INV-10). Only formats with a magic
//! number are stated as facts; others "look like" a format.

use zeroize::Zeroizing;

use super::{
    boundary::ESCAPED,
    content::Content,
    lines::{holds, line_at},
};
use crate::pki::base64;

/// Formats with magic bytes, each with its message.
const MAGIC: &[(&[u8], &str)] = &[
    (b"\xfe\xed\xfe\xed", JKS),
    (b"\xce\xce\xce\xce", JKS),
    (b"\x1f\x8b", "the file is compressed by gzip: `gzip -dc old > new`"),
    (b"PK\x03\x04", "the file is a ZIP archive: unpack it"),
    (b"\0GITCRYPT", "the file is encrypted by git-crypt: unlock the repository"),
    (
        b"version https://git-lfs.github.com/spec/",
        "the file is a pointer of git-lfs, not the content: `git lfs pull` fetches it",
    ),
    (b"/annex/objects/", "the file is a pointer of git-annex, not the content: `git annex get` fetches it"),
    (b"$ANSIBLE_VAULT;", "the file is encrypted by ansible-vault: `ansible-vault decrypt` decrypts it"),
    (b"age-encryption.org/", "the file is encrypted by age: `age -d -o new old` decrypts it"),
    (
        b"PuTTY-User-Key-File-",
        "the file is a key of PuTTY: `puttygen old -O private-openssh -o new` exports it",
    ),
    (b"Salted__", "the file is encrypted by `openssl enc`: decrypt it first"),
];

const JKS: &str = "the file is a Java keystore (JKS or JCEKS): `keytool -importkeystore -srckeystore old -destkeystore new.p12 \
                   -deststoretype PKCS12`, then `openssl pkcs12 -in new.p12 -nodes -out new`";

/// Beginnings of text, without regard to ASCII case, each with its message.
const TEXTS: &[(&[u8], &str)] = &[
    (
        b"<",
        "it looks like a page (HTML or XML), such as the error page of a proxy or a login page: fetch the file anew",
    ),
    (b"{", JSON),
    (b"apiVersion:", MANIFEST),
    (b"kind:", MANIFEST),
    (b"---\n", "it looks like YAML: take the PEM out of its fields"),
    (b"ssh-", "it looks like a public key of SSH, which TLS cannot use"),
    (b"ecdsa-sha2-", "it looks like a public key of SSH, which TLS cannot use"),
];

const JSON: &str = "it looks like JSON: take the PEM out of its fields, for instance with `jq -r .data.certificate old > new` \
                    (of a Kubernetes Secret: `jq -r '.data[\"tls.crt\"]' old | base64 -d > new`)";
const MANIFEST: &str = "it looks like a Kubernetes manifest: `kubectl get secret NAME -o jsonpath='{.data.tls\\.crt}' | base64 -d \
                        > new` gets the file out of a Secret";

/// Describes a file without sections: what it is or looks like, and what to do.
pub(super) fn describe(text: &[u8]) -> String {
    let trimmed = text.trim_ascii_start();
    if trimmed.is_empty() {
        return "the file holds white space only".to_owned();
    }
    if text.iter().all(|byte| *byte == 0) {
        return "the file holds zeros only, as a crash leaves a file whose bytes were never written"
            .to_owned();
    }
    if let Some((_, message)) = MAGIC.iter().find(|(magic, _)| trimmed.starts_with(magic)) {
        return (*message).to_owned();
    }
    if let Some(encoding) = wide(text) {
        return format!(
            "no PEM in the file; it looks like {encoding}, not ASCII: `iconv -f {encoding} -t UTF-8 old > new`"
        );
    }
    if let Some(content) = Content::of(text) {
        let (name, command) = (content.name(), content.to_pem());
        let note = match content {
            Content::Pkcs12 => {
                "; OpenSSL 3 needs `-legacy` as well if the file is encrypted by RC2, as by older Windows and Java"
            }
            _ => "",
        };
        return format!(
            "no PEM in the file; it looks like {name} in DER, which is not text: `{command}`{note}"
        );
    }
    if matches!(text, [0x30, 0x80..=0x84, ..]) {
        return "no PEM in the file; it looks like DER that is damaged or of an unknown kind".to_owned();
    }
    let starts =
        |begin: &[u8]| trimmed.get(..begin.len()).is_some_and(|text| text.eq_ignore_ascii_case(begin));
    if holds(text, b"ENC[AES256_GCM,") {
        return "no PEM in the file; it looks encrypted by sops: `sops -d old > new` decrypts it".to_owned();
    }
    if let Some((_, message)) = TEXTS.iter().find(|(begin, _)| starts(begin)) {
        return format!("no PEM in the file; {message}");
    }
    if let Some(message) = hidden(text).or_else(|| encoded(text).map(str::to_owned)) {
        return format!("no PEM in the file; {message}");
    }
    "no PEM in the file: no line begins with -----BEGIN".to_owned()
}

/// Returns the encoding of text with characters of two or four bytes, by its byte order mark or by
/// the zeros in its first characters.
fn wide(text: &[u8]) -> Option<&'static str> {
    Some(match text {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => "UTF-32",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16",
        [1..=0x7f, 0, 0, 0, 1..=0x7f, 0, 0, 0, ..] => "UTF-32LE",
        [0, 0, 0, 1..=0x7f, 0, 0, 0, 1..=0x7f, ..] => "UTF-32BE",
        [1..=0x7f, 0, 1..=0x7f, 0, ..] => "UTF-16LE",
        [0, 1..=0x7f, 0, 1..=0x7f, ..] => "UTF-16BE",
        _ => return None,
    })
}

/// Describes a `BEGIN` that follows other text in its line.
pub(super) fn hidden(text: &[u8]) -> Option<String> {
    let begin = b"-----BEGIN ";
    let at = text.windows(begin.len()).position(|window| window == begin)?;
    let line = line_at(text, at);
    let from = text[..at].iter().rposition(|byte| matches!(byte, b'\n' | b'\r')).map_or(0, |at| at + 1);
    let before = text[from..at].trim_ascii();
    let why = if holds(text, b"\\n") {
        return Some(format!(
            "line {line}: this BEGIN line is ignored: {ESCAPED}; then remove the text before BEGIN"
        ));
    } else if before.last().is_some_and(|byte| matches!(byte, b'"' | b'\'' | b'`')) {
        "a quote stands before it: `tr -d '\\42\\47\\140' < old > new` removes quotes"
    } else if before.starts_with(b"#") || before.starts_with(b"//") || before.starts_with(b";") {
        "the line is a comment"
    } else {
        "other text stands before it: the line has to begin with its dashes"
    };
    Some(format!("line {line}: this BEGIN line is ignored: {why}"))
}

/// Returns whether this looks like a SEQUENCE of DER, written in hexadecimal digits.
fn is_hex_of_der(text: &[u8]) -> bool {
    // Base64 of a key does not begin so: the running time shows nothing about its digits.
    text.starts_with(b"30") && text.iter().all(|byte| byte.is_ascii_hexdigit() || byte.is_ascii_whitespace())
}

/// Describes DER in hexadecimal digits, and base64 without `BEGIN` and `END` lines: of PEM, of DER,
/// or of base64.
fn encoded(text: &[u8]) -> Option<&'static str> {
    if is_hex_of_der(text.trim_ascii_start()) {
        return Some("it looks like DER in hexadecimal digits: `xxd -r -p old > new` makes DER of it");
    }
    let decoded = Zeroizing::new(base64::decode(text).filter(|bytes| bytes.len() > 8)?);
    let inner = decoded.trim_ascii_start();
    let inner = inner.strip_prefix(b"\xef\xbb\xbf").unwrap_or(inner);
    Some(if inner.starts_with(b"-----BEGIN ") {
        "it is base64 of PEM (looks like the data of a Kubernetes Secret, encoded once more): `base64 -d old > new` decodes it"
    } else if let Some(content) = Content::of(&decoded) {
        match content {
            Content::Certificate => {
                "it looks like a certificate without its BEGIN and END lines: \
                 `base64 -d old | openssl x509 -inform DER -out new` writes them"
            }
            Content::Pkcs8 | Content::Pkcs1 | Content::Sec1 => {
                "it looks like a private key without its BEGIN and END lines: \
                 `base64 -d old | openssl pkey -inform DER -out new` writes them"
            }
            _ => "it looks like base64 of DER without BEGIN and END lines",
        }
    } else if base64::decode(inner).is_some_and(|bytes| !Zeroizing::new(bytes).is_empty()) {
        "it looks like base64 that was encoded twice or more: `base64 -d old > new` decodes it once"
    } else {
        "it looks like base64: `base64 -d old > new` decodes it"
    })
}
