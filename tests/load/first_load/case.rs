//! One first load of two files, and a publisher that writes between two given calls of it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use rustls_reload::{
    Build, Builder, Built, Clock, Context, Error, Files, Layer, Now, SystemClock, Timing, fs::NativeFs,
};
use rustls_reload_testkit::{InterceptFs, Op, Verb};

/// A publisher that does not commit by one rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Publisher {
    InPlace,
    /// In place, and then sets the modification time back, as `cp -p` does.
    InPlaceOldTime,
    RenameEach,
    DeleteAndWrite,
}

impl Publisher {
    pub(crate) const ALL: [Self; 4] =
        [Self::InPlace, Self::InPlaceOldTime, Self::RenameEach, Self::DeleteAndWrite];

    /// Returns the writes of an update, in order.
    fn steps(self) -> Vec<Op> {
        let update = |name: &str| {
            let path = PathBuf::from(name);
            let new = content(name, 1);
            let (one, other) = new.split_at(new.len() / 2);
            let [one, other] = [one, other].map(|part| Op::Append(path.clone(), part.to_vec()));
            let whole = Op::Append(path.clone(), new.clone());
            match self {
                Self::InPlace => vec![Op::Create(path), one, other],
                Self::InPlaceOldTime => {
                    vec![Op::Create(path.clone()), whole, Op::Modified(path, Duration::from_secs(1))]
                }
                Self::RenameEach => vec![Op::Rename(format!("{name}.next").into(), path)],
                Self::DeleteAndWrite => vec![Op::Unlink(path.clone()), Op::Create(path), whole],
            }
        };
        NAMES.iter().flat_map(|name| update(name)).collect()
    }
}

/// The files of the set.
const NAMES: [&str; 2] = ["tls.crt", "tls.key"];

fn content(name: &str, update: usize) -> Vec<u8> {
    format!("{name} of update {update}\n").into_bytes()
}

/// The pace of the steps after the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// At each further call of the loader, or after most of the settle time.
    ByCalls,
    /// After most of the settle time.
    ByTime,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) publisher: Publisher,
    /// Whether the files were written just before the load. Otherwise they are older than the
    /// settle time.
    pub(crate) fresh: bool,
    /// The call of the loader before which the first step happens. Without it nothing is written.
    pub(crate) at: Option<usize>,
    /// Whether that call takes most of the settle time.
    pub(crate) slow: bool,
    pub(crate) pace: Pace,
    pub(crate) beside: Beside,
}

/// Another file set in the same load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    Nothing,
    /// A stable set that is loaded before the set under test.
    Before,
    After,
    /// A set that is torn for a while, so that all sets are read every few milliseconds.
    Torn,
}

/// The outcome of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Old,
    New,
    Half,
    Refused,
    /// The publisher was held up for longer than the settle time, in which case nothing is promised
    /// (ASM-05).
    Void,
}

/// The actions of the load.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) outcome: Outcome,
    pub(crate) calls: usize,
    pub(crate) snapshots: usize,
    /// The requested pauses.
    pub(crate) pauses: Vec<Duration>,
    /// The longest time between two calls of the file system.
    pub(crate) longest_gap: Duration,
}

/// A build step whose value is the bytes of all files.
struct Bytes;

impl Build for Bytes {
    type Value = Vec<Vec<u8>>;

    fn build(
        &mut self,
        files: &Files,
        context: &Context<'_, Self::Value>,
    ) -> Result<Built<Self::Value>, Error> {
        let mut all = context.served.cloned().unwrap_or_default();
        all.extend(files.iter().map(|(_, bytes)| bytes.to_vec()));
        Ok(Built::new(all))
    }
}

/// Counts the loader's calls, and lets the publisher act between two of them.
struct Calls {
    count: usize,
    snapshots: usize,
    pauses: Vec<Duration>,
    last: Option<Instant>,
    longest_gap: Duration,
    at: Option<usize>,
    slow: Duration,
    /// A file that is written at each call until this time.
    torn: Option<(PathBuf, Instant)>,
    /// Makes the publisher take its next step, and waits for it. `None` once the publisher has
    /// ended.
    publisher: Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>,
}

impl Calls {
    fn call(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last {
            self.longest_gap = self.longest_gap.max(now - last);
        }
        self.count += 1;
        if let Some((path, _)) = self.torn.as_ref().filter(|(_, until)| now < *until) {
            std::fs::write(path, self.count.to_string()).unwrap();
        }
        if self.at == Some(self.count) {
            std::thread::sleep(self.slow);
        }
        if self.at.is_some_and(|at| at <= self.count) {
            let goes_on =
                self.publisher.as_ref().is_some_and(|(go, done)| go.send(()).is_ok() && done.recv().is_ok());
            if !goes_on {
                self.publisher = None;
            }
        }
        self.last = Some(Instant::now());
    }
}

/// The system's clock. Its pauses count as calls of the loader, like those of the file system.
struct Paused(SystemClock, Arc<Mutex<Calls>>);

impl Clock for Paused {
    fn now(&self) -> Now {
        self.0.now()
    }

    fn sleep(&self, pause: Duration) {
        {
            let mut calls = self.1.lock().unwrap();
            calls.pauses.push(pause);
            let last = calls.last;
            calls.call();
            // A snapshot ends with its own last call.
            calls.last = last;
        }
        self.0.sleep(pause);
    }
}

/// Takes the steps. Returns whether no pause was as long as the settle time.
fn publish(
    dir: &Path,
    steps: Vec<Op>,
    pace: Pace,
    settle: Duration,
    go: mpsc::Receiver<()>,
    done: mpsc::Sender<()>,
) -> bool {
    let most = settle * 4 / 5;
    let mut last: Option<Instant> = None;
    let mut kept = true;
    for step in steps {
        let asked = match (last, pace) {
            // The load has ended before the first step.
            (None, _) => match go.recv() {
                Ok(()) => true,
                Err(_) => return true,
            },
            (Some(last), Pace::ByCalls) => go.recv_timeout(most.saturating_sub(last.elapsed())).is_ok(),
            (Some(last), Pace::ByTime) => {
                // Calls of the loader are answered meanwhile.
                while let Ok(()) = go.recv_timeout(most.saturating_sub(last.elapsed())) {
                    let _ = done.send(());
                }
                std::thread::sleep(most.saturating_sub(last.elapsed()));
                false
            }
        };
        let before = Instant::now();
        step.apply(dir).unwrap();
        let after = Instant::now();
        kept &= last.is_none_or(|last| after - last < settle);
        // The step happened at this time or later.
        last = Some(before);
        if asked {
            let _ = done.send(());
        }
    }
    kept
}

impl Case {
    pub(crate) fn run(self, settle: Duration, timing: Timing) -> Report {
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let dir = root.path().join("set");
        let other = root.path().join("other");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(&other, "quiet").unwrap();
        for name in NAMES {
            std::fs::write(dir.join(name), content(name, 0)).unwrap();
            let next = format!("{name}.next");
            std::fs::write(dir.join(next), content(name, 1)).unwrap();
        }
        if !self.fresh {
            std::thread::sleep(settle + timing.tie_recheck + Duration::from_millis(20));
        }
        let ((go, asked), (done, reported)) = (mpsc::channel(), mpsc::channel());
        let calls = Arc::new(Mutex::new(Calls {
            count: 0,
            snapshots: 0,
            pauses: Vec::new(),
            last: None,
            longest_gap: Duration::ZERO,
            at: self.at,
            torn: (self.beside == Beside::Torn).then(|| (other.clone(), Instant::now() + settle * 4)),
            slow: if self.slow { settle * 9 / 10 } else { Duration::ZERO },
            publisher: Some((go, reported)),
        }));
        let (steps, path, pace) = (self.publisher.steps(), dir.clone(), self.pace);
        let publisher = std::thread::spawn(move || publish(&path, steps, pace, settle, asked, done));
        let counted = Arc::clone(&calls);
        let hook = move |verb: Verb| {
            let mut calls = counted.lock().unwrap();
            calls.snapshots += usize::from(verb == Verb::Root);
            if matches!(verb, Verb::Root | Verb::Stat | Verb::Open | Verb::StatFile | Verb::Read) {
                calls.call();
            }
            Ok(usize::MAX)
        };
        let own = NAMES.map(|name| dir.join(name));
        let builder = match self.beside {
            Beside::Nothing => Builder::new(own, Bytes),
            Beside::Before => Builder::new([other], Bytes).set(own),
            Beside::After | Beside::Torn => Builder::new(own, Bytes).set([other]),
        };
        let clock = Arc::new(Paused(SystemClock::new(), Arc::clone(&calls)));
        let loaded = builder
            .timing(timing)
            .clock(clock)
            .watcher(None)
            .load_from(InterceptFs::new(NativeFs::default(), Arc::new(hook)));
        let outcome = match loaded {
            Ok(reloader) => {
                let value = reloader.current();
                let first = usize::from(self.beside == Beside::Before);
                let files = value.value.get(first..first + NAMES.len()).unwrap_or_default();
                let is = |update| files == NAMES.map(|name| content(name, update));
                if is(0) {
                    Outcome::Old
                } else if is(1) {
                    Outcome::New
                } else {
                    Outcome::Half
                }
            }
            // A file is missing for a moment.
            Err(error) if self.publisher == Publisher::DeleteAndWrite && error.layer() == Layer::Read => {
                Outcome::Refused
            }
            Err(error) => panic!("{self:?}: {error}"),
        };
        let mut calls = calls.lock().unwrap();
        // Dropping the channel ends a publisher that has not begun.
        calls.publisher = None;
        let kept = publisher.join().unwrap();
        Report {
            outcome: if kept { outcome } else { Outcome::Void },
            calls: calls.count,
            snapshots: calls.snapshots,
            pauses: std::mem::take(&mut calls.pauses),
            longest_gap: calls.longest_gap,
        }
    }
}
