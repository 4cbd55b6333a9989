//! Sessions over reloads: they go on over a renewal, and none outlives the trust that it was made
//! under.

use std::{process::Command, sync::Arc};

use crate::common::{
    self, Generation, Handshake, NamedFile, Volume, client, generations, handshake,
    sessions::{KINDS, Kind, Rule, Sessions},
};
use rustls::{
    ClientConfig,
    crypto::ring::Ticketer,
    server::{ProducesTickets, ServerSessionMemoryCache},
    version::{TLS12, TLS13},
};
use rustls_reload::{ClientAuth, Layer, Reload};
use rustls_reload_testkit::{Pair, PrivateKey, Subject};

/// Returns a chain, its key and a bundle of client CAs as files.
fn files<'a>(pair: &'a Pair, bundle: &'a str) -> [NamedFile<'a>; 3] {
    [("tls.crt", pair.chain.as_bytes()), ("tls.key", pair.key.as_bytes()), ("ca.crt", bundle.as_bytes())]
}

/// Returns the CAs of these generations in one bundle.
fn bundle(generations: &[&Generation]) -> String {
    generations.iter().map(|generation| generation.ca.pem.as_str()).collect()
}

/// Makes another certificate with another key for the server of this generation.
fn renewed(generation: &Generation) -> Pair {
    generation.ca.issue(&Subject::server("localhost"), &PrivateKey::p256())
}

/// Returns a client that has made one full handshake and one by resumption.
fn resuming(server: &Sessions, of: &[Generation], kind: Kind) -> Result<Arc<ClientConfig>, String> {
    let client = client(of, &[kind.0]);
    for resumed in [false, true] {
        let connection = handshake(&server.current(), &client).map_err(|error| error.to_string())?;
        if connection.resumed != resumed || connection.client.as_ref() != Some(&of[0].client.leaf) {
            return Err(format!("before anything changed: {connection:?}"));
        }
    }
    Ok(client)
}

/// Makes sessions of a client whose CA is then removed and added again. The error describes a
/// session that resumed wrongly.
fn outlives(kind: Kind, rule: Rule) -> Result<(), String> {
    let all = generations(2);
    let (one, two) = all.split_at(1);
    let both = bundle(&[&one[0], &two[0]]);
    let pair = &one[0].server;
    let mut server = Sessions::new(&files(pair, &both), "localhost", kind.1, rule);
    let client = resuming(&server, one, kind)?;
    assert_eq!(server.publish(&files(pair, &two[0].ca.pem), "localhost"), Reload::Reloaded);
    if let Ok(connection) = handshake(&server.current(), &client) {
        return Err(format!("INV-09: let in by a CA that is gone, resumed: {}", connection.resumed));
    }
    assert_eq!(server.publish(&files(pair, &both), "localhost"), Reload::Reloaded);
    let connection =
        handshake(&server.current(), &client).map_err(|error| format!("of a CA that is back: {error}"))?;
    if connection.resumed {
        return Err("INV-09: a session of the earlier trust resumed in the one that returned".to_owned());
    }
    let again = handshake(&server.current(), &client).map_err(|error| error.to_string())?;
    if again.resumed { Ok(()) } else { Err("INV-08: a session of this trust does not resume".to_owned()) }
}

#[test]
fn inv09_session_of_a_removed_ca_never_resumes_not_even_if_restored() {
    for kind in KINDS {
        assert_eq!(outlives(kind, Rule::Shipped), Ok(()), "{kind:?}");
        // The check also catches the rule that shares the storage, and the rule that identifies it
        // by the trust instead of counting.
        for rule in [Rule::SharesAlways, Rule::Hashes] {
            let why = outlives(kind, rule).unwrap_err();
            println!("{rule:?}, {:?}, tickets {}: {why}", kind.0.version, kind.1);
            assert!(why.starts_with("INV-09"), "{kind:?} {rule:?}: {why}");
        }
        let gone = outlives(kind, Rule::SharesAlways).unwrap_err();
        assert_eq!(gone, "INV-09: let in by a CA that is gone, resumed: true", "{kind:?}");
    }
}

/// Checks that sessions go on over renewals with the same names, by another CA and with another
/// key.
fn goes_on(kind: Kind, rule: Rule) -> Result<(), String> {
    let all = generations(2);
    let cas = bundle(&[&all[0], &all[1]]);
    let mut server = Sessions::new(&files(&all[0].server, &cas), "localhost", kind.1, rule);
    let epoch = server.reloader.current().value.trust_epoch();
    let client = resuming(&server, &all, kind)?;
    let mut resumed = 0;
    for renewal in 0..20 {
        let pair = renewed(&all[renewal % 2]);
        assert_eq!(server.publish(&files(&pair, &cas), "localhost"), Reload::Reloaded);
        assert_eq!(server.reloader.current().value.trust_epoch(), epoch, "a renewal is no other trust");
        let connection = handshake(&server.current(), &client).map_err(|error| error.to_string())?;
        resumed += usize::from(connection.resumed);
        if connection.resumed && connection.client.as_ref() != Some(&all[0].client.leaf) {
            return Err("a session of somebody else".to_owned());
        }
    }
    println!(
        "{rule:?}, {:?}, tickets {}: {resumed} of 20 resumed over a renewal each",
        kind.0.version, kind.1
    );
    if resumed == 20 { Ok(()) } else { Err(format!("INV-08: {resumed} of 20 resumed over a renewal")) }
}

#[test]
fn inv08_inv09_sessions_go_on_over_a_renewal_of_the_same_names() {
    for kind in KINDS {
        assert_eq!(goes_on(kind, Rule::Shipped), Ok(()), "{kind:?}");
        assert_eq!(
            goes_on(kind, Rule::FreshAlways),
            Err("INV-08: 0 of 20 resumed over a renewal".to_owned())
        );
    }
}

#[test]
fn inv09_names_of_client_cas_matter_and_their_order_does_not() {
    let all = generations(2);
    let (there, back) = (bundle(&[&all[0], &all[1]]), bundle(&[&all[1], &all[0], &all[1]]));
    for kind in KINDS {
        let pair = &all[0].server;
        let mut server = Sessions::new(&files(pair, &there), "localhost", kind.1, Rule::Shipped);
        let client = resuming(&server, &all, kind).unwrap();
        server.publish(&files(pair, &back), "localhost");
        assert!(handshake(&server.current(), &client).unwrap().resumed, "{kind:?}");
        // The key and the CA are the same, with one more name: sessions of the leaf without the
        // name do not resume.
        let mut subject = Subject::server("localhost");
        subject.names.push("other.example".to_owned());
        let more = all[0].ca.issue(&subject, &PrivateKey::from_pem(&pair.key));
        server.publish(&files(&more, &back), "localhost, other.example");
        assert_eq!(server.reloader.current().value.trust_epoch(), 2);
        assert!(!handshake(&server.current(), &client).unwrap().resumed, "{kind:?}");
        assert!(handshake(&server.current(), &client).unwrap().resumed, "{kind:?}");
        // Another order of the names makes no difference.
        subject.names.reverse();
        let turned = all[0].ca.issue(&subject, &PrivateKey::p256());
        server.publish(&files(&turned, &back), "other.example, localhost");
        assert!(handshake(&server.current(), &client).unwrap().resumed, "{kind:?}");
        assert_eq!(server.reloader.current().generation, 4);
    }
}

#[test]
fn inv09_each_name_counts_of_any_kind_and_however_many() {
    let ca = &generations(1)[0].ca;
    let many = |last: &str| {
        // More names than an event lists.
        let mut subject = Subject::server("localhost");
        subject.names.extend((0..1100).map(|i| format!("host-{i}.example")).chain([last.to_owned()]));
        ca.issue(&subject, &PrivateKey::p256())
    };
    let dir = tempfile::tempdir().unwrap();
    let made = |subject: &str, more: &str| {
        let line = format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj {subject} -keyout key -out chain{more}"
        );
        let made = Command::new("openssl").args(line.split(' ')).current_dir(&dir).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let read = |name| std::fs::read_to_string(dir.path().join(name)).unwrap();
        Pair { chain: read("chain"), key: read("key"), leaf: ca.der().clone() }
    };
    let named = |uri: &str| made("/CN=a", &format!(" -addext subjectAltName=DNS:localhost,URI:{uri}"));
    let row = [
        (many("a.example"), 1),
        (many("a.example"), 1),
        (many("b.example"), 2),
        (named("spiffe://a/b"), 3),
        (named("spiffe://a/c"), 4),
        // Without alternative names the common names count, and without common names the subject.
        (made("/O=1/CN=localhost", ""), 5),
        (made("/O=2/CN=localhost", ""), 5),
        (made("/O=2/CN=other", ""), 6),
        (made("/O=2", ""), 7),
        (made("/O=3", ""), 8),
        (made("/O=3", ""), 8),
    ];
    let mut volume = Volume::new(&files(&row[0].0, &ca.pem));
    let server = volume.server().load().unwrap();
    for (i, (pair, epoch)) in row.iter().enumerate().skip(1) {
        volume.publish_in_one_tick(&files(pair, &ca.pem));
        assert_eq!(server.reload_now(), Reload::Reloaded, "{i}");
        assert_eq!(server.current().value.trust_epoch(), *epoch, "{i}");
    }
}

#[test]
fn inv08_equal_bytes_keep_each_kind_of_session_and_report_nothing() {
    let all = generations(1);
    for kind in KINDS {
        let mut server =
            Sessions::new(&files(&all[0].server, &all[0].ca.pem), "localhost", kind.1, Rule::Shipped);
        let client = resuming(&server, &all, kind).unwrap();
        let (mut events, before) = (server.reloader.events(), server.reloader.current());
        for _ in 0..5 {
            let answer = server.publish(&files(&all[0].server, &all[0].ca.pem), "localhost");
            assert_eq!(answer, Reload::Unchanged);
            assert!(handshake(&server.current(), &client).unwrap().resumed, "{kind:?}");
        }
        assert!(Arc::ptr_eq(&before, &server.reloader.current()));
        assert_eq!(common::drain(&mut events), []);
    }
}

#[test]
fn inv09_handshake_over_a_change_of_trust_plants_no_session() {
    let all = generations(2);
    for kind in KINDS {
        let both = bundle(&[&all[0], &all[1]]);
        let pair = &all[0].server;
        let mut server = Sessions::new(&files(pair, &both), "localhost", kind.1, Rule::Shipped);
        // One client begins a full handshake, and one begins by resumption.
        let clients = [client(&all[..1], &[kind.0]), resuming(&server, &all[..1], kind).unwrap()];
        let held = clients.each_ref().map(|client| Handshake::begin(server.current(), client).unwrap());
        server.publish(&files(pair, &all[1].ca.pem), "localhost");
        for (held, resumed) in held.into_iter().zip([false, true]) {
            assert_eq!(held.end().unwrap().resumed, resumed, "{kind:?}: it ends as what it began as");
        }
        for client in &clients {
            let new = handshake(&server.current(), client);
            assert!(new.is_err(), "{kind:?}: a session of the old trust got in: {new:?}");
        }
    }
}

#[test]
fn inv09_rejected_or_deferred_set_leaves_sessions_as_they_are() {
    let all = generations(2);
    for kind in KINDS {
        let pair = &all[0].server;
        let mut server = Sessions::new(&files(pair, &all[0].ca.pem), "localhost", kind.1, Rule::Shipped);
        let client = resuming(&server, &all, kind).unwrap();
        let before = server.reloader.current();
        // One candidate has another trust and a key of another pair; the other has another trust
        // and a date in the future.
        let mismatch = Pair { key: all[1].server.key.clone(), ..pair.clone() };
        let refused = server.publish(&files(&mismatch, &all[1].ca.pem), "localhost");
        assert!(matches!(refused, Reload::Refused(_)), "{refused:?}");
        let (from, to) = Subject::server("localhost").window;
        let later = Subject::server("localhost").valid(to, to + to.duration_since(from).unwrap());
        let later = all[0].ca.issue(&later, &PrivateKey::p256());
        let held = server.publish(&files(&later, &all[1].ca.pem), "localhost");
        assert!(matches!(held, Reload::Deferred(_)), "{held:?}");
        assert!(Arc::ptr_eq(&before, &server.reloader.current()));
        assert!(handshake(&server.current(), &client).unwrap().resumed, "{kind:?}");
        // Neither candidate counted: the next publication is in the served trust, and the one after
        // it in the next.
        server.publish(&files(&renewed(&all[0]), &all[0].ca.pem), "localhost");
        assert_eq!(server.reloader.current().value.trust_epoch(), 1);
        assert!(handshake(&server.current(), &client).unwrap().resumed, "{kind:?}");
        server.publish(&files(pair, &all[1].ca.pem), "localhost");
        assert_eq!(server.reloader.current().value.trust_epoch(), 2);
    }
}

/// This is independent of trust: the cipher suite binds a session of TLS 1.2 to the kind of the
/// key, which is not so in TLS 1.3.
#[test]
fn inv09_new_kind_of_key_keeps_tls13_and_loses_tls12_sessions() {
    let all = generations(1);
    let genpkey = "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048".split(' ');
    let rsa = String::from_utf8(Command::new("openssl").args(genpkey).output().unwrap().stdout).unwrap();
    let pairs = [PrivateKey::ed25519(), PrivateKey::from_pem(&rsa)]
        .map(|key| all[0].ca.issue(&Subject::server("localhost"), &key));
    for kind in KINDS {
        let mut server =
            Sessions::new(&files(&all[0].server, &all[0].ca.pem), "localhost", kind.1, Rule::Shipped);
        let client = resuming(&server, &all, kind).unwrap();
        // P-256 and Ed25519 share their suites; RSA has others.
        for (pair, resumes) in pairs.iter().zip([true, kind.0.version == TLS13.version]) {
            assert_eq!(server.publish(&files(pair, &all[0].ca.pem), "localhost"), Reload::Reloaded);
            assert_eq!(server.reloader.current().value.trust_epoch(), 1);
            assert_eq!(handshake(&server.current(), &client).unwrap().resumed, resumes, "{kind:?}");
        }
    }
}

#[test]
fn inv09_sessions_can_be_kept_from_going_on_over_any_reload() {
    let all = generations(1);
    for (version, tickets) in KINDS {
        let mut volume = Volume::of(&all[0]);
        let server = volume.server().resume_over_reloads(false);
        let server = if tickets { server.tickets(Ticketer::new) } else { server };
        let server = server.load().unwrap();
        let client = client(&all, &[version]);
        for reload in 0..3 {
            assert!(!handshake(&server.config(), &client).unwrap().resumed, "reload {reload}");
            assert!(handshake(&server.config(), &client).unwrap().resumed, "reload {reload}");
            volume.publish_in_one_tick(&files(&renewed(&all[0]), &all[0].ca.pem));
            assert_eq!(server.reload_now(), Reload::Reloaded);
            assert_eq!(server.current().value.trust_epoch(), 1);
        }
    }
}

#[test]
fn inv09_no_session_is_stored_where_the_cache_has_no_room() {
    let all = generations(1);
    let volume = Volume::of(&all[0]);
    for version in [&TLS12, &TLS13] {
        let server = volume.server().session_cache(0).load().unwrap();
        let client = client(&all, &[version]);
        assert!(!handshake(&server.config(), &client).unwrap().resumed);
        assert!(!handshake(&server.config(), &client).unwrap().resumed, "none is stored");
        let server = volume.server().session_cache(0).tickets(Ticketer::new).load().unwrap();
        assert!(!handshake(&server.config(), &client).unwrap().resumed);
        assert!(handshake(&server.config(), &client).unwrap().resumed, "the client keeps it");
    }
}

#[test]
fn inv09_setting_that_lets_sessions_outlive_trust_is_an_error() {
    let all = generations(1);
    let volume = Volume::of(&all[0]);
    let ticketer = Ticketer::new().unwrap();
    let shared = {
        let ticketer = Arc::clone(&ticketer);
        move || Ok(Arc::clone(&ticketer))
    };
    let fails = || Err::<Arc<dyn ProducesTickets>, _>(rustls::Error::FailedToGetRandomBytes);
    let refused = [
        ("ticket keys of one's own", volume.server().tickets(shared)),
        ("no ticketer", volume.server().tickets(fails)),
        ("early data", volume.server().configure(|config| config.max_early_data_size = 1)),
        (
            "another ticketer",
            volume.server().configure(move |config| config.ticketer = Arc::clone(&ticketer)),
        ),
        ("another storage", {
            let server = volume.server();
            server.configure(|config| config.session_storage = ServerSessionMemoryCache::new(1))
        }),
    ];
    for (what, server) in refused {
        let error = server.client_ca(volume.path("ca.crt"), ClientAuth::Required).load().unwrap_err();
        assert_eq!(error.layer(), Layer::Config, "{what}: {error}");
    }
}

#[test]
fn inv09_ticket_keys_that_come_back_are_refused_at_the_reload() {
    let all = generations(2);
    let mut volume = Volume::of(&all[0]);
    let first = Ticketer::new().unwrap();
    let mut made = 0;
    let make = move || {
        made += 1;
        // The first two ticketers are new, as at the start; the third is the first one again.
        if made == 2 { Ticketer::new() } else { Ok(Arc::clone(&first)) }
    };
    let server = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Optional).tickets(make);
    let server = server.load().unwrap();
    let before = server.current();
    volume.publish_in_one_tick(&all[1].files());
    let Reload::Refused(error) = server.reload_now() else { panic!("shared ticket keys were served") };
    assert_eq!(error.layer(), Layer::Config, "{error}");
    assert!(Arc::ptr_eq(&before, &server.current()));
}
