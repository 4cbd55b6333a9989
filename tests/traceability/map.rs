//! The manual's map names every module, and each function where it stands.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const MAP: &str = include_str!("../../src/manual/map.md");

/// The cells of the map's rows that have this many, without their backquotes.
fn rows(cells: usize) -> Vec<Vec<String>> {
    let rows = MAP.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let split = |row: &str| row.split(" | ").map(|cell| cell.trim_matches('`').to_owned()).collect();
    rows.map(split).filter(|row: &Vec<_>| row.len() == cells).collect()
}

#[test]
fn the_map_has_a_line_for_each_module() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let elsewhere = ["bin", "manual", "testkit", "lib.rs"].map(|name| src.join(name));
    let (mut open, mut modules) = (vec![src.clone()], BTreeSet::new());
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let inside = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
            open.extend(inside.filter(|path| !elsewhere.contains(path)));
        } else if !path.ends_with("tests.rs") {
            let module = path.strip_prefix(&src).unwrap().with_extension("").display().to_string();
            modules.insert(module.trim_end_matches("/mod").to_owned());
        }
    }
    let pages = |row: &Vec<String>| row[0].starts_with('[');
    let listed = rows(2).into_iter().filter(|row| !pages(row)).map(|row| row[0].clone());
    let listed: BTreeSet<_> = listed.filter(|module| module != "page" && module != "module").collect();
    assert_eq!(listed, modules);
}

#[test]
fn the_map_names_functions_where_they_stand() {
    let steps: Vec<_> = rows(3).into_iter().filter(|row| row[0] != "step").collect();
    assert!(steps.len() > 20, "only {steps:?}");
    for step in steps {
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "src", &step[1]].iter().collect();
        let text = fs::read_to_string(&path).unwrap();
        let function = format!("fn {}", step[2]);
        let stands =
            text.match_indices(&function).any(|(at, _)| text[at + function.len()..].starts_with(['(', '<']));
        assert!(stands, "{} has no {function}", step[1]);
    }
}
