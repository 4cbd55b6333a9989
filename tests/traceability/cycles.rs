//! Checks that no modules of one folder use each other in a circle, where a module stands for its
//! file and for everything in the folder of its name.
//!
//! A file may use the files in its own folder and they may use it: they are its parts, such as an
//! `impl` of a type of it. A re-export is no use. It is followed to the file that has the item.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::map::is_unit_test;

/// A path in code, without `crate`: that of a module, or of an item in one.
type Names = Vec<String>;

/// The items that each module re-exports, with their paths.
type Exports = BTreeMap<Names, BTreeMap<String, Names>>;

/// The modules of a package, each with its code, without comments and unit tests.
type Modules = BTreeMap<Names, String>;

fn modules(src: &Path) -> Modules {
    let (mut open, mut modules) = (vec![src.to_owned()], Modules::new());
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_unit_test(&path) {
            let file = path.strip_prefix(src).unwrap().with_extension("");
            let mut module: Names = file.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
            module.pop_if(|name| ["mod", "lib", "main"].contains(&name.as_str()));
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("mod tests {").next().unwrap().lines();
            let code: Vec<_> = code.filter(|line| !line.trim_start().starts_with("//")).collect();
            modules.entry(module).or_default().push_str(&code.join("\n"));
        }
    }
    modules
}

/// Returns the paths of the tree that this text begins with, as in `use`, each with the name that it
/// gets, and the text after them.
fn tree<'a>(text: &'a str, before: &Names) -> (Vec<(Names, String)>, &'a str) {
    let text = text.trim_start();
    let Some(mut rest) = text.strip_prefix('{') else {
        let is_end = |c: char| !(c.is_alphanumeric() || "_*".contains(c));
        let (name, rest) = text.split_at(text.find(is_end).unwrap_or(text.len()));
        let mut path = before.clone();
        if !name.is_empty() && name != "self" {
            path.push(name.to_owned());
        }
        if let Some(rest) = rest.strip_prefix("::") {
            return tree(rest, &path);
        }
        let (alias, rest) = match rest.strip_prefix(" as ") {
            Some(rest) => rest.split_at(rest.find(is_end).unwrap_or(rest.len())),
            None => (path.last().map_or("", String::as_str), rest),
        };
        return (vec![(path.clone(), alias.to_owned())], rest);
    };
    let mut paths = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        if let Some(rest) = rest.strip_prefix('}') {
            return (paths, rest);
        }
        let (more, after) = tree(rest, before);
        assert!(after.len() < rest.len(), "no path: {rest}");
        paths.extend(more);
        rest = after;
    }
}

/// Makes a path that `module` names one from the root; `None` where it is of another crate.
fn absolute(modules: &Modules, module: &[String], path: &[String]) -> Option<Names> {
    let ups = path.iter().take_while(|name| *name == "super").count();
    let is_child = || modules.contains_key(&[module, &path[..1]].concat());
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "super" => Some([&module[..module.len() - ups], &path[ups..]].concat()),
        _ if is_child() => Some([module, path].concat()),
        _ => None,
    }
}

/// Returns the items that a module re-exports, with the path of each.
fn exports(modules: &Modules, module: &Names) -> BTreeMap<String, Names> {
    let code = &modules[module];
    let uses = code.match_indices("use ").filter(|(at, _)| {
        let line = &code[code[..*at].rfind('\n').map_or(0, |end| end + 1)..*at];
        matches!(line.trim(), "pub" | "pub(crate)" | "pub(super)")
    });
    let paths = uses.flat_map(|(at, word)| tree(&code[at + word.len()..], &Vec::new()).0);
    paths.filter_map(|(path, name)| Some((name, absolute(modules, module, &path)?))).collect()
}

/// Returns the module that has the item of this path.
fn home(exports: &Exports, mut path: Names) -> Names {
    loop {
        let length = (0..=path.len()).rev().find(|length| exports.contains_key(&path[..*length])).unwrap();
        let module = path[..length].to_vec();
        match path.get(length).and_then(|item| exports[&module].get(item)) {
            Some(original) if *original != path => path = [original.as_slice(), &path[length + 1..]].concat(),
            _ => return module,
        }
    }
}

/// Returns the uses between the modules of one folder that are part of a circle, and the number of
/// all uses between files.
fn circles(src: &Path) -> (Vec<String>, usize) {
    let modules = modules(src);
    let exported: Exports =
        modules.keys().map(|module| (module.clone(), exports(&modules, module))).collect();
    // A folder, and of two of its modules which one uses which, with an example.
    let mut folders: BTreeMap<Names, BTreeMap<(String, String), String>> = BTreeMap::new();
    let mut uses = 0;
    for (user, code) in &modules {
        // The root re-exports, and so does the door to the internals.
        if user.is_empty() || *user == ["internal"] {
            continue;
        }
        let starts = ["crate::", "super::"].into_iter().flat_map(|start| code.match_indices(start));
        // In `super::super::` only the first one begins a path.
        let starts = starts
            .filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c)));
        for (path, _) in starts.flat_map(|(at, _)| tree(&code[at..], &Vec::new()).0) {
            let path = absolute(&modules, user, &path).unwrap();
            if exported[user].values().any(|exported| *exported == path) {
                continue;
            }
            let used = home(&exported, path);
            uses += usize::from(used != *user);
            let same = user.iter().zip(&used).take_while(|(one, other)| one == other).count();
            if let (Some(one), Some(other)) = (user.get(same), used.get(same)) {
                let example = format!("{} uses {}", user.join("/"), used.join("/"));
                let folder = folders.entry(user[..same].to_vec()).or_default();
                folder.insert((one.clone(), other.clone()), example);
            }
        }
    }
    let left = folders.into_values().flat_map(|mut uses| {
        // A module that uses none, or that none uses, is in no circle.
        loop {
            let [users, used] = [
                uses.keys().map(|(user, _)| user.clone()).collect::<BTreeSet<_>>(),
                uses.keys().map(|(_, used)| used.clone()).collect(),
            ];
            let before = uses.len();
            uses.retain(|(user, other), _| users.contains(other) && used.contains(user));
            if uses.len() == before {
                return uses.into_values();
            }
        }
    });
    (left.collect(), uses)
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (src, fewest) in [("src", 300), ("frameworks/src", 10)] {
        let (circles, uses) = circles(&root.join(src));
        assert!(uses >= fewest, "only {uses} uses were found in {src}");
        assert!(circles.is_empty(), "{src}: {circles:#?}");
    }
}

/// Checks the check: two modules whose parts use each other, one through a re-export.
#[test]
fn a_circle_is_found_through_parts_and_re_exports() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("a/mod.rs", "mod one;\nmod two;\npub use one::{part::Part, One as First};\n"),
        ("a/one.rs", "pub struct One;\nmod part;\n"),
        ("a/one/part.rs", "use super::super::two::{self, Two};\npub struct Part(Two);\n"),
        ("a/two.rs", "pub struct Two;\n"),
        ("a/user.rs", "use super::First;\nfn user() -> crate::a::Part { todo!() }\n"),
    ];
    let write = |name: &str, text: &str| {
        fs::create_dir_all(dir.path().join("a/one")).unwrap();
        fs::write(dir.path().join(name), text).unwrap();
    };
    files.iter().for_each(|(name, text)| write(name, text));
    assert_eq!(circles(dir.path()), (Vec::new(), 4));
    write("a/two.rs", "pub struct Two(Option<crate::a::First>);\n");
    let expected = ["a/one/part uses a/two", "a/two uses a/one"].map(str::to_owned).to_vec();
    assert_eq!(circles(dir.path()), (expected, 5));
}
