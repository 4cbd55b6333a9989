//! CRLs, tested by real handshakes: which clients they refuse, which lists are refused,
//! and that no session outlives them.
//!
//! The examples share one small world, so they stay in one file.

mod rejected_lists;

use std::{
    fs,
    ops::Deref,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use crate::common::{
    self, Generation, NamedFile, Volume, client_with, handshake, published,
    sessions::{KINDS, Kind, Rule, Sessions},
};
use rustls::{
    ClientConfig,
    pki_types::CertificateDer,
    version::{TLS12, TLS13},
};
use rustls_reload::{
    ClientAuth, Event, Events, Layer, Reload, RemovedTrust, ServerBuilder, ServerReloader, ServerTls,
};
use rustls_reload_testkit::{Authority, Crl, Pair, PrivateKey, Subject};

const HOUR: Duration = Duration::from_secs(3600);
const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Returns a validity from an hour ago until an hour from now, shifted by some seconds.
fn window(later: u64) -> (SystemTime, SystemTime) {
    let (now, later) = (SystemTime::now(), Duration::from_secs(later));
    (now - HOUR + later, now + HOUR + later)
}

/// Returns a validity from two hours ago until an hour ago.
fn over() -> (SystemTime, SystemTime) {
    (SystemTime::now() - 2 * HOUR, SystemTime::now() - HOUR)
}

fn list(of: &Authority, revoked: &[&Pair], number: u64) -> Crl {
    of.crl(&leaves(revoked), window(number), number)
}

fn leaves<'a>(pairs: &[&'a Pair]) -> Vec<&'a CertificateDer<'static>> {
    pairs.iter().map(|pair| &pair.leaf).collect()
}

/// A CA, a server, and clients of it.
struct World {
    of: Generation,
    /// A client that lists revoke here, and one that they do not.
    bad: Pair,
    good: Pair,
}

impl World {
    fn new() -> Self {
        let of = Generation::new(0);
        let client = |name| of.ca.issue(&Subject::client(name), &PrivateKey::p256());
        Self { bad: client("bad"), good: client("good"), of }
    }

    fn files<'a>(&'a self, lists: &'a (impl AsRef<[u8]> + ?Sized)) -> [NamedFile<'a>; 4] {
        self.with(&self.of.ca.pem, lists)
    }

    fn with<'a>(&'a self, bundle: &'a str, lists: &'a (impl AsRef<[u8]> + ?Sized)) -> [NamedFile<'a>; 4] {
        let [chain, key, _] = self.of.files();
        [chain, key, ("ca.crt", bundle.as_bytes()), ("ca.crl", lists.as_ref())]
    }

    fn lists(&self, revoked: &[&Pair], number: u64) -> String {
        list(&self.of.ca, revoked, number).pem
    }

    /// Returns a client that shows this pair.
    fn client(&self, shown: &Pair, kind: Kind) -> Arc<ClientConfig> {
        client_with(&[&self.of.ca], Some(shown), &[kind.0])
    }

    /// Returns whether each of them is let in, which is the same in both versions.
    fn let_in<const N: usize>(&self, server: &ServerReloader, shown: [&Pair; N]) -> [bool; N] {
        let [old, new] = VERSIONS.map(|version| {
            shown.map(|shown| {
                let client = client_with(&[&self.of.ca], Some(shown), &[version]);
                handshake(&server.config(), &client).is_ok()
            })
        });
        assert_eq!(old, new, "TLS 1.2 and 1.3 differ");
        new
    }
}

/// Returns the builder of a server that requires client certificates and has the lists in `ca.crl`.
fn server(volume: &Volume) -> ServerBuilder {
    volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required).crl(volume.path("ca.crl"))
}

/// A server, and the warnings about CRLs that it has reported.
struct Reporting(ServerReloader, Arc<Mutex<Vec<String>>>);

impl Deref for Reporting {
    type Target = ServerReloader;

    fn deref(&self) -> &ServerReloader {
        &self.0
    }
}

fn reporting(server: ServerBuilder) -> Reporting {
    let reported = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&reported);
    let server = server.on_event(move |event| match event {
        Event::Warning { warning } if warning.layer() == Layer::Crl => {
            sink.lock().unwrap().push(warning.to_string())
        }
        _ => {}
    });
    Reporting(server.load().unwrap(), reported)
}

/// Returns the warnings since the last call.
fn warnings(server: &Reporting) -> Vec<String> {
    std::mem::take(&mut *server.1.lock().unwrap())
}

fn one(mut all: Vec<String>) -> String {
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Checks the sessions of two clients when a list is issued anew, and when it revokes one of them.
fn grows(kind: Kind, rule: Rule) -> Result<(), String> {
    let world = World::new();
    let mut server = Sessions::new(&world.files(&world.lists(&[], 1)), "localhost", kind.1, rule);
    let clients = [&world.bad, &world.good].map(|shown| world.client(shown, kind));
    let resumed = |server: &Sessions, client: &Arc<ClientConfig>| {
        handshake(&server.current(), client)
            .map(|connection| connection.resumed)
            .map_err(|error| error.to_string())
    };
    for client in &clients {
        assert_eq!((resumed(&server, client), resumed(&server, client)), (Ok(false), Ok(true)));
    }
    // The list is issued anew with another date and number, which is only a renewal.
    let mut events = server.reloader.events();
    let shrunk = |events: &mut Events<ServerTls>| {
        common::drain(events).iter().filter(|event| matches!(***event, Event::TrustReduced { .. })).count()
    };
    assert_eq!(server.publish(&world.files(&world.lists(&[], 2)), "localhost"), Reload::Reloaded);
    for client in &clients {
        if !resumed(&server, client)? {
            return Err("INV-08: a session did not resume over a list that lists the same".to_owned());
        }
    }
    assert_eq!((server.reloader.current().value.trust_epoch(), shrunk(&mut events)), (1, 0));
    // The list revokes one of them.
    assert_eq!(server.publish(&world.files(&world.lists(&[&world.bad], 3)), "localhost"), Reload::Reloaded);
    if let Ok(resumed) = resumed(&server, &clients[0]) {
        return Err(format!("INV-09: a revoked client was let in, resumed: {resumed}"));
    }
    assert_eq!((resumed(&server, &clients[1])?, resumed(&server, &clients[1])?), (false, true));
    assert_eq!((server.reloader.current().value.trust_epoch(), shrunk(&mut events)), (2, 1));
    // The revocation is withdrawn. Earlier sessions stay invalid.
    assert_eq!(server.publish(&world.files(&world.lists(&[], 4)), "localhost"), Reload::Reloaded);
    assert_eq!((resumed(&server, &clients[0])?, resumed(&server, &clients[0])?), (false, true));
    assert_eq!((server.reloader.current().value.trust_epoch(), shrunk(&mut events)), (3, 0));
    Ok(())
}

#[test]
fn inv09_newly_revoked_client_and_its_sessions_are_rejected() {
    for kind in KINDS {
        assert_eq!(grows(kind, Rule::Shipped), Ok(()), "{kind:?}");
        // The check also catches the rule that ignores lists, and the rule that makes new storage
        // at each renewal.
        let why = grows(kind, Rule::ForgetsLists).unwrap_err();
        println!("ForgetsLists, {:?}, tickets {}: {why}", kind.0.version, kind.1);
        assert_eq!(why, "INV-09: a revoked client was let in, resumed: true", "{kind:?}");
        let why = grows(kind, Rule::FreshAlways).unwrap_err();
        assert!(why.starts_with("INV-08"), "{kind:?}: {why}");
    }
}

#[test]
fn inv05_a_list_that_grows_on_disk_counts_without_a_restart() {
    let world = World::new();
    let mut volume = Volume::new(&world.files(&world.lists(&[], 1)));
    let server = reporting(server(&volume).timing(common::by_events_only()));
    let mut events = server.events();
    server.start().unwrap();
    common::started(&mut events);
    let one_more = [RemovedTrust::Revocation { issuer: "CN=CA 0".to_owned(), more: 1 }];
    let shrunk = |events: &mut Events<ServerTls>| {
        let lost = common::expect(events, "a smaller trust", |event| match event {
            Event::TrustReduced { lost, .. } => Some(lost.clone()),
            _ => None,
        });
        assert_eq!(lost, one_more);
    };
    assert_eq!(world.let_in(&server, [&world.bad, &world.good]), [true, true]);
    // The list is in DER here.
    volume.publish(&world.files(&list(&world.of.ca, &[&world.bad], 2).der));
    published(&mut events);
    shrunk(&mut events);
    assert_eq!(world.let_in(&server, [&world.bad, &world.good]), [false, true]);
    assert_eq!(warnings(&server), [""; 0]);
    // The list is replaced alone, and in place.
    common::replace(
        &fs::canonicalize(volume.path("ca.crl")).unwrap(),
        world.lists(&[&world.bad, &world.good], 3).as_bytes(),
    );
    published(&mut events);
    shrunk(&mut events);
    assert_eq!(world.let_in(&server, [&world.bad, &world.good]), [false, false]);
}

#[test]
fn inv02_expired_crl_rejects_clients_and_replaces_no_valid_one() {
    let world = World::new();
    let expired = |number| world.of.ca.crl(&leaves(&[&world.bad]), over(), number).pem;
    let mut volume = Volume::new(&world.files(&expired(1)));
    let strict = reporting(server(&volume));
    let lenient = reporting(server(&volume).ignore_revocation_expiration());
    let both = [&world.bad, &world.good];
    // After a first load either no client is let in, or every client that is not revoked.
    for (server, accepted, how) in [
        (&strict, [false, false], "no client of it is let in"),
        (&lenient, [false, true], "it counts all the same"),
    ] {
        assert_eq!(world.let_in(server, both), accepted);
        let reported = one(warnings(server));
        assert!(reported.contains("has expired at") && reported.ends_with(how), "{reported}");
    }
    // Another expired list replaces it with a warning, and a valid list without one. A valid list
    // is never replaced by an expired one.
    let rows = [(expired(2), true, 1), (world.lists(&[&world.bad], 3), true, 0), (expired(4), false, 0)];
    for (i, (lists, taken, reported)) in rows.iter().enumerate() {
        volume.publish_in_one_tick(&world.files(lists));
        for server in [&strict, &lenient] {
            let (answer, warned) = (server.reload_now(), warnings(server));
            assert_eq!(answer == Reload::Reloaded, *taken, "{i}: {answer:?}");
            assert_eq!(warned.len(), *reported, "{i}: {warned:?}");
            if let Reload::Refused(error) = answer {
                assert_eq!(
                    (error.layer(), error.path()),
                    (Layer::Crl, Some(volume.path("ca.crl").as_path()))
                );
            }
            assert_eq!(world.let_in(server, both), [false, i > 0 || std::ptr::eq(server, &lenient)], "{i}");
        }
    }
}

#[test]
fn inv02_client_of_a_ca_without_crl_is_rejected_unless_allowed() {
    let (world, other) = (World::new(), Generation::new(1));
    let bundle = format!("{}{}", world.of.ca.pem, other.ca.pem);
    let (ours, foreign) = (world.lists(&[&world.bad], 1), list(&Authority::root("stranger"), &[], 1).pem);
    let mut volume = Volume::new(&world.with(&bundle, &ours));
    let strict = reporting(server(&volume));
    let lenient = reporting(server(&volume).allow_unknown_revocation_status());
    let all = [&world.bad, &world.good, &other.client];
    assert_eq!(world.let_in(&strict, all), [false, true, false]);
    assert_eq!(world.let_in(&lenient, all), [false, true, true]);
    let reported = one(warnings(&strict));
    assert!(reported.contains("CN=CA 1") && reported.ends_with("no client of it is let in"), "{reported}");
    assert_eq!(warnings(&lenient), [""; 0]);
    // A list of a CA outside of the bundle changes nothing, and counts as the list of no other CA.
    volume.publish_in_one_tick(&world.with(&bundle, &format!("{foreign}{ours}")));
    for server in [&strict, &lenient] {
        assert_eq!(server.reload_now(), Reload::Reloaded);
    }
    assert_eq!(world.let_in(&strict, all), [false, true, false]);
    assert_eq!(world.let_in(&lenient, all), [false, true, true]);
    // A CA whose list was served never loses it, whatever the policy allows.
    volume.publish_in_one_tick(&world.with(&bundle, &foreign));
    for server in [&strict, &lenient] {
        let Reload::Refused(error) = server.reload_now() else { panic!("a list was lost") };
        assert_eq!((error.layer(), error.path()), (Layer::Crl, Some(volume.path("ca.crl").as_path())));
        assert_eq!(world.let_in(server, [&world.bad]), [false]);
    }
}

#[test]
fn inv02_intermediates_are_checked_unless_only_the_leaf_is() {
    let world = World::new();
    let [fine, gone] = ["fine", "gone"].map(|name| world.of.ca.intermediate(name));
    let client = |of: &Authority| of.issue_with_chain(&Subject::client("client"), &PrivateKey::p256());
    let clients = [&client(&fine), &client(&gone), &client(&world.of.ca.intermediate("unlisted"))];
    let revoked = client(&fine);
    let of_root = world.of.ca.crl(&[gone.der()], window(1), 1).pem;
    let lists = [of_root, list(&fine, &[&revoked], 1).pem, list(&gone, &[], 1).pem].concat();
    let mut volume = Volume::new(&world.files(&lists));
    let strict = reporting(server(&volume));
    let lenient = reporting(server(&volume).only_check_end_entity_revocation());
    assert_eq!(world.let_in(&strict, clients), [true, false, false]);
    assert_eq!(world.let_in(&lenient, clients), [true, true, false]);
    assert_eq!(world.let_in(&strict, [&revoked]), [false]);
    assert_eq!(world.let_in(&lenient, [&revoked]), [false]);
    // The list is signed by another key than the intermediate's, which is known only once a client
    // sends it. The clients stay refused.
    let forged = [world.lists(&[], 2), list(&Authority::root("fine"), &[], 2).pem].concat();
    volume.publish_in_one_tick(&world.files(&forged));
    assert_eq!(strict.reload_now(), Reload::Reloaded);
    assert_eq!(world.let_in(&strict, [clients[0], &revoked]), [false, false]);
}

#[test]
fn inv02_newest_crl_of_a_ca_counts_and_an_older_is_reported() {
    let world = World::new();
    let both = [&world.bad, &world.good];
    let lists = [world.lists(&[], 1), world.lists(&[&world.bad], 2)];
    let mut volume = Volume::new(&world.files(&lists.concat()));
    let reloader = reporting(server(&volume));
    assert_eq!(world.let_in(&reloader, both), [false, true]);
    let reported = one(warnings(&reloader));
    assert!(reported.contains("a newer CRL of CN=CA 0 for the same certificates"), "{reported}");
    // The publisher reverts to an earlier update as a whole.
    volume.publish_in_one_tick(&world.files(&lists[0]));
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    assert_eq!(world.let_in(&reloader, both), [true, true]);
    let reported = one(warnings(&reloader));
    assert!(reported.contains("is older than the one before it"), "{reported}");
    assert_eq!(reloader.current().value.trust_epoch(), 2);
}

#[test]
fn inv01_crl_file_without_its_end_has_to_settle_longer() {
    let (world, other) = (World::new(), Generation::new(1));
    let bundle = format!("{}{}", world.of.ca.pem, other.ca.pem);
    let (one, two) = (world.lists(&[], 1), list(&other.ca, &[], 1).pem);
    // The list of an authority outside of the bundle may be removed. The remaining file looks like
    // one that was cut off, so it has to be stable for longer.
    let stranger = list(&Authority::root("stranger"), &[], 1).pem;
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in world.with(&bundle, &format!("{one}{two}{stranger}")) {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let path = dir.path().join("ca.crl");
    let timing = common::quick();
    let reloader = common::server_in(dir.path())
        .client_ca(dir.path().join("ca.crt"), ClientAuth::Required)
        .crl(&path)
        .load()
        .unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    common::started(&mut events);
    let start = std::time::Instant::now();
    fs::write(&path, format!("{one}{two}")).unwrap();
    published(&mut events);
    let took = start.elapsed();
    assert!(took >= timing.shrink_settle, "{took:?}");
}

#[test]
fn inv02_expired_ca_of_a_shared_name_and_key_blocks_nothing() {
    let world = World::new();
    let twin = |window| world.of.ca.twin("CA 0", window);
    let (expired, valid) = (twin(over()), twin(window(0)));
    let unrelated = Authority::root("unrelated").twin("unrelated", over());
    let lists = world.lists(&[&world.bad], 1);
    let bundle = format!("{unrelated}{expired}{}", world.of.ca.pem);
    let mut volume = Volume::new(&world.with(&bundle, &lists));
    let reloader = server(&volume).allow_unknown_revocation_status().load().unwrap();
    let both = [&world.bad, &world.good];
    assert_eq!(world.let_in(&reloader, both), [false, true]);
    // Each of the two verifies the clients of both, so only another CA changes the trust.
    let bundles =
        [format!("{expired}{valid}{}", world.of.ca.pem), valid.clone(), format!("{valid}{unrelated}")];
    for (epoch, bundle) in [2, 2, 3].into_iter().zip(&bundles) {
        volume.publish_in_one_tick(&world.with(bundle, &lists));
        assert_eq!(reloader.reload_now(), Reload::Reloaded);
        assert_eq!(world.let_in(&reloader, both), [false, true], "{epoch}");
        assert_eq!(reloader.current().value.trust_epoch(), epoch);
    }
    // With neither of them no client is let in.
    volume.publish_in_one_tick(&world.with(&unrelated, &lists));
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    assert_eq!(world.let_in(&reloader, both), [false, false]);
}
