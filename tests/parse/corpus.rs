//! Runs the committed corpus of the fuzz targets through their bodies, and compares each seed with
//! its generator.
//!
//! `FUZZ_CORPUS` names a directory with further inputs that fuzzing found, with a subdirectory for
//! each target.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use rustls_reload_harness::fuzz::{TARGETS, seeds};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Returns the inputs in a directory, in the order of their names; none if there is no such
/// directory.
fn inputs(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// Checks: INV-01, INV-03, INV-05, INV-10, INV-12
///
/// Engine: generated.
#[test]
fn inv12_the_fuzz_bodies_pass_over_their_corpus() {
    let more = std::env::var_os("FUZZ_CORPUS").map(PathBuf::from);
    for (target, body) in TARGETS {
        let committed = inputs(&fuzz().join("corpus").join(target));
        assert!(!committed.is_empty(), "no corpus for {target}");
        let found = more.as_ref().map(|more| inputs(&more.join(target))).unwrap_or_default();
        for path in committed.iter().chain(&found) {
            let input = std::fs::read(path).unwrap();
            let passed = std::panic::catch_unwind(|| body(&input));
            assert!(passed.is_ok(), "{target} fails on {}", path.display());
        }
        println!("corpus: {target}: {} committed inputs, {} others", committed.len(), found.len());
    }
}

/// `UPDATE_CORPUS=1` writes the seeds.
#[test]
fn every_seed_is_what_its_generator_makes() {
    let corpus = fuzz().join("corpus");
    let seeds = seeds::all();
    let names: BTreeSet<_> = seeds.iter().map(|(target, name, _)| (target, name)).collect();
    assert_eq!(names.len(), seeds.len(), "two seeds of one name");
    for (target, name, bytes) in &seeds {
        let path = corpus.join(target).join(name);
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
        }
        let committed = std::fs::read(&path).unwrap_or_default();
        assert!(
            committed == *bytes,
            "stale: {}: run UPDATE_CORPUS=1 cargo test --test parse corpus",
            path.display()
        );
    }
    println!("seeds: {}", seeds.len());
}

#[test]
fn each_body_has_a_target_and_each_target_a_body() {
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let names = manifest.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let listed: BTreeSet<_> = names.skip(1).collect();
    assert_eq!(listed, TARGETS.iter().map(|(name, _)| *name).collect());
    for name in listed {
        let target = std::fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("harness::fuzz::{name}(data)")), "{target}");
    }
}
