//! The shipped code, through its public interface, over the small disk.

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

/// Long enough for the slowest machine; under loom nothing ever expires.
const LIMIT: Duration = Duration::from_secs(60);

/// The shipped reloader.
pub struct Shipped {
    reloader: Reloader<Whole>,
    /// What the observer is handed; kept here only, so that the reloader does not keep itself alive.
    _observed: Arc<OnceLock<Reloader<Whole>>>,
}

/// What a model changes about the shipped reloader's surroundings.
#[derive(Default)]
pub struct Surroundings {
    /// Runs when the watcher is made, on the driver's thread, with what it reports to.
    pub watch: Option<Box<dyn FnMut(Hints) + Send>>,
    /// Runs at the beginning of each build, with the version.
    pub build: Option<Box<dyn FnMut(u64) + Send>>,
    /// The version whose comparison with what is served panics.
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
        // The observer is made before what it observes.
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

/// The same in a time that stands still, without a watcher.
pub(crate) fn still<B: Build>(builder: Builder<B>) -> Builder<B> {
    builder
        .clock(Arc::new(Still))
        .timing(Timing { min_interval: Duration::ZERO, settle: Duration::ZERO, ..Timing::default() })
        .watcher(None)
}

/// The version that these files hold.
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
        while events.next_within(LIMIT).unwrap().event.as_ref() != &Event::Started {}
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

/// Makes the value of the version on disk.
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

/// Time stands still: whatever waits for it would wait for ever.
struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now { mono: Duration::from_secs(1), wall: Duration::from_secs(1) }
    }

    fn sleep(&self, _: Duration) {
        // Only a first load that was torn or is younger than the settle time sleeps, and this disk is neither.
        unreachable!("the first load waits");
    }
}

/// Watches nothing by itself: the model sends the hints.
struct Silent;

impl Watcher for Silent {
    fn watch(&mut self, _: &Path) -> Result<Watched, Error> {
        Ok(Watched::Armed)
    }

    fn unwatch(&mut self, _: &Path) {}
}
