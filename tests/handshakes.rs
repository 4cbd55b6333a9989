//! Handshakes while the configuration is swapped beneath them: none fails, none mixes two generations.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)] // reason: a test may panic and print

mod common;

use std::sync::{
    Arc, Barrier,
    atomic::{AtomicUsize, Ordering},
};

use common::{Generation, Handshake, Shaken, Volume, client, generations};
use rustls::version::{TLS12, TLS13};
use rustls_reload::{ClientAuth, Timing};

const RELOADS: usize = 50;
const THREADS: usize = 2;
/// Begun and ended by each thread around each reload, besides the one that is held over it.
const AROUND: usize = 4;

/// Which generation a handshake belongs to; panics if its two halves belong to two.
fn whole(shaken: &Shaken, generations: &[Generation]) -> usize {
    let server = generations.iter().position(|g| g.server.leaf == *shaken.leaf()).unwrap();
    let client = shaken.client.as_ref().expect("required");
    let trusted = generations.iter().position(|g| g.client.leaf == *client).unwrap();
    assert_eq!(server, trusted, "the pair of one generation with the client CA of another");
    server
}

#[test]
fn inv01_inv04_no_handshake_fails_or_mixes_generations_while_fifty_reloads_go_on() {
    let generations = generations(RELOADS + 1);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume
        .server()
        .client_ca(volume.path("ca.crt"), ClientAuth::Required)
        .timing(Timing::default())
        .load()
        .unwrap();
    reloader.start().unwrap();
    let (done, held_over) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let gate = Barrier::new(THREADS + 1);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (generations, gate, reloader) = (&generations, &gate, &reloader);
            let (done, held_over) = (&done, &held_over);
            scope.spawn(move || {
                let clients = [client(generations, &[&TLS12]), client(generations, &[&TLS13])];
                let mut newest = 0;
                for reload in 1..=RELOADS {
                    // Half-way before the swap ...
                    let before = reloader.current();
                    let held = Handshake::begin(before, &clients[(thread + reload) % 2]).unwrap();
                    gate.wait();
                    // ... some while it goes on ...
                    for i in 0..AROUND {
                        let shaken = common::shake(&reloader.current(), &clients[i % 2]).unwrap();
                        let generation = whole(&shaken, generations);
                        assert!(generation >= newest, "an older generation after a newer one");
                        assert!((reload - 1..=reload).contains(&generation));
                        newest = generation;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    gate.wait();
                    // ... and ended after it, as what it began as.
                    assert_eq!(reloader.served().generation, reload as u64 + 1);
                    let generation = whole(&held.end().unwrap(), generations);
                    assert_eq!(generation, reload - 1, "it ends under its own snapshot");
                    done.fetch_add(1, Ordering::Relaxed);
                    held_over.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for reload in 1..=RELOADS {
            gate.wait();
            volume.publish(&generations[reload].files());
            let published = reloader.wait_published(reload as u64, common::DEADLINE).expect("published");
            assert_eq!(published.generation, reload as u64 + 1);
            gate.wait();
        }
    });
    let (done, held_over) = (done.into_inner(), held_over.into_inner());
    println!(
        "{done} handshakes in {THREADS} threads over {RELOADS} reloads, {held_over} of them held over a swap"
    );
    assert!(done >= THREADS * 200);
    assert!(held_over >= 20);
    assert_eq!(reloader.status().generation, RELOADS as u64 + 1);
}

#[test]
fn inv09_a_handshake_begun_before_a_swap_leaves_no_session_in_the_new_configuration() {
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let load = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required).load();
    let reloader = load.unwrap();
    for version in [&TLS12, &TLS13] {
        volume.publish(&generations[0].files());
        reloader.reload_now();
        let client = client(&generations, &[version]);
        let old = reloader.current();
        let held = Handshake::begin(Arc::clone(&old), &client).unwrap();
        volume.publish(&generations[1].files());
        assert_eq!(reloader.reload_now(), rustls_reload::Reload::Reloaded);
        assert!(!held.end().unwrap().resumed);
        let shaken = common::shake(&reloader.current(), &client).unwrap();
        assert!(!shaken.resumed, "a session of the old trust resumed in the new one");
        assert_eq!(whole(&shaken, &generations), 1);
        assert!(common::shake(&reloader.current(), &client).unwrap().resumed, "its own session resumes");
    }
}
