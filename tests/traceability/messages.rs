//! Checks that the manual's page on the binary has a row for each message, layer, reason of a failed
//! handshake and event, and none for others.

use std::{collections::BTreeSet, fs, path::Path};

const PAGE: &str = include_str!("../../src/manual/binary.md");
const EVENTS: &str = include_str!("../../src/report/event.rs");
const LAYERS: &str = include_str!("../../src/report/error.rs");
const REASONS: &str = include_str!("../../src/server/failure.rs");
const STATUS: [&str; 2] =
    [include_str!("../../cli/src/status.rs"), include_str!("../../cli/src/counters.rs")];
const SERVE: [&str; 4] = [
    include_str!("../../cli/src/serve.rs"),
    include_str!("../../cli/src/server.rs"),
    include_str!("../../cli/src/counters.rs"),
    include_str!("../../cli/src/main.rs"),
];

/// Returns the text of all files beneath a folder of the repository.
fn text_of(folder: &str) -> String {
    let (mut open, mut text) = (vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)], String::new());
    while let Some(path) = open.pop() {
        match path.is_dir() {
            true => open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path())),
            false => text.push_str(&fs::read_to_string(path).unwrap()),
        }
    }
    text
}

/// Returns the pieces of code in this column of the table whose heading begins with `heading`.
fn column(heading: &str, at: usize) -> BTreeSet<&'static str> {
    let (_, table) = PAGE.split_once(&format!("\n| {heading}")).expect("the table is there");
    let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" | ").nth(at));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// Returns the name that each arm `=> "NAME"` of a `match` gives.
fn names(code: &'static str) -> BTreeSet<&'static str> {
    let arms = code.lines().filter_map(|line| line.trim().split_once(" => \"")?.1.strip_suffix("\","));
    let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || "_-".contains(c));
    arms.filter(is_name).collect()
}

#[test]
fn each_layer_and_each_reason_of_a_failed_handshake_has_a_row() {
    let layers = names(LAYERS);
    assert!(layers.len() > 10, "{layers:?}");
    assert_eq!(column("layer |", 0), layers);
    let reasons = names(REASONS);
    assert!(reasons.len() > 30, "{reasons:?}");
    assert_eq!(column("reason |", 0), reasons);
}

#[test]
fn each_event_has_a_row_that_begins_as_its_line_does() {
    let (_, rest) = EVENTS.split_once("\npub enum Event {\n").unwrap();
    let (body, _) = rest.split_once("\n}\n").unwrap();
    let variants = body.lines().filter_map(|line| line.strip_prefix("    "));
    let variants = variants.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    let variants: BTreeSet<_> = variants.map(|line| line.trim_end_matches([' ', '{', ','])).collect();
    assert!(variants.len() > 10, "{variants:?}");
    let heading = "the line begins with | event |";
    assert_eq!(column(heading, 1), variants);
    let report = text_of("src/report");
    for begin in column(heading, 0) {
        assert!(report.contains(&format!("\"{begin}")), "no event's line begins with {begin:?}");
    }
}

#[test]
fn each_other_line_of_the_server_is_on_the_page() {
    for begin in column("the line begins with | meaning |", 0) {
        let found = SERVE.iter().any(|code| code.contains(&format!("\"{begin}")));
        assert!(found, "no line of the server begins with {begin:?}");
    }
    let mut lines = 0;
    for code in SERVE {
        let calls = ["log_line(", "log_problem("];
        for (at, call) in calls.iter().flat_map(|call| code.match_indices(call)) {
            let argument = code[at + call.len()..].trim_start();
            let argument = argument.strip_prefix("format_args!(").unwrap_or(argument).trim_start();
            let Some(text) = argument.strip_prefix('"').and_then(|text| text.split('"').next()) else {
                continue;
            };
            let explained =
                PAGE.split('`').skip(1).step_by(2).any(|code| code.len() > 5 && text.contains(code));
            assert!(explained, "the page explains no line {text:?}");
            lines += 1;
        }
    }
    assert!(lines > 10, "only {lines} lines were found");
}

#[test]
fn each_field_of_the_status_on_the_page_is_in_the_json() {
    let fields = column("field |", 0);
    assert!(fields.len() > 5, "{fields:?}");
    for field in fields {
        assert!(STATUS.iter().any(|code| code.contains(&format!("\"{field}\""))), "no field {field}");
    }
}
