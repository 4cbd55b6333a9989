//! Key files of every kind and form, whole and damaged, and the bytes of each that no freed block
//! may hold.

use std::{ops::Range, sync::OnceLock};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use rustls_reload_testkit::{Authority, PrivateKey, Subject, WINDOW, armor};

use super::search::Window;

/// A key file.
pub(crate) struct Form {
    pub(crate) name: String,
    pub(crate) text: Vec<u8>,
    /// A chain of the key, or of another key where this one cannot be served.
    pub(crate) chain: String,
    /// The key as the provider receives it, where a server accepts the form.
    pub(crate) key: Option<PrivateKeyDer<'static>>,
    /// Whether a server with this key starts.
    pub(crate) is_taken: bool,
    /// Position of the first secret number in `text`.
    pub(crate) secret: Range<usize>,
    /// Damaged copies of the file, each with the kind of damage.
    pub(crate) damaged: Vec<(&'static str, Vec<u8>)>,
    windows: Vec<Window>,
}

/// Returns the tag and the content of each element of this DER.
fn elements(mut der: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while let [tag, length, rest @ ..] = der {
        let more = usize::from(length & 0x7f) * usize::from(length >> 7);
        let long = rest[..more].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let length = if more > 0 { long } else { usize::from(*length) };
        let (content, behind) = rest[more..].split_at(length);
        found.push((*tag, content));
        der = behind;
    }
    found
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let head = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [&head, content].concat()
}

/// Decodes base64 without line breaks.
fn decoded(text: &str) -> Vec<u8> {
    let value = |digit: u8| match digit {
        b'A'..=b'Z' => u32::from(digit - b'A'),
        b'a'..=b'z' => u32::from(digit - b'a') + 26,
        b'0'..=b'9' => u32::from(digit - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let groups = text.trim_end_matches('=').as_bytes().chunks(4).flat_map(|group| {
        let bits = group.iter().fold(0, |bits, digit| bits << 6 | value(*digit)) << (6 * (4 - group.len()));
        bits.to_be_bytes()[1..group.len()].to_vec()
    });
    groups.collect()
}

fn windows_of(bytes: &[u8]) -> impl Iterator<Item = Window> + '_ {
    bytes.windows(WINDOW).map(|window| window.try_into().unwrap())
}

/// Returns where the text of a section encodes these bytes of its content, leaving out the base64
/// digits that encode other bytes too, and the text there, with and without line breaks.
fn in_text(text: &str, bytes: &Range<usize>) -> (Range<usize>, String) {
    let (head, body) = text.split_once('\n').unwrap();
    let width = body.lines().next().unwrap().len();
    let digits = (bytes.start * 4).div_ceil(3)..bytes.end * 4 / 3;
    let place = |digit: usize| head.len() + 1 + digit + digit / width;
    let range = place(digits.start)..place(digits.end - 1) + 1;
    (range.clone(), text[range].replace('\n', ""))
}

impl Form {
    /// Makes a form of these secret numbers, each of which is part of the section's content `der`.
    fn new(name: String, label: Option<&str>, der: &[u8], secrets: &[&[u8]], chain: &str) -> Self {
        let text = match label {
            Some(label) => armor::encode(label, &[der]),
            None => der.to_vec(),
        };
        let mut form = Self {
            name,
            text,
            chain: chain.to_owned(),
            key: None,
            is_taken: false,
            secret: 0..0,
            damaged: Vec::new(),
            windows: Vec::new(),
        };
        for (number, secret) in secrets.iter().enumerate() {
            let at = der.windows(secret.len()).position(|window| window == *secret).unwrap();
            form.windows.extend(windows_of(secret));
            let mut range = at..at + secret.len();
            if label.is_some() {
                let text = String::from_utf8(form.text.clone()).unwrap();
                let (place, digits) = in_text(&text, &range);
                form.windows.extend(windows_of(&text.as_bytes()[place.clone()]));
                form.windows.extend(windows_of(digits.as_bytes()));
                range = place;
            }
            if number == 0 {
                form.secret = range;
            }
        }
        form.damaged = damaged(&form.text, &form.secret, label);
        form
    }

    fn taken(mut self, key: impl Into<PrivateKeyDer<'static>>) -> Self {
        (self.key, self.is_taken) = (Some(key.into()), true);
        self
    }

    /// Marks a form that is completed from the certificate, so that the provider receives another
    /// form.
    fn completed(mut self) -> Self {
        self.is_taken = true;
        self
    }
}

/// Returns the forms of a PKCS #8 key of a kind that is served.
fn forms_of(kind: &str, pem: &str, ca: &Authority) -> Vec<Form> {
    let pair = ca.issue(&Subject::server("localhost"), &PrivateKey::from_pem(pem));
    let whole = pair.key_der();
    let der = whole.secret_der();
    let parts = elements(elements(der)[0].1);
    let (algorithm, inner) = (parts[1].1, parts[2].1);
    let form = |what: &str, label: Option<&str>, der: &[u8], secrets: &[&[u8]]| {
        Form::new(format!("{kind}, {what}"), label, der, secrets, &pair.chain)
    };
    let pkcs8 = || PrivatePkcs8KeyDer::from(der.to_vec());
    if kind == "Ed25519" {
        let seed = &[elements(inner)[0].1];
        return vec![
            form("PKCS #8", Some("PRIVATE KEY"), der, seed).taken(pkcs8()),
            form("DER", None, der, seed),
        ];
    }
    let numbers = elements(elements(inner)[0].1);
    if kind == "RSA" {
        let secrets: Vec<_> = numbers[3..].iter().map(|number| number.1).collect();
        return vec![
            form("PKCS #8", Some("PRIVATE KEY"), der, &secrets).taken(pkcs8()),
            form("PKCS #1", Some("RSA PRIVATE KEY"), inner, &secrets)
                .taken(PrivatePkcs1KeyDer::from(inner.to_vec())),
            form("DER", None, der, &secrets),
        ];
    }
    let number = &[numbers[1].1];
    let curve = elements(algorithm)[1].1;
    let sec1 = |public: bool, named: bool| {
        let parts = [
            element(2, &[1]),
            element(4, number[0]),
            if named { element(0xa0, &element(6, curve)) } else { Vec::new() },
            if public { element(0xa1, numbers.last().unwrap().1) } else { Vec::new() },
        ];
        element(0x30, &parts.concat())
    };
    let half = [element(2, &[0]), element(0x30, algorithm), element(4, &sec1(false, false))].concat();
    let whole = sec1(true, true);
    vec![
        form("PKCS #8", Some("PRIVATE KEY"), der, number).taken(pkcs8()),
        form("SEC 1", Some("EC PRIVATE KEY"), &whole, number).taken(PrivateSec1KeyDer::from(whole.clone())),
        form("PKCS #8 without its public part", Some("PRIVATE KEY"), &element(0x30, &half), number)
            .completed(),
        form("SEC 1 without its public part", Some("EC PRIVATE KEY"), &sec1(false, true), number).completed(),
        form("DER", None, der, number),
    ]
}

/// Returns damaged copies of the file, with all or some of the secret in them.
fn damaged(text: &[u8], secret: &Range<usize>, label: Option<&str>) -> Vec<(&'static str, Vec<u8>)> {
    let half = usize::midpoint(secret.start, secret.end);
    let mut all = vec![
        ("cut in the secret", text[..half].to_vec()),
        ("cut behind the secret", text[..secret.end].to_vec()),
        ("cut before its end", text[..text.len() - 2].to_vec()),
        ("with its first half missing", text[half..].to_vec()),
        ("behind a byte that belongs to nothing", [&[0x80], text].concat()),
        ("before zeros", [text, &[0; 64]].concat()),
    ];
    let Some(label) = label else { return all };
    for (what, put) in [
        ("with a star in the secret", b'*'),
        ("with padding in the secret", b'='),
        ("with a zero in the secret", 0),
        ("with a dash in the secret", b'-'),
        ("with a byte that is not ASCII in the secret", 0xe9),
        ("with a line break in the secret", b'\n'),
    ] {
        let mut variant = text.to_vec();
        variant[half] = put;
        all.push((what, variant));
    }
    all.push(("with a digit missing in the secret", [&text[..half], &text[half + 1..]].concat()));
    let pem = std::str::from_utf8(text).unwrap();
    for (what, behind) in [
        ("before a section that does not end", "-----BEGIN CERTIFICATE-----\nAAAA\n"),
        (
            "before a certificate that is no base64",
            "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n",
        ),
        ("before an END", "-----END PRIVATE KEY-----\n"),
        ("before half a marker", "-----BEGIN CERTIF"),
        ("before a section of a strange label", "-----BEGIN FOO-----\nAAAA\n-----END FOO-----\n"),
        ("before dashes of an editor", "\u{2014}\u{2014}BEGIN CERTIFICATE\u{2014}\u{2014}\n"),
    ] {
        all.push((what, format!("{pem}{behind}").into_bytes()));
    }
    all.push(("twice", [text, text].concat()));
    // Not relabelled as a certificate or a list, because content under such a label counts as
    // public.
    for (what, other) in [
        ("as PKCS #1", "RSA PRIVATE KEY"),
        ("as SEC 1", "EC PRIVATE KEY"),
        ("as PKCS #8", "PRIVATE KEY"),
        ("as an encrypted key", "ENCRYPTED PRIVATE KEY"),
        ("as a key of OpenSSH", "OPENSSH PRIVATE KEY"),
        ("under a strange label", "PRIVATE THING"),
    ] {
        if other != label {
            all.push((what, pem.replace(&format!(" {label}-"), &format!(" {other}-")).into_bytes()));
        }
    }
    for (what, header) in [
        ("with the header of an encryption", "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n"),
        ("with a header", "\nProc-Type: 4\n\n"),
        ("with a comment in it", "\n# a comment\n"),
    ] {
        all.push((what, pem.replacen('\n', header, 1).into_bytes()));
    }
    all.push(("in one line", pem.replace('\n', "").into_bytes()));
    all.push(("with its line breaks written out", pem.replace('\n', "\\n").into_bytes()));
    all.push(("indented", pem.replace('\n', "\n  ").into_bytes()));
    all.push(("with Windows line breaks", pem.replace('\n', "\r\n").into_bytes()));
    all.push(("in wide characters", text.iter().flat_map(|byte| [*byte, 0]).collect()));
    all
}

/// Keys that no server here accepts: of kinds, sizes and curves that the provider lacks.
const REFUSED: [(&str, &str); 18] = [
    ("x25519", include_str!("../../../tests/load/vectors/keys/x25519.pem")),
    ("x448", include_str!("../../../tests/load/vectors/keys/x448.pem")),
    ("ed448", include_str!("../../../tests/load/vectors/keys/ed448.pem")),
    ("ec-p-521", include_str!("../../../tests/load/vectors/keys/ec-p-521.pem")),
    ("ec-p-224", include_str!("../../../tests/load/vectors/keys/ec-p-224.pem")),
    ("ec-secp256k1", include_str!("../../../tests/load/vectors/keys/ec-secp256k1.pem")),
    ("ec-brainpoolp256r1", include_str!("../../../tests/load/vectors/keys/ec-brainpoolp256r1.pem")),
    ("ec-prime192v1", include_str!("../../../tests/load/vectors/keys/ec-prime192v1.pem")),
    ("ec-explicit", include_str!("../../../tests/load/vectors/keys/ec-explicit.pem")),
    ("sm2", include_str!("../../../tests/load/vectors/keys/sm2.pem")),
    ("rsa-512", include_str!("../../../tests/load/vectors/keys/rsa-512.pem")),
    ("rsa-1024", include_str!("../../../tests/load/vectors/keys/rsa-1024.pem")),
    ("rsa-5120", include_str!("../../../tests/load/vectors/keys/rsa-5120.pem")),
    ("rsa-three-primes", include_str!("../../../tests/load/vectors/keys/rsa-three-primes.pem")),
    ("rsa-exponent-3", include_str!("../../../tests/load/vectors/keys/rsa-exponent-3.pem")),
    ("rsa-pss", include_str!("../../../tests/load/vectors/keys/rsa-pss.pem")),
    ("dsa", include_str!("../../../tests/load/vectors/keys/dsa.pem")),
    ("dsa-old", include_str!("../../../tests/load/vectors/keys/dsa-old.pem")),
];
/// Returns the secret numbers of a key that no server here accepts.
fn secrets<'d>(label: &str, der: &'d [u8]) -> Vec<&'d [u8]> {
    let parts = elements(elements(der)[0].1);
    if label == "DSA PRIVATE KEY" {
        return parts.last().map(|number| number.1).into_iter().collect();
    }
    let inner = elements(parts[2].1)[0];
    let numbers = if inner.0 == 0x30 { elements(inner.1) } else { vec![inner] };
    // RFC 5915 puts the number after the version, RFC 8017 after the public numbers.
    let from = match numbers.len() {
        1 => 0,
        _ if numbers[1].0 == 4 => 1,
        _ => 3,
    };
    let count = if from == 1 { 1 } else { numbers.len() };
    let secret = numbers.iter().skip(from).take(count).map(|number| number.1);
    secret.filter(|number| number.len() > WINDOW).collect()
}

/// Returns all forms, which are made once.
pub(crate) fn forms() -> &'static [Form] {
    static FORMS: OnceLock<Vec<Form>> = OnceLock::new();
    FORMS.get_or_init(|| {
        let ca = Authority::root("CA of the forms");
        let mut forms: Vec<_> = [
            ("P-256", include_str!("../../../tests/load/vectors/keys/ec-p-256.pem")),
            ("P-384", include_str!("../../../tests/load/vectors/keys/ec-p-384.pem")),
            ("Ed25519", include_str!("../../../tests/load/vectors/keys/ed25519.pem")),
            ("RSA", include_str!("../../../tests/load/vectors/keys/rsa-2048.pem")),
        ]
        .into_iter()
        .flat_map(|(kind, pem)| forms_of(kind, pem, &ca))
        .collect();
        let chain = forms[0].chain.clone();
        forms.extend(REFUSED.map(|(name, pem)| {
            let (first, rest) = pem.split_once('\n').unwrap();
            let label = first.strip_prefix("-----BEGIN ").unwrap().strip_suffix("-----").unwrap();
            let der = decoded(&rest.lines().take_while(|line| !line.starts_with('-')).collect::<String>());
            Form::new(name.to_owned(), Some(label), &der, &secrets(label, &der), &chain)
        }));
        forms
    })
}

/// Returns the windows that no block may hold.
pub(crate) fn windows() -> Vec<Window> {
    let known: std::collections::BTreeSet<Window> =
        forms().iter().flat_map(|form| windows_of(form.chain.as_bytes())).collect();
    let all = forms().iter().flat_map(|form| form.windows.iter().copied());
    all.filter(|window| !known.contains(window)).collect()
}
