//! The sentences of the project about access.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Each of these words makes a sentence one about access.
pub(crate) const SPEAK_OF_ACCESS: [&str; 10] = [
    "let in",
    "lets in",
    "lets no",
    "clients in",
    "locks out",
    "locked out",
    "shut out",
    "resume",
    "resuming",
    "resumption",
];
/// A word about a client together with one about its outcome makes a sentence one about access.
pub(crate) const SOMEBODY: [&str; 4] = ["client", "nobody", "handshake", "certificate"];
pub(crate) const OUTCOMES: [&str; 6] = ["refuse", "refusing", "reject", "accepted", "accepts", "revoked"];

/// Says whether a sentence is about who is let in, refused or resumed. Case does not matter.
pub(crate) fn speaks_of_access(sentence: &str) -> bool {
    let sentence = sentence.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|words| sentence.contains(words));
    has(&SPEAK_OF_ACCESS) || has(&SOMEBODY) && has(&OUTCOMES)
}

/// Returns each sentence about access in the code that ships and in the documents, with its file.
pub(crate) fn about_access() -> BTreeMap<String, PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let texts = ["src", "cli/src", "README.md", "SECURITY.md"];
    let mut open: Vec<PathBuf> = texts.map(|name| root.join(name)).into();
    let mut found = BTreeMap::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        // The table of the proof is generated.
        if path.ends_with("proof.md") || path.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let sentences = match path.extension().and_then(|end| end.to_str()) {
            Some("rs") => of_code(&text),
            // Other tests cover the rows of these tables: tests/trust/client_cas,
            // tests/load/vectors.
            Some("md") if path.ends_with("client_cas.md") || path.ends_with("inputs.md") => {
                let mut sentences = of_prose(&text);
                sentences.retain(|sentence| !sentence.starts_with("| "));
                sentences
            }
            Some("md") => of_prose(&text),
            _ => continue,
        };
        let file = path.strip_prefix(root).unwrap();
        let about = sentences.into_iter().filter(|sentence| speaks_of_access(sentence));
        found.extend(about.map(|sentence| (sentence, file.to_owned())));
    }
    found
}

/// Returns the sentences of comments and of string literals, without unit tests.
pub(crate) fn of_code(text: &str) -> Vec<String> {
    let code: Vec<_> = text.lines().take_while(|line| line.trim() != "mod tests {").collect();
    let (mut paragraphs, mut comment) = (Vec::new(), String::new());
    for line in &code {
        match line.trim_start().strip_prefix("//") {
            Some(words) => {
                comment.push_str(words.trim_start_matches(['/', '!']));
                comment.push('\n');
            }
            None => paragraphs.extend((!comment.is_empty()).then(|| std::mem::take(&mut comment))),
        }
    }
    paragraphs.push(comment);
    let rest: Vec<_> = code.iter().filter(|line| !line.trim_start().starts_with("//")).copied().collect();
    paragraphs.iter().flat_map(|text| of_prose(text)).chain(literals(&rest.join("\n"))).collect()
}

/// Returns the sentences of Markdown, for each paragraph, item and row.
pub(crate) fn of_prose(text: &str) -> Vec<String> {
    let (mut found, mut paragraph) = (Vec::new(), String::new());
    // Code blocks and drawings contain no claims about access.
    let mut fenced = false;
    let prose = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    for line in prose.chain([""]) {
        let line = line.trim();
        let begins = ["- ", "| ", "#"].iter().any(|mark| line.starts_with(mark));
        if (line.is_empty() || begins) && !paragraph.is_empty() {
            found.extend(split(&std::mem::take(&mut paragraph)));
        }
        if !paragraph.is_empty() {
            paragraph.push(' ');
        }
        paragraph.push_str(line);
    }
    found
}

/// Returns the sentences of string literals. A backslash at the end of a line joins it with the
/// next.
fn literals(code: &str) -> Vec<String> {
    let (mut found, mut literal) = (Vec::new(), None::<String>);
    let mut rest = code.chars().peekable();
    while let Some(c) = rest.next() {
        match (&mut literal, c) {
            (None, '\'') => {
                // A character literal may be a quote. A lifetime has no closing quote.
                let mut ahead = rest.clone();
                let first = ahead.next();
                let second = ahead.next();
                if first == Some('\\') || second == Some('\'') {
                    rest.next();
                    rest.next();
                }
            }
            (None, '"') => literal = Some(String::new()),
            (None, _) => {}
            (Some(text), '"') => {
                found.extend(split(text));
                literal = None;
            }
            (Some(text), '\\') => match rest.next() {
                Some('\n') => while rest.next_if(|c| c.is_whitespace()).is_some() {},
                Some('n') => text.push(' '),
                escaped => text.extend(escaped),
            },
            (Some(text), c) => text.push(c),
        }
    }
    found
}

/// Splits a text at the ends of sentences and clauses. White space counts as one space.
fn split(text: &str) -> Vec<String> {
    let words: Vec<_> = text.split_whitespace().collect();
    let (mut found, mut sentence) = (Vec::new(), Vec::new());
    for word in words {
        sentence.push(word);
        if word.ends_with(['.', ';', ':', '?', '!']) {
            found.push(sentence.join(" "));
            sentence.clear();
        }
    }
    found.push(sentence.join(" "));
    found.retain(|sentence| !sentence.is_empty());
    found
}
