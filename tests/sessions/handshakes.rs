//! Handshakes while the configuration is swapped: none fails, and none mixes two generations.

use std::sync::{
    Arc, Barrier,
    atomic::{AtomicUsize, Ordering},
};

use crate::common::{self, CompletedHandshake, Generation, Handshake, Volume, client, generations};
use rustls::version::{TLS12, TLS13};
use rustls_reload::{ClientAuth, Timing};

const RELOADS: usize = 50;
const THREADS: usize = 2;
/// Number of handshakes that each thread makes around each reload, besides the one that it holds
/// over it.
const AROUND: usize = 4;

/// Returns the generation of a handshake. Panics if its two sides belong to different ones.
fn whole(connection: &CompletedHandshake, generations: &[Generation]) -> usize {
    let server = generations.iter().position(|g| g.server.leaf == *connection.leaf()).unwrap();
    let client = connection.client.as_ref().expect("required");
    let trusted = generations.iter().position(|g| g.client.leaf == *client).unwrap();
    assert_eq!(server, trusted, "the pair of one generation with the client CA of another");
    server
}

#[test]
fn inv01_inv04_handshakes_over_reloads_mix_no_generations() {
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
                    // One handshake is half-way before the swap.
                    let before = reloader.config();
                    let held = Handshake::begin(before, &clients[(thread + reload) % 2]).unwrap();
                    gate.wait();
                    // Several handshakes are made during the swap.
                    for i in 0..AROUND {
                        let connection = common::handshake(&reloader.config(), &clients[i % 2]).unwrap();
                        let generation = whole(&connection, generations);
                        assert!(generation >= newest, "an older generation after a newer one");
                        assert!((reload - 1..=reload).contains(&generation));
                        newest = generation;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    gate.wait();
                    // The first one ends after the swap, in the generation that it began with.
                    assert_eq!(reloader.current().generation, reload as u64 + 1);
                    let generation = whole(&held.end().unwrap(), generations);
                    assert_eq!(generation, reload - 1, "it ends under its own snapshot");
                    done.fetch_add(1, Ordering::Relaxed);
                    held_over.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for (reload, generation) in generations.iter().enumerate().skip(1) {
            gate.wait();
            volume.publish(&generation.files());
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
fn inv09_handshake_over_a_swap_leaves_no_session_in_the_new_config() {
    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let load = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required).load();
    let reloader = load.unwrap();
    for version in [&TLS12, &TLS13] {
        volume.publish(&generations[0].files());
        reloader.reload_now();
        let client = client(&generations, &[version]);
        let old = reloader.config();
        let held = Handshake::begin(Arc::clone(&old), &client).unwrap();
        volume.publish(&generations[1].files());
        assert_eq!(reloader.reload_now(), rustls_reload::Reload::Reloaded);
        assert!(!held.end().unwrap().resumed);
        let connection = common::handshake(&reloader.config(), &client).unwrap();
        assert!(!connection.resumed, "a session of the old trust resumed in the new one");
        assert_eq!(whole(&connection, &generations), 1);
        assert!(common::handshake(&reloader.config(), &client).unwrap().resumed, "its own session resumes");
    }
}

#[test]
fn inv07_tokio_acceptor_serves_the_current_configuration() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let generations = generations(2);
    let mut volume = Volume::of(&generations[0]);
    let server = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required);
    let reloader = server.load().unwrap();
    let client = client(&generations, &[&TLS12, &TLS13]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connect = async || {
            let (here, there) = tokio::join!(
                async {
                    let tcp = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                    let name = "localhost".try_into().unwrap();
                    tokio_rustls::TlsConnector::from(Arc::clone(&client)).connect(name, tcp).await.unwrap()
                },
                async {
                    let (tcp, _) = listener.accept().await.unwrap();
                    reloader.acceptor().accept(tcp).await.unwrap()
                }
            );
            (here, there)
        };
        let (mut old_client, mut old) = connect().await;
        volume.publish(&generations[1].files());
        assert_eq!(reloader.reload().await, rustls_reload::Reload::Reloaded);
        let (new_client, new) = connect().await;
        for (i, (client, accepted)) in [(&old_client, &old), (&new_client, &new)].into_iter().enumerate() {
            assert_eq!(accepted.served.generation, i as u64 + 1);
            assert_eq!(client.get_ref().1.peer_certificates().unwrap()[0], generations[i].server.leaf);
            let shown = accepted.stream.get_ref().1.peer_certificates().unwrap();
            assert_eq!(shown[0], generations[i].client.leaf);
        }
        // A connection that was opened before still works.
        old_client.write_all(b"still").await.unwrap();
        let mut received = [0; 5];
        old.stream.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"still");
    });
}
