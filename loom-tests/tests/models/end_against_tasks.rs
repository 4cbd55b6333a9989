//! Tasks that wait for the end of a worker: each is woken by it, whenever it began to wait. Checks: INV-13.
//!
//! Engine: generated.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use loom_tests::{Design, Disk, Shipped, block_on, bounded, spawn, started};

/// Waits as a task of the shipped worker for tokio does: it registers for any change, and looks whether the driver runs.
async fn ended<D: Design>(handle: D::Handle) {
    let mut change = D::published(&handle, u64::MAX);
    poll_fn(|cx: &mut Context<'_>| {
        assert!(change.as_mut().poll(cx).is_pending(), "nothing is published");
        if D::is_running(&handle) { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

fn body<D: Design>() {
    let disk = Disk::default();
    let design = D::load(&disk, |_, _| {});
    design.start_and_begin();
    started();
    let handle = design.handle();
    let task = spawn(move || block_on(ended::<D>(handle)));
    assert!(design.stop());
    task.join().unwrap();
    assert!(!D::is_running(&design.handle()));
}

/// A driver takes its lock a dozen times between start and stop, and each time may wake who waits: complete, that is
/// millions of permutations. The task that this is for is preempted once, between two looks.
const PREEMPTIONS: usize = 3;

#[test]
fn inv13_end_of_a_worker_against_a_task() {
    bounded("end of a worker against a task that waits for it", PREEMPTIONS, body::<Shipped>);
}

/// The same over wrong designs: they must be caught, and the sound one of the same shape must not.
#[cfg(loom)]
mod wrong {
    use loom_tests::{
        must_fail, must_pass,
        wrong::{SilentEnd, Sound, Wrong},
    };

    use super::*;

    #[test]
    fn silent_end() {
        must_fail("end_against_tasks::wrong::silent_end", "deadlock", body::<Wrong<SilentEnd>>);
    }

    #[test]
    fn sound() {
        must_pass("end_against_tasks::wrong::sound", body::<Wrong<Sound>>);
    }
}
