//! The scenarios: publishers, their steps, and the results expected. They do not depend on the kind
//! of world.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rustls_reload::{Layer, Reload, Timing};
use rustls_reload_harness::sim::{ORDERS, Publisher};
use rustls_reload_testkit::Op;

use super::{
    run::{Pace, Run},
    world::{Files, Reported, Set},
};

mod content;
mod paths;
mod publishers;
mod quiet;
mod watching;

pub use content::*;
pub use paths::*;
pub use publishers::*;
pub use quiet::*;
pub use watching::*;

type Base = Box<dyn Fn(&Files) -> Vec<Op>>;

/// A scenario. Its paths are absolute, beneath the root of any world.
pub struct Scenario {
    pub number: u8,
    pub name: &'static str,
    pub paths: Vec<PathBuf>,
    /// The first publication.
    pub base: Base,
    /// Whether the server polls. Without a poll every change is served because of an event.
    pub is_polled: bool,
    /// The resolution of the simulated disk's timestamps.
    pub tick: Duration,
    /// Whether the simulated disk reuses inode numbers.
    pub reuse: bool,
    pub body: Box<dyn Fn(&mut Run<'_>)>,
}

impl Scenario {
    fn new(
        number: u8,
        name: &'static str,
        dir: &str,
        base: impl Fn(&Files) -> Vec<Op> + 'static,
        body: impl Fn(&mut Run<'_>) + 'static,
    ) -> Self {
        Self {
            number,
            name,
            paths: NAMES.iter().map(|name| Path::new("/").join(dir).join(name)).collect(),
            base: Box::new(base),
            is_polled: false,
            tick: Duration::from_millis(4),
            reuse: false,
            body: Box::new(body),
        }
    }

    /// Makes a scenario with the files of a publisher.
    fn of(
        number: u8,
        name: &'static str,
        publisher: Publisher,
        body: impl Fn(&mut Run<'_>) + 'static,
    ) -> Self {
        let base = move |files: &Files| whole(publisher.base(files));
        Self { paths: publisher.paths(), ..Self::new(number, name, "", base, body) }
    }

    /// Returns whether the publisher makes symbolic links, which on Windows need a special right.
    pub fn has_links(&self) -> bool {
        (self.base)(&[1, 2, 3].map(|byte| vec![byte; 1024])).iter().any(|op| matches!(op, Op::Symlink(..)))
    }

    fn polled(self) -> Self {
        Self { is_polled: true, ..self }
    }

    /// Returns the delays of the scenario: `timing`, without polls where the scenario needs none.
    pub fn timing(&self, timing: Timing) -> Timing {
        if self.is_polled { timing } else { Timing { poll: Duration::from_secs(3600), ..timing } }
    }
}

const NAMES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];
const KUBELET: Publisher = Publisher::Kubelet(ORDERS[0]);
const RELEASE: Publisher = Publisher::Release(false);
const PLAIN: Publisher = Publisher::InPlace(ORDERS[0]);

/// Merges the writes of each file into one, where a publisher writes block by block.
fn whole(ops: Vec<Op>) -> Vec<Op> {
    let mut merged: Vec<Op> = Vec::with_capacity(ops.len());
    for op in ops {
        match (merged.last_mut(), op) {
            (Some(Op::Append(path, bytes)), Op::Append(next, more)) if *path == next => bytes.extend(more),
            (_, op) => merged.push(op),
        }
    }
    merged
}

/// Returns the steps that truncate and write a file.
fn write(path: &Path, bytes: &[u8]) -> [Op; 2] {
    [Op::Create(path.to_owned()), Op::Append(path.to_owned(), bytes.to_vec())]
}

/// Returns the steps that truncate and write each file.
fn rewrite(dir: &str, files: &Files) -> Vec<Op> {
    NAMES.iter().zip(files).flat_map(|(name, bytes)| write(&Path::new(dir).join(name), bytes)).collect()
}

/// Returns the steps that make the directory, and its ancestors from the `from`th on, and fill it.
fn fill(dir: &str, from: usize, files: &Files) -> Vec<Op> {
    let mut dirs: Vec<_> = Path::new(dir).ancestors().collect();
    dirs.reverse();
    let mut ops: Vec<_> = dirs[from..].iter().map(|dir| Op::Mkdir((*dir).to_owned())).collect();
    ops.extend(rewrite(dir, files));
    ops
}

fn unlink(dir: &str) -> Vec<Op> {
    NAMES.iter().map(|name| Op::Unlink(Path::new(dir).join(name))).collect()
}

/// Returns the steps that make the link `at` point to `target`, by one rename.
fn point(at: &str, target: &str) -> Vec<Op> {
    let beside = format!("{at}.next");
    vec![Op::Symlink(target.into(), beside.clone().into()), Op::Rename(beside.into(), at.into())]
}

/// Returns the next update of a publisher.
fn update(run: &mut Run<'_>, publisher: Publisher) -> (Set, Vec<Op>) {
    let set = run.next();
    let files = run.files(set);
    (set, whole(publisher.update(run.number, &files)))
}

/// Performs an update in the directory itself, which only the watch on that directory reports.
fn in_place(run: &mut Run<'_>, dir: &str) {
    let set = run.next();
    let ops = rewrite(dir, &run.files(set));
    run.write(Pace::Settle, set, &ops);
}

/// Rotates several times in a row, by renames that commit.
fn committed(publisher: Publisher) -> impl Fn(&mut Run<'_>) {
    move |run| {
        run.start();
        for _ in 0..run.rounds {
            let (set, ops) = update(run, publisher);
            run.commit(Pace::Commit, set, &ops);
        }
    }
}

/// Rotates several times in a row, name by name.
fn settled(publisher: Publisher) -> impl Fn(&mut Run<'_>) {
    move |run| {
        run.start();
        for _ in 0..run.rounds {
            let (set, ops) = update(run, publisher);
            run.write(Pace::Settle, set, &ops);
        }
    }
}
