//! A hundred clients connect repeatedly while the pair is renewed. Each of them resumes each time,
//! as long as the cache has room for their sessions, and none resumes once its CA is removed.

use std::sync::Arc;

use crate::common::{
    Generation, Volume, client, generations, handshake,
    sessions::{KINDS, Kind, Rule, Sessions},
};
use rustls::{ClientConfig, version::TLS13};
use rustls_reload::{ClientAuth, Reload, ServerReloader};
use rustls_reload_testkit::{Pair, PrivateKey, Subject};

const CLIENTS: usize = 100;
/// Number of handshakes of each client.
const ROUNDS: usize = 5;
/// Number of handshakes between two renewals: about the work of a core in 10 ms.
const BETWEEN: usize = 10;

fn clients(of: &Generation, kind: Kind) -> Vec<Arc<ClientConfig>> {
    let of = std::slice::from_ref(of);
    (0..CLIENTS).map(|_| client(of, &[kind.0])).collect()
}

/// Makes pairs of one name, for the renewals.
fn pairs(of: &Generation) -> Vec<Pair> {
    let subject = Subject::server("localhost");
    (0..8).map(|_| of.ca.issue(&subject, &PrivateKey::p256())).collect()
}

/// Returns how many handshakes of all rounds but the first are resumed, and the number of renewals.
fn rate(all: &[Generation], kind: Kind, rule: Rule) -> (usize, usize) {
    let (pairs, cas) = (pairs(&all[0]), all[0].ca.pem.clone() + &all[1].ca.pem);
    let files = |pair: &'_ Pair, cas: &'_ str| {
        [("tls.crt", pair.chain.clone()), ("tls.key", pair.key.clone()), ("ca.crt", cas.to_owned())]
    };
    let first = files(&pairs[0], &cas);
    let mut server =
        Sessions::new(&first.each_ref().map(|(n, b)| (*n, b.as_bytes())), "localhost", kind.1, rule);
    let publish = |server: &mut Sessions, pair: &Pair, cas: &str| {
        let files = files(pair, cas);
        server.publish(&files.each_ref().map(|(name, bytes)| (*name, bytes.as_bytes())), "localhost")
    };
    let clients = clients(&all[0], kind);
    let (mut resumed, mut renewals) = (0, 0);
    for round in 0..=ROUNDS {
        for (i, client) in clients.iter().enumerate() {
            if i % BETWEEN == 0 {
                renewals += 1;
                assert_eq!(publish(&mut server, &pairs[renewals % pairs.len()], &cas), Reload::Reloaded);
            }
            resumed += usize::from(handshake(&server.current(), client).unwrap().resumed);
            assert!(round > 0 || resumed == 0);
        }
    }
    // The CA of all clients is removed.
    assert_eq!(publish(&mut server, &pairs[0], &all[1].ca.pem), Reload::Reloaded);
    let let_in = clients.iter().filter(|client| handshake(&server.current(), client).is_ok()).count();
    assert!(rule != Rule::Shipped || let_in == 0, "{let_in} let in after their CA was removed");
    (resumed, renewals)
}

#[test]
fn inv08_inv09_a_hundred_clients_resume_until_their_ca_goes() {
    let all = generations(2);
    let total = ROUNDS * CLIENTS;
    for kind in KINDS {
        let (resumed, renewals) = rate(&all, kind, Rule::Shipped);
        let percent = 100.0 * resumed as f64 / total as f64;
        println!(
            "{:?}, tickets {}: {CLIENTS} clients, {renewals} renewals: {resumed} of {total} resumed ({percent:.1} %), \
             0 of {CLIENTS} after their CA was removed",
            kind.0.version, kind.1
        );
        assert_eq!(resumed, total);
    }
    let (resumed, _) = rate(&all, (&TLS13, false), Rule::FreshAlways);
    println!("fresh at each renewal: {resumed} of {total}");
    assert_eq!(resumed, 0, "ten renewals lie between two handshakes of a client");
}

/// Returns how many of a hundred clients of TLS 1.3 resume in the third round, with room for this
/// many sessions.
fn with_room(all: &[Generation], sessions: usize) -> usize {
    let mut volume = Volume::of(&all[0]);
    let server = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required);
    let server: ServerReloader = server.session_cache(sessions).load().unwrap();
    let (clients, pairs) = (clients(&all[0], (&TLS13, false)), pairs(&all[0]));
    let mut resumed = 0;
    for pair in &pairs[..3] {
        let mut files = all[0].files();
        (files[0].1, files[1].1) = (pair.chain.as_bytes(), pair.key.as_bytes());
        volume.publish_in_one_tick(&files);
        assert_eq!(server.reload_now(), Reload::Reloaded);
        resumed =
            clients.iter().filter(|client| handshake(&server.config(), client).unwrap().resumed).count();
    }
    resumed
}

#[test]
fn inv08_cache_needs_room_for_two_sessions_a_tls13_client() {
    let all = generations(1);
    assert_eq!(with_room(&all, 2 * CLIENTS), CLIENTS);
    assert_eq!(with_room(&all, CLIENTS), 0, "the oldest is forgotten for a new one");
}
