//! Checks that files of code stay short, and that the few long ones say why.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lines that a file may have without a reason.
const LIMIT: usize = 400;

/// Long files that the whole repository may have.
const LONG_FILES: usize = 5;

/// The end of the reason in the first lines of a long file.
const REASON: &str = "in one file";

/// Returns the files of Rust in the repository, without what builds leave.
fn code() -> Vec<PathBuf> {
    let (mut open, mut code) = (vec![Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()], Vec::new());
    while let Some(dir) = open.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                open.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                code.push(path);
            }
        }
    }
    code
}

/// Returns whether the first lines give the reason, in a sentence of their own.
fn gives_reason(text: &str) -> bool {
    let first: Vec<_> = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    first.join(" ").split_inclusive(". ").any(|sentence| sentence.contains(", ") && sentence.contains(REASON))
}

#[test]
fn files_over_400_lines_are_few_and_say_why() {
    let code = code();
    assert!(code.len() > 300, "{code:#?}");
    let texts = code.iter().map(|path| (path, fs::read_to_string(path).unwrap()));
    let long = texts.filter(|(_, text)| text.lines().count() > LIMIT);
    let long: Vec<_> = long.map(|(path, text)| (path, gives_reason(&text))).collect();
    let unexplained: Vec<_> = long.iter().filter(|(_, gives_reason)| !gives_reason).collect();
    assert!(unexplained.is_empty(), "no reason: {unexplained:#?}");
    assert!(long.len() <= LONG_FILES, "{long:#?}");
}

#[test]
fn reason_of_a_long_file_is_a_clause_in_its_first_lines() {
    assert!(gives_reason(
        "//! Parts.\n//! The parts use one another, so they stay\n//! in one file.\nuse a;\n"
    ));
    for text in [
        "use a;\n",
        "//! All tests in one file.\n",
        "//! Tests, of all kinds.\n// so they stay in one file\n",
    ] {
        assert!(!gives_reason(text), "{text}");
    }
}
