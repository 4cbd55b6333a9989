//! The shipped code over the small disk, through its public interface.

use std::{
    path::Path,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use rustls_reload::{
    Build, Builder, Built, Clock, Context, Error, Event, Files, Layer, Now, Published, Reload, Reloader,
    Timing,
    watch::{Hints, MakeWatcher, Watched, Watcher},
};

use crate::{After, Design, Disk, Whole};

/// A limit longer than any wait on the slowest machine. Under loom no limit expires.
const LIMIT: Duration = Duration::from_secs(60);

/// The shipped reloader.
pub struct Shipped {
    reloader: Reloader<Whole>,
    /// The handle that the observer gets. It is kept only here, so that the reloader does not keep
    /// itself alive.
    _observed: Arc<OnceLock<Reloader<Whole>>>,
}

/// The parts of the shipped reloader's surroundings that a model replaces.
#[derive(Default)]
pub struct Surroundings {
    /// Runs when the watcher is made, on the driver's thread, with the sink of its hints.
    pub watch: Option<Box<dyn FnMut(Hints) + Send>>,
    /// Runs at the beginning of each build, with the version.
    pub build: Option<Box<dyn FnMut(u64) + Send>>,
    /// The version whose comparison with the served files panics.
    pub bad_shrink: Option<u64>,
}

impl Shipped {
    /// Loads `disk` in these surroundings.
    pub fn load_in(
        disk: &Disk,
        surroundings: Surroundings,
        observer: impl Fn(&Reloader<Whole>, &Published<Whole>) + Send + Sync + 'static,
    ) -> Self {
        let Surroundings { watch, build, bad_shrink } = surroundings;
        let step = Step { disk: disk.clone(), build, bad_shrink };
        // The observer exists before the reloader whose handle it gets.
        let slot: Arc<OnceLock<Reloader<Whole>>> = Arc::default();
        let weak: Weak<OnceLock<Reloader<Whole>>> = Arc::downgrade(&slot);
        let watcher = watch.map(|mut watch| -> MakeWatcher {
            Box::new(move |hints| {
                watch(hints);
                Ok(Box::new(Silent))
            })
        });
        let reloader = still(Builder::new([Disk::PATH], step))
            .watcher(watcher)
            .on_publish(move |published| {
                if let Some(handle) = weak.upgrade().as_ref().and_then(|slot| slot.get()) {
                    observer(handle, published);
                }
            })
            .load_from(disk.clone())
            .unwrap();
        let _ = slot.set(reloader.clone());
        Self { reloader, _observed: slot }
    }
}

/// Configures a clock that stands still, and no watcher.
pub(crate) fn still<B: Build>(builder: Builder<B>) -> Builder<B> {
    builder
        .clock(Arc::new(Still))
        .timing(Timing { min_interval: Duration::ZERO, settle: Duration::ZERO, ..Timing::default() })
        .watcher(None)
}

/// Returns the version in these files.
pub(crate) fn version(files: &Files) -> Result<u64, Error> {
    let bytes = files.get(0).and_then(|(_, bytes)| bytes.try_into().ok());
    bytes.map(u64::from_be_bytes).ok_or_else(|| Error::new(Layer::Config, "not a version"))
}

impl Design for Shipped {
    type Handle = Reloader<Whole>;

    fn load(
        disk: &Disk,
        observer: impl Fn(&Self::Handle, &Published<Whole>) + Send + Sync + 'static,
    ) -> Self {
        Self::load_in(disk, Surroundings::default(), observer)
    }

    fn handle(&self) -> Self::Handle {
        self.reloader.clone()
    }

    fn start(&self) -> bool {
        self.reloader.start().is_ok()
    }

    fn stop(&self) -> bool {
        self.reloader.stop().is_ok()
    }

    fn current(handle: &Self::Handle) -> Arc<Published<Whole>> {
        handle.current()
    }

    fn start_and_begin(&self) {
        let mut events = self.reloader.events();
        self.reloader.start().unwrap();
        while !matches!(*events.next_within(LIMIT).unwrap().event, Event::Started { .. }) {}
    }

    fn is_running(handle: &Self::Handle) -> bool {
        handle.status().running
    }

    fn status(handle: &Self::Handle) -> u64 {
        handle.status().generation
    }

    fn reload_now(handle: &Self::Handle) -> Reload {
        handle.reload_now()
    }

    fn wait_published(handle: &Self::Handle, generation: u64) -> Option<Arc<Published<Whole>>> {
        handle.wait_published(generation, LIMIT)
    }

    fn published(handle: &Self::Handle, generation: u64) -> After {
        Box::pin(handle.published(generation))
    }
}

/// A build step that makes the value of the version on disk.
struct Step {
    disk: Disk,
    build: Option<Box<dyn FnMut(u64) + Send>>,
    bad_shrink: Option<u64>,
}

impl Build for Step {
    type Value = Whole;

    fn build(&mut self, files: &Files, _: &Context<'_, Whole>) -> Result<Built<Whole>, Error> {
        let version = version(files)?;
        if let Some(build) = &mut self.build {
            build(version);
        }
        Ok(Built::new(self.disk.value(version)))
    }

    fn shrinks(&self, _: usize, _: &Files, candidate: &Files) -> bool {
        if let (Some(bad), Ok(version)) = (self.bad_shrink, version(candidate)) {
            crate::fallible(version, bad);
        }
        false
    }
}

/// A clock that stands still, on which every wait lasts for ever.
struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now { mono: Duration::from_secs(1), wall: Duration::from_secs(1) }
    }

    fn sleep(&self, _: Duration) {
        // A first load sleeps only for torn files and for files younger than the settle time. This
        // disk has neither.
        unreachable!("the first load waits");
    }
}

/// A watcher without events of its own. The model sends the hints.
struct Silent;

impl Watcher for Silent {
    fn watch(&mut self, _: &Path) -> Result<Watched, Error> {
        Ok(Watched::Armed)
    }

    fn unwatch(&mut self, _: &Path) {}
}
