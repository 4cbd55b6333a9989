//! Checks that the manual's map names every module, and each function with its file.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const MAP: &str = include_str!("../../src/manual/map.md");

/// Returns the cells of the map's rows with this number of cells, without backquotes.
fn rows(cells: usize) -> Vec<Vec<String>> {
    let rows = MAP.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let split = |row: &str| row.split(" | ").map(|cell| cell.trim_matches('`').to_owned()).collect();
    rows.map(split).filter(|row: &Vec<_>| row.len() == cells).collect()
}

/// The modules of the map, in its order.
fn listed() -> Vec<String> {
    let names = rows(2).into_iter().map(|mut row| row.swap_remove(0));
    names.filter(|name| !name.starts_with('[') && name != "page" && name != "module").collect()
}

/// Returns whether a file of `src` has unit tests only.
pub fn is_unit_test(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.parent().is_some_and(|dir| dir.ends_with("tests"))
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
        } else if !is_unit_test(&path) {
            let module = path.strip_prefix(&src).unwrap().with_extension("").display().to_string();
            modules.insert(module.trim_end_matches("/mod").to_owned());
        }
    }
    assert_eq!(listed().into_iter().collect::<BTreeSet<_>>(), modules);
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

/// Returns the first name of each path in this list of them, or of this one.
fn first_names(paths: &str) -> Vec<String> {
    let name = |path: &str| {
        path.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let Some(list) = paths.strip_prefix('{') else { return vec![name(paths)] };
    let (mut names, mut depth) = (vec![name(list)], 1);
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(name(&list[at + 1..])),
            _ => {}
        }
    }
    // A trailing comma leaves an empty name.
    names.retain(|name: &String| !name.is_empty());
    names
}

#[test]
fn each_folder_uses_only_those_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    // `place` is the position in the map. A module may use itself and the modules listed before it.
    let order = listed();
    let place = |name: &str| order.iter().position(|module| module.split('/').next() == Some(name));
    let (mut open, mut uses) = (vec![src.clone()], 0);
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let file = path.strip_prefix(&src).unwrap().with_extension("");
        let Some(own) = file.iter().next().and_then(|top| place(top.to_str().unwrap())) else { continue };
        let text = fs::read_to_string(&path).unwrap();
        // Unit tests may use everything.
        let code = if is_unit_test(&path) { "" } else { text.split("mod tests {").next().unwrap() };
        let code: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let code = code.join("\n");
        for (at, door) in code.match_indices("crate::") {
            for name in first_names(&code[at + door.len()..]) {
                let used = place(&name);
                let is_above = used.is_some_and(|used| used <= own);
                assert!(is_above || file.ends_with("internal"), "{} uses `{name}`", path.display());
                uses += 1;
            }
        }
    }
    assert!(uses > 100, "only {uses} uses were found");
}
