//! Runs a first load and reports each stage: for an operator, before a server starts or a file set
//! is published.
//!
//! The inspection is the load itself, whose build step records its findings, and then a start. No
//! check is implemented twice.

use std::{sync::Arc, time::Duration};

use super::{
    build::ServerTls,
    builder::ServerBuilder,
    findings::{Findings, Inspection, InspectionLog, Named},
    lint,
};
use crate::{
    drive::reloader::{Builder, Reloader},
    fs::NativeFs,
    read::{
        snapshot::{self, Files, PathSet, absolute},
        walk::{Walk, WalkedDir},
    },
    report::{
        error::{Layer, Warning},
        event::Event,
    },
    sync::{Deadline, Mutex, lock},
};

/// Time limit of a start, which watches and takes one snapshot. Only a file system that hangs takes
/// this long.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Snapshots taken to find the way to the very files that were loaded. A file set that changes more
/// often is reported as changing.
const LOOK_LIMIT: usize = 3;

/// # Inspect
impl ServerBuilder {
    /// Loads the files as a server would, starts to watch them, stops again, and returns the
    /// findings of each stage.
    ///
    /// The inspection calls [`load`](Self::load) and so agrees with it. It blocks as long as a load
    /// does, and observers receive the same events. A leaf that expires within `soon` is a warning.
    ///
    /// Other warnings are:
    ///
    /// - a file mounted alone (Linux);
    /// - a file system known not to report changes that are made elsewhere, such as NFS;
    /// - a directory that could not be watched;
    /// - a key that every user can read (Unix);
    /// - a chain out of order;
    /// - certificates and CRLs outside their dates;
    /// - CRLs of no CA in the bundle.
    ///
    /// Not checked: whether a client trusts the chain, and whether its names fit.
    #[must_use]
    pub fn inspect(mut self, soon: Duration) -> Inspection {
        let notes = Arc::new(Mutex::new(Findings::default()));
        self.found = InspectionLog(Some(Arc::clone(&notes)));
        let layout = self.layout();
        let pairs = layout.as_ref().ok().and_then(|layout| layout.pairs().ok()).unwrap_or_default();
        let set = layout.and_then(|layout| layout.inspected());
        let named = Named {
            key: absolute(&self.key).unwrap_or_default(),
            client_ca: self.client_ca.as_ref().and_then(|(path, _)| absolute(path).ok()),
        };
        let loaded = self.into_generic().and_then(Builder::load);
        // A build after the start is not recorded.
        let found = std::mem::take(&mut *lock(&notes));
        let (walk, same) = way(set.as_ref().ok(), &found.files);
        let lengths = |files: &Files| files.iter().map(|(_, bytes)| bytes.len()).collect();
        let mut inspection = Inspection {
            paths: set.map(|set| set.ways(&walk)).unwrap_or_default(),
            walk,
            sizes: found.files.iter().map(lengths).collect(),
            chain: found.chain,
            key: found.key,
            matched: found.matched,
            client_cas: found.client_cas,
            crls: found.crls.iter().map(|(path, der)| (path.to_owned(), der.clone())).collect(),
            rehearsed: found.rehearsed,
            watched: Vec::new(),
            unwatched: Vec::new(),
            refused: None,
            warnings: found.warnings,
            named,
        };
        match loaded {
            Err(error) => inspection.refused = Some(error),
            Ok(reloader) => inspection.watch(&reloader),
        }
        if !same && inspection.refused.is_none() {
            let why = "the files have changed since they were loaded: their paths lead to other files now";
            inspection.warnings.push(Warning::new(Layer::Changing, why));
        }
        let warnings =
            lint::warnings(&inspection, &found.chains, found.provider.as_deref(), found.wall, soon);
        inspection.warnings.extend(warnings);
        if inspection.refused.is_none() {
            let of_pair = |pair: &PathSet| {
                let (walk, _) = way(Some(pair), &[]);
                lint::files(&pair.ways(&walk), &walk, 1)
            };
            for warning in pairs.iter().flat_map(of_pair) {
                // A file may be in several pairs.
                if !inspection.warnings.contains(&warning) {
                    inspection.warnings.push(warning);
                }
            }
        }
        inspection
    }
}

impl Inspection {
    /// Starts the driver, and stops it once it has reported the directories that it watches.
    fn watch(&mut self, reloader: &Reloader<ServerTls>) {
        let mut events = reloader.events();
        let deadline = Deadline::after(START_LIMIT);
        let started = reloader.start().is_ok()
            && std::iter::from_fn(|| events.next_within(deadline.left()?))
                .any(|delivered| matches!(*delivered.event, Event::Started { .. }));
        if !started {
            let why = format!("the driver did not watch the files within {} s", START_LIMIT.as_secs());
            self.warnings.push(Warning::new(Layer::Watch, why));
            return;
        }
        let status = reloader.status();
        // A stop that times out is caused by the file system, which has been reported already.
        let _ = reloader.stop();
        (self.watched, self.unwatched) = (status.watched, status.unwatched);
        let Some((fault, _)) = status.degraded else { return };
        // One fault stands for all. A fault without a path is the watcher's and concerns all
        // directories.
        if let Some(named) = fault.path() {
            let is_known =
                |dir: &WalkedDir| self.watched.contains(&dir.path) || self.unwatched.contains(&dir.path);
            // Two paths to one directory share one watch.
            let twin = |a: &WalkedDir, b: &WalkedDir| a.path == b.path || a.id == b.id && a.id.ino != 0;
            for dir in self.walk.dirs.iter().filter(|dir| dir.path != named) {
                if !self.walk.dirs.iter().any(|other| twin(dir, other) && is_known(other)) {
                    let why = format!("not watched either, for the same reason as {}", named.display());
                    self.warnings.push(Warning::new(Layer::Watch, why).at(&dir.path));
                }
            }
        }
        self.warnings.push(fault.into());
    }
}

/// Returns the walk to the files that were loaded, and whether they are still the same.
fn way(set: Option<&PathSet>, loaded: &[Files]) -> (Walk, bool) {
    let Some(set) = set else { return (Walk::default(), true) };
    let mut snapshot = snapshot::take(&NativeFs::default(), set);
    let same = |snapshot: &snapshot::Snapshot| {
        loaded.is_empty() || snapshot.files.as_ref().is_ok_and(|files| is_same(files, loaded))
    };
    for _ in 1..LOOK_LIMIT {
        if same(&snapshot) {
            break;
        }
        snapshot = snapshot::take(&NativeFs::default(), set);
    }
    let same = same(&snapshot);
    (snapshot.walk, same)
}

/// Returns whether the files are those of all file sets together, in any order.
fn is_same(files: &Files, sets: &[Files]) -> bool {
    let mut read: Vec<_> = files.iter().collect();
    let mut loaded: Vec<_> = sets.iter().flat_map(Files::iter).collect();
    read.sort_unstable();
    loaded.sort_unstable();
    read == loaded
}
