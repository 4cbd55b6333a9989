//! Every sentence about access is listed, and proven by handshakes.
//!
//! `claims.txt` has one line for each sentence of the code, the manual and the README about access,
//! with the scenario that makes the handshakes, or with another test that does. A sentence without
//! a line fails, and so does a line without a sentence. A sentence without a claim is listed under
//! `none`.
//!
//! Checks: INV-16

mod scenarios;
mod sentences;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::Path,
};

use crate::common;
use scenarios::SCENARIOS;

const CLAIMS: &str = include_str!("access_claims/claims.txt");
/// The label of sentences that mention clients without a claim about access.
const NONE: &str = "none";

/// Returns the listed sentences, each with its scenario.
fn listed() -> BTreeMap<String, String> {
    let lines = CLAIMS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = |line: &str| {
        let (scenario, sentence) = line.split_once(": ").unwrap_or_else(|| panic!("no scenario: {line}"));
        (sentence.to_owned(), scenario.to_owned())
    };
    lines.map(split).collect()
}

/// Prints a count past the capture of tests that pass.
fn say(count: &str) {
    let _ = writeln!(std::io::stderr(), "{count}");
}

/// Returns whether `name` is a test in the form FILE::FUNCTION.
fn is_a_test(name: &str) -> bool {
    let Some((file, function)) = name.split_once("::") else { return false };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.contains(&format!("#[test]\nfn {function}()"))
}

#[test]
fn inv16_every_sentence_about_access_is_listed_with_a_scenario() {
    let (listed, found) = (listed(), sentences::about_access());
    let known: BTreeSet<_> = SCENARIOS.iter().map(|(name, _)| *name).chain([NONE]).collect();
    let missing: Vec<_> = found.iter().filter(|(sentence, _)| !listed.contains_key(*sentence)).collect();
    for (sentence, file) in &missing {
        println!("{}: ?: {sentence}", file.display());
    }
    assert!(missing.is_empty(), "{} sentences without a line in claims.txt", missing.len());
    let gone: Vec<_> = listed.keys().filter(|sentence| !found.contains_key(*sentence)).collect();
    assert!(gone.is_empty(), "lines without a sentence: {gone:#?}");
    let unknown: Vec<_> =
        listed.values().filter(|name| !known.contains(name.as_str()) && !is_a_test(name)).collect();
    assert!(unknown.is_empty(), "no such scenario or test: {unknown:#?}");
    let used: BTreeSet<_> = listed.values().map(String::as_str).collect();
    let unused: Vec<_> = SCENARIOS.iter().map(|row| row.0).filter(|name| !used.contains(name)).collect();
    assert!(unused.is_empty(), "no sentence needs {unused:?}");
    let claims = listed.values().filter(|name| *name != NONE).count();
    say(&format!("access: {claims} sentences with a scenario, {} that claim nothing", listed.len() - claims));
    assert!(claims >= 30, "{claims}: the sentences are not found any more");
}

#[test]
fn inv16_scenario_makes_the_handshakes_that_its_sentences_claim() {
    let counts = common::at_once(SCENARIOS, |(name, run)| {
        let world = scenarios::World::new();
        run(&world);
        let count = world.handshakes();
        assert!(count > 0, "{name} makes no handshake");
        count
    });
    let handshakes: usize = counts.iter().sum();
    say(&format!("access: {} scenarios, {handshakes} handshakes", counts.len()));
}

/// Checks: INV-16. Engine: generated. A sentence with any word about access is found in each kind
/// of text.
#[test]
fn inv16_a_new_sentence_about_access_is_found_in_each_kind_of_text() {
    let mut found = 0;
    let pairs = sentences::SOMEBODY
        .iter()
        .flat_map(|who| sentences::OUTCOMES.map(|what| format!("{what} for the {who}")));
    for claim in sentences::SPEAK_OF_ACCESS.map(str::to_owned).into_iter().chain(pairs) {
        for wrapped in [
            format!("/// Nothing of interest. The {claim} stands here.\nfn f() {{}}\n"),
            format!("let why = \"the {claim}\\\n     stands here\";\n"),
            format!("#[arg(long)]\n/// The {claim}\n/// stands here\n"),
        ] {
            // Breaks: INV-16
            let sentences = sentences::of_code(&wrapped);
            assert!(sentences.iter().any(|found| sentences::speaks_of_access(found)), "{wrapped}");
            found += 1;
        }
        let page = format!("# Page\n\nText.\n\n- **Item**: the\n  {claim} stands here; and more.\n");
        let sentences = sentences::of_prose(&page);
        assert!(sentences.iter().any(|found| sentences::speaks_of_access(found)), "{page}");
    }
    assert!(found >= 30, "{found}");
}
