//! A stop within a manual reload of two file sets, after the first was published. Nobody drives but
//! the caller of the reload.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustls_reload::Reload;

use super::Whole;
use crate::common::{self, generations, quick};

#[test]
fn inv13_inv16_reload_that_published_a_set_before_a_stop_says_so() {
    let (_dir, write, server) = two_pairs();
    let place: Whole = Arc::default();
    let in_callback = Arc::clone(&place);
    let server = server.on_publish(move |_| {
        let _ = in_callback.get().and_then(Weak::upgrade).unwrap().stop();
    });
    let reloader = Arc::new(server.load().unwrap());
    place.set(Arc::downgrade(&reloader)).unwrap();
    write(1);
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    assert_eq!(reloader.current().generation, 2, "the second set was published after the stop");
    // Nothing was published for this one.
    assert_eq!(reloader.reload_now(), Reload::Stopped);
}

/// A start follows the stop within the callback. The second set is not asserted to be complete then.
#[test]
fn inv01_inv13_start_within_a_manual_reload_lets_further_sets_settle() {
    let (_dir, write, server) = two_pairs();
    let place: Whole = Arc::default();
    let (in_callback, once) = (Arc::clone(&place), AtomicBool::new(false));
    let settle = Duration::from_secs(1);
    let server = server.timing(rustls_reload::Timing { settle, ..quick() }).on_publish(move |_| {
        if !once.swap(true, Ordering::Relaxed) {
            let reloader = in_callback.get().and_then(Weak::upgrade).unwrap();
            let _ = reloader.stop();
            reloader.start().unwrap();
        }
    });
    let reloader = Arc::new(server.load().unwrap());
    place.set(Arc::downgrade(&reloader)).unwrap();
    let writing = Instant::now();
    write(1);
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    assert!(reloader.wait_published(2, common::DEADLINE).is_some());
    assert!(writing.elapsed() >= settle, "served after {:?}, as if by hand", writing.elapsed());
    reloader.stop().unwrap();
}

/// Returns a directory with two pairs in files of their own, a function that writes further ones,
/// and the builder of a server with both.
fn two_pairs() -> (tempfile::TempDir, impl Fn(usize), rustls_reload::ServerBuilder) {
    let generations = generations(2);
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let write = move |number: usize| {
        for name in ["tls", "more"] {
            let pair = &generations[number].server;
            std::fs::write(root.join(format!("{name}.crt")), &pair.chain).unwrap();
            std::fs::write(root.join(format!("{name}.key")), &pair.key).unwrap();
        }
    };
    write(0);
    let path = |name: &str| dir.path().join(name);
    let server = common::server_in(dir.path()).pair_for(["more.test"], path("more.crt"), path("more.key"));
    (dir, write, server.timing(quick()))
}
