//! The scenarios: who publishes how, and what is expected of it. Nothing here knows which world it is in.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rustls_reload::{Layer, Reload, Timing};
use rustls_reload_harness::sim::{ORDERS, Publisher};
use rustls_reload_testkit::Op;

use super::{
    run::{Pace, Run},
    world::{Files, Set, Told},
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

/// A scenario; its paths are absolute, beneath the root of whatever world.
pub struct Scenario {
    pub number: u8,
    pub name: &'static str,
    pub paths: Vec<PathBuf>,
    /// The first publication.
    pub base: Base,
    /// A poll is at work; else there is none, and what is served is served because of an event.
    pub is_polled: bool,
    /// Of the simulated disk's timestamps.
    pub tick: Duration,
    /// The simulated disk uses inode numbers again.
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

    /// The files of a publisher.
    fn of(
        number: u8,
        name: &'static str,
        publisher: Publisher,
        body: impl Fn(&mut Run<'_>) + 'static,
    ) -> Self {
        let base = move |files: &Files| whole(publisher.base(files));
        Self { paths: publisher.paths(), ..Self::new(number, name, "", base, body) }
    }

    /// The publisher makes symbolic links, which on Windows is a right that few have.
    pub fn has_links(&self) -> bool {
        (self.base)(&[1, 2, 3].map(|byte| vec![byte; 1024])).iter().any(|op| matches!(op, Op::Symlink(..)))
    }

    fn polled(self) -> Self {
        Self { is_polled: true, ..self }
    }

    /// The delays of the scenario: these, without a poll where none is needed.
    pub fn timing(&self, timing: Timing) -> Timing {
        if self.is_polled { timing } else { Timing { poll: Duration::from_secs(3600), ..timing } }
    }
}

const NAMES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];
const KUBELET: Publisher = Publisher::Kubelet(ORDERS[0]);
const RELEASE: Publisher = Publisher::Release(false);
const PLAIN: Publisher = Publisher::InPlace(ORDERS[0]);

/// The same steps with each file written at once, where a publisher writes it block by block.
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

/// Truncates and writes.
fn write(path: &Path, bytes: &[u8]) -> [Op; 2] {
    [Op::Create(path.to_owned()), Op::Append(path.to_owned(), bytes.to_vec())]
}

/// Truncates and writes each file.
fn rewrite(dir: &str, files: &Files) -> Vec<Op> {
    NAMES.iter().zip(files).flat_map(|(name, bytes)| write(&Path::new(dir).join(name), bytes)).collect()
}

/// Makes the directory, and those above it from the `from`th on, and fills it.
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

/// Makes the link `at` point at `target`, by one rename.
fn point(at: &str, target: &str) -> Vec<Op> {
    let beside = format!("{at}.next");
    vec![Op::Symlink(target.into(), beside.clone().into()), Op::Rename(beside.into(), at.into())]
}

/// The next update of a publisher.
fn update(run: &mut Run<'_>, publisher: Publisher) -> (Set, Vec<Op>) {
    let set = run.next();
    let files = run.files(set);
    (set, whole(publisher.update(run.number, &files)))
}

/// An update in the directory itself, of which nothing but the watch on it tells.
fn in_place(run: &mut Run<'_>, dir: &str) {
    let set = run.next();
    let ops = rewrite(dir, &run.files(set));
    run.write(Pace::Settle, set, &ops);
}

/// Rotates ten times in a row, by renames that commit.
fn committed(publisher: Publisher) -> impl Fn(&mut Run<'_>) {
    move |run| {
        run.start();
        for _ in 0..run.rounds {
            let (set, ops) = update(run, publisher);
            run.commit(Pace::Commit, set, &ops);
        }
    }
}

/// The same, name by name.
fn settled(publisher: Publisher) -> impl Fn(&mut Run<'_>) {
    move |run| {
        run.start();
        for _ in 0..run.rounds {
            let (set, ops) = update(run, publisher);
            run.write(Pace::Settle, set, &ops);
        }
    }
}
