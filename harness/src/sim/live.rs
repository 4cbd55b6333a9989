//! A world whose publisher acts when a test says so, step by step, unlike [`run`](super::run),
//! which enumerates schedules.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{MarkedBuild, Replay, Script, Sim, Value, WorldConfig, stepped::Stepped};
use rustls_reload::{Build, Builder, Error, Reload, Reloader, Timing, fs::Fs, internal, watch::MakeWatcher};
use rustls_reload_testkit::Op;

/// A year, which is longer than any test's world.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The shipped reloader in a simulated world, driven on the caller's thread.
pub struct InteractiveWorld<T: Send + Sync + 'static = Value> {
    sim: Sim,
    paths: Vec<PathBuf>,
    timing: Timing,
    /// Declared before the reloader, because the reloader's end waits for a worker's.
    driver: Option<Stepped<T>>,
    reloader: Option<Reloader<T>>,
    neighbour: Option<Neighbour>,
}

/// Repeats the same steps at intervals.
struct Neighbour {
    every: Duration,
    due: Duration,
    steps: Vec<Op>,
    rounds: u64,
}

impl<T: Send + Sync + 'static> InteractiveWorld<T> {
    /// Makes a world with a disk on which `base` was performed an hour ago. Nothing is loaded.
    ///
    /// # Panics
    /// If a step of `base` fails.
    #[must_use]
    pub fn new(paths: &[PathBuf], base: &[Op], timing: Timing, config: WorldConfig) -> Self {
        let config = WorldConfig { rest: FOREVER, ..config };
        let script = Script::new(paths, base, Vec::new(), &[], None, &config);
        let schedule = Arc::new(Mutex::new(Replay::new(Vec::new())));
        let sim = Sim::new(&script, timing.settle, config, schedule);
        Self { sim, paths: paths.to_vec(), timing, driver: None, reloader: None, neighbour: None }
    }

    /// Returns the world, with its disk and its time.
    #[must_use]
    pub fn sim(&self) -> &Sim {
        &self.sim
    }

    /// Performs a first load with these settings, after ending the reloader that was loaded before.
    ///
    /// # Errors
    /// The error of the load.
    pub fn load_by<B: Build<Value = T>>(&mut self, builder: Builder<B>) -> Result<(), Error> {
        self.load_through(builder, self.sim.fs())
    }

    /// Performs a first load through another port than the world's own.
    ///
    /// # Errors
    /// The error of the load.
    pub fn load_through<B, F>(&mut self, builder: Builder<B>, fs: F) -> Result<(), Error>
    where
        B: Build<Value = T>,
        F: Fs<Dir: Send, File: Send>,
    {
        (self.driver, self.reloader) = (None, None);
        let reloader = self.reloader.insert(internal::load_probed(builder, fs, self.sim.probe())?);
        self.driver = Some(Stepped::new(reloader));
        Ok(())
    }

    /// Returns the reloader.
    ///
    /// # Panics
    /// Before the first load.
    #[allow(clippy::expect_used)] // reason: stated
    pub fn reloader(&self) -> &Reloader<T> {
        self.reloader.as_ref().expect("a first load")
    }

    #[allow(clippy::expect_used)] // reason: as for the reloader
    fn driver(&mut self) -> &mut Stepped<T> {
        self.driver.as_mut().expect("a first load")
    }

    /// Starts a worker, which advances in [`InteractiveWorld::until`]. From then on a manual reload is
    /// [`InteractiveWorld::reload_now`].
    pub fn start(&mut self) {
        self.driver().begin();
    }

    /// Stops the worker; a later [`start`](Self::start) starts another one.
    pub fn stop(&mut self) {
        self.driver().end();
    }

    /// Reloads manually: the worker advances until it has the answer, or the caller drives if no
    /// worker runs.
    ///
    /// Returns `None` if there is no answer within a hundred steps.
    pub fn reload_now(&mut self) -> Option<Reload> {
        if let Some(answer) = self.driver().ask() {
            return Some(answer);
        }
        (0..100).find_map(|_| {
            self.sim.begin_step(&|| 0);
            let _ = self.driver().turn();
            self.driver().answer()
        })
    }

    /// Lets time pass without a turn of the reader.
    pub fn pass(&self, time: Duration) {
        self.sim.pass(self.sim.now().mono + time);
    }

    /// Makes a neighbour take these steps at this interval from now on; without steps, removes the
    /// neighbour.
    pub fn neighbour(&mut self, every: Duration, steps: Vec<Op>) {
        let due = self.sim.now().mono + every;
        self.neighbour = (!steps.is_empty()).then_some(Neighbour { every, due, steps, rounds: 0 });
    }

    /// Returns how often the neighbour has taken its steps.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.neighbour.as_ref().map_or(0, |neighbour| neighbour.rounds)
    }

    /// Lets the reader advance until `done` returns `true`, for at most `limit`; returns whether it
    /// did. Before a start nothing is read, and time passes.
    ///
    /// # Panics
    /// If the reader spins or waits without a reason, or a step of the neighbour fails.
    pub fn until(&mut self, limit: Duration, mut done: impl FnMut(&Reloader<T>) -> bool) -> bool {
        let end = self.sim.now().mono + limit;
        loop {
            if done(self.reloader()) {
                return true;
            }
            let now = self.sim.now().mono;
            if now >= end {
                return false;
            }
            self.sim.begin_step(&|| 0);
            match self.driver().turn() {
                Ok(()) => {}
                Err(pause) => {
                    let has_begun = self.driver().has_begun();
                    assert!(pause.is_some() || !has_begun, "the reader waits for nothing");
                    let due = self.neighbour.as_ref().map_or(end, |neighbour| neighbour.due);
                    let wake = pause.map_or(end, |pause| now.saturating_add(pause));
                    self.sim.pass(wake.min(due).min(end));
                }
            }
            assert!(!self.sim.ended(), "the reader takes step after step at one instant");
            self.disturb();
        }
    }

    /// Performs the neighbour's turn, if it is due.
    #[allow(clippy::expect_used)] // reason: a neighbour that cannot act is a bug of the test
    fn disturb(&mut self) {
        let now = self.sim.now().mono;
        let Some(neighbour) = self.neighbour.as_mut().filter(|neighbour| neighbour.due <= now) else {
            return;
        };
        for op in &neighbour.steps {
            self.sim.apply(op).expect("a step of the neighbour");
        }
        neighbour.due = now + neighbour.every;
        neighbour.rounds += 1;
    }
}

impl InteractiveWorld {
    /// Performs a first load of marked files, after ending the reloader that was loaded before.
    ///
    /// # Errors
    /// The error of the load.
    pub fn load(&mut self, watcher: Option<MakeWatcher>) -> Result<(), Error> {
        let builder = Builder::new(&self.paths, MarkedBuild::new(&self.sim));
        self.load_by(builder.timing(self.timing).clock(self.sim.clock()).watcher(watcher))
    }
}
