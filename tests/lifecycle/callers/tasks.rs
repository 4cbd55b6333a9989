//! Futures that are polled at the moment of a publication.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Wake, Waker},
    thread,
    time::Instant,
};

use rustls_reload::Reload;

use super::{
    calls::write,
    plan::{Content, Plan},
    schedule::DEADLINE,
    world::World,
};

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Checks: INV-13. Engine: generated.
#[test]
fn inv13_task_polled_during_a_publication_is_ready_or_woken() {
    const PUBLICATIONS: usize = 1_000;
    let world = World::new(&Plan::empty(0, vec![false]));
    let handle = world.sites[0].owned().unwrap();
    let ends = AtomicBool::new(false);
    // The generation that the poller has reached. Without this, the next publication could hide a
    // missed wake-up of the last.
    let reached = AtomicU64::new(0);
    let poll = || {
        let mut polls = 0;
        while !ends.load(Ordering::SeqCst) {
            let generation = handle.current().generation;
            reached.store(generation, Ordering::SeqCst);
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            let mut context = Context::from_waker(&waker);
            let mut published = pin!(handle.published(generation));
            let mut shrunk = pin!(handle.trust_reduced(generation));
            let is_ready = if polls % 2 == 0 {
                published.as_mut().poll(&mut context).is_ready()
            } else {
                shrunk.as_mut().poll(&mut context).is_ready()
            };
            polls += 1;
            // Each of these publications reduces the trust.
            let is_due = !is_ready && handle.current().generation > generation;
            let end = Instant::now() + DEADLINE;
            while is_due && !woken.0.load(Ordering::SeqCst) {
                assert!(Instant::now() < end, "nothing wakes the task that waits for more than {generation}");
                thread::yield_now();
            }
        }
        polls
    };
    let polls = thread::scope(|scope| {
        let poller = scope.spawn(poll);
        for _ in 0..PUBLICATIONS {
            write(&world, 0, Content::Shrinks, true);
            assert_eq!(handle.reload_now(), Reload::Reloaded);
            let generation = handle.current().generation;
            while reached.load(Ordering::SeqCst) < generation && !poller.is_finished() {
                thread::yield_now();
            }
        }
        ends.store(true, Ordering::SeqCst);
        poller.join().unwrap()
    });
    println!("{PUBLICATIONS} publications, {polls} polls");
    assert!(polls > PUBLICATIONS);
}
