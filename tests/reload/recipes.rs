//! Plays the recipes of the manual: the steps of each publisher, on the paths of the `serve` line of
//! its section.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use rustls_reload::{ClientAuth, ServerReloader};
use rustls_reload_testkit::{
    Authority, Op, Pair, PrivateKey, Subject, kubelet_first, kubelet_update, wait_for_tick,
};

use crate::common::{self, client_with, handshake, presented, quick};

const PAGE: &str = include_str!("../../src/manual/recipes.md");
const DRILL: &str = concat!(
    include_str!("../../cli/src/drill/rows/publishers.rs"),
    include_str!("../../cli/src/drill/rows/detection.rs")
);

/// A publisher's recipe: the heading of its section, and the steps of publication `number`, counted
/// from 1.
struct Recipe {
    heading: &'static str,
    /// Whether a renewal keeps the key.
    keeps_key: bool,
    steps: fn(&Served, u32, &Files) -> Vec<Op>,
}

const RECIPES: [Recipe; 6] = [
    Recipe { heading: "Kubernetes", keeps_key: false, steps: kubelet },
    Recipe { heading: "acme.sh", keeps_key: false, steps: acme_sh },
    Recipe { heading: "certbot", keeps_key: false, steps: certbot },
    Recipe { heading: "Vault Agent", keeps_key: false, steps: vault_agent },
    Recipe { heading: "step", keeps_key: true, steps: step },
    Recipe { heading: "SPIFFE", keeps_key: false, steps: spiffe_helper },
];

/// The paths of a `serve` line, relative to the root.
struct Served {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// The texts of an update.
struct Files {
    chain: String,
    key: String,
    ca: String,
}

/// kubelet's `AtomicWriter`.
fn kubelet(at: &Served, number: u32, files: &Files) -> Vec<Op> {
    let named = [
        ("tls.crt", files.chain.as_bytes()),
        ("tls.key", files.key.as_bytes()),
        ("ca.crt", files.ca.as_bytes()),
    ];
    let dir = at.cert.parent().unwrap();
    match number {
        1 => kubelet_first(dir, "..1", &named),
        _ => kubelet_update(dir, &format!("..{}", number - 1), &format!("..{number}"), &named),
    }
}

/// `_installcert`: `cat` into the key, and then into the full chain.
fn acme_sh(at: &Served, _: u32, files: &Files) -> Vec<Op> {
    [write(&at.key, &files.key), write(&at.cert, &files.chain)].concat()
}

/// `save_successor` writes four files into the archive, and `update_all_links_to` replaces four links.
fn certbot(at: &Served, number: u32, files: &Files) -> Vec<Op> {
    let live = at.cert.parent().unwrap();
    let archive = Path::new("etc/letsencrypt/archive").join(live.file_name().unwrap());
    let leaf = files.chain.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
    let kinds =
        [("privkey", &*files.key), ("cert", leaf), ("chain", &*files.ca), ("fullchain", &*files.chain)];
    let numbered = |kind: &str| format!("{kind}{number}.pem");
    let mut steps: Vec<_> =
        kinds.iter().flat_map(|(kind, text)| write(&archive.join(numbered(kind)), text)).collect();
    for kind in ["cert", "privkey", "chain", "fullchain"] {
        let link = live.join(format!("{kind}.pem"));
        if number > 1 {
            steps.push(Op::Unlink(link.clone()));
        }
        let target = Path::new("../../archive").join(live.file_name().unwrap()).join(numbered(kind));
        steps.push(Op::Symlink(target, link));
    }
    steps
}

/// `AtomicWrite` of one file.
fn vault_agent(at: &Served, number: u32, files: &Files) -> Vec<Op> {
    assert_eq!(at.cert, at.key, "one template");
    let beside = at.cert.with_file_name(number.to_string());
    let text = format!("\n{}\n{}\n{}\n\n", files.chain, files.ca, files.key);
    let mut steps = write(&beside, &text);
    steps.extend([Op::Chmod(beside.clone(), 0o640), Op::Rename(beside, at.cert.clone())]);
    steps
}

/// `step ca certificate`, and then `step ca renew`, which writes the chain alone.
fn step(at: &Served, number: u32, files: &Files) -> Vec<Op> {
    let mut steps = write(&at.cert, &files.chain);
    if number == 1 {
        steps.extend(write(&at.key, &files.key));
    }
    steps
}

/// `WriteX509Context`: the chain, the key and the bundle.
fn spiffe_helper(at: &Served, _: u32, files: &Files) -> Vec<Op> {
    let ca = at.client_ca.as_ref().unwrap();
    [write(&at.cert, &files.chain), write(&at.key, &files.key), write(ca, &files.ca)].concat()
}

/// Returns the steps that truncate and write a file.
fn write(path: &Path, text: &str) -> Vec<Op> {
    vec![Op::Create(path.to_owned()), Op::Append(path.to_owned(), text.as_bytes().to_vec())]
}

/// Returns the section under this heading.
fn section(heading: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("\n# {heading}\n")).expect("the page has the section");
    rest.split("\n# ").next().unwrap()
}

/// Returns the paths of the one `serve` line of a section.
fn served(heading: &str) -> Served {
    let text = section(heading).replace("\\\n", " ");
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("rustls-reload serve ")).collect();
    let [line] = lines[..] else { panic!("{heading} has {} lines of serve", lines.len()) };
    let mut words = line.split_whitespace().skip(2);
    let (mut cert, mut key, mut client_ca) = (None, None, None);
    while let Some(option) = words.next() {
        let place = match option {
            "--cert" => &mut cert,
            "--key" => &mut key,
            "--client-ca" => &mut client_ca,
            other => panic!("{heading}: {other}"),
        };
        *place = words.next().map(|path| PathBuf::from(path.strip_prefix('/').unwrap()));
    }
    Served { cert: cert.unwrap(), key: key.unwrap(), client_ca }
}

#[test]
fn each_recipe_of_the_manual_is_played_and_has_a_drill_scenario() {
    let headings: Vec<_> = PAGE.lines().filter_map(|line| line.strip_prefix("# ")).skip(1).collect();
    assert_eq!(headings, RECIPES.map(|recipe| recipe.heading));
    let rows: Vec<Vec<_>> = PAGE
        .lines()
        .filter(|line| line.starts_with("| ["))
        .map(|line| line.trim_matches('|').split(" | ").collect())
        .collect();
    assert_eq!(rows.len(), headings.len(), "a row for each");
    for (row, heading) in rows.iter().zip(headings) {
        assert!(row[0].contains(&format!("[{heading}]")), "{row:?} is not of {heading}");
        let (group, name) = row[3].trim().trim_matches('`').split_once('/').unwrap();
        assert!(["publishers", "detection"].contains(&group), "{group}");
        assert!(DRILL.contains(&format!("\"{name}\",\n")), "the drill has no {name}");
    }
}

#[test]
fn recipes_rotate_by_their_own_steps() {
    common::at_once(&RECIPES, play);
}

/// Publishes three generations. At each step a handshake gets the previous one or the new one, and
/// in the end the new one.
fn play(recipe: &Recipe) {
    let (root, at) = (tempfile::tempdir().unwrap(), served(recipe.heading));
    let path = |path: &Path| root.path().join(path);
    for dir in [Some(&at.cert), Some(&at.key), at.client_ca.as_ref()].into_iter().flatten() {
        std::fs::create_dir_all(path(dir.parent().unwrap())).unwrap();
    }
    if recipe.heading == "certbot" {
        let lineage = at.cert.parent().unwrap().file_name().unwrap();
        std::fs::create_dir_all(path(Path::new("etc/letsencrypt/archive")).join(lineage)).unwrap();
    }
    let publish = |number: u32, pair: &Pair, ca: &Authority, after_each: &dyn Fn()| {
        let files = Files { chain: pair.chain.clone(), key: pair.key.clone(), ca: ca.pem.clone() };
        for step in (recipe.steps)(&at, number, &files) {
            if matches!(step, Op::Rename(..)) {
                wait_for_tick(root.path()).unwrap();
            }
            step.apply(root.path()).unwrap();
            after_each();
        }
    };
    let kept = PrivateKey::p256();
    let renewed = |number: u32| {
        let ca = Authority::root(&format!("CA {number}"));
        let key = if recipe.keeps_key { PrivateKey::from_pem(&kept.pem()) } else { PrivateKey::p256() };
        (ca.issue(&Subject::server("localhost"), &key), ca)
    };

    let (mut old, ca) = renewed(1);
    publish(1, &old, &ca, &|| {});
    let mut server = ServerReloader::builder(path(&at.cert), path(&at.key)).timing(quick());
    if let Some(client_ca) = &at.client_ca {
        server = server.client_ca(path(client_ca), ClientAuth::Required);
    }
    let reloader = server.start().unwrap();
    for number in 2..=3 {
        let (new, ca) = renewed(number);
        publish(number, &new, &ca, &|| {
            let leaf = presented(&reloader).swap_remove(0);
            assert!(leaf == old.leaf || leaf == new.leaf, "{}: neither is served", recipe.heading);
        });
        common::wait_for_leaf(&reloader, &new);
        if at.client_ca.is_some() {
            // The client CAs came with the pair.
            let client = client_with(&[&ca], Some(&ca.client("client")), rustls::ALL_VERSIONS);
            handshake(&reloader.config(), &client).unwrap();
        }
        assert!(reloader.status().refused.is_none(), "{}: {:?}", recipe.heading, reloader.status());
        old = new;
    }
}

/// A recipe whose configuration names other files than its `serve` line is of no use.
#[test]
fn the_files_of_a_recipe_are_those_that_it_configures() {
    let names = |heading: &str| -> BTreeSet<String> {
        let Served { cert, key, client_ca } = served(heading);
        let paths = [Some(cert), Some(key), client_ca].into_iter().flatten();
        paths.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    };
    for Recipe { heading, .. } in &RECIPES {
        let (_, configured) = section(heading).split_once("```").unwrap();
        let before = match *heading {
            "Kubernetes" => include_str!("../../deploy/kubernetes/base/deployment.yaml"),
            _ => configured.split("rustls-reload serve ").next().unwrap(),
        };
        // certbot chooses its names.
        for name in names(heading).iter().filter(|_| *heading != "certbot") {
            assert!(before.contains(name.as_str()), "{heading} configures no {name}");
        }
    }
}
