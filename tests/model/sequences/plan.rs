//! The steps of a case, determined before it is run, so that both kinds of worlds take the same
//! ones.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls_reload_harness::sim::{
    self, BLOCK, Contents, Draft, Publisher, Renewal, Script, Set, WorldConfig,
};
use rustls_reload_testkit::Op as Step;

use super::case::{Act, Case, File, Op, Text};

/// A case with its steps.
pub struct Plan {
    pub paths: Vec<PathBuf>,
    /// The steps before the case.
    pub base: Vec<Step>,
    pub parts: Vec<Part>,
    /// Every step, in order.
    pub steps: Vec<Step>,
    /// The contents of the paths before each step and after the last.
    pub contents: Vec<Contents>,
    /// Whether by then every update has been finished or abandoned.
    pub finished: Vec<bool>,
    pub config: WorldConfig,
    pub script: Arc<Script>,
}

/// One operation with its steps.
#[derive(Clone, Debug)]
pub struct Part {
    pub op: Op,
    pub steps: Range<usize>,
    /// The pause before each step, in hundredths of the settle time.
    pub pause: u32,
}

/// A time longer than any case.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The operations after every case: a calm, a publication of new files, a start, and a calm.
const ENDING: [Act; 4] = [Act::Calm, Act::Anew, Act::Start, Act::Calm];

struct Planner {
    publisher: Publisher,
    draft: Draft,
    /// The number of the publisher's last directory.
    stamp: u32,
    /// The number of the last publication.
    number: u32,
    /// The set that was published last, or is being published.
    set: Set,
    /// The publisher's remaining steps, and whether they matter to the contents of the paths.
    left: Vec<Step>,
    open: bool,
    finished: Vec<bool>,
}

impl Plan {
    /// Determines the steps. Steps that would fail at their place are left out.
    pub fn new(case: &Case) -> Self {
        let publisher = case.publisher;
        let config = WorldConfig {
            tick: Duration::from_millis(case.tick),
            reuse: case.reuse,
            events: case.events,
            max_quiet_wait: FOREVER,
            waits: usize::MAX,
            rest: FOREVER,
            ..WorldConfig::default()
        };
        let (paths, set) = (publisher.paths(), sim::full(1, 1));
        let base = publisher.base(&set);
        let draft = Draft::new(&paths, &base, &config);
        let mut planner = Planner {
            publisher,
            draft,
            stamp: 1,
            number: 1,
            set,
            left: Vec::new(),
            open: false,
            finished: vec![true],
        };
        let ending = ENDING.map(|act| Op { act, wait: 0, salt: 0 });
        let ops = case.ops.iter().cloned().chain(ending);
        let parts = ops.map(|op| planner.part(op)).collect();
        planner.die();
        let Planner { draft, finished, .. } = planner;
        let (steps, contents) = (draft.steps().to_vec(), draft.contents().to_vec());
        Self { paths, base, parts, steps, contents, finished, config, script: draft.script() }
    }
}

impl Planner {
    fn part(&mut self, op: Op) -> Part {
        let from = self.draft.steps().len();
        let mut pause = 0;
        match op.act {
            Act::Publish { renewal, part, pause: each } => {
                pause = each;
                self.number += 1;
                let set = renewal.next(&self.set, self.number);
                self.publish(set, part);
            }
            Act::CertificateValidity { tens } => {
                self.number += 1;
                self.publish(sim::full(sim::dated(tens), self.number), 100);
            }
            Act::GoOn => {
                let left = std::mem::take(&mut self.left);
                self.open = false;
                self.take(left, self.publisher.commits_by_rename());
            }
            Act::Anew => {
                self.die();
                let removal = self.draft.removal();
                self.take(removal, true);
                self.number += 1;
                self.stamp = 1;
                self.set = Renewal::NewKey.next(&self.set, self.number);
                self.take(self.publisher.base(&self.set), self.publisher.commits_by_rename());
            }
            act => {
                let steps = self.by_hand(act);
                self.take(steps, false);
            }
        }
        Part { op, steps: from..self.draft.steps().len(), pause }
    }

    /// Abandons the publisher's unfinished update.
    fn die(&mut self) {
        self.left.clear();
        self.open = false;
        if let Some(now) = self.finished.last_mut() {
            *now = true;
        }
    }

    fn publish(&mut self, set: Set, part: u32) {
        self.die();
        self.stamp += 1;
        let mut steps: Vec<_> = self.stale().into_iter().map(Step::Unlink).collect();
        steps.extend(self.publisher.update(self.stamp, &set));
        self.set = set;
        let now = steps.len() * part as usize / 100;
        let by_rename = self.publisher.commits_by_rename();
        let open = now < steps.len() && !by_rename && now < self.draft.until_done(&steps);
        let left = steps.split_off(now);
        if open {
            for step in steps {
                if self.draft.take(step) {
                    self.finished.push(false);
                }
            }
        } else {
            self.take(steps, by_rename);
        }
        (self.left, self.open) = (left, open);
    }

    /// Takes a whole update. It counts as finished once the paths have their final contents. With
    /// `by_rename` it counts as finished throughout, because then the paths have either all of it
    /// or nothing of it.
    fn take(&mut self, steps: Vec<Step>, by_rename: bool) {
        let first = self.finished.len();
        for step in steps {
            if self.draft.take(step) {
                self.finished.push(!self.open && by_rename);
            }
        }
        if self.open {
            return;
        }
        let contents = self.draft.contents();
        let done = (first..contents.len()).rev().find(|now| contents[*now] != contents[now - 1]);
        let done = done.unwrap_or(first);
        self.finished[done.min(contents.len())..].fill(true);
    }

    /// Returns the entries that a dead publisher may have left, which its next run removes first.
    fn stale(&self) -> Vec<PathBuf> {
        let names = match self.publisher {
            Publisher::Kubelet(_) | Publisher::KubeletAfterCrash | Publisher::KubeletLateChmod => {
                &["vol/..data_tmp"][..]
            }
            Publisher::LinkedVolume => &["csi/..data_tmp"],
            Publisher::Volumes => &["pair/..data_tmp", "trust/..data_tmp"],
            Publisher::Release(_) => &["srv/current.tmp"],
            _ => &[],
        };
        names.iter().map(PathBuf::from).collect()
    }

    /// Returns a file of the set by the publisher's own path.
    fn path(&self, file: File) -> PathBuf {
        let path = &self.publisher.paths()[file];
        path.strip_prefix("/").unwrap_or(path).to_owned()
    }

    /// Returns the link whose rename commits an update, or else the file.
    fn pivot(&self, file: File) -> PathBuf {
        let path = self.path(file);
        match self.publisher {
            Publisher::Release(_) => "srv/current".into(),
            Publisher::LinkedVolume => "csi/..data".into(),
            Publisher::Kubelet(_)
            | Publisher::KubeletAfterCrash
            | Publisher::KubeletLateChmod
            | Publisher::Volumes => path.with_file_name("..data"),
            _ => path,
        }
    }

    fn by_hand(&self, act: Act) -> Vec<Step> {
        match act {
            Act::Write(file, text) => write(&self.path(file), &self.text(file, text)),
            Act::Replace(file, text) => {
                let path = self.path(file);
                let beside = beside(&path, ".new");
                let mut steps = write(&beside, &self.text(file, text));
                steps.push(Step::Rename(beside, path));
                steps
            }
            Act::Remove(file) => vec![Step::Unlink(self.path(file))],
            Act::Link(file) => {
                let path = self.path(file);
                let real = beside(&path, ".real");
                let target = real.file_name().map(PathBuf::from).unwrap_or_default();
                vec![Step::Rename(path.clone(), real), Step::Symlink(target, path)]
            }
            Act::Relink(file) => aside(&self.pivot(file)),
            Act::Mode(file, readable) => {
                vec![Step::Chmod(self.path(file), if readable { 0o644 } else { 0 })]
            }
            Act::Touch(file) => vec![Step::Modified(self.path(file), Duration::from_secs(1_700_000_000))],
            Act::Away(file) => {
                let top: PathBuf = self.path(file).components().take(1).collect();
                aside(&top)
            }
            _ => Vec::new(),
        }
    }

    fn text(&self, file: File, text: Text) -> Vec<u8> {
        let same = &self.set[file];
        match text {
            Text::Same => same.clone(),
            Text::Half => same[..same.len() - BLOCK / 2].to_vec(),
            Text::Empty => Vec::new(),
            Text::First => same[..BLOCK].to_vec(),
            Text::Junk => JUNK.to_vec(),
        }
    }
}

/// A block of an unknown kind.
pub const JUNK: &[u8; BLOCK] = b"rubbish\n";

fn write(path: &Path, bytes: &[u8]) -> Vec<Step> {
    let mut steps = vec![Step::Create(path.to_owned())];
    steps.extend(bytes.chunks(BLOCK).map(|block| Step::Append(path.to_owned(), block.to_vec())));
    steps
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(end);
    path.with_file_name(name)
}

/// Returns the steps that rename a file away and back.
fn aside(path: &Path) -> Vec<Step> {
    let aside = beside(path, ".aside");
    vec![Step::Rename(path.to_owned(), aside.clone()), Step::Rename(aside, path.to_owned())]
}
