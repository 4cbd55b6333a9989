//! Checks the link between the promises and their proof. Every invariant has an example test, a
//! generated test and a mutant. No text names an unknown id, and the table in the manual agrees
//! with the code. Each file belongs to a stage of `scripts/mutants`.
//!
//! A test names its invariants: the name begins with the ids (`inv03_...`, `inv01_inv02_...`), or
//! its file has a line `Checks: INV-01, INV-02`. A generated test (exhaustive, property, fuzz or
//! loom) has a line `Engine: generated` in its doc comment, or its file has one at the top. A
//! mutant has a line `Breaks: INV-01`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::{Path, PathBuf},
};

const COLUMNS: [&str; 3] = ["examples", "generated", "mutants"];

/// The files, by id and by column.
type Table = BTreeMap<String, BTreeMap<&'static str, BTreeSet<String>>>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns all text files of the project that people read.
fn files() -> Vec<PathBuf> {
    let mut open: Vec<_> = [
        "src",
        "tests",
        "cli",
        "loom-tests",
        "embedder-tests",
        "harness",
        "testkit",
        "fuzz/fuzz_targets",
        "scripts",
        "examples",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ]
    .map(|name| root().join(name))
    .to_vec();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() && !path.ends_with("target") {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

/// Returns the ids that the manual defines.
fn defined() -> Vec<String> {
    let manual = read(&root().join("src/manual/invariants.md"));
    let ids = manual.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    ids.filter(|id| id.starts_with("INV-") || id.starts_with("ASM-")).map(str::to_owned).collect()
}

/// Returns the ids in a line of text.
fn named(text: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for prefix in ["INV-", "ASM-"] {
        for (at, _) in text.match_indices(prefix) {
            let number: String = text[at + 4..].chars().take_while(char::is_ascii_digit).collect();
            if number.len() == 2 {
                ids.insert(format!("{prefix}{number}"));
            }
        }
    }
    ids
}

/// Returns the ids at the beginning of a test's name.
fn in_name(line: &str) -> BTreeSet<String> {
    let line = line.trim_start();
    let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ").unwrap_or_default();
    let mut ids = BTreeSet::new();
    for part in name.split('_') {
        let id =
            part.strip_prefix("inv").map(|n| ("INV", n)).or(part.strip_prefix("asm").map(|n| ("ASM", n)));
        match id {
            Some((kind, number)) if number.len() == 2 && number.parse::<u8>().is_ok() => {
                ids.insert(format!("{kind}-{number}"));
            }
            _ => break,
        }
    }
    ids
}

/// Returns a file as the table shows it: a module of a test executable, or else the file itself.
fn shown(path: &Path) -> String {
    let file = path.strip_prefix(root()).unwrap().with_extension("");
    let depth = if file.starts_with("tests") { 3 } else { usize::MAX };
    file.iter().take(depth).collect::<PathBuf>().display().to_string()
}

fn table() -> Table {
    let mut table: Table = defined().into_iter().map(|id| (id, BTreeMap::new())).collect();
    for path in files().iter().filter(|path| path.extension().is_some_and(|end| end == "rs")) {
        // This file describes the marks themselves.
        if path.ends_with(file!()) {
            continue;
        }
        let text = read(path);
        let file = shown(path);
        let mark = "Engine: generated";
        let whole = text.lines().any(|line| line.starts_with("//!") && line.contains(mark));
        let mut next = false;
        let mut add = |column, ids: BTreeSet<String>| {
            for id in ids {
                let row = table.get_mut(&id).unwrap_or_else(|| panic!("{file} names the unknown {id}"));
                row.entry(column).or_default().insert(file.clone());
            }
        };
        for line in text.lines() {
            next |= line.trim_start().starts_with("///") && line.contains(mark);
            let kind = if whole || next { "generated" } else { "examples" };
            next &= !line.contains("fn ");
            if let Some((_, ids)) = line.split_once("Breaks: ") {
                add("mutants", named(ids));
            } else if let Some((_, ids)) = line.split_once("Checks: ") {
                add(kind, named(ids));
            } else {
                add(kind, in_name(line));
            }
        }
    }
    table
}

fn rendered(table: &Table) -> String {
    let mut text = String::from(
        "# Proof\n\nGenerated by `tests/traceability/proof.rs`: which tests check what.\n\n| id | examples | generated | mutants |\n|---|---|---|---|\n",
    );
    for (id, row) in table {
        write!(text, "| {id} ").unwrap();
        for column in COLUMNS {
            let cell: Vec<_> =
                row.get(column).into_iter().flatten().map(|file| format!("`{file}`")).collect();
            write!(text, "| {} ", cell.join(", ")).unwrap();
        }
        text.push_str("|\n");
    }
    text
}

#[test]
fn every_invariant_has_an_example_a_generated_test_and_a_mutant() {
    let table = table();
    let mut missing = Vec::new();
    for (id, row) in table.iter().filter(|(id, _)| id.starts_with("INV")) {
        let empty = COLUMNS.into_iter().filter(|column| !row.contains_key(column));
        missing.extend(empty.map(|column| format!("{id} has no {column}")));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn no_text_names_an_unknown_id() {
    let defined: BTreeSet<_> = defined().into_iter().collect();
    assert!(defined.len() >= 19, "the manual lost its ids: {defined:?}");
    for path in files() {
        for id in named(&read(&path)) {
            assert!(defined.contains(&id), "{} names the unknown {id}", path.display());
        }
    }
}

/// `UPDATE_PROOF=1` writes the table.
#[test]
fn the_table_in_the_manual_is_what_the_code_says() {
    let path = root().join("src/manual/proof.md");
    let text = rendered(&table());
    if std::env::var_os("UPDATE_PROOF").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let old = read(&path);
    let stale: Vec<_> = text.lines().filter(|line| !old.lines().any(|known| known == *line)).collect();
    assert!(old == text, "stale: run UPDATE_PROOF=1 cargo test --test traceability; new: {stale:#?}");
}

/// The folders with the code of the library and of the binary.
const CODE: [&str; 2] = ["src", "cli/src"];

/// Returns the files of the code, without the tests in it.
fn code() -> BTreeSet<String> {
    let is_test = |path: &str| path.ends_with("tests.rs") || path.contains("/tests/");
    let files = files().into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let files = files.map(|path| path.strip_prefix(root()).unwrap().display().to_string());
    let is_code = |path: &String| CODE.iter().any(|dir| path.starts_with(&format!("{dir}/")));
    files.filter(is_code).filter(|path| !is_test(path)).collect()
}

/// Returns the rows of the table of stages, by words.
fn stages() -> Vec<Vec<String>> {
    let script = read(&root().join("scripts/mutants"));
    let rows = script.split_once("stages='\n").unwrap().1.split_once("\n'\n").unwrap().0;
    rows.lines().map(|row| row.split_whitespace().map(str::to_owned).collect()).collect()
}

/// Returns whether a stage may name this test: a file of tests, or unit tests.
fn is_test(name: &str) -> bool {
    let modules = || {
        let executables = std::fs::read_dir(root().join("tests")).unwrap();
        executables.map(|executable| executable.unwrap().path()).collect::<Vec<_>>()
    };
    let tests = root().join("tests");
    let is_file = |dir: &Path| {
        ["main.rs", "mod.rs"].iter().any(|file| dir.join(name).join(file).exists())
            || dir.join(name).with_extension("rs").exists()
    };
    matches!(name, "lib" | "bin" | "-")
        || name.starts_with("--")
        || name.starts_with("lib:")
        || is_file(&tests)
        || is_file(&root().join("cli/tests"))
        || modules().iter().any(|dir| is_file(dir))
}

#[test]
fn each_file_belongs_to_one_stage_of_mutants() {
    let (mut staged, mut names) = (BTreeSet::new(), BTreeSet::new());
    for row in stages() {
        let [stage, files, first, rest, settings @ ..] = row.as_slice() else { panic!("{row:?}") };
        assert!(names.insert(stage.clone()), "{stage} is there twice");
        assert!(settings.iter().all(|setting| setting.contains('=')), "{stage}: {settings:?}");
        for file in files.split(',') {
            assert!(staged.insert(file.to_owned()), "{stage}: {file} belongs to another stage as well");
        }
        for test in [first, rest].iter().flat_map(|tests| tests.split(',')) {
            assert!(is_test(test), "{stage} names {test}, which is no file of tests");
        }
    }
    let code = code();
    assert!(code.len() > 80, "{code:#?}");
    let missing: Vec<_> = code.difference(&staged).collect();
    let unknown: Vec<_> = staged.difference(&code).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "no stage: {missing:#?}; no file: {unknown:#?}");
}
