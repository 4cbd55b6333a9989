//! The connector for tokio.

use std::{
    io::ErrorKind,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::pki_types::ServerName;
use rustls_reload::{Event, Reload};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsAcceptor;

use crate::{
    common::{DEADLINE, Volume, drain, generations, sessions::KINDS},
    world::{bundle, client, files, renewed, server},
};

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Checks: INV-08, INV-09, INV-11.
#[test]
fn inv09_inv11_connection_learns_only_of_its_own_removed_root() {
    let all = generations(2);
    let both = bundle(&[&all[0], &all[1]]);
    for kind in KINDS {
        let mut volume = Volume::in_memory(&files(&all[0].client, &both));
        let tls = client(&volume).load().unwrap();
        let connector = tls.connector();
        let server = TlsAcceptor::from(server(&all[0].server, &[&all[0].ca], kind));
        let connect = async |name| {
            let (near, far) = duplex(1 << 16);
            let (ours, theirs) = tokio::join!(connector.connect(name, near), server.accept(far));
            ours.map(|ours| (ours, theirs.unwrap()))
        };
        runtime().block_on(async {
            let (mut ours, mut theirs) = connect(localhost()).await.unwrap();
            assert_eq!((ours.generation(), ours.trust_epoch()), (1, 1));
            // A renewal of the identity is no reduced trust, and the open connection goes on.
            volume.publish_in_one_tick(&files(&renewed(&all[0].ca), &both));
            assert_eq!(tls.reload().await, Reload::Reloaded);
            let (later, _) = connect(localhost()).await.unwrap();
            assert_eq!((later.generation(), later.trust_epoch()), (2, 2));
            assert!(!tls.trust_reduced_since(ours.generation()));
            volume.publish_in_one_tick(&files(&renewed(&all[0].ca), &bundle(&[&all[1]])));
            assert_eq!(tls.reload().await, Reload::Reloaded);
            assert_eq!(ours.trust_reduced.await, 3);
            assert_eq!(later.trust_reduced.await, 3);
            // It goes on nevertheless, until its owner closes it.
            ours.stream.write_all(b"ping").await.unwrap();
            let mut received = [0; 4];
            theirs.read_exact(&mut received).await.unwrap();
            assert_eq!(&received, b"ping");
            let error = connector
                .connect(localhost(), {
                    let (near, far) = duplex(1 << 16);
                    let server = server.clone();
                    tokio::spawn(async move { server.accept(far).await });
                    near
                })
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        });
    }
}

#[test]
fn inv11_a_root_that_goes_during_the_handshake_counts() {
    let all = generations(2);
    let mut volume = Volume::in_memory(&files(&all[0].client, &bundle(&[&all[0], &all[1]])));
    let tls = client(&volume).load().unwrap();
    let server = TlsAcceptor::from(server(&all[0].server, &[], KINDS[2]));
    runtime().block_on(async {
        let (near, far) = duplex(1 << 16);
        let connector = tls.connector();
        let (ours, theirs) = tokio::join!(connector.connect(localhost(), near), async {
            // The client's first message is on its way.
            volume.publish_in_one_tick(&files(&all[0].client, &bundle(&[&all[1]])));
            assert_eq!(tls.reload().await, Reload::Reloaded);
            server.accept(far).await
        });
        theirs.unwrap();
        let ours = ours.unwrap();
        assert_eq!(ours.generation(), 1);
        assert_eq!(tokio::time::timeout(DEADLINE / 6, ours.trust_reduced).await, Ok(2), "ready at once");
    });
}

#[test]
fn inv13_connect_to_a_silent_server_times_out_without_a_stop() {
    let all = generations(1);
    let volume = Volume::in_memory(&files(&all[0].client, &all[0].ca.pem));
    let runtime = runtime();
    let tls = runtime.block_on(client(&volume).start_async()).unwrap();
    let mut events = tls.events();
    let connector = tls.connector().handshake_timeout(Duration::from_millis(30));
    drop(tls);
    let start = Instant::now();
    let (near, _far) = duplex(1 << 16);
    let error = runtime.block_on(connector.connect(localhost(), near)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() < DEADLINE);
    assert!(connector.reloader().status().running);
    drop(connector);
    crate::common::expect(&mut events, "stop", |event| matches!(event, Event::Stopped).then_some(()));
}

#[test]
fn inv11_connection_over_a_reloader_never_started_is_reported() {
    let all = generations(1);
    let volume = Volume::in_memory(&files(&all[0].client, &all[0].ca.pem));
    let tls = client(&volume).load().unwrap();
    let mut events = tls.events();
    let server = TlsAcceptor::from(server(&all[0].server, &[], KINDS[2]));
    let connector = Arc::new(tls.connector());
    runtime().block_on(async {
        let (near, far) = duplex(1 << 16);
        let (ours, theirs) = tokio::join!(connector.connect(localhost(), near), server.accept(far));
        assert!(ours.is_ok() && theirs.is_ok());
    });
    let warning = crate::common::expect(&mut events, "warning", |event| match event {
        Event::Warning { warning } => Some(warning.clone()),
        _ => None,
    });
    assert!(warning.why().contains("never started"), "{warning}");
    assert_eq!(drain(&mut events), []);
}
