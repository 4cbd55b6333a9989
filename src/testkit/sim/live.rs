//! A world whose publisher acts at the word of a test, step by step, where [`run`](super::run) enumerates schedules.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{MarkedBuild, Replay, Script, Sim, Value, Weather, stepped::Stepped};
use crate::{
    build::Build,
    error::Error,
    fs::Fs,
    machine::Timing,
    reloader::{Builder, Reloader},
    shared::Reload,
    testkit::Op,
    tls::{Resolver, ServerTls},
    watch::MakeWatcher,
};

/// A year: no world of a test goes on for longer.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The shipped reloader in a simulated world, driven on the caller's thread.
pub struct Live<T: Send + Sync + 'static = Value> {
    sim: Sim,
    paths: Vec<PathBuf>,
    timing: Timing,
    /// Before the reloader, whose end waits for a worker's.
    driver: Option<Stepped<T>>,
    reloader: Option<Reloader<T>>,
    neighbour: Option<Neighbour>,
}

/// Somebody who does the same over and over.
struct Neighbour {
    every: Duration,
    due: Duration,
    steps: Vec<Op>,
    rounds: u64,
}

impl<T: Send + Sync + 'static> Live<T> {
    /// A disk on which `base` was carried out an hour ago; nothing is loaded.
    ///
    /// # Panics
    /// If a step of `base` cannot be carried out.
    #[must_use]
    pub fn new(paths: &[PathBuf], base: &[Op], timing: Timing, weather: Weather) -> Self {
        let weather = Weather { rest: FOREVER, ..weather };
        let script = Script::new(paths, base, Vec::new(), &[], None, &weather);
        let schedule = Arc::new(Mutex::new(Replay::new(Vec::new())));
        let sim = Sim::new(&script, timing.settle, weather, schedule);
        Self { sim, paths: paths.to_vec(), timing, driver: None, reloader: None, neighbour: None }
    }

    /// The world: its disk, its time.
    #[must_use]
    pub fn sim(&self) -> &Sim {
        &self.sim
    }

    /// The first load with these settings, of whatever they are for, after the end of whatever was loaded before.
    ///
    /// # Errors
    /// The refusal.
    pub fn load_by<B: Build<Value = T>>(&mut self, builder: Builder<B>) -> Result<(), Error> {
        self.load_through(builder, self.sim.fs())
    }

    /// The same through another port than the world's own.
    ///
    /// # Errors
    /// The refusal.
    pub fn load_through<B, F>(&mut self, builder: Builder<B>, fs: F) -> Result<(), Error>
    where
        B: Build<Value = T>,
        F: Fs<Dir: Send, File: Send>,
    {
        (self.driver, self.reloader) = (None, None);
        let reloader = self.reloader.insert(builder.load_from(fs)?);
        self.driver = Some(Stepped::new(reloader));
        Ok(())
    }

    /// What was loaded.
    ///
    /// # Panics
    /// Before the first load.
    #[allow(clippy::expect_used)] // reason: stated
    #[must_use]
    pub fn reloader(&self) -> &Reloader<T> {
        self.reloader.as_ref().expect("a first load")
    }

    #[allow(clippy::expect_used)] // reason: as for the reloader
    fn driver(&mut self) -> &mut Stepped<T> {
        self.driver.as_mut().expect("a first load")
    }

    /// Starts a worker, which goes on in [`Live::until`]. From then on a reload by hand is [`Live::reload_now`].
    pub fn start(&mut self) {
        self.driver().begin();
    }

    /// Stops the worker; a later [`start`](Self::start) begins another.
    pub fn stop(&mut self) {
        self.driver().end();
    }

    /// Reloads by hand: the worker goes on until that is answered, or the caller drives where none runs.
    ///
    /// Returns `None` if no answer comes within a hundred steps.
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

    /// Lets time pass, and gives the reader no turn meanwhile.
    pub fn pass(&self, time: Duration) {
        self.sim.pass(self.sim.now().mono + time);
    }

    /// From now on somebody takes these steps every so often; or nobody does.
    pub fn neighbour(&mut self, every: Duration, steps: Vec<Op>) {
        let due = self.sim.now().mono + every;
        self.neighbour = (!steps.is_empty()).then_some(Neighbour { every, due, steps, rounds: 0 });
    }

    /// How often the neighbour has taken its steps.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.neighbour.as_ref().map_or(0, |neighbour| neighbour.rounds)
    }

    /// The reader goes on until `done` says so, for at most `limit`; whether it was done. Before a
    /// start nobody reads, and time passes.
    ///
    /// # Panics
    /// If the reader spins or waits for nothing, or a step of the neighbour fails.
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

    /// The neighbour's turn, if it is due.
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

impl Live<ServerTls> {
    /// Returns what [`ServerReloader::resolver`](crate::ServerReloader::resolver) returns.
    ///
    /// # Panics
    /// Before the first load.
    #[must_use]
    pub fn resolver(&self) -> Arc<Resolver> {
        Arc::new(Resolver(self.reloader().handle()))
    }
}

impl Live {
    /// The first load of marked files, after the end of whatever was loaded before.
    ///
    /// # Errors
    /// The refusal.
    pub fn load(&mut self, watcher: Option<MakeWatcher>) -> Result<(), Error> {
        let builder = Reloader::builder(&self.paths, MarkedBuild::new(&self.sim));
        self.load_by(builder.timing(self.timing).clock(self.sim.clock()).watcher(watcher))
    }
}
