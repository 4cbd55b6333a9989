//! File events in `tracing`.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tracing::{
    Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

use super::{dir, noting};

/// Counts the steps that it gets.
struct Counter(Arc<AtomicUsize>);

impl Subscriber for Counter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "rustls_reload::steps"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Checks: INV-15.
///
/// A subscriber that blocks would hold up the watcher's thread, for which the driver waits when it
/// watches. So the driver's thread traces the file events, and no more of them than it has room for.
#[test]
fn inv15_file_events_are_traced_by_the_driver_and_bounded() {
    let (mut watch, _) = noting();
    watch.arm(0, &[dir("/d", 2, "crt")]);
    let traced = Arc::new(AtomicUsize::new(0));
    let count = || traced.swap(0, Ordering::SeqCst);
    tracing::subscriber::with_default(Counter(Arc::clone(&traced)), || {
        // While a process has one subscriber, tracing-core 0.1 asks the thread that registers a place
        // first. A thread of another test has none, and would turn the place off for this one too.
        let end = Instant::now() + Duration::from_secs(10);
        while count() == 0 {
            assert!(Instant::now() < end, "no file event is traced");
            tracing::callsite::rebuild_interest_cache();
            watch.hints.touched(Path::new("/d/crt"), false);
            watch.take_hinted();
        }
        (0..100).for_each(|_| watch.hints.touched(Path::new("/d/crt"), false));
        watch.hints.touched(Path::new("/d/other"), false);
        assert_eq!(count(), 0);
        watch.take_hinted();
        assert_eq!(count(), 16);
        watch.hints.touched(Path::new("/d/crt"), false);
        watch.hints.lost();
        assert_eq!(count(), 0);
        watch.take_hinted();
        assert_eq!(count(), 2);
        watch.take_hinted();
        assert_eq!(count(), 0);
    });
}
