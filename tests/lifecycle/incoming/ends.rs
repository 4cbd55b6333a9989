//! The ends of a stream of accepted connections: a close, a drop, and the last owner's.

use std::{
    error::Error as StdError,
    future::poll_fn,
    io::{self, Write},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_core::Stream;
use rustls::{ClientConnection, version::TLS13};
use rustls_reload::{Accepted, ClientAuth, Event, HANDSHAKE_LIMIT, HandshakeFailure, Reload};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::{
    busy::Counting,
    files, server,
    world::{echo, handshake, is_answered, queue, reporting, rest},
};
use crate::common::{self, Volume, client, expect, generations};

#[tokio::test(start_paused = true)]
async fn inv13_close_finishes_handshakes_and_accepts_no_more() {
    let (generation, reloader) = server();
    let config = client(std::slice::from_ref(&generation), &[&TLS13]);
    let (sender, listener) = queue();
    let (mut incoming, mut failures) = reporting(reloader.incoming(listener));
    let client = sender.connect();
    let (open, connection) = tokio::join!(incoming.accept(), handshake(&config, client));
    let (open, mut connection) = (tokio::spawn(echo(open.unwrap())), connection.unwrap());
    let (begun, mut silent) = (sender.connect(), sender.connect());
    rest(&mut incoming, Duration::from_millis(1)).await;
    assert!(incoming.local_addr().is_ok());
    incoming.close();
    assert_eq!(incoming.local_addr().unwrap_err().kind(), io::ErrorKind::NotConnected);
    let mut late = sender.connect();
    assert_eq!(late.read(&mut [0]).await.unwrap(), 0, "nobody accepts it");
    let (finished, ended) = tokio::join!(incoming.accept(), handshake(&config, begun));
    assert_eq!(finished.unwrap().peer_addr, 2);
    ended.unwrap();
    let begin = Instant::now();
    assert!(incoming.accept().await.is_none());
    assert!(begin.elapsed() <= HANDSHAKE_LIMIT, "the silent client's limit");
    assert_eq!(failures.try_recv(), Ok((3, HandshakeFailure::TimedOut)));
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    assert!(incoming.accept().await.is_none(), "it stays at its end");
    drop(incoming);
    is_answered(&mut connection).await.unwrap();
    open.abort();
}

/// Checks: INV-13, INV-09, INV-11. The close and then a reduction of trust, over TCP: half a
/// handshake is finished under the trust that it began with, and each connection gets the signal to drain.
#[tokio::test]
async fn inv13_close_over_tcp_finishes_half_a_handshake_and_drains() {
    let all = generations(2);
    let both = all[0].ca.pem.clone() + &all[1].ca.pem;
    let mut volume = Volume::new(&files(&all[0].server, &both));
    let reloader = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required).load().unwrap();
    let config = common::client_of(&all[0], Some(&all[1]));
    let (sender, mut begun) = watch::channel(0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut incoming = reloader.incoming(Counting(listener, sender));
    let address = incoming.local_addr().unwrap();
    let connecting = async { handshake(&config, TcpStream::connect(address).await.unwrap()).await };
    let (open, connection) = tokio::join!(incoming.accept(), connecting);
    let (Accepted { stream, trust_reduced, .. }, mut connection) = (open.unwrap(), connection.unwrap());
    let open = tokio::spawn(echo(stream));

    let mut half = ClientConnection::new(Arc::clone(&config), "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    half.write_tls(&mut hello).unwrap();
    let remainder = hello.split_off(hello.len() / 2);
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(&hello).await.unwrap();
    tokio::select! {
        accepted = incoming.accept() => panic!("{accepted:?}"),
        count = begun.wait_for(|count| *count == 2) => drop(count.unwrap()),
    }
    incoming.close();
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "nobody listens");
    // The echo's task runs after the one of the half handshake, which has begun by then.
    is_answered(&mut connection).await.unwrap();

    volume.publish_in_one_tick(&files(&all[0].server, &all[0].ca.pem));
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    assert_eq!(timeout(common::DEADLINE, trust_reduced).await, Ok(2));
    is_answered(&mut connection).await.unwrap();
    let finishing = spawn_blocking(move || {
        let mut tcp = tcp.into_std().unwrap();
        tcp.set_nonblocking(false).unwrap();
        tcp.write_all(&remainder).unwrap();
        while half.is_handshaking() {
            half.complete_io(&mut tcp).unwrap();
        }
        tcp
    });
    let both = async { tokio::join!(incoming.accept(), finishing) };
    let (accepted, finished) = timeout(common::DEADLINE, both).await.unwrap();
    let (accepted, finished) = (accepted.unwrap(), finished.unwrap());
    assert_eq!(accepted.generation(), 1, "it goes by the trust that it began with");
    assert_eq!(timeout(common::DEADLINE, accepted.trust_reduced).await, Ok(2));
    assert!(timeout(common::DEADLINE, incoming.accept()).await.unwrap().is_none());
    is_answered(&mut connection).await.unwrap();
    drop(finished);
    open.abort();
}

#[tokio::test(start_paused = true)]
async fn inv13_drop_gives_up_handshakes_and_keeps_connections() {
    let (generation, reloader) = server();
    let config = client(std::slice::from_ref(&generation), &[&TLS13]);
    let (sender, listener) = queue();
    let mut incoming = reloader.incoming(listener);
    let client = sender.connect();
    let (open, connection) = tokio::join!(incoming.accept(), handshake(&config, client));
    let (open, mut connection) = (tokio::spawn(echo(open.unwrap())), connection.unwrap());
    let mut begun: Vec<_> = (0..20).map(|_| sender.connect()).collect();
    rest(&mut incoming, Duration::from_millis(1)).await;
    assert_eq!(sender.counters.accepted(), 21);
    let begin = Instant::now();
    drop(incoming);
    for client in &mut begun {
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "the connection is closed");
    }
    assert_eq!(begin.elapsed(), Duration::ZERO, "at once, and not by a time limit");
    is_answered(&mut connection).await.unwrap();
    open.abort();
}

#[tokio::test]
async fn inv13_incoming_alone_keeps_reloading_until_it_is_dropped() {
    let all = generations(2);
    let mut volume = Volume::of(&all[0]);
    let reloader = volume.server().timing(common::by_events_only()).start_async().await.unwrap();
    let (mut events, published) = (reloader.events(), reloader.published(1));
    let (sender, listener) = queue();
    let mut incoming = reloader.incoming(listener);
    drop(reloader);
    volume.publish(&all[1].files());
    assert_eq!(tokio::time::timeout(common::DEADLINE, published).await.unwrap().generation, 2);
    let (client, config) = (sender.connect(), client(&all[1..], &[&TLS13]));
    let (accepted, connection) = tokio::join!(incoming.accept(), handshake(&config, client));
    assert!(accepted.is_some() && connection.is_ok());
    drop(incoming);
    expect(&mut events, "stop", |event| matches!(event, Event::Stopped).then_some(()));
}

/// Takes what tonic's `serve_with_incoming` takes, with its bounds; returns the next item.
async fn next_as_tonic<S, IO, E>(incoming: &mut S) -> Option<IO>
where
    S: Stream<Item = Result<IO, E>> + Unpin,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    let next = poll_fn(|cx| Pin::new(&mut *incoming).poll_next(cx)).await;
    next.map(|item| item.map_err(Into::into).unwrap())
}

#[tokio::test]
async fn inv13_stream_yields_connections_and_ends_after_close() {
    let (generation, reloader) = server();
    let config = client(std::slice::from_ref(&generation), &[&TLS13]);
    let (sender, listener) = queue();
    let mut incoming = reloader.incoming(listener);
    let client = sender.connect();
    let (accepted, connection) = tokio::join!(next_as_tonic(&mut incoming), handshake(&config, client));
    assert!(accepted.is_some() && connection.is_ok());
    incoming.close();
    assert!(next_as_tonic(&mut incoming).await.is_none());
}
