//! A reloader of a file in memory whose driver can be held at one stage, until the executor has
//! gone on.

use std::{
    path::Path,
    sync::{
        Arc, Condvar, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustls_reload::{
    Build, Builder, Built, Context, Error, Event, Files, Reloader, Timing, TrustReduction,
    fs::Kind,
    watch::{Hints, MakeWatcher, Watched, Watcher},
};

use super::disk::OneFile;

/// Time after which a wait counts as a hang. No other check depends on it.
pub(crate) const HANG: Duration = Duration::from_secs(20);

/// A stage at which the driver can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Read,
    Build,
    /// In the callback for a publication.
    Publish,
    /// In the callback for the event of a publication.
    Event,
    /// In the callback for the event that says that the driver has stopped.
    Stopped,
}

impl Stage {
    /// The stages of a reload.
    pub(crate) const RELOAD: [Self; 4] = [Self::Read, Self::Build, Self::Publish, Self::Event];

    /// Returns whether the publication has happened before this stage.
    pub(crate) fn is_after_swap(self) -> bool {
        matches!(self, Self::Publish | Self::Event)
    }
}

/// Holds the driver once, at one stage, until the gate is opened.
pub(crate) struct Gate {
    state: Mutex<Armed>,
    opened: Condvar,
}

#[derive(Default)]
struct Armed {
    at: Option<Stage>,
    /// Whether the driver stops its own reloader before it waits.
    stops: bool,
    holds: bool,
    open: bool,
    /// Whether the gate was opened by its timeout, because the executor that should open it was
    /// blocked.
    forced: bool,
    /// The timeout of the gate.
    patience: Duration,
}

impl Gate {
    /// Makes a gate that opens by itself after `patience`.
    pub(crate) fn patient(patience: Duration) -> Self {
        Self { state: Mutex::new(Armed { patience, ..Armed::default() }), opened: Condvar::new() }
    }

    pub(crate) fn arm(&self, at: Stage, stops: bool) {
        let mut state = self.state.lock().unwrap();
        *state = Armed { at: Some(at), stops, patience: state.patience, ..Armed::default() };
    }

    pub(crate) fn holds(&self) -> bool {
        self.state.lock().unwrap().holds
    }

    pub(crate) fn was_forced(&self) -> bool {
        self.state.lock().unwrap().forced
    }

    /// Lets the driver go on, and holds no later one.
    pub(crate) fn open(&self) {
        let mut state = self.state.lock().unwrap();
        (state.at, state.open) = (None, true);
        self.opened.notify_all();
    }

    pub(crate) fn pass(&self, stage: Stage, stop: impl FnOnce()) {
        let mut state = self.state.lock().unwrap();
        if state.at != Some(stage) {
            return;
        }
        state.at = None;
        if state.stops {
            drop(state);
            stop();
            state = self.state.lock().unwrap();
        }
        state.holds = true;
        let start = Instant::now();
        while !state.open {
            let left = state.patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                (state.forced, state.open) = (true, true);
            }
            state = self.opened.wait_timeout(state, left).unwrap().0;
        }
        state.holds = false;
    }
}

/// A build step whose value is the number of writes.
struct Number {
    gate: Arc<Gate>,
    reloader: Weakly,
    /// The value that trusts less than its predecessor.
    shrinks: Arc<AtomicU64>,
    /// Freed with the driver.
    _token: Arc<()>,
}

/// The reloader, for callbacks that stop it.
type Weakly = Arc<OnceLock<std::sync::Weak<Reloader<u64>>>>;

fn stop(reloader: &Weakly) {
    let reloader = reloader.get().and_then(std::sync::Weak::upgrade).unwrap();
    reloader.stop().unwrap();
}

impl Build for Number {
    type Value = u64;

    fn build(&mut self, files: &Files, _: &Context<'_, u64>) -> Result<Built<u64>, Error> {
        self.gate.pass(Stage::Build, || stop(&self.reloader));
        let value = files.get(0).unwrap().1[0].into();
        let mut built = Built::new(value);
        let shrinks = self.shrinks.load(Ordering::SeqCst) == value;
        built.reduced_trust = shrinks.then(|| TrustReduction { epoch: value, removed: Vec::new() });
        Ok(built)
    }
}

/// A watcher that reports only the hints of the test.
struct Reported;

impl Watcher for Reported {
    fn watch(&mut self, _: &Path) -> Result<Watched, Error> {
        Ok(Watched::Armed)
    }

    fn unwatch(&mut self, _: &Path) {}
}

/// The reloader, its disk and its gate.
pub(crate) struct World {
    pub(crate) reloader: Arc<Reloader<u64>>,
    pub(crate) gate: Arc<Gate>,
    /// The texts of the warnings so far.
    pub(crate) warnings: Arc<Mutex<Vec<String>>>,
    written: Arc<AtomicU64>,
    shrinks: Arc<AtomicU64>,
    hints: Arc<Mutex<Option<Hints>>>,
    token: Arc<()>,
}

impl World {
    /// Makes a world whose gate opens by itself after `patience`.
    pub(crate) fn new(patience: Duration) -> Self {
        let gate = Arc::new(Gate::patient(patience));
        let (reloader, shrinks) = (Weakly::default(), Arc::<AtomicU64>::default());
        let token = Arc::new(());
        let mut disk = OneFile::new(Kind::File, 1, |_, _| Ok(0));
        let written = Arc::clone(&disk.written);
        let (content, reading, stopped) = (Arc::clone(&written), Arc::clone(&gate), Arc::clone(&reloader));
        disk.read = Box::new(move |_, buffer| {
            reading.pass(Stage::Read, || stop(&stopped));
            buffer[0] = u8::try_from(content.load(Ordering::SeqCst)).unwrap();
            Ok(1)
        });
        let hints = Arc::<Mutex<Option<Hints>>>::default();
        let keep = Arc::clone(&hints);
        let make: MakeWatcher = Box::new(move |hints| {
            *keep.lock().unwrap() = Some(hints);
            Ok(Box::new(Reported))
        });
        let ms = Duration::from_millis(1);
        let timing = Timing {
            settle: ms,
            shrink_settle: ms,
            tie_recheck: Duration::ZERO,
            retry: ms,
            min_interval: Duration::from_micros(100),
            poll: Duration::from_secs(3600),
            ..Timing::default()
        };
        let build = Number {
            gate: Arc::clone(&gate),
            reloader: Arc::clone(&reloader),
            shrinks: Arc::clone(&shrinks),
            _token: Arc::clone(&token),
        };
        let warnings = Arc::<Mutex<Vec<String>>>::default();
        let (publishing, reporting, warned) = (Arc::clone(&gate), Arc::clone(&gate), Arc::clone(&warnings));
        let (stops, also) = (Arc::clone(&reloader), Arc::clone(&reloader));
        let loaded = Builder::new(["/file"], build)
            .timing(timing)
            .watcher(Some(make))
            .on_publish(move |_| publishing.pass(Stage::Publish, || stop(&stops)))
            .on_event(move |event| match event {
                Event::Published { .. } => reporting.pass(Stage::Event, || stop(&also)),
                Event::Stopped => reporting.pass(Stage::Stopped, || {}),
                Event::Warning { warning } => warned.lock().unwrap().push(warning.why().to_owned()),
                _ => {}
            })
            .load_from(disk)
            .unwrap();
        let loaded = Arc::new(loaded);
        let _ = reloader.set(Arc::downgrade(&loaded));
        Self { reloader: loaded, gate, warnings, written, shrinks, hints, token }
    }

    /// Writes the file without a hint. Returns its new value.
    pub(crate) fn write(&self, shrinks: bool) -> u64 {
        let value = self.written.fetch_add(1, Ordering::SeqCst) + 1;
        if shrinks {
            self.shrinks.store(value, Ordering::SeqCst);
        }
        value
    }

    pub(crate) fn on_disk(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    /// Makes the watcher report the file.
    pub(crate) fn hint(&self) {
        let hints = self.hints.lock().unwrap().clone();
        if let Some(hints) = hints {
            hints.touched(Path::new("/file"), false);
        }
    }

    /// Returns a token whose other owners end with the driver.
    pub(crate) fn token(&self) -> Arc<()> {
        Arc::clone(&self.token)
    }
}
