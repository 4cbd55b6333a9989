//! Scripts: the steps of a publisher, and what its paths hold in between.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls_reload_testkit::Op;

use super::{Contents, EPOCH, WorldConfig, disk::Disk};

/// The steps of a publisher on a disk, and the contents of its paths in between.
pub struct Script {
    pub(super) base: Disk,
    pub(super) steps: Vec<Op>,
    /// The contents of the paths before each step and after the last.
    pub(super) contents: Vec<Contents>,
    /// Whether, before each step, an update has changed the contents of the paths and will change
    /// them again.
    pub(super) mid_update: Vec<bool>,
    /// Whether the publisher may die after any step.
    pub(super) mortal: bool,
}

impl Script {
    /// Makes a script with a disk on which `base` was performed an hour ago, and with `steps` that
    /// are still to come. An update begins at each index in `begins`. The publisher crashes after
    /// `crash` steps.
    ///
    /// # Panics
    /// If a step fails.
    #[allow(clippy::expect_used)] // reason: a scenario that cannot be set up is a bug of the scenario
    #[must_use]
    pub fn new(
        paths: &[PathBuf],
        base: &[Op],
        mut steps: Vec<Op>,
        begins: &[usize],
        crash: Option<usize>,
        config: &WorldConfig,
    ) -> Arc<Self> {
        let mut disk = Disk::new(config.tick, config.reuse);
        let mut wall = EPOCH.wall.saturating_sub(Duration::from_secs(3600));
        for op in base {
            disk.apply(op, wall).expect("a base that can be set up");
            wall += Duration::from_millis(10);
        }
        let (base, mut disk) = (disk.clone(), disk);
        let mut contents = vec![read(paths, &disk)];
        for op in &steps {
            disk.apply(op, EPOCH.wall).expect("a step that can be taken");
            contents.push(read(paths, &disk));
        }
        let changes =
            |range: std::ops::Range<usize>| range.into_iter().any(|i| contents[i] != contents[i + 1]);
        let mid_update = (0..=steps.len())
            .map(|next| {
                let from = begins.iter().copied().filter(|begin| *begin <= next).max().unwrap_or(0);
                let to = begins.iter().copied().find(|begin| *begin > next).unwrap_or(steps.len());
                changes(from..next) && changes(next..to)
            })
            .collect();
        steps.truncate(crash.unwrap_or(usize::MAX));
        Arc::new(Self { base, steps, contents, mid_update, mortal: false })
    }

    /// Lets the publisher die after any step.
    pub(super) fn mortal(mut self: Arc<Self>) -> Arc<Self> {
        if let Some(script) = Arc::get_mut(&mut self) {
            script.mortal = true;
        }
        self
    }

    /// Returns the contents of the paths before each step and after the last.
    pub(super) fn contents(&self) -> &[Contents] {
        &self.contents
    }
}

/// A script that is written step by step, without the steps that would fail.
#[derive(Clone)]
pub struct Draft {
    base: Disk,
    disk: Disk,
    paths: Vec<PathBuf>,
    steps: Vec<Op>,
    contents: Vec<Contents>,
}

impl Draft {
    /// Makes a draft with a disk on which `base` was performed an hour ago.
    ///
    /// # Panics
    /// If a step of `base` fails.
    #[must_use]
    pub fn new(paths: &[PathBuf], base: &[Op], config: &WorldConfig) -> Self {
        let base = Script::new(paths, base, Vec::new(), &[], None, config).base.clone();
        let contents = vec![read(paths, &base)];
        Self { disk: base.clone(), base, paths: paths.to_vec(), steps: Vec::new(), contents }
    }

    /// Adds a step; returns whether it succeeds.
    pub fn take(&mut self, step: Op) -> bool {
        if self.disk.apply(&step, EPOCH.wall).is_err() {
            return false;
        }
        self.contents.push(read(&self.paths, &self.disk));
        self.steps.push(step);
        true
    }

    /// Returns how many of these steps it takes until the paths have the contents that they have
    /// after all of them. Steps that fail are counted too.
    #[must_use]
    pub fn until_done(&self, steps: &[Op]) -> usize {
        let mut disk = self.disk.clone();
        let mut now = self.contents.last().cloned().unwrap_or_default();
        let mut until = 0;
        for (taken, step) in (1..).zip(steps) {
            if disk.apply(step, EPOCH.wall).is_ok() {
                let next = read(&self.paths, &disk);
                if next != now {
                    (now, until) = (next, taken);
                }
            }
        }
        until
    }

    /// Returns the steps that remove everything on the disk.
    #[must_use]
    pub fn removal(&self) -> Vec<Op> {
        self.disk.removal()
    }

    /// Returns the steps so far.
    #[must_use]
    pub fn steps(&self) -> &[Op] {
        &self.steps
    }

    /// Returns the contents of the paths before each step and after the last.
    #[must_use]
    pub fn contents(&self) -> &[Contents] {
        &self.contents
    }

    /// Returns the script. None of its steps counts as an update, so callers have to decide whether
    /// ASM-05 holds.
    #[must_use]
    pub fn script(self) -> Arc<Script> {
        let Self { base, steps, contents, .. } = self;
        let mid_update = vec![false; contents.len()];
        Arc::new(Script { base, steps, contents, mid_update, mortal: false })
    }
}

/// Reads the paths. A path that ends in `/` stands for the files in that directory.
fn read(paths: &[PathBuf], disk: &Disk) -> Contents {
    let read = |path: &PathBuf| if is_dir(path) { disk.read_all(path) } else { vec![disk.read(path)] };
    paths.iter().flat_map(read).collect()
}

pub(super) fn is_dir(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/")
}
