//! `axum::serve` over incoming connections.

use std::sync::Arc;

use axum::{Router, extract::ConnectInfo, routing::get};
use rustls::ClientConfig;
use rustls_reload::{ClientAuth, ConnectionInfo, Reload};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::client::TlsStream;

use super::world::handshake;
use crate::common::{self, Volume, generations};

/// Says what a handler knows of its connection.
async fn describe(ConnectInfo(info): ConnectInfo<ConnectionInfo>) -> String {
    let leaf = info.peer_certificates.map(|chain| chain[0].len());
    let alpn = info.alpn.map(|alpn| String::from_utf8_lossy(&alpn).into_owned());
    let (peer, generation, name) = (info.peer_addr, info.generation, info.server_name);
    format!("{peer} {generation} {name:?} {alpn:?} {leaf:?}")
}

/// Sends a request and returns the body of the answer.
async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body.to_owned()
}

#[tokio::test]
async fn inv07_axum_serves_beside_a_silent_client_and_knows_its_peers() {
    let all = generations(2);
    let mut volume = Volume::of(&all[0]);
    let server = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required).alpn(["http/1.1"]);
    let reloader = server.load().unwrap();
    let incoming = reloader.incoming(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let app = Router::new().route("/", get(describe));
    let app = app.into_make_service_with_connect_info::<ConnectionInfo>();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = axum::serve(incoming, app);
    let address = serving.local_addr().unwrap();
    let serving = serving.with_graceful_shutdown(async { stopped.await.unwrap() });
    let serving = tokio::spawn(async move { serving.await });
    let connect = async |number: usize| {
        let stream = TcpStream::connect(address).await.unwrap();
        let from = stream.local_addr().unwrap();
        let mut config = ClientConfig::clone(&common::client_of(&all[number], Some(&all[number])));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        (from, handshake(&Arc::new(config), stream).await)
    };
    let silent = TcpStream::connect(address).await.unwrap();
    for (number, generation) in [(0, 1), (1, 2)] {
        if generation == 2 {
            volume.publish(&all[1].files());
            assert_eq!(reloader.reload_now(), Reload::Reloaded);
        }
        let (from, stream) = connect(number).await;
        let leaf = all[number].client.leaf.len();
        let wanted = format!(r#"{from} {generation} Some("localhost") Some("http/1.1") Some({leaf})"#);
        assert_eq!(ask(&mut stream.unwrap()).await, wanted);
    }
    // The silent client is not waited for.
    stop.send(()).unwrap();
    tokio::time::timeout(common::DEADLINE, serving).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
    drop(silent);
}
