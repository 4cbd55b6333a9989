//! The worker for tokio ends with its own run of the driver and leaves a later run alone.
//! Checks: INV-13.

use rustls_reload::{Build, Builder, Built, Context, Error, Files};

struct Length;

impl Build for Length {
    type Value = usize;

    fn build(&mut self, files: &Files, _: &Context<'_, usize>) -> Result<Built<usize>, Error> {
        Ok(Built::new(files.iter().map(|(_, bytes)| bytes.len()).sum()))
    }
}

#[tokio::test]
async fn inv13_a_late_shutdown_leaves_the_next_run_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "content").unwrap();
    let reloader = Builder::new([&path], Length).load().unwrap();
    let (shutdown, receiver) = tokio::sync::watch::channel(false);
    let task = reloader.spawn_worker(receiver).unwrap();
    let mut events = reloader.events();
    // One thread runs all tasks, so the worker's task does not run before it is awaited.
    reloader.stop().unwrap();
    reloader.start().unwrap();
    shutdown.send(true).unwrap();
    task.await.unwrap();
    assert!(reloader.start().is_err(), "the first worker's shutdown stopped the second run");
    reloader.stop().unwrap();
    while let Some(reported) = events.try_next() {
        assert!(!reported.event.to_string().contains("sender was dropped"), "{}", reported.event);
    }
}
