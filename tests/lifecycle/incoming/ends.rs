//! The ends of a stream of accepted connections: a close, a drop, and the last owner's.

use std::{error::Error as StdError, future::poll_fn, io, pin::Pin, time::Duration};

use futures_core::Stream;
use rustls::version::TLS13;
use rustls_reload::{Event, HANDSHAKE_LIMIT, HandshakeFailure};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::Instant,
};

use super::{
    server,
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
