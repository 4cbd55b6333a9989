//! The inputs for both sides.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use crate::common::armor::block;
use rustls_reload_harness::settings;

/// A file.
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) text: Vec<u8>,
}

/// Returns the files in a directory and below, in the order of their names.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Returns all files, each content once.
fn contents() -> Vec<Input> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut dirs: Vec<PathBuf> = ["pem_parse", "chain_parse", "key_parse", "ca_bundle", "der_fields"]
        .map(|target| root.join("fuzz/corpus").join(target))
        .to_vec();
    dirs.push(root.join("tests/load/vectors/keys"));
    let more = std::env::var_os("DIFFERENTIAL_DIRS").unwrap_or_default();
    dirs.extend(std::env::split_paths(&more).filter(|dir| !dir.as_os_str().is_empty()));
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for dir in dirs {
        let files = files(&dir);
        assert!(!files.is_empty(), "no inputs in {}", dir.display());
        for path in files {
            let text = std::fs::read(&path).unwrap();
            // Larger files show nothing more, and each file is read by several processes.
            if text.len() <= 1 << 16 && seen.insert(text.clone()) {
                found.push(Input { name: path.display().to_string(), text });
            }
        }
    }
    found
}

/// Returns the number of edits.
pub(crate) fn edits() -> usize {
    settings::number("DIFFERENTIAL_EDITS", 60)
}

/// Returns every file as PEM, followed by the edits.
pub(crate) fn texts() -> Vec<Input> {
    let mut texts = Vec::new();
    for Input { name, text } in contents() {
        // DER, and inputs that fuzzing derived from it, get every label that they may have.
        if text.first() == Some(&0x30) {
            for label in ["CERTIFICATE", "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
                texts.push(Input { name: format!("{name} as {label}"), text: block(label, &text).into() });
            }
        }
        texts.push(Input { name, text });
    }
    let edited: Vec<_> = (0..edits()).map(|number| edited(number as u64, &texts)).collect();
    texts.extend(edited);
    texts
}

/// Returns every certificate.
pub(crate) fn certificates() -> Vec<Vec<u8>> {
    let mut found: Vec<_> =
        contents().into_iter().map(|input| input.text).filter(|text| text.first() == Some(&0x30)).collect();
    for input in contents() {
        found.extend(
            rustls_reload::internal::pem::chain(&input.text).into_iter().flatten().map(|one| one.to_vec()),
        );
    }
    found
}

/// A pseudorandom generator (xorshift).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit.max(1)
    }
}

/// Returns one of the texts with a part replaced, inserted, removed or doubled, in its lines or in
/// the bytes that they encode.
fn edited(number: u64, texts: &[Input]) -> Input {
    let mut dice = Dice::new(number);
    let Input { name, text } = &texts[dice.below(texts.len())];
    let mut text = text.clone();
    for _ in 0..=dice.below(3) {
        let at = dice.below(text.len() + 1);
        let end = (at + dice.below(70)).min(text.len());
        match dice.below(6) {
            0 => drop(text.drain(at..end)),
            1 => text.insert(at, b"\n\r -=A/*\x00\xff"[dice.below(10)]),
            2 => text.extend_from_within(at..end),
            3 => text.truncate(at),
            _ => {
                // Another letter of base64 changes the encoded bytes.
                const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
                if let Some(byte) = text.get_mut(at).filter(|byte| byte.is_ascii_alphanumeric()) {
                    *byte = LETTERS[dice.below(64)];
                }
            }
        }
    }
    Input { name: format!("edit {number} of {name}"), text }
}
