//! Starts, stops and reloads that race with one another on threads.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::common::{self, Generation, Volume, generations};
use rustls_reload::Reload;

/// Pauses between two requests. Without it, Wine would keep a lock that is taken repeatedly from
/// other threads for seconds.
fn pause() {
    if cfg!(windows) { thread::sleep(Duration::from_millis(1)) } else { std::hint::spin_loop() }
}

#[test]
fn inv13_a_stop_that_races_with_starts_ends_its_own_run_only() {
    let volume = Volume::of(&Generation::new(0));
    let reloader = volume.server().load().unwrap();
    let (mut ended, done) = (Ok(()), AtomicBool::new(false));
    thread::scope(|scope| {
        // This thread starts the reloader again as soon as that is allowed.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if !reloader.status().running {
                    let _ = reloader.start();
                }
                pause();
            }
        });
        for _ in 0..300 {
            while !reloader.status().running {
                pause();
            }
            ended = reloader.stop();
            if ended.is_err() {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(ended, Ok(()), "a stop waited for another run than its own");
    reloader.stop().unwrap();
    assert!(!reloader.status().running);
}

#[test]
fn inv13_threads_may_reload_while_it_is_started_and_stopped() {
    let generations = generations(21);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().load().unwrap();
    let done = AtomicBool::new(false);
    let answers = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let answer = reloader.reload_now();
                    answers.lock().unwrap().push(answer);
                }
            });
        }
        for next in &generations[1..] {
            reloader.start().unwrap();
            volume.publish(&next.files());
            common::wait_for_leaf(&reloader, &next.server);
            reloader.stop().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let answers = answers.into_inner().unwrap();
    let known = |answer: &Reload| matches!(answer, Reload::Reloaded | Reload::Unchanged | Reload::Stopped);
    assert!(answers.iter().all(known), "{:?}", answers.iter().find(|answer| !known(answer)));
    assert_eq!(reloader.status().generation, 21);
}
