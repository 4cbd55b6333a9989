//! Tasks that wait for the end of a worker: the end wakes each of them, whenever it began to wait.
//! Checks: INV-13.
//!
//! Engine: generated.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use loom_tests::{Design, Disk, Shipped, block_on, bounded, spawn, started};

/// Waits as a task of the shipped worker for tokio does: registers for any change, then reads
/// whether the driver runs.
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

/// A driver takes its lock a dozen times between start and stop and may wake a waiter each time, so
/// a complete search has millions of permutations. The fault that this model has to catch needs one
/// preemption of the task, between two of its reads.
const PREEMPTIONS: usize = 3;

#[test]
fn inv13_end_of_a_worker_against_a_task() {
    bounded("end of a worker against a task that waits for it", PREEMPTIONS, body::<Shipped>);
}

/// Runs the body over wrong designs. The model must catch them, and must pass the sound design of
/// the same shape.
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
