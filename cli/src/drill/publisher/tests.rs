#![allow(clippy::unwrap_used)] // reason: a test

use std::{fs, path::Path};

use super::*;
use crate::drill::model::Cut;

const ALL: [Layout; 18] = [
    Layout::Kubelet,
    Layout::LinkedVolume,
    Layout::Release,
    Layout::ReleaseAbove,
    Layout::Exchange,
    Layout::Remake,
    Layout::InPlace,
    Layout::InPlaceKeyFirst,
    Layout::Pieces,
    Layout::Rename,
    Layout::RenameKeyFirst,
    Layout::Unlink,
    Layout::Backup,
    Layout::Certbot,
    Layout::Relink,
    Layout::LinkTarget,
    Layout::OneFile,
    Layout::OneFileInPlace,
];

fn files(number: usize) -> FileSet {
    ["tls.crt", "tls.key", "ca.crt", "ca.crl"]
        .map(|name| (name, Content::Bytes(format!("{name} of set {number}\n").repeat(20).into_bytes())))
        .to_vec()
}

/// The bytes that a server is given for each name.
fn read(root: &Path, layout: Layout) -> Vec<Vec<u8>> {
    ["tls.crt", "tls.key", "ca.crt", "ca.crl"]
        .map(|name| fs::read(root.join(layout.path(name))).unwrap_or_default())
        .to_vec()
}

fn wanted(layout: Layout, number: usize) -> Vec<Vec<u8>> {
    let files = files(number);
    let bytes = |index: usize| files[index].1.bytes().to_vec();
    let mut wanted: Vec<_> = (0..4).map(bytes).collect();
    if layout.path("tls.crt") == layout.path("tls.key") {
        let joined = [bytes(0), bytes(1)].concat();
        (wanted[0], wanted[1]) = (joined.clone(), joined);
    }
    wanted
}

fn apply(root: &Path, ops: &[Op]) {
    ops.iter().for_each(|op| op.apply(root).unwrap_or_else(|error| panic!("{op:?}: {error}")));
}

#[test]
fn every_publisher_ends_with_the_new_files() {
    for layout in ALL {
        let dir = tempfile::tempdir().unwrap();
        apply(dir.path(), &layout.first(&files(1)));
        assert_eq!(read(dir.path(), layout), wanted(layout, 1), "{layout:?}");
        for number in 2..5 {
            let plan = layout.update(number, (number - 1, &files(number - 1)), &files(number), Times::Now);
            apply(dir.path(), &plan.ops);
            assert_eq!(read(dir.path(), layout), wanted(layout, number), "{layout:?}, update {number}");
        }
    }
}

#[test]
fn one_rename_commits_all_files_of_an_atomic_publisher() {
    for layout in ALL.into_iter().filter(|layout| layout.is_atomic()) {
        let dir = tempfile::tempdir().unwrap();
        apply(dir.path(), &layout.first(&files(1)));
        let plan = layout.update(2, (1, &files(1)), &files(2), Times::Now);
        for (index, op) in plan.ops.iter().enumerate() {
            let number = if index > plan.commit() { 2 } else { 1 };
            assert_eq!(read(dir.path(), layout), wanted(layout, number), "{layout:?} before {op:?}");
            apply(dir.path(), std::slice::from_ref(op));
        }
    }
}

#[test]
fn the_last_step_of_a_publication_is_the_one_that_finishes_it() {
    for layout in ALL {
        let dir = tempfile::tempdir().unwrap();
        apply(dir.path(), &layout.first(&files(1)));
        let plan = layout.update(2, (1, &files(1)), &files(2), Times::Now);
        apply(dir.path(), &plan.ops[..plan.commit()]);
        assert_ne!(read(dir.path(), layout), wanted(layout, 2), "{layout:?}");
        apply(dir.path(), &plan.ops[plan.commit()..=plan.commit()]);
        assert_eq!(read(dir.path(), layout), wanted(layout, 2), "{layout:?}");
    }
}

#[test]
fn an_interrupted_publication_stands_where_its_cut_says() {
    let chain = |root: &Path| fs::read(root.join("tls/tls.crt")).unwrap();
    let (half, whole) = (files(2)[0].1.bytes().len() / 2, files(2)[0].1.bytes().to_vec());
    for (cut, left) in [(Cut::Empty(0), 0), (Cut::Middle(0), half), (Cut::Files(1), whole.len())] {
        let dir = tempfile::tempdir().unwrap();
        apply(dir.path(), &Layout::InPlace.first(&files(1)));
        let plan = Layout::InPlace.update(2, (1, &files(1)), &files(2), Times::Now);
        let (now, rest) = plan.interrupt(cut);
        apply(dir.path(), &now);
        assert_eq!(chain(dir.path()), whole[..left], "{cut:?}");
        assert_eq!(fs::read(dir.path().join("tls/tls.key")).unwrap(), files(1)[1].1.bytes(), "{cut:?}");
        apply(dir.path(), &rest.ops);
        assert_eq!(read(dir.path(), Layout::InPlace), wanted(Layout::InPlace, 2), "{cut:?}");
        assert_eq!(rest.commit(), rest.ops.len() - 1, "{cut:?}");
    }
}
