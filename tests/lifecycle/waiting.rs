//! The memory that waiting for a publication takes, and for how long.

use std::{
    fs,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Poll, Wake, Waker},
    time::Duration,
};

use rustls_reload::{Build, Builder, Built, Context, Error, Files, Timing};

struct Bytes;

impl Build for Bytes {
    type Value = Vec<u8>;

    fn build(&mut self, files: &Files, _: &Context<'_, Vec<u8>>) -> Result<Built<Vec<u8>>, Error> {
        Ok(Built::new(files.get(0).unwrap().1.to_vec()))
    }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Checks: INV-12. A server may make such a future for each connection, and most are dropped with
/// their connection.
#[test]
fn inv12_a_wait_that_is_given_up_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "one").unwrap();
    let timing = Timing { settle: Duration::from_millis(1), ..Timing::default() };
    let reloader = Builder::new([&path], Bytes).timing(timing).load().unwrap();

    let given_up = Arc::new(Woken::default());
    for _ in 0..3 {
        let waker = Waker::from(Arc::clone(&given_up));
        let mut future = pin!(reloader.published(1));
        assert!(future.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
        assert!(future.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    }
    assert_eq!(Arc::strong_count(&given_up), 1, "a waker was kept");

    // A future that waits to the end is woken through the waker of its last poll.
    let (first, last) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
    let mut future = pin!(reloader.published(1));
    for woken in [&first, &last] {
        let waker = Waker::from(Arc::clone(woken));
        assert!(future.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    }
    fs::write(&path, "two").unwrap();
    assert_eq!(reloader.reload_now(), rustls_reload::Reload::Reloaded);
    let woken = [&given_up, &first, &last].map(|woken| woken.0.load(Ordering::SeqCst));
    assert_eq!(woken, [0, 0, 1]);
    let waker = Waker::from(Arc::clone(&last));
    let Poll::Ready(published) = future.as_mut().poll(&mut TaskContext::from_waker(&waker)) else {
        panic!("it is published")
    };
    assert_eq!((published.generation, published.value.as_slice()), (2, b"two".as_slice()));
}
