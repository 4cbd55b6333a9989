//! The shipped reloader with real files: each change of trust is reported once, and ends exactly
//! the connections that it has to end.

use std::{
    fs,
    future::Future,
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, pki_types::ServerName, version::TLS13};
use rustls_reload::{ClientAuth, Event, Reload, ServerReloader, Timing};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{
    cert_cache::CertCache,
    clients::{client, handshake},
    count::Count,
    oracle::Rule,
    server::Provider,
    world::{BUNDLES, CLIENTS, Cert, Client, LEAVES, LISTS, Leaf, Policy, State},
};

/// The states that are published one after the other, with an optional client certificate.
const WALK: [(usize, usize, usize); 14] = [
    // The columns are bundle, lists and leaf.
    (1, 6, 0),
    (1, 6, 1),
    (1, 7, 1),
    (1, 7, 6),
    (2, 7, 6),
    (1, 7, 6),
    (3, 7, 6),
    (1, 7, 6),
    (1, 6, 6),
    (1, 8, 3),
    (9, 8, 3),
    (9, 8, 4),
    (8, 8, 4),
    (8, 26, 4),
];

fn write(dir: &Path, cache: &CertCache, state: &State, leaf: &Leaf) {
    let lists: String = state.lists().iter().map(|list| cache.list_pem(list)).collect();
    let pair = cache.leaf(leaf);
    let files = [
        ("tls.crt", &pair.chain),
        ("tls.key", &pair.key),
        ("ca.crt", &cache.bundle(state.bundle)),
        ("ca.crl", &lists),
    ];
    files.into_iter().for_each(|(name, text)| fs::write(dir.join(name), text).unwrap());
}

/// Completes a handshake on the client's side, and keeps the connection open.
async fn connect(config: Arc<ClientConfig>, mut stream: DuplexStream) -> DuplexStream {
    let mut client = ClientConnection::new(config, ServerName::try_from("a.test").unwrap()).unwrap();
    let mut bytes = [0; 4096];
    loop {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        stream.write_all(&flight).await.unwrap();
        if !client.is_handshaking() {
            return stream;
        }
        let read = stream.read(&mut bytes).await.unwrap();
        let mut rest = &bytes[..read];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
    }
}

fn is_ready<F: Future>(future: F) -> bool {
    matches!(pin!(future).poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_))
}

pub fn walk(cache: &CertCache, provider: &Provider) -> Count {
    let (mut count, dir) = (Count::default(), tempfile::tempdir().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let state = |(bundle, lists, _): (usize, usize, usize)| State {
        bundle: BUNDLES[bundle],
        lists: Some(LISTS[lists]),
    };
    write(dir.path(), cache, &state(WALK[0]), &LEAVES[WALK[0].2]);
    // Files are not written while they are read, so they need not settle.
    let timing = Timing { settle: Duration::ZERO, shrink_settle: Duration::ZERO, ..Timing::default() };
    let policy = Policy { allow_unknown: true, ..Policy::default() };
    let path = |name| dir.path().join(name);
    let reloader = ServerReloader::builder(path("tls.crt"), path("tls.key"))
        .client_ca(path("ca.crt"), ClientAuth::Optional)
        .crl(path("ca.crl"))
        .allow_unknown_revocation_status()
        .provider(Arc::clone(&provider.crypto))
        .timing(timing)
        .load()
        .unwrap();
    let mut events = reloader.events();
    let resolved = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider.crypto))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(reloader.resolver());
    let resolved = Arc::new(resolved);
    let mut epoch = reloader.current().value.trust_epoch();
    for step in WALK.windows(2) {
        let (from, to) = (state(step[0]), state(step[1]));
        let what = || format!("{from:?} to {to:?}, leaf {:?}", LEAVES[step[1].2]);
        let shown: [Client; 2] = [None, Some(if step[0].0 == 8 { Cert::GoodB } else { Cert::Good })];
        let accepted = shown.map(|shown| {
            let shown = shown.map(|cert| cache.shown(cert, &provider.crypto));
            let config = Arc::new(client(shown, &TLS13, &provider.crypto));
            let (near, far) = tokio::io::duplex(1 << 14);
            let acceptor = reloader.acceptor();
            let both = async { tokio::join!(acceptor.accept(far), connect(config, near)) };
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), both).await.unwrap() })
        });
        count.handshakes += 2;
        write(dir.path(), cache, &to, &LEAVES[step[1].2]);
        let answer = reloader.reload_now();
        count.reloads += 1;
        count.combinations += 1;
        count.expect(matches!(answer, Reload::Reloaded), true, || format!("{answer:?}: {}", what()));
        let same = to.is_trust_of(&from, policy, Rule::Right)
            && LEAVES[step[0].2].identity(Rule::Right) == LEAVES[step[1].2].identity(Rule::Right);
        epoch += u64::from(!same);
        count.expect(reloader.current().value.trust_epoch(), epoch, || format!("the epoch: {}", what()));
        let verdict =
            |state: &State, client| state.verdict(client, ClientAuth::Optional, policy, Rule::Right).is_ok();
        let shrinks = CLIENTS.into_iter().any(|client| verdict(&from, client) && !verdict(&to, client));
        count.shrunk += usize::from(shrinks);
        let reported = std::iter::from_fn(|| events.try_next()).map(|reported| reported.event);
        let reported = reported.filter(|event| matches!(**event, Event::TrustReduced { .. })).count();
        count.expect(reported, usize::from(shrinks), || format!("events: {}", what()));
        for (accepted, _open) in accepted {
            let accepted = accepted.unwrap();
            let before = accepted.generation();
            count.expect(reloader.trust_reduced_since(before), shrinks, || format!("status: {}", what()));
            count.expect(is_ready(accepted.trust_reduced), shrinks, || format!("draining: {}", what()));
        }
        let now = reloader.current().generation;
        count.expect(is_ready(reloader.trust_reduced(now)), false, || format!("nothing after: {}", what()));
        // A client of the resolver alone gets the new certificate.
        let config = Arc::new(client(None, &TLS13, &provider.crypto));
        count.full(handshake(&resolved, &config, "a.test"), Ok(()), || format!("resolver: {}", what()));
        let leaf = reloader.current().value.leaf.fingerprint;
        let served = reloader.current().value.leaf_for(Some("a.test")).map(|leaf| leaf.fingerprint);
        count.expect(served, Some(leaf), || format!("the leaf: {}", what()));
    }
    count
}
