//! Designs under test: the shipped reloader, and the value that it builds in simulated worlds.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    Contents, Interrupt, OwnerAct, Record, Sim, is_dir,
    port::make_watcher,
    scenario::{is_valid, not_before},
    stepped::Stepped,
};
use rustls_reload::{
    Build, Builder, Built, Context, Error, Files, Layer, Published, Reload, Reloader, Status, Timing, fs::Fs,
    internal, watch::MakeWatcher,
};

/// A design under test: the shipped reloader, or a wrong design.
pub trait Design: Sized {
    /// Performs the first load.
    ///
    /// # Errors
    /// The error of the load, in words.
    fn load(sim: &Sim, paths: &[PathBuf]) -> Result<Self, String>;

    /// Performs the first actions of a worker.
    fn begin(&mut self);

    /// Takes the step that is due.
    ///
    /// # Errors
    /// The duration until a step is due, if none is.
    fn turn(&mut self) -> Result<(), Option<Duration>>;

    /// Performs the last actions of a worker. A design that cannot be stopped goes on.
    fn end(&mut self) {}

    /// Requests a manual reload, which one of the next turns performs. A design may have none.
    fn ask(&mut self) {}

    /// Returns once whether the answer to the request says that the contents of the disk are
    /// served.
    fn answer(&mut self) -> Option<bool> {
        None
    }

    /// Returns an act like [`Design::ask`] or the first half of [`Design::end`], from another
    /// thread at any moment.
    fn interrupt(&self, _: OwnerAct) -> Option<Interrupt> {
        None
    }

    /// Returns whether every request has its answer.
    fn is_answered(&mut self) -> bool {
        true
    }

    /// Returns the hash of everything that later turns depend on.
    fn digest(&self) -> u64;

    /// Returns the value that a handshake gets now.
    fn current(&self) -> Arc<Published<Value>>;

    /// Returns the status that the design reports.
    fn status(&self) -> Option<Status>;
}

/// The value that is built from marked files: the files themselves.
#[derive(Debug)]
pub struct Value {
    /// The bytes, in the order of the paths.
    pub files: Contents,
}

/// The build step of simulated worlds, with the checks of [`is_valid`].
pub struct MarkedBuild {
    sim: Sim,
}

impl MarkedBuild {
    /// Makes the build step, which records each verdict in the world's history.
    #[must_use]
    pub fn new(sim: &Sim) -> Self {
        Self { sim: sim.clone() }
    }

    /// Records in the world's history the file set that is built next.
    pub(super) fn mark(&self, what: &'static str, number: usize) {
        self.sim.note(Record::Mark(what, number));
    }
}

impl Build for MarkedBuild {
    type Value = Value;

    fn build(&mut self, files: &Files, _: &Context<'_, Value>) -> Result<Built<Value>, Error> {
        let files: Contents = files.iter().map(|(_, bytes)| Some(Arc::new(bytes.to_vec()))).collect();
        let passed = is_valid(&files);
        self.sim.note(Record::Evaluated { files: files.clone(), passed });
        if passed {
            let mut built = Built::new(Value { files });
            built.not_before = not_before(&built.value.files);
            Ok(built)
        } else {
            Err(Error::new(Layer::Match, "the set does not pass"))
        }
    }
}

/// The shipped reloader, driven on one thread.
pub struct Shipped {
    /// Declared before the reloader, because the reloader's end waits for a worker's.
    driver: Stepped<Value>,
    reloader: Reloader<Value>,
}

impl Shipped {
    /// Performs the first load through another port, or with another watcher, than the world's own.
    ///
    /// # Errors
    /// The error of the load, in words.
    pub fn load_through<F>(
        sim: &Sim,
        paths: &[PathBuf],
        fs: F,
        watcher: impl FnOnce(MakeWatcher) -> MakeWatcher,
    ) -> Result<Self, String>
    where
        F: Fs,
        F::Dir: Send,
        F::File: Send,
    {
        let (dirs, files): (Vec<_>, Vec<_>) = paths.iter().partition(|path| is_dir(path));
        let builder = Builder::new(files, MarkedBuild::new(sim));
        let builder = dirs.into_iter().fold(builder, Builder::directory);
        Self::load_built(sim, builder, fs, watcher(make_watcher(sim)))
    }

    /// Performs the first load of several file sets with this build step.
    ///
    /// # Errors
    /// The error of the load, in words.
    pub fn load_several<B: Build<Value = Value>>(
        sim: &Sim,
        sets: &[Vec<PathBuf>],
        build: B,
    ) -> Result<Self, String> {
        let builder = Builder::new(&sets[0], build);
        let builder = sets[1..].iter().fold(builder, |builder, set| builder.set(set));
        Self::load_built(sim, builder, sim.fs(), make_watcher(sim))
    }

    fn load_built<F, B>(sim: &Sim, builder: Builder<B>, fs: F, watcher: MakeWatcher) -> Result<Self, String>
    where
        F: Fs,
        F::Dir: Send,
        F::File: Send,
        B: Build<Value = Value>,
    {
        let (reported, published) = (sim.clone(), sim.clone());
        let builder = builder
            .timing(Timing::default())
            .clock(sim.clock())
            .watcher(Some(watcher))
            .on_event(move |event| reported.note(Record::Reported(event.clone())))
            .on_publish(move |value| {
                let files = value.value.files.clone();
                published.note(Record::Published { generation: value.generation, files });
            });
        let reloader = internal::load_probed(builder, fs, sim.probe()).map_err(|error| error.to_string())?;
        Ok(Self { driver: Stepped::new(&reloader), reloader })
    }
}

impl Design for Shipped {
    fn load(sim: &Sim, paths: &[PathBuf]) -> Result<Self, String> {
        Self::load_through(sim, paths, sim.fs(), |watcher| watcher)
    }

    fn begin(&mut self) {
        self.driver.begin();
    }

    fn turn(&mut self) -> Result<(), Option<Duration>> {
        self.driver.turn()
    }

    fn end(&mut self) {
        self.driver.end();
    }

    fn ask(&mut self) {
        self.driver.ask();
    }

    fn answer(&mut self) -> Option<bool> {
        let answer = self.driver.answer()?;
        Some(matches!(answer, Reload::Reloaded | Reload::Unchanged))
    }

    fn interrupt(&self, act: OwnerAct) -> Option<Interrupt> {
        self.driver.interrupt(act)
    }

    fn is_answered(&mut self) -> bool {
        self.driver.is_answered()
    }

    fn digest(&self) -> u64 {
        self.driver.digest()
    }

    fn current(&self) -> Arc<Published<Value>> {
        self.reloader.current()
    }

    fn status(&self) -> Option<Status> {
        // The clock is not read, because each reading is a step of this world.
        Some(internal::shared(&self.reloader).lock().status())
    }
}
